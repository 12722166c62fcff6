"""What DAFT does before the first step and after the last, in a loop that is not ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adaptune.batchnorm.conversion import ConversionReport, convert_batchnorm
from adaptune.engine.method import hyperparameters
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.daft import DAFT
from adaptune.networks.heads import Readout
from adaptune.networks.probe_start import ProbeStart
from adaptune.ops.conditioning import Spread
from adaptune.runtime.processes import rank_and_world
from adaptune.tasks.task import Labelling
from adaptune.types import Group, Labeled

DEFAULTS: dict[str, Any] = {name: one.default for name, one in hyperparameters(DAFT).items()}


@dataclass
class DaftStart:
    """DAFT's conversion, head and rates for a module and an optimiser of torch's SGD.

    One pass over the training data converts the batch norms and measures what the head reads. The
    head is conditioned and starts at the linear probe, and the optimiser's groups are split into
    body and head, each at its rate, which schedulers follow. After training `end` folds the head
    into a plain layer; what is saved before has the head's statistics beside its weights. Of `DAFT`
    it lacks the bound of single steps.

    Args:
        head: The name of the last layer, linear, in the module, such as ``classifier.1``.
        lr: The body's rate.
        k: The rate of a conditioned head, as a multiple of the largest stable one.
        floor: The least deviation of a standardised feature, as a share of their average.
        head_lr: The rate of a published head, on raw features; by default the head is conditioned.
        head_start: Where a conditioned head starts: at the linear probe of the features and labels
            that the pass saw, as the loader gave them, or at zero as the paper's.
        curvature: The bound of the loss's curvature in the logits; the cross-entropy's by default.
        tolerance: How well every channel is known where the pass ends; 0 uses all batches.
    """

    head: str
    lr: float = 0.1
    k: float = DEFAULTS["k"]
    floor: float = DEFAULTS["floor"]
    head_lr: float | None = None
    head_start: Literal["probe", "zero"] = DEFAULTS["head_start"]
    curvature: float = Labelling.curvature
    tolerance: float = 0.0

    def begin(
        self,
        model: nn.Module,
        batches: Iterable[Any],
        optimizer: Any,
        schedulers: Sequence[Any] = (),
    ) -> ConversionReport:
        """Convert, condition, and set the rates, all in place.

        Raises:
            ValueError: If there is no such linear layer, it reads no rows of features, the
                optimiser is another than torch's SGD, or a probe is asked for and there are no
                labels.
        """
        optimizer = getattr(optimizer, "optimizer", optimizer)  # Accelerate wraps it
        if not isinstance(optimizer, torch.optim.SGD):
            raise ValueError(
                f"DAFT's rates are those of gradient descent, and the optimiser is "
                f"{type(optimizer).__name__}: give torch.optim.SGD"
            )
        plain = self._layer(model)
        spread, probe, read, seen = Spread(), ProbeStart(), list[Tensor](), 0
        probes = self.head_start == "probe" and self.head_lr is None

        def watch(batch: Any, _: Any) -> None:
            nonlocal seen
            features = _rows(read.pop())
            spread(batch, features)
            if probes:
                probe(_labelled(batch, features, seen), features)
            seen += len(features)

        hook = plain.register_forward_pre_hook(lambda _, args: read.append(args[0]))
        try:
            report = convert_batchnorm(
                model,
                batches,
                tolerance=self.tolerance,
                missing_affine="skip",  # what it adds the optimiser would not know
                watch=watch,
            )
        finally:
            hook.remove()
        head = Readout(plain.in_features, plain.out_features).to(plain.weight)
        head.weight, head.bias = plain.weight, plain.bias  # the optimiser has these
        head.zero_()
        model.set_submodule(self.head, head)
        rate = self.head_lr
        if rate is None:
            head.condition(spread, self.floor, curvature=self.curvature)
            if probes:
                probe.apply(head)
            momentum = float(optimizer.param_groups[0]["momentum"])
            rate = Plan(momentum=momentum).rate(Group(head, self.k, curvature=head.bound))
        _split_groups(optimizer, list(head.parameters()), self.lr, rate, schedulers)
        return report

    def end(self, model: nn.Module) -> None:
        """Fold the head into a plain linear layer of the same name."""
        head = model.get_submodule(self.head)
        if isinstance(head, Readout):
            folded = head.fold()
            plain = nn.Linear(folded.in_features, folded.out_features).to(folded.weight)
            plain.load_state_dict({name: getattr(folded, name).detach() for name in PARAMETERS})
            model.set_submodule(self.head, plain)

    def _layer(self, model: nn.Module) -> nn.Linear:
        layer = dict(model.named_modules()).get(self.head)
        if not isinstance(layer, nn.Linear) or layer.bias is None:
            known = [name for name, one in model.named_modules() if isinstance(one, nn.Linear)]
            raise ValueError(
                f"no linear layer with a bias is called {self.head!r}: give head=NAME; the last "
                f"linear layers are {', '.join(known[-3:]) or 'none'}"
            )
        return layer


PARAMETERS = ("weight", "bias")
"""What a linear layer is made of."""

LABELS = ("labels", "label", "y")
"""What mappings call their labels."""


def _rows(features: Tensor) -> Tensor:
    if features.dim() != 2:
        raise ValueError(
            f"the head should read rows of features (N, D), and it reads {tuple(features.shape)}: "
            "name the layer after pooling"
        )
    return features.detach()


def _labelled(batch: Any, features: Tensor, seen: int) -> Labeled:
    """Give rows of features their labels (N,) and numbers that no process counts twice."""
    y: Any = None
    if isinstance(batch, Mapping):
        y = next((batch[name] for name in LABELS if name in batch), None)
    elif isinstance(batch, tuple | list) and len(batch) > 1:
        y = batch[1]
    if not isinstance(y, Tensor) or y.shape != features.shape[:1] or y.is_floating_point():
        raise ValueError(
            "the head's start at the linear probe needs batches (images, labels), or labels under "
            f"{' or '.join(LABELS)}, one class a row: give them, or head_start='zero'"
        )
    rank, world = rank_and_world()
    index = (seen + torch.arange(len(y))) * world + rank
    return Labeled(x=features, domain=index, index=index, y=y)


def _split_groups(
    optimizer: torch.optim.Optimizer,
    head: Sequence[nn.Parameter],
    body_rate: float,
    head_rate: float,
    schedulers: Sequence[Any],
) -> None:
    """Split each group into body and head, at their rates; schedulers go on where they are."""
    fast = {id(one) for one in head}
    groups: list[dict[str, Any]] = []
    came_from: list[int] = []
    for number, group in enumerate(optimizer.param_groups):
        begun = group.get("initial_lr", group["lr"])
        share = group["lr"] / begun if begun else 1.0
        for rate, of_head in ((body_rate, False), (head_rate, True)):
            own = [one for one in group["params"] if (id(one) in fast) is of_head]
            if own:
                groups.append({**group, "params": own, "lr": rate * share, "initial_lr": rate})
                came_from.append(number)
    optimizer.param_groups[:] = groups
    for given in schedulers:
        scheduler = getattr(given, "scheduler", given)  # Accelerate wraps it
        scheduler.base_lrs = [group["initial_lr"] for group in groups]
        scheduler._last_lr = [group["lr"] for group in groups]
        if hasattr(scheduler, "lr_lambdas"):
            scheduler.lr_lambdas = [scheduler.lr_lambdas[number] for number in came_from]


def refuse_resumed(steps: int) -> None:
    """Refuse a run that goes on: its network was converted already.

    Raises:
        ValueError: If steps were taken.
    """
    if steps:
        raise ValueError(
            f"this run goes on after {steps} steps, and its network was converted before them: "
            "begin it anew, or go on without the callback from weights saved at its end"
        )
