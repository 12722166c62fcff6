"""An outsider's input and task train by `fit`, and only this file knows of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adaptune import FineTune, Network, Plan, fit
from adaptune.data import Loading, Shares, open_domains
from adaptune.data.listing import Example
from adaptune.engine.evaluate import evaluate
from adaptune.metrics.tally import Mistake, ScoreTally
from adaptune.results.score import Score, Scores
from adaptune.tasks.task import LabelKind, Task
from adaptune.types import Outputs

SLOPE = torch.tensor([1.0, -2.0, 0.5])


class VectorInput:
    """Vectors (3,) in files of numpy; training ones lie somewhere near."""

    made = ""

    def __init__(self, spread: float = 0.0) -> None:
        self.spread = spread

    def fixed(self, example: Example) -> Tensor:
        try:
            return torch.from_numpy(np.load(example.path, allow_pickle=False))
        except ValueError as error:
            raise OSError(f"it is no array of numpy ({error}): write it again") from error

    def varied(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x + self.spread * torch.randn(x.shape), y

    def given(self, value: Any) -> Tensor:
        return torch.as_tensor(value)


class SquareTally:
    """The mean squared error."""

    def __init__(self) -> None:
        self.squares: list[float] = []

    def add(self, outputs: Outputs) -> None:
        self.squares += (outputs.logits - outputs.y).square().mean(1).tolist()

    def merge(self) -> None: ...

    def scores(self) -> Scores:
        mean = math.fsum(self.squares) / len(self.squares)
        score = Score("squared error", mean, 0.0, math.inf, unit="", better="lower")
        return Scores(score, mean, len(self.squares))

    def mistakes(self) -> list[Mistake]:
        return []


class SquaredError(Task):
    """Predict numbers."""

    labels: ClassVar[LabelKind] = "value"
    outputs, domains = 1, 1

    def losses(self, output: Tensor, y: Tensor) -> Tensor:
        return (output - y).square().mean(1)

    def tally(self) -> ScoreTally:
        return SquareTally()

    def answer(self, output: Tensor) -> Tensor:
        return output

    def words(self, answer: float, classes: Sequence[str]) -> str:
        return f"{answer:.2f}"


def written(folder: Path, seed: int, count: int = 60) -> Path:
    """Write vectors to files, and a table of their numbers."""
    folder.mkdir()
    x = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    rows = ["path,label"]
    for at, vector in enumerate(x):
        np.save(folder / f"{folder.name}-{at}.npy", vector.numpy())
        rows.append(f"{folder.name}-{at}.npy,{float(vector @ SLOPE):.6f}")
    (folder / "all.csv").write_text("\n".join(rows))
    return folder / "all.csv"


def opened(tmp_path: Path, **loading: Any):
    own, far = written(tmp_path / "own", 0), written(tmp_path / "far", 1, 20)
    return open_domains(
        own,
        {"far": far},
        target=far,
        labels=SquaredError.labels,
        shares=Shares(0.1, 0.2),
        loading=Loading(batch_size=8, **loading),
    )


def network(names: Sequence[str]) -> Network:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2))
    return Network.from_module(module, head="2", classes=names)


def trained(data) -> tuple[Network, list[float]]:
    net = network(data.classes)
    terms = [
        epoch.terms["task"]
        for epoch in fit(FineTune(net, SquaredError(), lr=0.02), data, Plan(epochs=12))
        if epoch.number
    ]
    return net, terms


def test_vectors_in_files_under_numbers_are_learnt_and_scored_by_an_own_task(tmp_path):
    data = opened(tmp_path).through(VectorInput(), VectorInput(spread=0.05))
    before = evaluate(network(data.classes), data.tests()["far"], SquaredError()).scores
    net, terms = trained(data)
    after = evaluate(net, data.tests()["far"], SquaredError()).scores
    assert terms[-1] < terms[0] / 10
    assert after.main.value < before.main.value / 10
    assert (after.count, after.main.name) == (20, "squared error")


def test_labels_of_vectors_are_the_numbers_of_their_table(tmp_path):
    data = opened(tmp_path).through(VectorInput())
    for rows in data.scan("train"):
        assert rows.y.dtype == torch.float32
        torch.testing.assert_close(rows.y, (rows.x @ SLOPE).unsqueeze(1))


def test_what_is_random_in_an_own_input_follows_the_seed_for_any_number_of_workers(tmp_path):
    (tmp_path / "two").mkdir()
    found = [
        opened(folder, workers=workers).through(VectorInput(), VectorInput(spread=0.5))
        for folder, workers in ((tmp_path, 0), (tmp_path / "two", 2))
    ]
    one, two = ([batch.labeled.x for batch in data.batches(FineTune.needs, 1)] for data in found)
    assert torch.equal(torch.cat(one), torch.cat(two))
    data = found[0]
    read = [zip(rows.index.tolist(), rows.x, strict=True) for rows in data.scan("train")]
    plain = {row: x for pairs in read for row, x in pairs}
    for batch in data.batches(FineTune.needs, 1):
        for row, x in zip(batch.labeled.index.tolist(), batch.labeled.x, strict=True):
            assert not torch.equal(x, plain[row]), "training vectors are varied"


def test_a_vector_that_cannot_be_read_is_named_and_left_out(tmp_path):
    data = opened(tmp_path).through(VectorInput())
    broken = data.sets["train"].paths[0]
    broken.write_bytes(b"no numbers")
    rows = sum(len(rows) for rows in data.scan("train"))
    assert rows == len(data.sets["train"]) - 1
    assert "it is no array of numpy" in data.problems[str(broken)]


def test_an_own_target_comes_without_its_numbers(tmp_path):
    data = opened(tmp_path).through(VectorInput())
    (rows,) = [*data.unlabeled()][:1]
    assert not hasattr(rows, "y")
    assert data.target.rows.labels == [0] * 20


@pytest.mark.parametrize("names", [("a", "b"), ("cold", "warm")])
def test_vectors_in_files_have_classes_too(tmp_path, names):
    table = written(tmp_path / "own", 0)
    lines = table.read_text().splitlines()
    words = [f"{line.split(',')[0]},{names[float(line.split(',')[1]) > 0]}" for line in lines[1:]]
    table.write_text("\n".join([lines[0], *words]))
    data = open_domains(table, shares=Shares(0.1, 0.2)).through(VectorInput())
    assert data.classes == names
    y = torch.cat([rows.y for rows in data.scan("train")])
    x = torch.cat([rows.x for rows in data.scan("train")])
    assert y.dtype == torch.int64
    assert torch.equal(y, (x @ SLOPE > 0).long())
