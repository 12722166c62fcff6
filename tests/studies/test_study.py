"""A search tries what signatures say, on ID validation alone; its budget holds whatever happens."""

import os
import signal
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import optuna
import pytest
import torch
from torch.utils.data import Dataset
from toy import CLASSES, Toy, domains
from two import AFRESH

from adaptune.data import from_datasets
from adaptune.engine.method import hyperparameters
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.methods.supervised.ft import FineTune
from adaptune.report.terminal import Terminal
from adaptune.results.score import Score, Scores
from adaptune.results.trial import Trial, best_of
from adaptune.runs.setup import Session
from adaptune.studies.search import Search, search, space
from adaptune.types import Between, Rate

QUIET = Terminal(quiet=True)


def wanted(method="ft", *, over=None, data=None, budget=8, epochs=4, seed=0, **options) -> Search:
    """A search that takes a moment."""
    own = {name: one.default for name, one in hyperparameters(METHODS[method]).items()} | options
    data = data or domains().without_tests()
    plan = Plan(epochs=epochs, seed=seed)
    return Search("study", method, own, over or space(method), data, Toy(), plan, budget)


def searched(folder, **more) -> list[Trial]:
    return search(wanted(**more), folder=folder, terminal=QUIET)


def kept(folder) -> list[optuna.trial.FrozenTrial]:
    """All that the journal says of the trials, those that failed too."""
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "study.journal"))
    storage = optuna.storages.JournalStorage(backend)
    return optuna.load_study(study_name="study", storage=storage).get_trials()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The folder of a finished search of eight trials, and its trials: to read only."""
    folder = tmp_path_factory.mktemp("study")
    return folder, searched(folder)


class Made(FineTune):
    """A method that somebody adds."""

    def __init__(
        self, net, task, *, lr: Rate = 0.01, far: Annotated[float, Between(0.5, 8.0)] = 1.0, n=2
    ):
        super().__init__(net, task, lr=lr)


def test_the_space_is_what_the_signature_gives_a_range(monkeypatch):
    monkeypatch.setitem(METHODS, "made", Made)
    assert space("made") == {"lr": Between(1e-3, 1.0), "far": Between(0.5, 8.0)}
    assert space("made", ["far", "weight_decay"]) == {
        "far": Between(0.5, 8.0),
        "weight_decay": Between(1e-6, 1e-2),
    }


@pytest.mark.parametrize(
    ("method", "names", "said"),
    [
        ("ft", ["k"], "ft cannot search 'k': there are weight_decay, layer_decay, lr"),
        ("ft", ["batchnorm"], "cannot search 'batchnorm'"),
        ("lp", None, "lp has no hyper-parameter with a range to search: its options are cs"),
    ],
)
def test_what_has_no_range_cannot_be_searched(method, names, said):
    with pytest.raises(ValueError, match=said):
        space(method, names)


def test_chosen_values_go_where_they_belong():
    over = {"lr": Between(1e-3, 1.0), "weight_decay": Between(1e-6, 1e-2)}
    options, plan = wanted(over=over).chosen({"lr": 0.5, "weight_decay": 1e-4})
    assert options == {"lr": 0.5, "batchnorm": "train"}
    assert plan == Plan(epochs=4, weight_decay=1e-4)


def test_trials_begin_at_the_methods_own_setting_and_then_spread_over_the_decades(study):
    _, (first, *others) = study
    assert first.values == {"lr": 0.03}
    rates = torch.tensor([trial.values["lr"] for trial in others[:4]])
    quarters = ((rates.log10() + 3) / 3 * 4).floor()
    assert sorted(quarters.tolist()) == [0, 1, 2, 3], "one for each quarter of the range"


def test_a_search_begins_at_the_settings_that_it_is_given_within_the_range(tmp_path):
    assert searched(tmp_path / "inside", budget=1, lr=0.5)[0].values == {"lr": 0.5}
    assert searched(tmp_path / "outside", budget=1, lr=9.0)[0].values == {"lr": 1.0}


def test_pruned_trials_count_and_train_for_fewer_epochs(study):
    _, trials = study
    assert [trial.number for trial in trials] == list(range(8))
    ended = Counter(trial.state for trial in trials)
    assert set(ended) == {"complete", "pruned"}
    for trial in trials:
        whole = trial.state == "complete"
        assert trial.epochs == 4 if whole else 2 <= trial.epochs < 4
        assert not trial.diverged
    worst = min(trials, key=lambda trial: trial.reached)
    assert worst.state == "pruned"


def test_the_best_trial_is_the_most_accurate_and_of_several_that_with_the_lowest_loss(study):
    _, trials = study
    best, done = best_of(trials), [trial for trial in trials if trial.state == "complete"]
    assert best.reached == max(trial.reached for trial in done)
    level = [trial.loss for trial in done if trial.reached == best.reached]
    assert len(level) > 1, "the toy should be easy"
    assert best.loss == min(level)
    better = Trial(8, {}, "complete", 101.0, 99.0)
    stopped = Trial(9, {}, "pruned", 102.0)
    assert best_of([*trials, better, stopped]) is better


def test_a_search_that_is_done_runs_nothing_more(study, monkeypatch):
    folder, trials = study
    monkeypatch.setattr("adaptune.studies.search.study.open_session", None)
    assert searched(folder) == trials


def test_a_larger_budget_goes_on_with_what_is_there(tmp_path):
    few = searched(tmp_path, budget=2, epochs=1)
    assert len(few) == 2
    more = searched(tmp_path, budget=4, epochs=1)
    assert len(more) == 4
    assert more[:2] == few


def test_the_same_seed_tries_the_same_values_and_another_one_others(study, tmp_path):
    def values(trials):
        return [trial.values for trial in trials]

    assert values(searched(tmp_path / "same")) == values(study[1])
    others = values(searched(tmp_path / "other", seed=1, budget=4, epochs=1))
    assert others[0] == {"lr": 0.03}
    assert not any(value in values(study[1]) for value in others[1:])


@pytest.mark.parametrize("change", [{"epochs": 5}, {"method": "lp-ft"}, {"batchnorm": "eval"}])
def test_other_settings_are_not_mixed_into_a_study(study, change):
    folder, trials = study
    with pytest.raises(ValueError, match="was begun with other settings: give --study another"):
        searched(folder, **change)
    assert len(kept(folder)) == len(trials)


def test_a_study_whose_trials_were_all_refused_takes_other_settings(tmp_path):
    with pytest.raises(TypeError):
        searched(tmp_path, budget=2, epochs=1, weight=3)
    trials = searched(tmp_path, budget=2, epochs=1)
    assert [trial.state for trial in trials] == ["complete"] * 2
    with pytest.raises(ValueError, match="was begun with other settings"):
        searched(tmp_path, budget=2, epochs=2)


class Secret(Dataset):
    """Rows that nobody may look at."""

    def __len__(self) -> int:
        return 30

    def __getitem__(self, row):
        raise AssertionError(f"row {row} of a test set was read")


@pytest.mark.parametrize("method", ["ft", "daft"])
def test_test_images_are_never_read(method, tmp_path):
    train, val = (domains().sets[split].data for split in ("train", "val"))
    ood = {"shifted": Secret()}
    data = from_datasets(train, val, Secret(), classes=CLASSES, ood=ood)
    with pytest.raises(AssertionError, match="was read"):
        list(data.scan("test"))
    assert len(searched(tmp_path, method=method, data=data, budget=3, epochs=1)) == 3


def test_a_trial_that_diverges_counts_and_is_marked(tmp_path):
    trials = searched(tmp_path, over={"lr": (0.03, 1e30)}, budget=2, epochs=1)
    assert {trial.values["lr"]: trial.diverged for trial in trials} == {
        0.03: False,
        1e30: True,
    }
    assert best_of(trials).values == {"lr": 0.03}


def test_if_everything_diverges_that_is_said(tmp_path):
    trials = searched(tmp_path, over={"lr": Between(1e25, 1e30)}, budget=2, epochs=1)
    assert all(trial.diverged for trial in trials)
    with pytest.raises(ValueError, match="no trial came to an end: every one diverged"):
        best_of(trials)


def test_a_grid_is_tried_in_full(tmp_path):
    trials = searched(tmp_path, over={"lr": (0.1, 1e-6, 0.01)}, budget=3, epochs=3)
    assert sorted(trial.values["lr"] for trial in trials) == [1e-6, 0.01, 0.1]
    assert all(trial.state == "complete" for trial in trials)


def test_where_lower_is_better_a_search_finds_the_lowest_error(tmp_path, monkeypatch):
    validate = Session.validate

    def as_errors(session: Session) -> Scores:
        scores = validate(session)
        wrong, error = 100 - scores.main.value, scores.main.error
        return replace(scores, main=Score("error", wrong, wrong, wrong, error, better="lower"))

    by_accuracy = searched(tmp_path / "accuracy")
    monkeypatch.setattr(Session, "validate", as_errors)
    by_error = searched(tmp_path / "error")
    assert [(one.number, one.values, one.state) for one in by_error] == [
        (one.number, one.values, one.state) for one in by_accuracy
    ]
    assert "pruned" in {one.state for one in by_error}
    assert best_of(by_error).number == best_of(by_accuracy).number
    for error, right in zip(by_error, by_accuracy, strict=True):
        assert error.reached == pytest.approx(100 - right.reached)
        assert error.measure.name == "error"


def test_a_database_serves_as_well_as_a_journal(tmp_path, study):
    storage = f"sqlite:///{tmp_path / 'trials.db'}"
    for budget in (2, 3):
        trials = search(
            wanted(budget=budget), folder=tmp_path / "no", storage=storage, terminal=QUIET
        )
        assert len(trials) == budget
    ours = [(trial.values, trial.reached) for trial in trials]
    assert ours[0] == (study[1][0].values, study[1][0].reached)
    assert not (tmp_path / "no").exists()


def test_a_trial_that_an_error_ended_is_tried_again(tmp_path, monkeypatch):
    validate, calls = Session.validate, iter(range(3))

    def fail(training):
        if next(calls) == 2:
            raise OSError("the disk is gone")
        return validate(training)

    monkeypatch.setattr(Session, "validate", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        searched(tmp_path, budget=3, epochs=1)
    monkeypatch.undo()
    trials = searched(tmp_path, budget=3, epochs=1)
    (lost,) = [trial.params for trial in kept(tmp_path) if trial.state.name == "FAIL"]
    assert len(trials) == 3
    assert lost in [trial.values for trial in trials]


def in_another_process(folder: str, how: str, ready) -> None:
    """Take part in the test's study, and stop in the middle of it or go slowly."""
    torch.set_num_threads(1)
    validate, count = Session.validate, iter(range(1000))

    def pause(training):
        at = next(count)
        if at == {"hang": 11, "slow": 0}[how]:  # five validations make a trial
            ready.set()
            time.sleep(600 if how == "hang" else 0)
        time.sleep(0.05)
        return validate(training)

    Session.validate = pause
    searched(Path(folder))


