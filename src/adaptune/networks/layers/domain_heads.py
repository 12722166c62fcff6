"""One head a domain, whose predictions are mixed by how sure each is of an image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.networks.heads import Head, Readout, need_raw, read_linear

MOST_DOMAINS = 1000


class DomainHeads(nn.Linear, Head):
    """A linear head for all domains that holds one for each, and predicts by a mixture of those.

    Its own weight and bias are those of ``head``; the heads in ``own`` start at random. ``gamma``
    says how much more sure heads count (`shares`); it is a buffer, so it is saved with the weights.

    Source: Domain-Specific Risk Minimization (Zhang et al., 2022).

    >>> heads = DomainHeads(Readout(2, 3), domains=4)
    >>> heads.each(torch.randn(5, 2)).shape, heads(torch.randn(5, 2)).shape
    (torch.Size([5, 4, 3]), torch.Size([5, 3]))
    """

    gamma: Tensor

    def __init__(self, head: nn.Linear, domains: int) -> None:
        width, outputs = head.in_features, head.out_features
        super().__init__(width, outputs)
        self.weight, self.bias = head.weight, head.bias
        self.own = nn.ModuleList(Readout(width, outputs) for _ in range(domains))
        self.register_buffer("gamma", torch.ones(()))
        self.to(head.weight)

    def shared(self, features: Tensor) -> Tensor:
        """Read features (N, D, ...) by the head of all domains: logits (N, K, ...)."""
        return read_linear(features, self.weight, self.bias)

    def each(self, features: Tensor) -> Tensor:
        """Read features (N, D, ...) by the head of every domain: logits (N, S, K, ...)."""
        return torch.stack([head(features) for head in self.own], 1)

    def forward(self, features: Tensor) -> Tensor:
        """Predict: the mixture's log-probabilities (N, K, ...)."""
        return mixture_logits(self.each(features), self.gamma)

    def fold(self) -> DomainHeads:
        """Give itself, which reads raw features."""
        return self


def shares(logits: Tensor, gamma: Tensor | float) -> Tensor:
    """Say how much each head counts for each place, (N, S, ...), of logits (N, S, K, ...).

    A share is proportional to ``1 / H ** gamma``, H being the entropy of the head's prediction.
    Shares are equal where ``gamma`` is 0; where it is infinite the surest head counts alone.

    >>> logits = torch.tensor([[[0.0, 0.0], [3.0, 0.0]]])
    >>> shares(logits, 0.0), shares(logits, torch.inf)
    (tensor([[0.5000, 0.5000]]), tensor([[0., 1.]]))
    """
    return _log_shares(logits.log_softmax(2), gamma).exp()


def mixture_logits(logits: Tensor, gamma: Tensor | float) -> Tensor:
    """Mix what heads predict, logits (N, S, K, ...), by `shares`: log-probabilities (N, K, ...).

    >>> mixture_logits(torch.tensor([[[0.0, 0.0], [3.0, 0.0]]]), 0.0).exp()
    tensor([[0.7263, 0.2737]])
    """
    logs = logits.log_softmax(2)
    return (logs + _log_shares(logs, gamma).unsqueeze(2)).logsumexp(1)


def _log_shares(logs: Tensor, gamma: Tensor | float) -> Tensor:
    doubt = -(logs.exp() * logs).sum(2)
    doubt = doubt.clamp_min(torch.finfo(doubt.dtype).tiny).log()
    lead = gamma * (doubt.amin(1, keepdim=True) - doubt)
    return lead.nan_to_num(nan=0.0, neginf=-torch.inf).log_softmax(1)  # infinity times no lead


def pseudo_label_loss(logits: Tensor, mixture: Tensor, beta: float) -> Tensor:
    """Ask all heads, logits (N, S, K), for the labels of which their ``mixture`` (N, K) is sure.

    ``mixture`` are log-probabilities, and images whose largest probability is at least ``beta``
    count. Gives the sum over heads of the mean cross-entropy over those images; 0 if none is sure.

    Source: the test-time step of Domain-Specific Risk Minimization (Zhang et al., 2022).

    >>> logits = torch.zeros(1, 2, 2)
    >>> float(pseudo_label_loss(logits, mixture_logits(logits, 1.0), beta=1.1))
    0.0
    """
    sureness, labels = mixture.detach().exp().max(1)
    sure = (sureness >= beta).to(logits.dtype)
    wanted = labels.unsqueeze(1).expand(logits.shape[:2])
    losses = F.cross_entropy(logits.transpose(1, 2), wanted, reduction="none").sum(1)
    return (losses * sure).sum() / sure.sum().clamp_min(1)


def over_domains(losses: Tensor, domain: Tensor, domains: int) -> Tensor:
    """Give the mean over the domains that are there of the mean of their rows, both (N,).

    >>> over_domains(torch.tensor([1.0, 1.0, 4.0]), torch.tensor([0, 0, 2]), 3)
    tensor(2.5000)
    """
    members = F.one_hot(domain, domains).to(losses.dtype)
    counts = members.sum(0)
    means = losses @ members / counts.clamp_min(1)
    return means.sum() / (counts > 0).sum().clamp_min(1)


def domain_heads(body: nn.Module, head: Head, *, domains: int) -> tuple[nn.Module, DomainHeads]:
    """Put `DomainHeads` into a network's place for a head: a surgery.

    Raises:
        ValueError: If there is no domain, or there are too many for a file to be believed, or the
            head is not linear.

    >>> type(domain_heads(nn.Identity(), Readout(2, 3), domains=2)[1]).__name__
    'DomainHeads'
    """
    if not 1 <= domains <= MOST_DOMAINS:
        raise ValueError(f"heads are made for 1 to {MOST_DOMAINS} domains: got {domains}")
    return body, DomainHeads(need_raw(head, "a mixture of heads"), domains)
