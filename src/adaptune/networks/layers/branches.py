"""A tuned copy of a body's last stages beside them, and three heads of which one answers."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Self

import torch
from torch import Tensor, nn

from adaptune.networks.heads import Head, Readout, need_raw, read_linear
from adaptune.networks.stages import CONTAINERS, layer_groups


class Branch(nn.Module):
    """A part of a body, frozen, and a copy of it that is tuned, each of which reads its own rows.

    The rows of the copy follow those of the part. Where the branch ``begins`` both read the same.
    """

    def __init__(self, part: nn.Module, *, begins: bool) -> None:
        super().__init__()
        self.tuned, self.begins = deepcopy(part), begins
        self.kept = part.eval().requires_grad_(False)

    def forward(self, x: Tensor, *more: Any, **named: Any) -> Tensor:
        """Give outputs (2N, ...) of rows (N, ...) where it begins, else of rows (2N, ...)."""
        kept, tuned = (x, x) if self.begins else _halves(x)
        return torch.cat([self.kept(kept, *more, **named), self.tuned(tuned, *more, **named)])


class TwoBranches(nn.Module):
    """A body whose ``parts``, the last, have a tuned copy: features (N, 2 D), the body's first.

    What lies before the parts runs once for both and is frozen, as they are. All of that stays in
    eval mode, and so do features (N, D) of the body, to the bit.
    """

    def __init__(self, body: nn.Module, parts: list[str]) -> None:
        super().__init__()
        self.body = body.eval().requires_grad_(False)
        self.parts = parts
        for number, name in enumerate(parts):
            branch = Branch(body.get_submodule(name), begins=number == 0)
            body.set_submodule(name, branch)
            branch.tuned.requires_grad_(True)

    @property
    def tuned(self) -> nn.ModuleList:
        """What is tuned."""
        return nn.ModuleList(self.body.get_submodule(f"{one}.tuned") for one in self.parts)

    def train(self, mode: bool = True) -> Self:
        """Switch modes; what is frozen stays in eval mode."""
        super().train(False)
        self.tuned.train(mode)
        self.training = mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Give the features of both branches, side by side."""
        return torch.cat(_halves(self.body(x)), 1)


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    half = x.shape[0] // 2
    return x[:half], x[half:]


class ChosenHeads(Head):
    """Three heads of two branches' features, of which one answers for each place (`chosen`).

    The clean head reads the first half of features and is frozen: its ``weight`` and ``bias`` are
    buffers, with zeros for the other half. ``robust`` and ``combined`` read the second half, and
    begin as copies of it.

    >>> heads = ChosenHeads(Readout(2, 3))
    >>> heads.each(torch.ones(5, 4)).shape, heads(torch.ones(5, 4)).shape
    (torch.Size([5, 3, 3]), torch.Size([5, 3]))
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        own, width = head.weight.detach().clone(), head.in_features
        self.register_buffer("weight", torch.cat([own, torch.zeros_like(own)], 1))
        self.register_buffer("bias", head.bias.detach().clone())
        self.robust, self.combined = (Readout(width, len(own)).to(own) for _ in range(2))
        for one in (self.robust, self.combined):
            one.take_raw(self.weight[:, :width], self.bias)

    def each(self, features: Tensor) -> Tensor:
        """Read features (N, 2 D, ...) by every head: logits (N, 3, K, ...), the clean head's first.

        The combined head's are last.
        """
        ours, tuned = features.chunk(2, 1)
        clean = read_linear(ours, self.weight[:, : ours.shape[1]].contiguous(), self.bias)
        return torch.stack([clean, self.robust(tuned), self.combined(tuned)], 1)

    def forward(self, features: Tensor) -> Tensor:
        """Answer by the head that is chosen: logits (N, K, ...)."""
        each = self.each(features)
        answers = chosen(each)[:, None, None].expand_as(each[:, :1])
        return each.gather(1, answers).squeeze(1)

    def fold(self) -> ChosenHeads:
        """Give itself, which reads raw features."""
        return self


def chosen(logits: Tensor) -> Tensor:
    """Say which head answers, of logits (N, H, K, ...): (N, ...), counted from 0.

    It is the one with the least sum of its uncertainty, the entropy of its prediction, and of
    KL(combined || own), how far the combined head, the last, is from it.

    >>> chosen(torch.tensor([[[4.0, 0.0], [1.0, 0.0], [2.0, 0.0]]]))
    tensor([0])
    >>> chosen(torch.tensor([[[0.0, 4.0], [3.0, 0.0], [2.0, 0.0]]]))
    tensor([1])
    """
    logs = logits.log_softmax(2)
    shares = logs.exp()
    doubt = -(shares * logs).sum(2)
    apart = (shares[:, -1:] * (logs[:, -1:] - logs)).sum(2)
    return (doubt + apart).argmin(1)


def last_parts(body: nn.Module, stages: int) -> list[str]:
    """Name the modules that make up the last stages of a body, each as large as it can be.

    A block in which a stage begins belongs to it as a whole, since something may run past its
    layers.

    Raises:
        ValueError: If so many stages would leave none, or share a module with those before.

    >>> last_parts(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), 1)
    ['2']
    """
    groups = layer_groups(body)
    if len(groups) < 2:
        raise ValueError("a second branch needs a body of two stages or more: this one has one")
    if not 1 <= stages < len(groups):
        raise ValueError(
            f"a body of {len(groups)} stages has a second branch of 1 to {len(groups) - 1}: got "
            f"{stages} stages"
        )
    earlier, later = (
        [name for names in part for name in names] for part in (groups[:-stages], groups[-stages:])
    )
    first = _largest(later[0], earlier)
    while "." in first and not isinstance(_parent(body, first), CONTAINERS):
        first = first.rpartition(".")[0]
    others = [one for one in later if not f"{one}.".startswith(f"{first}.")]
    return list(dict.fromkeys([first, *(_largest(one, earlier) for one in others)]))


def _largest(name: str, earlier: list[str]) -> str:
    """Name the largest module that holds a layer and none of ``earlier`` ones."""
    words = name.split(".")
    for end in range(len(words)):
        part = ".".join(words[: end + 1])
        if not any(f"{one}.".startswith(f"{part}.") for one in earlier):
            return part
    raise ValueError(f"{name} holds layers of an earlier stage: give another number of stages")


def _parent(body: nn.Module, name: str) -> nn.Module:
    return body.get_submodule(name.rpartition(".")[0])


def two_branches(body: nn.Module, head: Head, *, stages: int) -> tuple[nn.Module, ChosenHeads]:
    """Put a tuned copy of the last stages beside them, and heads that read both: a surgery.

    At first both branches and all heads are alike, so that nothing changes.

    Raises:
        ValueError: If the body has no such stages, or the head is not linear.

    >>> body, heads = two_branches(
    ...     nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), Readout(2, 3), stages=1
    ... )
    >>> body(torch.ones(5, 2)).shape, [name for name, _ in heads.named_parameters()][:2]
    (torch.Size([5, 4]), ['robust.weight', 'robust.bias'])
    """
    linear = need_raw(head, "a choice of heads")
    training = body.training
    return TwoBranches(body, last_parts(body, stages)).train(training), ChosenHeads(linear)