@contextmanager
def other_process(folder, how):
    """Start ``in_another_process``, and go on as soon as it is ready."""
    ready = AFRESH.Event()
    process = AFRESH.Process(target=in_another_process, args=(str(folder), how, ready))
    process.start()
    try:
        assert ready.wait(60)
        yield process
    finally:
        process.kill()
        process.join()


def test_a_search_that_was_killed_goes_on_and_loses_nothing(tmp_path):
    with other_process(tmp_path, "hang") as process:
        os.kill(process.pid, signal.SIGKILL)
    before = kept(tmp_path)
    assert [trial.state.name for trial in before][2:] == ["RUNNING"]
    trials = searched(tmp_path)
    assert len(trials) == 8
    assert all(trial.state in ("complete", "pruned") for trial in trials)
    failed = [trial.number for trial in kept(tmp_path) if trial.state.name == "FAIL"]
    assert failed == [2]
    assert before[2].params in [trial.values for trial in trials]


def begun_together(storage: str | None, folder: str) -> None:
    """Take part in a new study from three processes at once; end badly if one of them does."""
    torch.set_num_threads(1)
    at = time.time() + 0.2
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            time.sleep(max(0.0, at - time.time()))
            what = wanted(budget=5, epochs=1)
            search(what, folder=Path(folder), storage=storage, terminal=QUIET)
            os._exit(0)
        children.append(child)
    sys.exit(any(os.waitpid(child, 0)[1] for child in children))


