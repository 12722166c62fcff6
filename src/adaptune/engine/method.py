"""What every way of fitting a network to a domain has in common."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Protocol, get_type_hints

from torch import Tensor, nn

from adaptune.batchnorm.conversion import convert_batchnorm
from adaptune.engine.rules import GradientRule, Plain
from adaptune.networks.network import Network
from adaptune.runtime.limits import check_range
from adaptune.tasks.task import Task
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Needs, Objective


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
    rule: GradientRule = Plain()
    """How gradients are formed, read whenever it descends; not state, so set where it is known."""
    rounds: int = 0
    """Epochs that begin with something particular; with fewer, some of that is never done."""

    def __init__(self, net: Network, task: Task, *, batchnorm: BatchNormPolicy = "train") -> None:
        super().__init__()
        self.net, self.task = net, task
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


def hyperparameters(method: type[Method]) -> dict[str, inspect.Parameter]:
    """Read a method's hyper-parameters from its signature.

    >>> hyperparameters(Method)["batchnorm"].default
    'train'
    """
    return {
        name: parameter
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def ranges(kind: type) -> dict[str, Between]:
    """Read where a search looks for each parameter of a method, or field of a record, that has one.

    >>> from adaptune.methods.ft import FineTune
    >>> ranges(FineTune)
    {'lr': Between(low=0.001, high=1.0)}
    """
    hints = get_type_hints(
        kind if not issubclass(kind, Method) else kind.__init__, include_extras=True
    )
    found = {}
    for name, hint in hints.items():
        for extra in getattr(hint, "__metadata__", ()):
            if isinstance(extra, Between):
                found[name] = extra
    return found


def refuse_options(method: type[Method], options: Mapping[str, Any]) -> None:
    """Refuse hyper-parameters that no method can have: not finite, or a range's below zero.

    Raises:
        ValueError: If one is so.
    """
    known = ranges(method)
    for name, value in options.items():
        if isinstance(value, int | float):
            check_range(f"--{name.replace('_', '-')}", value, 0 if name in known else -math.inf)
