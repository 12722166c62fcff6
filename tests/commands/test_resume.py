"""What is asked of a run that goes on applies, or is refused and leaves all as it was."""

import json
import shutil
from pathlib import Path
from shutil import copytree

import pytest
import yaml

from adaptune.commands import main
from adaptune.commands.options import add_masks, training_parser
from adaptune.engine.method import hyperparameters
from adaptune.methods.supervised.ft import FineTune
from adaptune.runs.checkpoint import Checkpoints
from adaptune.runs.folder import Run
from adaptune.runs.resume import FREE, PLACES
from adaptune.runtime.files import read_lines
from adaptune.tasks.segmentation import Segmentation

WATCHED = ("config.yaml", "metrics.jsonl", "results.json", "best", "last", "checkpoints")


@pytest.fixture(scope="module")
def words(photos, sketches, tiny) -> list[str]:
    """The words that made ``trained``, all but ``--out``."""
    return ["fit", str(photos), f"--ood=sketch={sketches}", *tiny, "--method=ft", "--epochs=2"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, words) -> Path:
    """The folder of a finished run: to read only."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main([*words, "--lr=0.02", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path) -> Path:
    return copytree(trained, tmp_path / "run")


def content(folder: Path) -> dict[str, bytes]:
    """All that a run's folder holds, but for its lock."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != ".lock"]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def timeless(folder: Path) -> dict:
    return {key: one for key, one in results(folder).items() if key not in ("seconds", "config")}


REFUSED = {
    "a backbone that there is not": ["--backbone=resnet18x"],
    "another backbone": ["--backbone=resnet18"],
    "weights": ["--weights=nowhere.safetensors"],
    "the size": ["--image-size=48"],
    "the crop": ["--crop=0.5"],
    "augmentation": ["--augment=none"],
    "another method": ["--method=lp"],
    "a method that lacks a target": ["--method=dann"],
    "a method that lacks a run": ["--method=shot"],
    "a method that streams": ["--method=tent"],
    "a method's own option": ["--batchnorm=eval"],
    "a value that a method refuses": ["--method=lftl", "--ask=1", "--rounds=9"],
    "the rate": ["--lr=0.5"],
    "the rate and the seed": ["--lr=0.5", "--seed=9"],
    "the seed": ["--seed=1"],
    "fewer epochs": ["--epochs=1"],
    "no epochs": ["--epochs=-1"],
    "momentum": ["--momentum=0.5"],
    "decay": ["--weight-decay=0.1"],
    "clipping": ["--clip=1"],
    "warming up": ["--warmup=0.5"],
    "an average": ["--average=ema"],
    "interpolation": ["--interpolate=0.5"],
    "parts": ["--accumulate=2"],
    "no parts": ["--accumulate=0"],
    "the layout": ["--layout=contiguous"],
    "precision": ["--precision=bf16-mixed"],
    "the batch": ["--batch-size=8"],
    "no batch": ["--batch-size=0"],
    "shares": ["--val-share=0.3"],
    "classes": ["--classes", "dots", "rings"],
    "one class too many": ["--classes", "dots", "rings", "stripes", "waves"],
    "other data": ["OTHER"],
    "no data": ["/nowhere"],
    "a further test": ["--ood=more=OTHER"],
    "a further test that is nowhere": ["--ood=more=/nowhere"],
    "a target": ["--target=OTHER"],
    "a source": ["--source=more=OTHER"],
    "a run to start from": ["--from=RUN"],
    "no run to start from": ["--from=/nowhere"],
    "what chooses": ["--select=last"],
    "what never chooses": ["--select=luck"],
    "an open set": ["--open-set"],
    "a threshold": ["--unknown-above=0.3"],
    "a domain": ["--domain=1e3"],
    "an option that there is not": ["--colour=red"],
    "a value that is none": ["--lr=fast"],
    "an oracle": ["--oracle"],
    "a config of other settings": ["--config=CONFIG"],
}


@pytest.mark.parametrize("asked", REFUSED.values(), ids=REFUSED)
def test_a_refused_resume_leaves_the_run_as_it_was(run, sketches, tmp_path, told, asked):
    (tmp_path / "other.yaml").write_text("method: ft\nlr: 0.7\n")
    places = {"OTHER": str(sketches), "RUN": str(run), "CONFIG": str(tmp_path / "other.yaml")}
    for name, place in places.items():
        asked = [word.replace(name, place) for word in asked]
    before = content(run)
    code, _, said = told("fit", "--resume", "--out", run, *asked)
    assert code in (1, 2), said
    assert "bug" not in said
    assert content(run) == before


