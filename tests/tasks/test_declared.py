"""What a method says that it works on is read, listed, and held to."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import yaml
from noisy import Noisy
from toy import Toy, domains

from adaptune.catalog import catalog
from adaptune.commands import main
from adaptune.commands.choices import TRAINING, methods_for
from adaptune.engine.method import refuse_task, task_kind
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.methods.supervised.ft import FineTune
from adaptune.runs.setup import Setup, open_session
from adaptune.tasks import TASKS
from adaptune.tasks.classification import Classification
from adaptune.tasks.matching import Matching


@pytest.fixture
def listed(monkeypatch):
    monkeypatch.setitem(TASKS, "noisy", Noisy)


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_works_on_is_the_kind_of_its_task(name):
    [entry] = [one for one in catalog() if one.name == name]
    assert entry.task == task_kind(METHODS[name]).__name__
    listed = [task for task, one in TASKS.items() if issubclass(one, task_kind(METHODS[name]))]
    assert listed
    assert entry.tasks == tuple(listed)


def test_a_task_of_another_kind_is_refused_in_words():
    said = "GLC works on classification, and this is noisy: see `adaptune methods --task noisy`"
    with pytest.raises(ValueError, match=said):
        refuse_task(METHODS["glc"], Noisy)
    narrow = {name for name, method in METHODS.items() if not issubclass(Noisy, task_kind(method))}
    for name in METHODS.keys() - narrow:
        refuse_task(METHODS[name], Noisy)
    classes = {name for name in narrow if task_kind(METHODS[name]) is Classification}
    conditional = {"lora", "gdcan", "sfda2", "glc", "lftl", "udim", "meta-dmoe", "ktf"}
    conditional |= {"kl-dp", "plug-and-play", "pareto-da", "distill-weighted", "iadg"}
    conditional |= {"dlif", "deco", "trans-lora", "cpt-uda", "ditfend"}
    conditional |= {"t3a", "lame", "eata", "sar", "cotta", "vida"}
    conditional |= {"cdan", "coral"}
    conditional |= {"san", "memspm", "dafos"}
    conditional |= {"fedka", "ear"}
    conditional |= {"flyp", "tip-adapter", "zscl", "tpt"}
    assert classes == conditional
    pairs = {name for name in narrow if task_kind(METHODS[name]) is Matching}
    assert pairs == {"clip", "cwcl", "m2-mix"}
    places = {"adaptsegnet", "dacs", "sfda-seg", "idm", "datr", "samda", "gprn"}
    assert narrow - classes - pairs == places


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
    with pytest.raises(ValueError, match="GDCAN works on classification"):
        open_session(METHODS["gdcan"], {}, domains(), Toy(), Plan(), task=task)


def test_a_setup_refuses_tasks_that_there_are_not_and_open_sets_where_nothing_is_unknown(listed):
    with pytest.raises(
        ValueError,
        match="no task 'shapes': there are classification, segmentation, matching, tagging, noisy",
    ):
        Setup(task="shapes")
    with pytest.raises(ValueError, match="leave out --open-set"):
        Setup(task="noisy", open_set=True)


def test_methods_of_a_task_are_those_that_take_it(listed):
    for task, kind in (("classification", Classification), ("noisy", Noisy)):
        assert methods_for(task) == [
            name for name in TRAINING if issubclass(kind, task_kind(METHODS[name]))
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
    words = ["fit", str(tmp_path), "--task=noisy", "--method=gdcan", f"--out={out}"]
    assert main(words) == 1
    assert "GDCAN works on classification, and this is noisy" in capsys.readouterr().err
    assert not out.exists()
    assert main(["fit", str(tmp_path), "--task=shapes", f"--out={out}"]) == 2


def test_the_labels_of_a_task_are_what_training_goes_down(listed):
    session = open_session(FineTune, {}, domains(), Toy(task="noisy"), Plan(epochs=1))
    rows = next(iter(session.data.scan("train")))
    logits = session.net(rows.x)
    wanted = F.cross_entropy(logits, rows.y, label_smoothing=0.1)
    assert torch.allclose(session.task.loss(logits, rows.y), wanted)


def test_a_run_of_another_task_says_so_in_its_config_and_goes_on_by_it(
    listed, fit_words, finished, tmp_path, told
):
    out = tmp_path / "run"
    words = ["--method=ft", "--task=noisy", "--noise=0.3", "--epochs=1", f"--out={out}"]
    assert told(*fit_words, *words)[0] == 0
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert (config["task"], config["noise"]) == ("noisy", 0.3)
    assert "task" not in yaml.safe_load((finished / "config.yaml").read_text())
    code, _, error = told("fit", f"--out={out}", "--resume", "--epochs=2", "--noise=0.1")
    assert code == 1
    assert "was begun with noise 0.3, and asked for is noise 0.1" in error
    assert told("fit", f"--out={out}", "--resume", "--epochs=2")[0] == 0
    code, _, error = told("fit", f"--out={out}", "--resume", "--task=classification")
    assert code != 0
