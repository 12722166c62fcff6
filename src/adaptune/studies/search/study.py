"""Search for hyper-parameters on ID validation, in a study that several processes may share."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from adaptune.data.domains import DomainData
from adaptune.engine.method import hyperparameters, ranges
from adaptune.engine.plan import USUAL, Plan
from adaptune.methods import METHODS
from adaptune.ops.rejection import UNKNOWN_ABOVE
from adaptune.report.terminal import Terminal
from adaptune.results.score import Measure, number
from adaptune.results.trial import Trial
from adaptune.runs.setup import Setup, open_session
from adaptune.selection.epochs import BestEpoch, best_by_validation
from adaptune.studies.search.sampler import Over, sampler_for
from adaptune.studies.search.storage import HEARTBEAT, open_storage, stable_writes
from adaptune.types import Between

COUNTED = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
"""Trials that take their share of the budget: those that failed do not."""


class _Surplus(Exception):
    """A trial that another process made superfluous."""


@dataclass(frozen=True)
class Search:
    """What is tuned, on what, and for how many trials.

    ``over`` holds the range of each hyper-parameter that is searched, or the values of a grid.
    ``options`` are the method's other hyper-parameters, and where the search begins.
    """

    name: str
    method: str
    options: Mapping[str, Any]
    over: Over
    data: DomainData
    setting: Setup
    plan: Plan
    budget: int

    def __str__(self) -> str:
        return f"tuning {self.name}"

    @property
    def settings(self) -> str:
        """What must be the same for all who take part in a study."""
        fixed = {key: value for key, value in self.options.items() if key not in self.over}
        sets: dict[str, Any] = {k: len(rows) for k, rows in self.data.sets.items() if k != "test"}
        if self.data.parts or len(self.data.target):
            sets["parts"] = (self.data.parts, self.data.target.name, len(self.data.target))
        # A search knows no open set, and studies of earlier versions name the threshold.
        setting = replace(self.setting, unknown_above=UNKNOWN_ABOVE)
        return f"{self.method} {fixed} {dict(self.over)} {setting} {self.plan} {sets}"

    def starts(self) -> dict[str, float]:
        """Give the values that the search begins with: the method's and the plan's own."""
        own = dict(self.options)
        return {name: float(own.get(name, getattr(self.plan, name, 0.0))) for name in self.over}

    def chosen(self, values: Mapping[str, float]) -> tuple[dict[str, Any], Plan]:
        """Put searched values in their places: the method's options, the plan."""
        planned = {field.name for field in fields(Plan)}
        options = dict(self.options) | {k: v for k, v in values.items() if k in self.options}
        plan = {k: v for k, v in values.items() if k in planned and k not in self.options}
        return options, replace(self.plan, **plan)  # type: ignore[arg-type]


def space(
    method: str, names: Sequence[str] | None = None, optimizer: str = Plan.optimizer
) -> dict[str, Between]:
    """Read what can be searched from the signatures of a method and of the plan.

    Rates lie where it is usual for an optimiser.

    Without names, everything that the method gives a range is searched.

    Raises:
        ValueError: If a name has no range, or there is nothing to search.

    >>> list(space("daft")), list(space("ft", ["lr", "weight_decay"]))
    (['lr', 'k'], ['lr', 'weight_decay'])
    """
    own = ranges(METHODS[method], USUAL[optimizer])
    known = ranges(Plan) | own
    for name in names or ():
        if name not in known:
            raise ValueError(f"{method} cannot search {name!r}: there are {', '.join(known)}")
    if not (names or own):
        raise ValueError(
            f"{method} has no hyper-parameter with a range to search: its options are "
            f"{', '.join(hyperparameters(METHODS[method]))}"
        )
    return {name: known[name] for name in names or own}


def search(
    what: Search, *, folder: Path, storage: str | None = None, terminal: Terminal
) -> list[Trial]:
    """Run trials until the budget is used; give all of them, those of other processes too.

    A study that was interrupted goes on. Several processes, on one machine or on many, share one
    by its name and its storage. `SpreadThenTPE` says which values are tried. Trials that fall
    behind on ID validation are stopped early by asynchronous successive halving (Li et al., 2020),
    first after a third of the epochs; those of a grid run to their end.

    Args:
        what: What is tuned.
        folder: Where the journal lies if there is no other storage.
        storage: The URL of a database that optuna takes; by default a journal in ``folder``.
        terminal: Where progress is shown.

    Raises:
        ValueError: If the study was begun with other settings.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with open_storage(folder, storage) as kept:
        study = optuna.create_study(
            storage=kept,
            study_name=what.name,
            direction="maximize",
            sampler=sampler_for(what.over, what.starts(), budget=what.budget, seed=what.plan.seed),
            pruner=_pruner(what),
            load_if_exists=True,
        )
        _begin(study, what)
    while _room(study, what.budget):
        _bring_back(study)
        with stable_writes():
            study.optimize(
                lambda trial: _run(study, trial, what, terminal), n_trials=1, catch=(_Surplus,)
            )
    return [_row(trial) for trial in study.get_trials(states=COUNTED)]


def _begin(study: Study, what: Search) -> None:
    """Let a study be one of these settings, unless trials of others came to something.

    Raises:
        ValueError: If they did.
    """
    begun = study.user_attrs.get("settings")
    if begun == what.settings:
        return
    if begun is not None and study.get_trials(deepcopy=False, states=COUNTED):
        raise ValueError(
            f"the study {what.name!r} was begun with other settings: give --study another name, or "
            f"another --out\n begun {begun}\n asked {what.settings}"
        )
    study.set_user_attr("settings", what.settings)


def _pruner(what: Search) -> optuna.pruners.BasePruner:
    if all(isinstance(one, Between) for one in what.over.values()):
        first = max(1, -(-what.plan.epochs // 3))
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=2)
    return optuna.pruners.NopPruner()


def _room(study: Study, budget: int) -> bool:
    """Say whether trials are left to run, after those of processes that died were given up."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        if _dead(trial):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    return len(study.get_trials(states=COUNTED)) < budget