def test_after_refusals_a_run_goes_on_and_is_measured(trained, run, told):
    for asked in (["--backbone=resnet18x"], ["--method=dann"], ["--lr=0.5"], ["/nowhere"]):
        assert told("fit", "--resume", "--out", run, *asked)[0] == 1
    assert told("fit", "--resume", "--out", run)[0] == 0
    assert timeless(run) == timeless(trained)
    assert told("evaluate", run)[0] == 0


def test_what_cannot_apply_any_more_is_refused_by_name(run, told):
    code, _, said = told("fit", "--resume", "--out", run, "--lr=0.5", "--seed=9")
    assert code == 1
    assert "was begun with seed 0, lr 0.02, and asked for is seed 9, lr 0.5, which cannot" in said
    code, _, said = told("fit", "--resume", "--out", run, "--epochs=1")
    assert code == 1
    assert "was trained for 2 epochs already, and --epochs is 1: give 2 or more to go on" in said


def test_a_checkpoint_knows_its_settings_whatever_became_of_the_config(run, words, told):
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("lr: 0.02", "lr: 0.5"))
    assert "begun with lr 0.02, and asked for is lr 0.5" in told("fit", "--resume", "--out", run)[2]
    (run / "config.yaml").unlink()
    assert "begun with lr 0.02" in told(*words, "--lr=0.4", "--resume", "--out", run)[2]
    assert told(*words, "--lr=0.02", "--resume", "--out", run)[0] == 0
    assert (run / "config.yaml").read_text() == text


def without_settings(folder: Path) -> None:
    """Make the checkpoint one of an earlier version, which kept no settings."""
    kept = Checkpoints(folder / "checkpoints")
    state = kept.newest().state
    state["of"] = {name: state["of"][name] for name in ("method", "classes")}
    (file,) = (folder / "checkpoints").iterdir()
    file.unlink()
    kept.save(int(file.name[5:14]), state)


