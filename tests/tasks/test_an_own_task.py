"""A task that somebody adds, of whose score less is better, goes through all that is there."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from adaptune.data.domains import DomainData, Loading
from adaptune.engine.evaluate import evaluate
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.supervised.sam import SAM
from adaptune.metrics.tally import Mistake
from adaptune.networks.network import Network
from adaptune.report.page import write_comparison_report, write_run_report
from adaptune.report.terminal import Terminal
from adaptune.results.run import read_results
from adaptune.results.score import Measure, Score, Scores
from adaptune.results.summary import summarize
from adaptune.runs.experiment import experiment
from adaptune.runs.folder import Run
from adaptune.runs.setup import Setup
from adaptune.runtime.files import read_lines, to_json, write_text
from adaptune.runtime.processes import gather
from adaptune.studies.comparison import summary_of
from adaptune.tasks.task import LabelKind, Task
from adaptune.types import Outputs

pytestmark = pytest.mark.usefixtures("drawn")

MEASURE = Measure("MAE", "degrees", "lower")
PARTS = ("cosine", "sine")
WIDE = 6


class ErrorTally:
    """The mean absolute error of headings in degrees, with a normal interval."""

    def __init__(self) -> None:
        self.errors: list[Tensor] = [torch.empty(0)]
        self.losses: list[Tensor] = [torch.empty(0)]

    def add(self, outputs: Outputs) -> None:
        apart = (heading(outputs.logits) - outputs.y + 180) % 360 - 180
        self.errors.append(apart.abs().cpu())
        self.losses.append(squared(outputs.logits, outputs.y).cpu())

    def merge(self) -> None:
        self.errors, self.losses = ([gather(torch.cat(x))] for x in (self.errors, self.losses))

    def scores(self) -> Scores:
        errors = torch.cat(self.errors)
        mean, error = float(errors.mean()), float(errors.std()) / math.sqrt(len(errors))
        reach = 1.96 * error
        main = Score("MAE", mean, mean - reach, mean + reach, error, "degrees", "lower")
        return Scores(main, float(torch.cat(self.losses).mean()), len(errors))

    def mistakes(self) -> list[Mistake]:
        return []


@dataclass(frozen=True)
class Regression(Task):
    """A heading in degrees, predicted as its cosine and sine."""

    labels: ClassVar[LabelKind] = "value"
    outputs: int = 2
    domains: int = 1

    def losses(self, output: Tensor, y: Tensor) -> Tensor:
        return squared(output, y)

    def tally(self) -> ErrorTally:
        return ErrorTally()

    def answer(self, output: Tensor) -> Tensor:
        return heading(output)

    def words(self, answer: float, classes) -> str:
        return f"{answer:.0f} degrees"


def squared(output: Tensor, y: Tensor) -> Tensor:
    turn = y.deg2rad()
    return (output - torch.stack([turn.cos(), turn.sin()], 1)).square().mean(1)


def heading(output: Tensor) -> Tensor:
    return torch.atan2(output[:, 1], output[:, 0]).rad2deg()


class Headings:
    """Vectors that hold a heading, under noise, and what it is in degrees."""

    def __init__(self, count: int, seed: int, drift: float = 0.0) -> None:
        random = torch.Generator().manual_seed(seed)
        self.y = 360 * torch.rand(count, generator=random) - 180
        turn = (self.y + drift).deg2rad()
        sides = torch.stack([turn.cos(), turn.sin()], 1).repeat(1, WIDE // 2)
        self.x = sides + 0.2 * torch.randn(count, WIDE, generator=random)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, key):
        row, _ = key
        return self.x[row], self.y[row], row


def headings() -> DomainData:
    train, val, test = (Headings(n, seed) for seed, n in enumerate((96, 40, 40)))
    return DomainData(
        PARTS,
        {"train": train, "val": val, "test": test},
        {"drifted": Headings(40, 3, drift=30.0)},
        train,
        Loading(batch_size=16),
    )


def network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(WIDE, 24), nn.ReLU(), nn.Linear(24, 2))
    return Network.from_module(module, head="2", classes=PARTS)


@dataclass(frozen=True)
class Compass(Setup):
    """The setting of the network above, whatever backbone is named."""

    device: str = field(default="cpu")

    def network(self, classes) -> Network:
        return network()


def plan(seed: int = 0) -> Plan:
    return Plan(epochs=6, layout="contiguous", seed=seed)


def ran(folder: Path, method=FineTune, name="ft", *, seed=0, select="id-validation", **options):
    run = Run(folder)
    return experiment(
        run,
        method,
        {"batchnorm": "train", **options},
        headings(),
        Compass(select=select),
        plan(seed),
        name=name,
        terminal=Terminal(quiet=True),
        config="data: headings\n",
        task=Regression(),
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run, and its results."""
    folder = tmp_path_factory.mktemp("own") / "run"
    return folder, ran(folder, lr=0.1)


