"""How an objective becomes the gradient that a step goes down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adaptune.batchnorm.layers import batchnorms
from adaptune.runtime.shards import norms_of
from adaptune.types import Objective


@dataclass(frozen=True)
class Plain:
    """The gradient where the weights are."""


@dataclass(frozen=True)
class Sharp:
    """The gradient where the objective is higher: after a climb of length ``radius``.

    ``radius`` is a number, or a mean over the rows of the batch, that is made from the objective
    as it was before the climb: without gradients, with the same random numbers and precision as
    the objective, and without moving running statistics. ``adaptive`` measures the climb of each
    weight by the weight's size. ``beside`` is a further objective, whose gradient is taken where
    the weights are and added: the climb knows nothing of it, and running statistics do not follow
    its passes. Sources: SAM (Foret et al., 2021), ASAM (Kwon et al., 2021).

    >>> Sharp(0.05).distance(Objective({"task": torch.tensor(3.0)}, torch.zeros(1, 2)))
    tensor(0.0500)
    """

    radius: float | Callable[[Objective], Tensor]
    adaptive: bool = False
    beside: Callable[[], Objective] | None = None

    def distance(self, done: Objective) -> Tensor:
        """Say how far to climb from where ``done`` was evaluated: a scalar."""
        if callable(self.radius):
            return self.radius(done)
        return done.total.detach().new_full((), self.radius)


@dataclass(frozen=True)
class PerTerm:
    """The gradients of single terms, merged into one; beyond ``module`` that of their sum.

    ``merge`` is given, by the name of the term, its gradient on the parameters of ``module`` that
    move, one after the other (P,), averaged over processes, and gives (P,). A term that does not
    reach them has a gradient of zeros. Terms named in ``guides`` are for the merge alone: nothing
    else goes down them. What it gives should grow with the gradients, all by one factor, as a
    weighted sum does, since a scaler of float16 multiplies them. Where a gradient is not finite it
    is not asked: their sum is not finite either, and the step is refused as any other.

    >>> steeper = lambda found: max(found.values(), key=Tensor.norm)
    >>> PerTerm(steeper, nn.Linear(1, 1)).merged({"a": torch.ones(2), "b": torch.full((2,), -3.0)})
    tensor([-3., -3.])
    """

    merge: Callable[[Mapping[str, Tensor]], Tensor]
    module: nn.Module
    guides: tuple[str, ...] = ()

    def merged(self, found: Mapping[str, Tensor]) -> Tensor:
        """Merge gradients (P,) by the name of their term: (P,), or what is not finite of them."""
        whole = torch.stack(list(found.values())).sum(0)
        sound = {name: one.nan_to_num(0.0, 0.0, 0.0) for name, one in found.items()}
        return torch.where(whole.isfinite().all(), self.merge(sound), whole)


@dataclass(frozen=True)
class Separate:
    """The gradients of parts that share nothing, each of a term of the objective of its own.

    ``parts`` are modules by the names of their terms. Where a term, or a gradient of its part, is
    not finite, that part is left out of the step: its gradients are zeros, and the others move.
    Where no part is sound, the step is refused as any other. ``told`` is given, before anything
    moves, which parts are sound: (P,), Booleans.

    >>> rule = Separate({"a": nn.Linear(1, 1), "b": nn.Linear(1, 1)}, print)
    >>> values = torch.tensor([2.0, torch.nan])
    >>> rule.leave_out_(["a", "b"], values, (~values.isfinite()).float())[0]
    tensor([ True, False])
    tensor([2., 0.])
    """

    parts: Mapping[str, nn.Module]
    told: Callable[[Tensor], None]

    def leave_out_(
        self, names: Sequence[str], values: Tensor, faults: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Make gradients of parts that are not sound zeros; give terms and faults without theirs.

        ``values`` (T,) are those of the terms of ``names``; ``faults`` (T,) are above 0 where one
        is not finite in any process.
        """
        found = {
            name: [one.grad for one in part.parameters() if one.grad is not None]
            for name, part in self.parts.items()
        }
        lost = torch.stack(
            [
                (faults[names.index(name)] > 0) | ~norms_of(own).isfinite().all()
                if own
                else faults[names.index(name)] > 0
                for name, own in found.items()
            ]
        )
        lost = lost & ~lost.all()
        self.told(~lost)
        for out, own in zip(lost, found.values(), strict=True):
            for gradient in own:
                gradient.masked_fill_(out, 0.0)
        known = dict(zip(found, lost, strict=True))
        out = torch.stack([known.get(name, torch.zeros_like(lost[0])) for name in names])
        return values.masked_fill(out, 0.0), faults.masked_fill(out, 0.0)