def test_a_checkpoint_of_an_earlier_version_goes_on_and_its_config_is_what_holds(
    trained, run, told
):
    without_settings(run)
    assert "begun with lr 0.02" in told("fit", "--resume", "--out", run, "--lr=0.5")[2]
    text = (run / "config.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("clip", "warmup"))]
    (run / "config.yaml").write_text("\n".join(lines))  # as one that did not know these yet
    assert "begun with warmup 0.0" in told("fit", "--resume", "--out", run, "--warmup=0.5")[2]
    assert told("fit", "--resume", "--out", run)[0] == 0
    assert timeless(run) == timeless(trained)


def test_more_epochs_go_on_training(run, told):
    assert told("fit", "--resume", "--out", run, "--epochs=3")[0] == 0
    assert [line["epoch"] for line in read_lines(run / "metrics.jsonl")] == [0, 1, 2, 3]
    assert yaml.safe_load((run / "config.yaml").read_text())["epochs"] == 3
    assert told("fit", "--resume", "--out", run, "--epochs=2")[0] == 1
    assert told("fit", "--resume", "--out", run)[0] == 0


def test_what_decides_nothing_of_the_training_may_change(trained, run, told):
    free = ["--workers=1", "--cache=ram", "--device=cpu", "--checkpoint-minutes=1", "--json"]
    code, _, said = told("fit", "--resume", "--out", run, *free, "--on-nonfinite=skip")
    assert code == 0, said
    assert timeless(run) == timeless(trained)
    assert yaml.safe_load((run / "config.yaml").read_text())["workers"] == 1


def test_settings_that_may_change_are_settings():
    parser = training_parser("fit", "", skip=frozenset())
    add_masks(parser)
    known = {"log", "tensorboard", *hyperparameters(Segmentation)}
    assert known | {action.dest for action in parser._actions} >= FREE | PLACES


def test_data_that_moved_are_the_same_data_and_others_of_the_same_names_are_not(
    own_photos, sketches, tiny, tmp_path, told
):
    words = [*tiny, "--method=lp", "--cs=3", "--out", tmp_path / "run"]
    assert told("fit", own_photos, *words)[0] == 0
    moved = own_photos.rename(tmp_path / "moved")
    code, _, said = told("fit", "--resume", "--out", tmp_path / "run")
    assert code == 1
    assert str(own_photos) in said
    code, _, said = told("fit", sketches, "--resume", "--out", tmp_path / "run")
    assert code == 1, "its files have the same names"
    assert f"begun with data {own_photos}, and asked for is data {sketches}" in said
    assert told("fit", moved, "--resume", "--out", tmp_path / "run")[0] == 0
    assert f"data: {moved}" in (tmp_path / "run" / "config.yaml").read_text()


def test_data_that_changed_where_they_are_are_said(own_photos, tiny, tmp_path, told):
    out = ["--out", tmp_path / "run"]
    assert told("fit", own_photos, *tiny, "--method=lp", "--cs=3", *out)[0] == 0
    assert "have changed" not in told("fit", "--resume", *out)[2]
    next(own_photos.glob("*/*")).unlink()
    code, _, said = told("fit", "--resume", *out)
    assert code == 0
    assert "have changed since the run began" in said


def test_a_run_whose_checkpoints_are_gone_is_not_begun_anew(run, told):
    shutil.rmtree(run / "checkpoints")
    before = content(run)
    code, _, said = told("fit", "--resume", "--out", run, "--lr=0.5")
    assert code == 1
    assert "has ended and its checkpoints are gone, so it cannot go on" in said
    assert content(run) == before


def test_a_network_that_does_not_fit_is_said_in_a_sentence(run, told):
    kept = Checkpoints(run / "checkpoints")
    state = kept.newest().state
    state["fit"]["method"].popitem()
    kept.save(10**6, state)
    before = content(run)
    code, _, said = told("fit", "--resume", "--out", run)
    assert code == 1
    assert "what was saved does not fit FineTune on this network" in said
    assert content(run) == before


UNMADE = {
    "a backbone that there is not": ["--backbone=resnet18x"],
    "a method that lacks a target": ["--method=dann"],
    "a value that a method refuses": ["--method=sam", "--rho=-1"],
    "what never chooses": ["--select=luck"],
    "data that are nowhere": ["--ood=more=/nowhere"],
    "parts of a climb, which the first step refuses": ["--method=sam", "--accumulate=2"],
}


@pytest.mark.parametrize("asked", UNMADE.values(), ids=UNMADE)
def test_a_new_run_that_is_refused_leaves_nothing_that_stands_in_the_way(
    words, tmp_path, told, asked
):
    folder = tmp_path / "run"
    code, _, said = told(*words, *asked, "--out", folder)
    assert code == 1, said
    assert "go on with" not in said
    assert content(folder) == {}
    assert told(*words, "--out", folder, "--epochs=1")[0] == 0


def test_a_method_that_is_refused_as_it_prepares_leaves_the_run_alone(
    words, tmp_path, monkeypatch, told
):
    def refuse(*_):
        raise ValueError("there is nothing to prepare from")

    with monkeypatch.context() as patched:
        patched.setattr(FineTune, "prepare", refuse)
        assert told(*words, "--out", tmp_path / "run")[0] == 1
    assert content(tmp_path / "run") == {}


def test_a_refused_comparison_leaves_the_one_before(photos, tiny, tmp_path, told):
    words = ["compare", photos, *tiny, "--seeds=1", "--epochs=1", "--out", tmp_path]
    assert told(*words, "--methods=lp", "--set", "lp.cs=3")[0] == 0
    before = content(tmp_path)
    for asked in (
        ["--methods=lp", "--backbone=resnet18x"],
        ["--methods=lp", "--set", "lp.cs=-3"],
        ["--methods=dann"],
        ["--methods=lp", "--ood=more=/nowhere"],
    ):
        assert told(*words, *asked)[0] == 1
        left = content(tmp_path)
        assert {name: left[name] for name in before} == before
    assert told("report", tmp_path)[0] == 0


def events(folder: Path) -> list[int]:
    """Steps of an epoch's accuracy in all files of events, whatever is purged."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    files = sorted(folder.glob("events.out.tfevents.*"))
    found = [event for file in files for event in EventFileLoader(str(file)).Load()]
    return [e.step for e in found for v in e.summary.value if v.tag == "val_accuracy"]


class Killed(BaseException):
    """An end that nobody handles, as a SIGKILL."""


@pytest.mark.parametrize("at", [3, 4, 5])
def test_tensorboard_has_each_step_once_wherever_the_run_was_killed(
    words, tmp_path, monkeypatch, at
):
    pytest.importorskip("tensorboard")
    save = Run.save_checkpoint

    def kill(run, step, state):
        if step >= at:  # after 4 an epoch was logged already, after 3 and 5 it was paused
            raise Killed
        save(run, step, state)

    out = [f"--out={tmp_path}", "--log=tensorboard", "--checkpoint-minutes=0"]
    with monkeypatch.context() as patched:
        patched.setattr(Run, "save_checkpoint", kill)
        with pytest.raises(Killed):
            main([*words, *out, "--epochs=3"])
    assert main(["fit", "--resume", *out]) == 0
    assert events(tmp_path) == [0, 1, 2, 3]
    assert main(["fit", "--resume", *out, "--epochs=4"]) == 0
    assert events(tmp_path) == [0, 1, 2, 3, 4]


def test_tensorboard_may_be_asked_for_later_and_has_all_steps(run):
    pytest.importorskip("tensorboard")
    assert main(["fit", "--resume", f"--out={run}", "--log=tensorboard"]) == 0
    assert events(run) == [0, 1, 2]