@pytest.mark.parametrize("storage", ["sqlite:///{}/new/trials.db", "{}/new/trials.log", None])
def test_processes_that_begin_a_study_together_all_end_well_and_share_it(tmp_path, storage):
    storage = storage and storage.format(tmp_path)
    together = AFRESH.Process(target=begun_together, args=(storage, str(tmp_path)))
    together.start()
    together.join()
    assert together.exitcode == 0
    trials = search(wanted(budget=5, epochs=1), folder=tmp_path, storage=storage, terminal=QUIET)
    assert len(trials) == 5
    assert all(trial.state in ("complete", "pruned") for trial in trials)


@pytest.mark.parametrize("storage", ["sqlite:////nowhere/at/all.db", "moon://trials"])
def test_a_storage_that_cannot_be_used_is_named(tmp_path, storage, monkeypatch):
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: None)
    with pytest.raises((ValueError, OSError), match="nowhere|moon"):
        search(wanted(budget=1), folder=tmp_path, storage=storage, terminal=QUIET)


def test_two_processes_share_a_study_and_its_budget(tmp_path):
    with other_process(tmp_path, "slow") as process:
        searched(tmp_path)
        process.join(60)
        assert process.exitcode == 0
    trials = searched(tmp_path)
    assert len(trials) == 8
    assert all(trial.state in ("complete", "pruned") for trial in trials)
    whose = Counter(
        trial.user_attrs["process"] for trial in kept(tmp_path) if trial.state.name != "FAIL"
    )
    assert len(whose) == 2
    assert whose.total() == 8
