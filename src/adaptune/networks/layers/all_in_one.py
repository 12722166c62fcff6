"""A head with two outputs a class, known and unknown, that answers by one logit a class."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.networks.heads import Head, Readout, need_raw, read_linear


class AllInOne(nn.Linear, Head):
    """A linear head that also has an ``unknown`` output for every class, which starts at random.

    Its own weight and bias are those of ``head``. Its answers are `open_logits`: one logit a class,
    as even as unknown outputs are large, so that a network's threshold on uncertainty rejects what
    these outputs call unknown. Source: the all-in-one classifier of SAN (Zang et al., 2023).

    >>> head = AllInOne(Readout(2, 3))
    >>> known, unknown = head.both(torch.randn(5, 2))
    >>> known.shape, unknown.shape, head(torch.randn(5, 2)).shape
    (torch.Size([5, 3]), torch.Size([5, 3]), torch.Size([5, 3]))
    """

    def __init__(self, head: nn.Linear) -> None:
        width, outputs = head.in_features, head.out_features
        super().__init__(width, outputs)
        self.weight, self.bias = head.weight, head.bias
        self.unknown = Readout(width, outputs)
        self.to(head.weight)

    def both(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Read features (N, D, ...): the known and the unknown outputs, (N, K, ...) each."""
        return read_linear(features, self.weight, self.bias), self.unknown(features)

    def forward(self, features: Tensor) -> Tensor:
        """Predict: log-probabilities (N, K, ...)."""
        return open_logits(*self.both(features))

    def fold(self) -> AllInOne:
        """Give itself, which reads raw features."""
        return self


def open_logits(known: Tensor, unknown: Tensor) -> Tensor:
    """Give log-probabilities of classes (N, K, ...) by known and unknown outputs (N, K, ...).

    The softmax of known outputs and the uniform distribution are mixed by the largest known output
    against the largest unknown one. Where these are level, the paper's border, the likeliest of K
    classes has at most 1/2 + 1/(2K).

    >>> known = torch.tensor([[9.0, 0.0], [9.0, 0.0]])
    >>> open_logits(known, torch.tensor([[-9.0, -9.0], [9.0, 0.0]])).exp().round(decimals=2)
    tensor([[1.0000, 0.0000],
            [0.7500, 0.2500]])
    """
    lead = known.amax(1, keepdim=True) - unknown.amax(1, keepdim=True)
    even = F.logsigmoid(-lead).expand_as(known) - math.log(known.shape[1])
    return torch.stack([F.logsigmoid(lead) + known.log_softmax(1), even]).logsumexp(0)


def all_in_one_losses(
    known: Tensor, unknown: Tensor, y: Tensor, *, lead: float = 1.5, nearest: int = 20
) -> Tensor:
    """Ask outputs (N, K) for what a label (N,) means: a loss for each row, (N,).

    In one softmax over known and unknown outputs of the ``nearest`` classes, the label's and those
    of the largest known outputs, it is a third each of the label's -log p(known), of the largest
    -log p(unknown) of the others, and of ``lead`` times -log sigmoid of by how much the largest
    p(known) exceeds the largest p(unknown). Source: SAN (Zang et al., 2023), by its code.

    Raises:
        ValueError: If there is one class, which has no other.

    >>> known, unknown = torch.tensor([[5.0, -5.0]]), torch.tensor([[-5.0, 4.0]])
    >>> all_in_one_losses(known, unknown, torch.tensor([0]), lead=0.0)
    tensor([0.5422])
    """
    count = min(nearest, known.shape[1])
    if count < 2:
        raise ValueError("an all-in-one head tells classes apart: give two or more of them")
    most = known.detach().scatter(1, y.unsqueeze(1), torch.inf).topk(count).indices
    logs = torch.cat([known.gather(1, most), unknown.gather(1, most)], 1).log_softmax(1)
    chances = logs.exp()
    ahead = chances[:, :count].amax(1) - chances[:, count:].amax(1)
    positive, negative = logs[:, 0], logs[:, count + 1 :].amin(1)
    return -(positive + negative + lead * F.logsigmoid(ahead)) / 3


def openness(known: Tensor, unknown: Tensor) -> Tensor:
    """Give the mean entropy of known against unknown of each class, outputs (N, K), in nats.

    >>> openness(torch.zeros(2, 3), torch.zeros(2, 3))
    tensor(0.6931)
    """
    lead = known - unknown
    return -(lead.sigmoid() * F.logsigmoid(lead) + (-lead).sigmoid() * F.logsigmoid(-lead)).mean()


def all_in_one(body: nn.Module, head: Head) -> tuple[nn.Module, AllInOne]:
    """Put `AllInOne` into a network's place for a head: a surgery.

    Raises:
        ValueError: If the head is not linear.

    >>> type(all_in_one(nn.Identity(), Readout(2, 3))[1]).__name__
    'AllInOne'
    """
    return body, AllInOne(need_raw(head, "an all-in-one head"))