GradientRule = Plain | Sharp | PerTerm | Separate
"""How a gradient is formed."""


def climb(
    params: Sequence[Tensor], gradients: Sequence[Tensor], radius: Tensor, *, adaptive: bool = False
) -> list[Tensor]:
    """Give the way to where a loss is highest nearby, to first order: one tensor a parameter.

    With weights w and gradients g it is ``radius * g / |g|``, or, adaptive, ``radius * w^2 g /
    |w g|``; norms are those of all tensors together. The scale of the gradients does not matter,
    and where the norm is zero or not finite the way is zero. Sources: SAM (Foret et al., 2021),
    ASAM (Kwon et al., 2021; without the constant that its experiments add to the weights' sizes).

    >>> w, g = torch.tensor([2.0, 1.0]), torch.tensor([3.0, 4.0])
    >>> climb([w], [g], torch.tensor(0.5))
    [tensor([0.3000, 0.4000])]
    >>> climb([w], [g], torch.tensor(0.5), adaptive=True)[0] * torch.tensor([6.0, 4.0]).norm()
    tensor([6., 2.])
    """
    way = list(torch._foreach_mul(list(params), list(gradients))) if adaptive else list(gradients)
    factor = radius / torch.stack(torch._foreach_norm(way)).norm()
    if adaptive:
        way = list(torch._foreach_mul(way, list(params)))
    climbs = factor.isfinite() & (factor != 0)  # an endless norm gives 0, and 0 * inf is not 0
    return [torch.where(climbs, one * factor.to(one.dtype), 0.0) for one in way]


@contextmanager
def climbed(params: Sequence[Tensor], way: Sequence[Tensor]) -> Iterator[None]:
    """Move parameters for a while; whatever happens, they are back to the bit afterwards.

    >>> w = torch.tensor([1.0, 2.0])
    >>> with climbed([w], [torch.tensor([0.1, 0.2])]):
    ...     w
    tensor([1.1000, 2.2000])
    >>> w
    tensor([1., 2.])
    """
    before = [one.detach().clone() for one in params]
    try:
        with torch.no_grad():
            torch._foreach_add_(list(params), list(way))
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(params), before)


@contextmanager
def uncounted(model: nn.Module) -> Iterator[None]:
    """Let batch norms in train mode leave their running statistics alone for a while.

    >>> norm = nn.BatchNorm1d(2)
    >>> with uncounted(norm):
    ...     out = norm(torch.eye(2))
    >>> norm.running_mean.tolist(), int(norm.num_batches_tracked)
    ([0.0, 0.0], 0)
    """
    norms = [norm for _, norm in batchnorms(model) if norm.training and norm.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def flat_gradients(params: Sequence[Tensor]) -> Tensor:
    """Give the gradients of parameters one after the other, (P,); zeros where there are none.

    >>> weight = torch.ones(2, requires_grad=True)
    >>> (3 * weight).sum().backward()
    >>> flat_gradients([weight, torch.ones(1)])
    tensor([3., 3., 0.])
    """
    parts = (torch.zeros_like(one) if one.grad is None else one.grad for one in params)
    return torch.cat([one.reshape(-1) for one in parts])


def put_gradients_(params: Sequence[Tensor], flat: Tensor) -> None:
    """Make ``flat`` (P,) the gradients of parameters, each in its parameter's order in memory.

    >>> weight = torch.ones(2, 1)
    >>> put_gradients_([weight], torch.tensor([3.0, 4.0]))
    >>> weight.grad.tolist()
    [[3.0], [4.0]]
    """
    for one, part in zip(params, torch.split(flat, [one.numel() for one in params]), strict=True):
        one.grad = torch.empty_like(one).copy_(part.view(one.shape))


SMALLEST = 1e-3
"""Tensors whose entries are smaller than this on average may move as if they were this large."""


def shorten_to_share(
    params: Sequence[Tensor], lengths: Tensor, shares: Tensor, least: Tensor
) -> Tensor:
    """Give what shortens gradients of ``lengths`` (P,) to ``shares`` (P,) of the tensors' norms.

    A tensor whose norm is below ``least`` (P,) counts as if it had that. Source: adaptive gradient
    clipping (Brock et al., 2021), by tensor rather than by unit.

    >>> lengths, shares, least = torch.tensor([[10.0], [0.1], [0.0]])
    >>> shorten_to_share([torch.tensor([3.0, 4.0])], lengths, shares, least)
    tensor([0.0500])
    """
    norms = norms_of(params).maximum(least)
    longest = lengths.clamp_min(torch.finfo(lengths.dtype).tiny)
    return (shares * norms / longest).clamp_max(1.0)