def _dead(trial: FrozenTrial) -> bool:
    """Say whether the process of a running trial is gone; of other machines databases know."""
    host, _, process = trial.user_attrs.get("process", "").rpartition(":")
    if process:
        return host == socket.gethostname() and not _alive(int(process))
    age = datetime.now() - (trial.datetime_start or datetime.now())
    return age.total_seconds() > HEARTBEAT  # killed before it could say whose it is


def _alive(process: int) -> bool:
    if process == os.getpid():  # trials run one after the other, so it cannot be this process's
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _bring_back(study: Study) -> None:
    """Queue again what trials of these settings that failed were trying."""
    settings = study.user_attrs["settings"]
    trials = study.get_trials()
    queued = [t.system_attrs.get("fixed_params") for t in trials if t.state == TrialState.WAITING]
    tried = [t.params for t in trials if t.state in COUNTED]
    for trial in trials:
        lost = trial.state == TrialState.FAIL and "surplus" not in trial.user_attrs
        lost = lost and trial.user_attrs.get("settings", settings) == settings
        if lost and trial.params and trial.params not in [*tried, *queued]:
            study.enqueue_trial(trial.params)
            queued.append(trial.params)


def _run(study: Study, trial: optuna.Trial, what: Search, terminal: Terminal) -> float:
    """Train once, tell the study after every epoch, and stop when others are ahead."""
    trial.set_user_attr("process", f"{socket.gethostname()}:{os.getpid()}")
    trial.set_user_attr("settings", what.settings)
    counted = [one.number for one in study.get_trials(states=COUNTED, deepcopy=False)]
    if sorted(counted).index(trial.number) >= what.budget:
        trial.set_user_attr("surplus", True)
        raise _Surplus
    values = {name: _suggest(trial, name, one) for name, one in what.over.items()}
    options, plan = what.chosen(values)
    said = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    terminal.say(f"trial {len(counted)} of {what.budget}: {said}")
    began = time.perf_counter()
    best, measure = BestEpoch(), Measure()
    training = open_session(METHODS[what.method], options, what.data, what.setting, plan)
    try:
        for epoch in terminal.epochs(training.epochs(), plan.epochs):
            scores = training.validate()
            best = best_by_validation(best, epoch.number, scores)
            measure = scores.main.measure
            trial.set_user_attr("score", measure.to_dict())
            trial.report(scores.main.merit, epoch.number)
            if epoch.number and trial.should_prune():
                raise optuna.TrialPruned
    except FloatingPointError as error:
        trial.set_user_attr("diverged", str(error))
        raise optuna.TrialPruned from error
    finally:
        trial.set_user_attr("seconds", round(time.perf_counter() - began, 2))
    trial.set_user_attr("loss", best.loss)
    reached = number(best.val)
    terminal.say(f"trial {len(counted)}: val {measure.text(reached)}")
    return measure.merit(reached)


def _suggest(trial: optuna.Trial, name: str, one: Between | Sequence[float]) -> float:
    if isinstance(one, Between):
        return trial.suggest_float(name, one.low, one.high, log=True)
    return float(trial.suggest_categorical(name, list(one)))


def _row(trial: FrozenTrial) -> Trial:
    """Read a trial, which the study knows by merit; what was pruned has what it had reached."""
    reached, known = trial.intermediate_values, trial.user_attrs
    measure = Measure.from_dict(known.get("score"))
    last = reached[max(reached)] if reached else None
    merit = trial.value if trial.state == TrialState.COMPLETE else last
    return Trial(
        number=trial.number,
        values=dict(trial.params),
        state=trial.state.name.lower(),
        reached=None if merit is None else measure.merit(merit),
        loss=known.get("loss"),
        epochs=max(reached, default=0),
        seconds=known.get("seconds"),
        diverged="diverged" in known,
        measure=measure,
    )