def test_it_learns_by_the_loop_and_is_scored_by_its_own_tally():
    method = FineTune(network(), Regression(), lr=0.1)
    before = evaluate(method, headings().scan("test"), Regression()).scores
    list(fit(method, headings(), plan()))
    after = evaluate(method, headings().scan("test"), Regression()).scores
    assert after.main.value < 0.5 * before.main.value
    assert after.main.merit > before.main.merit
    assert after.main.measure == MEASURE


def test_the_epoch_that_is_kept_is_one_of_the_lowest_errors(finished):
    folder, results = finished
    errors = {line["epoch"]: line["val_MAE"] for line in read_lines(folder / "metrics.jsonl")}
    assert results.best_epoch > 0
    assert results.val == errors[results.best_epoch]
    assert results.val < 0.5 * errors[0]
    assert results.val < min(errors.values()) + 3


def test_its_results_name_its_score_and_hold_nothing_of_classes(finished):
    folder, results = finished
    found = json.loads((folder / "results.json").read_text())
    assert found["score"] == {"name": "MAE", "unit": "degrees", "better": "lower"}
    assert found["id_MAE"] == results.home == found["scores"]["id"]["MAE"]
    assert found["ood"] == {"drifted": found["ood_MAE"]}
    assert found["ood_MAE"] == pytest.approx(30, abs=5), "drift by 30 degrees should show"
    assert found["label_free"] == {}
    assert not {"confusion", "accuracy"} & found["scores"]["id"].keys()
    assert found["distortion"]["cosine"] > 0
    assert read_results(folder / "results.json").to_dict() == to_json(results)


def test_its_page_says_what_is_measured_and_shows_no_confusion(finished):
    folder, results = finished
    text = write_run_report(folder).read_text()
    assert f"{results.home:.4g} degrees" in text
    assert "MAE in degrees, lower is better" in text
    assert "within one standard error of the lowest MAE" in text
    for words in ("accuracy", "Accuracy", "Confusion", "Without labels", "%</b>"):
        assert words not in text


def test_a_comparison_of_it_ranks_the_lower_error_first(tmp_path, capsys):
    names = {"ft": (FineTune, 0.1), "sam": (SAM, 0.0001)}
    runs = [
        ran(tmp_path / "runs" / f"{name}-{seed}", kind, name, seed=seed, lr=lr)
        for name, (kind, lr) in names.items()
        for seed in (0, 1)
    ]
    assert runs[0].home < runs[2].home
    results = {
        "rows": [run.row(tmp_path) for run in runs],
        **summary_of(runs),
        "machine": runs[0].machine,
        "score": MEASURE,
    }
    write_text(tmp_path / "config.yaml", "data: headings\n")
    write_text(tmp_path / "results.json", json.dumps(to_json(results)))
    text = write_comparison_report(tmp_path).read_text()
    assert '<tr class="best"><td>ft</td>' in text
    assert "degrees below sam" in text
    assert "accuracy" not in text.lower()
    with Terminal() as terminal:
        terminal.results(runs, summarize(runs))
    said = capsys.readouterr().err
    assert "MAE in degrees, lower is better (95% interval)" in said
    assert "drifted" in said


def test_a_score_of_classes_cannot_choose_its_epoch(tmp_path):
    with pytest.raises(ValueError, match="--select snd is a score of classes, which Regression"):
        ran(tmp_path / "run", lr=0.1, select="snd")
