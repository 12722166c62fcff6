"""What every way of fitting a network to a domain has in common."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Literal, Protocol, get_args, get_type_hints

from torch import Tensor, nn

from adaptune.batchnorm.conversion import convert_batchnorm
from adaptune.engine.rules import GradientRule, Plain
from adaptune.networks.network import Network
from adaptune.networks.reference import Reference
from adaptune.runtime.limits import check_range
from adaptune.tasks.task import Task
from adaptune.types import (
    Batch,
    BatchNormPolicy,
    Between,
    Domains,
    Group,
    Needs,
    Objective,
    RateBetween,
)


class Descend(Protocol):
    """Evaluate an objective and move ``modules`` (by default all groups) one step down it."""

    def __call__(self, evaluate: Callable[[], Objective], *modules: nn.Module) -> Objective:
        """Give back the objective, as it was before the step."""
        ...


class Method(nn.Module, ABC):
    """One way of fitting a network to a domain. Abstract; every subclass is final.

    All state lives in this module: what is trained, teachers, banks. Hyper-parameters are the
    keyword-only arguments of ``__init__`` and have their defaults there and nowhere else.
    """

    needs: ClassVar[Needs] = Needs()
    setting: ClassVar[str]
    """What data it learns from, in a word or a few, for the list of methods."""
    can_shard: ClassVar[bool] = False
    """Whether it asks of its weights what its network's forward pass does, and moves all at once.

    Then they may lie in shards; see `Sharding`.
    """
    streams: ClassVar[bool] = False
    """Whether a network that it has trained may answer a stream by it."""
    rule: GradientRule = Plain()
    """How gradients are formed, read whenever it descends; not state, so set where it is known."""
    rounds: int = 0
    """Epochs that begin with something particular; with fewer, some of that is never done."""

    def __init__(self, net: Network, task: Task, *, batchnorm: BatchNormPolicy = "train") -> None:
        super().__init__()
        self.net, self.task = net, task.reading(net)
        net.hold_batchnorm(batchnorm)

    @abstractmethod
    def objective(self, batch: Batch) -> Objective:
        """Say what this batch asks for."""

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Say in which order things move; by default everything moves once."""
        return descend(partial(self.objective, batch))

    @abstractmethod
    def groups(self) -> list[Group]:
        """Say which modules are trained, and how fast."""

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Look at the data once, before the first step; give back what a report should show.

        By default batch norms are converted to the labelled rows if the policy says so.
        """
        if self.net.batchnorm != "converted":
            return {}
        return {"conversion": convert_batchnorm(self.net.body, data.scan("train"))}

    def refresh(self, data: Domains) -> None:  # noqa: B027
        """Look at the data again, before every epoch."""

    def fits(self, state: Mapping[str, Tensor]) -> bool:
        """Tell whether a state can be taken as the method stands, without looking at the data."""
        own = self.state_dict()
        return own.keys() == state.keys() and all(own[key].shape == state[key].shape for key in own)

    def take(self, state: Mapping[str, Tensor]) -> None:
        """Take a state that was saved.

        Raises:
            ValueError: If it is that of another network or method.
        """
        try:
            self.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(
                f"what was saved does not fit {type(self).__name__} on this network: go on with "
                f"the settings that it was begun with ({str(error).splitlines()[-1].strip()})"
            ) from error

    def forward(self, x: Tensor) -> Tensor:
        """Predict: one column of logits for each class."""
        return self.net(x)  # type: ignore[no-any-return]


def task_kind(method: type[Method]) -> type[Task]:
    """Say which kind of task a method works on, by the annotation of its ``task``.

    >>> from adaptune.methods.supervised.ft import FineTune
    >>> task_kind(FineTune).__name__
    'Task'
    """
    kind: type[Task] = get_type_hints(method.__init__).get("task", Task)
    return kind


def refuse_task(method: type[Method], task: type[Task]) -> None:
    """Refuse a task that a method does not work on.

    Raises:
        ValueError: If it is of another kind.
    """
    wanted = task_kind(method)
    if not issubclass(task, wanted):
        name = task.__name__.lower()
        raise ValueError(
            f"{method.__name__} works on {wanted.__name__.lower()}, and this is {name}: see "
            f"`adaptune methods --task {name}`"
        )


def refuse_head(method: type[Method], net: Network) -> None:
    """Refuse a network with a head that a method cannot use, by the annotation of its ``net``.

    Raises:
        ValueError: If it is of another kind.
    """
    for wanted in get_args(get_type_hints(method.__init__).get("net")):
        if not isinstance(net.head, wanted):
            raise ValueError(
                f"{method.__name__} works on networks whose head is a {wanted.__name__}, and this "
                f"one's is a {type(net.head).__name__}: {net.head.otherwise}"
            )


def teachers_of(method: type[Method]) -> Literal["none", "one", "several"]:
    """Say how many teachers a method takes, by the annotations of its ``__init__``.

    >>> from adaptune.methods.supervised.ft import FineTune
    >>> teachers_of(FineTune)
    'none'
    """
    hints = get_type_hints(method.__init__)
    if hints.get("teacher") is Reference:
        return "one"
    return "several" if "teachers" in hints else "none"


def hyperparameters(kind: type) -> dict[str, inspect.Parameter]:
    """Read a method's hyper-parameters, or a task's options, from its signature.

    >>> hyperparameters(Method)["batchnorm"].default
    'train'
    """
    return {
        name: parameter
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def usual_rates(kind: type, times: float) -> dict[str, float]:
    """Give the defaults of what are learning rates, so many times larger.

    These are ``lr``, ``..._lr`` and what is annotated as a `Rate`.

    >>> from adaptune.methods.supervised.ft import FineTune
    >>> usual_rates(FineTune, 0.01)
    {'lr': 0.0003}
    """
    hints = _hints(kind)
    return {
        name: float(f"{one.default * times:.6g}")
        for name, one in hyperparameters(kind).items()
        if _is_rate(name, hints[name])
    }


def _is_rate(name: str, hint: Any) -> bool:
    told = any(isinstance(extra, RateBetween) for extra in getattr(hint, "__metadata__", ()))
    return told or name == "lr" or name.endswith("_lr")


def _hints(kind: type) -> dict[str, Any]:
    source: Any = kind
    source = source.__init__ if issubclass(kind, Method | Task) else source
    return get_type_hints(source, include_extras=True)


def ranges(kind: type, times: float = 1.0) -> dict[str, Between]:
    """Read where a search looks for each option of a method or task, or field of a record.

    What has no range is left out; those of learning rates are ``times`` higher.

    >>> from adaptune.methods.supervised.ft import FineTune
    >>> ranges(FineTune)
    {'lr': Between(low=0.001, high=1.0)}
    """
    found = {}
    for name, hint in _hints(kind).items():
        for extra in getattr(hint, "__metadata__", ()):
            if isinstance(extra, Between):
                scale = times if _is_rate(name, hint) else 1.0
                found[name] = Between(extra.low * scale, extra.high * scale)
    return found


def refuse_options(kind: type, options: Mapping[str, Any]) -> None:
    """Refuse options that no method or task can have: not finite, or a range's below zero.

    Raises:
        ValueError: If one is so.
    """
    known = ranges(kind)
    for name, value in options.items():
        if isinstance(value, int | float):
            check_range(f"--{name.replace('_', '-')}", value, 0 if name in known else -math.inf)
