"""What a method says that it works on is read, listed, and held to."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from toy import Toy, domains

from adaptune.catalog import catalog
from adaptune.commands import main
from adaptune.commands.choices import TRAINING, trained_on
from adaptune.engine.method import refuse_task, task_kind
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.methods.ft import FineTune
from adaptune.metrics.classification import ClassTally
from adaptune.runs.setup import Setup, open_session
from adaptune.tasks import TASKS
from adaptune.tasks.classification import Classification
from adaptune.tasks.task import LabelKind, Labelling


class Noisy(Labelling):
    """Like classification, with labels that err a share of the time; nothing but labelling."""

    labels: ClassVar[LabelKind] = "class"

    def __init__(self, classes: int, domains: int = 1, *, noise: float = 0.1) -> None:
        """Make it.

        Args:
            classes: How many.
            domains: How many.
            noise: The share of labels that err.
        """
        self.classes = self.outputs = classes
        self.domains, self.noise = domains, noise

    def losses(self, output: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(output, y, reduction="none", label_smoothing=self.noise)

    def tally(self) -> ClassTally:
        return ClassTally(self.classes)

    def answer(self, output: Tensor) -> Tensor:
        return output.argmax(1)

    def words(self, answer, classes) -> str:
        return classes[int(answer)]


@pytest.fixture
def listed(monkeypatch):
    monkeypatch.setitem(TASKS, "noisy", Noisy)


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_works_on_is_the_kind_of_its_task(name):
    [entry] = [one for one in catalog() if one.name == name]
    assert entry.task == task_kind(METHODS[name]).__name__
    assert issubclass(Classification, task_kind(METHODS[name]))
    assert "classification" in entry.tasks


def test_a_task_of_another_kind_is_refused_in_words():
    said = "GLC works on classification, and this is noisy: see `adaptune methods --task noisy`"
    with pytest.raises(ValueError, match=said):
        refuse_task(METHODS["glc"], Noisy)
    for name, method in METHODS.items():
        narrow = task_kind(method) is Classification
        if not narrow:
            refuse_task(method, Noisy)
        assert (name in ("lp", "lp-ft", "gdcan", "shot", "sfda2", "glc", "lftl")) == narrow


def test_a_session_makes_the_task_that_its_setup_names(listed):
    session = open_session(
        FineTune, {}, domains(), Toy(task="noisy", task_options={"noise": 0.5}), Plan()
    )
    assert isinstance(session.task, Noisy)
    assert (session.task.classes, session.task.noise) == (3, 0.5)
    assert open_session(FineTune, {}, domains(), Toy(), Plan()).task == Classification(3)


def test_a_session_takes_a_task_that_is_ready_and_refuses_one_that_does_not_fit():
    task = Noisy(3)
    assert open_session(FineTune, {}, domains(), Toy(), Plan(), task=task).task is task
    with pytest.raises(ValueError, match="LinearProbe works on classification"):
        open_session(METHODS["lp"], {}, domains(), Toy(), Plan(), task=task)


def test_a_setup_refuses_tasks_that_there_are_not_and_open_sets_where_nothing_is_unknown(listed):
    with pytest.raises(ValueError, match="no task 'shapes': there are classification, noisy"):
        Setup(task="shapes")
    with pytest.raises(ValueError, match="leave out --open-set"):
        Setup(task="noisy", open_set=True)


def test_methods_of_a_task_are_those_that_take_it(listed):
    assert trained_on("classification") == TRAINING
    assert trained_on("noisy") == [
        name for name in TRAINING if task_kind(METHODS[name]) is not Classification
    ]


def test_the_options_of_a_task_are_options_of_fit(listed, capsys):
    assert main(["fit", "--task", "noisy", "--help"]) == 0
    told = capsys.readouterr().out
    assert "--noise" in told
    assert "glc" not in told
    assert main(["fit", "--help"]) == 0
    told = capsys.readouterr().out
    assert "--noise" not in told
    assert "glc" in told


def test_fit_refuses_what_does_not_fit_the_task_before_anything_is_written(
    listed, capsys, tmp_path
):
    out = tmp_path / "run"
    words = ["fit", str(tmp_path), "--task=noisy", "--method=lp", f"--out={out}"]
    assert main(words) == 1
    assert "LinearProbe works on classification, and this is noisy" in capsys.readouterr().err
    assert not out.exists()
    assert main(["fit", str(tmp_path), "--task=shapes", f"--out={out}"]) == 2


def test_the_labels_of_a_task_are_what_training_goes_down(listed):
    session = open_session(FineTune, {}, domains(), Toy(task="noisy"), Plan(epochs=1))
    rows = next(iter(session.data.scan("train")))
    logits = session.net(rows.x)
    wanted = F.cross_entropy(logits, rows.y, label_smoothing=0.1)
    assert torch.allclose(session.task.loss(logits, rows.y), wanted)
