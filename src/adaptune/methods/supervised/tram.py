"""Trust-region aware minimisation."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.engine.method import Descend, Method
from adaptune.engine.rules import Sharp
from adaptune.networks.network import Network
from adaptune.ops.rows import rows
from adaptune.tasks.task import Labelling
from adaptune.types import Batch, BatchNormPolicy, Domains, Group, Objective, Rate


class TRAM(Method):
    """Fine-tune as adaptive SAM does, but climb only as far as predictions changed of late.

    The climb is as long as d = KL(reference || prediction), a mean over the batch, so where the
    function stands still the step is plain, and at low rates nearly so. The reference is in the
    network's mode and draws the same dropout, so that d measures weights alone; the authors' code
    keeps it in eval mode, and leaves the gradient out of the climb, which is in the paper's
    equation and here. Not checked against the paper: the default of ``noise``, and that what the
    noise gives comes first in KL. Memory: a frozen copy of the network (none for noise), and within
    a step two of its weights.

    Batch norms are in train mode; running statistics follow the first pass alone. Source: TRAM:
    Bridging Trust Regions and Sharpness Aware Minimization (Sherborne et al., 2023).

    Args:
        lr: The rate of everything.
        reference: What a prediction is compared with: the network of the previous step; the
            pretrained one, as training begins, new head and all (the climb grows as the function
            drifts); or the network itself on inputs with noise.
        noise: The deviation of that noise, which is normal.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
    """

    setting: ClassVar[str] = "supervised"

    def __init__(
        self,
        net: Network,
        task: Labelling,
        *,
        lr: Rate = 0.03,
        reference: Literal["previous", "pretrained", "noise"] = "previous",
        noise: float = 0.1,
        batchnorm: BatchNormPolicy = "train",
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.reference, self.noise, self.batchnorm = lr, reference, noise, batchnorm
        noisy = reference == "noise"
        self.teacher = nn.Identity() if noisy else deepcopy(net).requires_grad_(False)

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Convert batch norms if the policy says so; the reference begins as the network."""
        notes = super().prepare(data)
        if self.reference != "noise":
            self.teacher.load_state_dict(self.net.state_dict())
        return notes

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(self.net, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels."""
        logits = self.net(batch.labeled.x)
        return Objective({"task": self.task.loss(logits, batch.labeled.y)}, logits)

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Climb by what separates prediction and reference, descend, and remember the weights."""
        x = batch.labeled.x
        if self.reference == "noise":
            x = x + self.noise * torch.randn_like(x)
        self.rule = Sharp(partial(self._distance, x), adaptive=True)
        follows = self.reference == "previous"
        before = deepcopy(self.net.state_dict()) if follows else {}
        done = descend(partial(self.objective, batch))
        if follows:
            self.teacher.load_state_dict(before)
        return done

    def _distance(self, x: Tensor, done: Objective) -> Tensor:
        """Compare the prediction with the reference on ``x``, (N, ...)."""
        reference = self.net if self.reference == "noise" else self.teacher
        return divergence(reference(x), done.logits)


def divergence(reference: Tensor, logits: Tensor) -> Tensor:
    """Give KL(reference || prediction) of two logits (N, K, ...), the mean over places, in nats.

    >>> divergence(torch.zeros(1, 2), torch.zeros(1, 2))
    tensor(0.)
    >>> divergence(torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]).log())
    tensor(0.1438)
    """
    told, wanted = (
        rows(one).detach().to(torch.promote_types(one.dtype, torch.float32)).log_softmax(1)
        for one in (logits, reference)
    )
    return F.kl_div(told, wanted, reduction="batchmean", log_target=True)
