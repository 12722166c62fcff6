"""Transfer between finished networks that keeps what either knows better."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.engine.method import Method
from adaptune.networks.network import Network
from adaptune.networks.reference import Reference
from adaptune.runtime.processes import add_up
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Between, Domains, Group, Labeled, Objective


class KLDP(Method):
    """Learn from other networks where they know better, and from oneself as one was elsewhere.

    A finished network (``--from RUN``) learns, image by image, the prediction of whichever is surer
    of the label: a teacher, or a frozen copy of the network as it began; labels decide that alone.
    ``choose confidence`` asks for the surest prediction instead. The loss is the Kullback-Leibler
    divergence from that prediction to the network's. Source: Fantastic Gains and Where to Find
    Them: On the Existence and Prospect of General Knowledge Transfer between Any Pretrained Model
    (Roth et al., 2024).

    Any networks that know the classes can be teachers, in any order of classes; further classes of
    theirs are left out. The report says of each how many images it knows that the network does not,
    and the other way round. From a backbone with a fresh head every prediction would be the
    teachers': plain distillation. Batch norms are held by default, so that the network begins at a
    loss of zero towards itself; the paper does not say. Its rate is for 20 epochs of ImageNet; on a
    few hundred images a hundred times as much is not too high.

    Args:
        lr: The rate of everything.
        batchnorm: What batch norms do: train or eval.
        choose: Whose prediction is learnt: of the surest of the label, or of the greatest
            confidence.
        temperature: What logits are divided by.
    """

    setting: ClassVar[str] = "teachers"

    def __init__(
        self,
        net: Network,
        task: Classification,
        teachers: tuple[Reference, ...],
        *,
        lr: Annotated[float, Between(1e-4, 0.1)] = 1e-4,
        batchnorm: Literal["train", "eval"] = "eval",
        choose: Literal["label", "confidence"] = "label",
        temperature: float = 1.0,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.batchnorm, self.choose = lr, batchnorm, choose
        self.temperature = temperature
        begun = Reference(deepcopy(net), net.preprocess)
        known = [one.matched(net.classes) for one in teachers]
        self.known = nn.ModuleList([begun, *known])

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(self.net, self.lr)]

    @torch.no_grad()
    def prepare(self, data: Domains) -> dict[str, Any]:
        """Count what each teacher and the network know that the other does not."""
        return {"flips": flips(self.known, data.scan("train"))}

    def objective(self, batch: Batch) -> Objective:
        """Ask for the prediction of whoever knows better."""
        x, y = batch.labeled.x, batch.labeled.y
        logits = self.net(x)
        said = torch.stack([one(x) for one in self.known])
        wanted = better(said, y if self.choose == "label" else None)
        heat = self.temperature
        learnt, target = ((one / heat).log_softmax(1) for one in (logits, wanted))
        apart = F.kl_div(learnt, target, reduction="batchmean", log_target=True)
        return Objective({"transfer": heat**2 * apart}, logits)


def better(said: Tensor, y: Tensor | None) -> Tensor:
    """Of logits (T, N, K) give each row's from who is surest (N, K): of ``y`` (N,), or of any.

    >>> said = torch.tensor([[[0.0, 1.0], [0.0, 3.0]], [[0.0, 2.0], [4.0, 0.0]]])
    >>> better(said, torch.tensor([1, 1])).tolist(), better(said, None).tolist()
    ([[0.0, 2.0], [0.0, 3.0]], [[0.0, 2.0], [4.0, 0.0]])
    """
    sure = said.softmax(2)
    rows = torch.arange(said.shape[1], device=said.device)
    best = (sure.amax(2) if y is None else sure[:, rows, y]).argmax(0)
    return said[best, rows]


def flips(known: Iterable[nn.Module], rows: Iterable[Labeled]) -> list[dict[str, float]]:
    """Say of all but the first network on how many rows, in percent, it alone is right, or wrong.

    >>> rows = Labeled(torch.eye(2), *[torch.arange(2)] * 2, y=torch.tensor([0, 0]))
    >>> flips([nn.Identity(), nn.Threshold(2.0, 0.0)], [rows])
    [{'gained': 50.0, 'lost': 0.0}]
    """
    networks = list(known)
    counts = torch.zeros(len(networks) - 1, 3, dtype=torch.int64)
    for some in rows:
        first, *others = (one(some.x).argmax(1) == some.y for one in networks)
        for at, other in enumerate(others):
            parts = (other & ~first, first & ~other, torch.ones_like(first))
            counts[at] += torch.stack([part.sum() for part in parts]).cpu()
    return [
        {"gained": 100.0 * int(won) / int(seen), "lost": 100.0 * int(lost) / int(seen)}
        for won, lost, seen in add_up(counts)
    ]
