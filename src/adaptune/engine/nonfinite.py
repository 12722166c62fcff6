"""Training that goes wrong: what stopped being finite, where, and on which rows."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adaptune.runtime.inputs import find_tensors, in_python
from adaptune.types import Batch


class NonFiniteError(FloatingPointError):
    """A term of the objective, or a gradient, that is not finite; raised before the step is taken.

    ``what`` says which. ``layer`` is the first whose output is not finite, "" if all are. ``rows``
    are those of the batch that are to blame, all of them where that cannot be told; the others
    are domains, in the same order.
    """

    def __init__(
        self,
        what: str,
        layer: str = "",
        rows: tuple[int, ...] = (),
        domains: tuple[int, ...] = (),
        place: str = "",
    ) -> None:
        super().__init__(what)
        self.what, self.layer, self.rows, self.domains = what, layer, rows, domains
        self.place = place

    def __str__(self) -> str:
        where = f"{self.what}{self.place}"
        if self.layer:
            where += f"; the first output that is not finite is that of {self.layer}"
        return (
            f"{where}. The rate may be too high (try a third of it), or an input is broken; "
            "--on-nonfinite skip leaves such steps out"
        )

    def at(self, epoch: int, step: int) -> NonFiniteError:
        """Add when it happened; both count from 1."""
        place = f" in epoch {epoch}, step {step}"
        return NonFiniteError(self.what, self.layer, self.rows, self.domains, place)

    def told(self, batch: Batch, layer: str) -> NonFiniteError:
        """Add what it happened on, and where in the network."""
        rows, domains = rows_to_blame(batch)
        return NonFiniteError(self.what, layer, rows, domains, self.place)


@contextmanager
def lone_values_explained(*, holdable: bool) -> Iterator[None]:
    """Say what to do where a batch norm in train mode gets one value a channel.

    Args:
        holdable: Whether the method lets its batch norms be held.

    Raises:
        ValueError: If that happens, as for one image of one pixel: one value has no variance.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):  # torch's own words
            raise
        held = ", or hold batch norms by --batchnorm eval" if holdable else ""
        raise ValueError(
            "a batch norm in train mode got one value a channel, which has no variance, because a "
            "batch, or its part, had one image: give more images, or a larger --batch-size (with "
            f"--accumulate, fewer parts){held}"
        ) from error


def rows_to_blame(batch: Batch) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give the rows whose inputs are not finite, and their domains; all where every input is."""
    sides = [side for side in (batch.labeled, batch.unlabeled) if len(side)]
    broken = [~side.x.flatten(1).isfinite().all(1) for side in sides]
    if not any(bool(one.any()) for one in broken):
        broken = [torch.ones_like(one) for one in broken]
    rows = torch.cat([side.index[one] for side, one in zip(sides, broken, strict=True)])
    domains = torch.cat([side.domain[one] for side, one in zip(sides, broken, strict=True)])
    return tuple(rows.tolist()), tuple(domains.tolist())


@dataclass(frozen=True)
class StepCheck:
    """Whether a step can be taken, as numbers that lie on the device until somebody reads them.

    ``values`` (T,) are those of the ``terms``, ``fault`` () is above 0 where one is not finite in
    any process, and ``norms`` (P,) are those of the gradients of ``params``.
    """

    terms: tuple[str, ...]
    values: Tensor
    fault: Tensor
    params: Sequence[Tensor]
    norms: Tensor

    @property
    def broken(self) -> Tensor:
        """Give 1 if the step must not be taken, else 0: float32 (1,)."""
        broken = (self.fault > 0) | ~self.norms.isfinite().all()
        return broken.float().reshape(1)

    def refuse(self, module: nn.Module) -> None:
        """Read the numbers; this waits for the device.

        Raises:
            NonFiniteError: If the step must not be taken.
        """
        if not bool(self.broken):
            return
        for term, value in zip(self.terms, self.values.tolist(), strict=True):
            if not math.isfinite(value):
                raise NonFiniteError(f"the term {term!r} is {value}")
        if self.fault > 0:
            raise NonFiniteError("a term of the objective is not finite in another process")
        names = {id(one): name for name, one in module.named_parameters()}
        finite = self.norms.isfinite().tolist()
        broken = [one for one, fine in zip(self.params, finite, strict=True) if not fine]
        raise NonFiniteError(
            f"the gradients of {len(broken)} tensors, such as {names.get(id(broken[-1]), '?')}, "
            "are not finite"
        )


class PendingChecks:
    """Checks of the last steps, not read yet: by then the device works on the next step."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.waiting: deque[tuple[list[StepCheck], Batch, int, int]] = deque()

    def add(self, checks: list[StepCheck], batch: Batch, epoch: int, step: int) -> None:
        """Leave the checks of a step to be read; epoch and step count from 1."""
        self.waiting.append((checks, batch, epoch, step))

    def read(self, keep: int = 0) -> Iterator[NonFiniteError]:
        """Read all but those of the newest ``keep`` steps; give what went wrong."""
        while len(self.waiting) > keep:
            checks, batch, epoch, step = self.waiting.popleft()
            try:
                for check in checks:
                    check.refuse(self.module)
            except NonFiniteError as found:
                yield found.told(batch, first_nonfinite(self.module, batch)).at(epoch, step)


def first_nonfinite(method: nn.Module, batch: Batch) -> str:
    """Evaluate once more and name the first layer whose output is not finite, "" if all are.

    >>> class Broken(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.log = nn.Sequential(nn.Linear(1, 1), nn.Threshold(9.0, float("inf")))
    ...     def objective(self, x):
    ...         return self.log(x)
    >>> first_nonfinite(Broken(), torch.zeros(1, 1))
    'log.1 (Threshold)'
    """
    found: list[str] = []
    with torch.no_grad(), in_python(), _watching(method, found):
        method.objective(batch)  # type: ignore[operator]
    return found[0] if found else ""


@contextmanager
def _watching(module: nn.Module, found: list[str]) -> Iterator[None]:
    def hook(name: str) -> Any:
        def look(layer: nn.Module, args: object, output: Any) -> None:
            if any(not bool(one.isfinite().all()) for one in _floating(output)):
                found.append(f"{name} ({type(layer).__name__})")

        return look

    named = [(name, one) for name, one in module.named_modules() if not any(one.children())]
    hooks = [one.register_forward_hook(hook(name)) for name, one in named]
    try:
        yield
    finally:
        for one in hooks:
            one.remove()


def _floating(output: Any) -> Iterator[Tensor]:
    return (one for one in find_tensors(output) if one.is_floating_point())
