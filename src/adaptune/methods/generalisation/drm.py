"""Domain-specific risk minimisation."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch

from adaptune.engine.method import Method
from adaptune.networks.layers.domain_heads import DomainHeads, mixture_logits, over_domains
from adaptune.networks.network import Network
from adaptune.tasks.task import Labelling
from adaptune.types import Batch, BatchNormPolicy, Between, Group, Needs, Objective, Rate


class DRM(Method):
    """Learn a head for each source domain and trust, image by image, the heads that are sure.

    A shared body feeds one head a domain, which learns from its domain alone, and one that learns
    from all; the loss is the mean over domains of the mean of both cross-entropies. A prediction
    mixes the probabilities of the domains' heads in proportion to ``1 / H ** gamma``, H being the
    entropy of each. All domains of a batch pass through batch norm together. Source:
    Domain-Specific Risk Minimization for Out-of-Distribution Generalization (Zhang et al., 2022).

    The head of all domains shapes the features and predicts nothing, as in the released code. That
    code lets it take part in the surest head's choice and in the sum that shares are divided by;
    here it does not, so that shares add up to 1. What the paper's text says of it, and
    the default of ``gamma`` (from the released grid 0, 0.5, 1, 5), were not verified. The paper's
    step on test images is given by `pseudo_label_loss` alone: no loop takes it yet.

    Args:
        lr: The rate of everything.
        gamma: How much more sure heads count: 0 is the plain mean, infinity the surest head alone.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
    """

    needs: ClassVar[Needs] = Needs(domains=2)
    setting: ClassVar[str] = "generalisation"

    def __init__(
        self,
        net: Network,
        task: Labelling,
        *,
        lr: Rate = 0.03,
        gamma: Annotated[float, Between(0.1, 10.0)] = 1.0,
        batchnorm: BatchNormPolicy = "train",
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        if not gamma >= 0:
            raise ValueError(f"gamma is 0 or above, inf for the surest head alone: got {gamma}")
        self.lr, self.gamma, self.batchnorm = lr, gamma, batchnorm
        net.operate("domain-heads", domains=task.domains)
        self.heads.gamma.fill_(gamma)

    @property
    def heads(self) -> DomainHeads:
        """The network's head, which holds all others."""
        assert isinstance(self.net.head, DomainHeads)
        return self.net.head

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(self.net, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask each row's own head, and that of all domains, for the label."""
        rows = batch.labeled
        features = self.net.body(rows.x)
        each = self.heads.each(features)
        own = each[torch.arange(len(rows), device=each.device), rows.domain]
        terms = {}
        for name, logits in (("own", own), ("shared", self.heads.shared(features))):
            losses = self.task.losses(logits, rows.y)
            terms[name] = over_domains(losses, rows.domain, self.task.domains) / 2
        return Objective(terms, mixture_logits(each, self.gamma))
