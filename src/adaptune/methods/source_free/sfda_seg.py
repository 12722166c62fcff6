"""Source-free adaptation of segmentation by a prior of class shares."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from adaptune.engine.method import Method
from adaptune.networks.network import Network
from adaptune.ops.banks import NOTHING
from adaptune.runtime.inputs import in_eval
from adaptune.runtime.processes import add_up, join
from adaptune.tasks.segmentation import Segmentation
from adaptune.types import Batch, Between, Domains, Group, Needs, Objective

Whose = Literal["image", "batch"]

LEAST = 1e-3
"""The smallest share that decides how much a class counts in the entropy."""


class SFDASeg(Method):
    """Make predictions on the target certain, with classes in the shares that a prior says.

    The network was trained on the source, which is not needed any more. All of it goes down the
    entropy of predictions, in which a class counts by one over its share of the ``prior``, these
    adding up to 1, and the divergence KL(shares || prior), the shares being the mean prediction
    over the places of an image. In train mode batch norms follow the target's batches. Source:
    Source-Free Domain Adaptation for Image Segmentation (Bateson et al., 2022).

    Where no prior is given it is what the network that is started from predicts of all of the
    target, in eval mode: that keeps classes from being lost, and does not correct them. The paper
    has a prior for each image, of what anatomy says of sizes and of a tag that says which classes
    are there; here one holds for all. Where images differ much, as where many show one class alone,
    take the shares of a whole ``batch``, which is ours. Both losses were read in the released code;
    that counts are inverse shares, there two constants, is not verified. So is nothing of the
    rates: there it is Adam at 0.000001.

    Args:
        lr: The rate of everything.
        batchnorm: What batch norms do: train or eval.
        prior: The classes' shares in their order, as 0.7,0.2,0.1; none for the network's own.
        of: Whose shares are held to the prior: those of each image, or of a batch as a whole.
        weight: How much the divergence counts.
    """

    needs: ClassVar[Needs] = Needs(labeled=False, unlabeled=True)
    setting: ClassVar[str] = "source-free"
    shares: Tensor

    def __init__(
        self,
        net: Network,
        task: Segmentation,
        *,
        lr: Annotated[float, Between(1e-4, 0.1)] = 0.001,
        batchnorm: Literal["train", "eval"] = "train",
        prior: str = "",
        of: Whose = "image",
        weight: Annotated[float, Between(0.1, 10.0)] = 1.0,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        if of not in get_args(Whose):
            raise ValueError(f"shares are of an image or of a batch: got {of}")
        self.lr, self.batchnorm, self.prior, self.of, self.weight = lr, batchnorm, prior, of, weight
        given = shares_of(prior, task.classes) if prior else torch.zeros(task.classes)
        self.register_buffer("shares", given)

    @torch.no_grad()
    def prepare(self, data: Domains) -> dict[str, Any]:
        """Estimate the prior, if none was given."""
        if not self.prior:
            sums = torch.zeros(len(self.shares), dtype=torch.float64)
            with in_eval(self.net):
                for some in data.unlabeled():
                    sums += self.net(some.x).float().softmax(1).mean((2, 3)).sum(0).cpu()
            sums = add_up(sums)
            if not sums.any():
                raise ValueError(NOTHING)
            self.shares.copy_(sums / sums.sum())
        return {"prior": dict(zip(self.net.classes, self.shares.tolist(), strict=True))}

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(self.net, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for certain predictions, and for the prior's shares."""
        logits = self.net(batch.unlabeled.x)
        logs = logits.log_softmax(1)
        counts = 1 / self.shares.to(logs).clamp_min(LEAST)
        each = -torch.einsum("nkhw,k->nhw", logs.exp() * logs, counts / counts.sum())
        found = logs.exp().mean((2, 3))
        if self.of == "batch":
            found = join(found).mean(0, keepdim=True)
        return Objective(
            {"certain": each.mean(), "shares": self.weight * divergence(found, self.shares)}, logits
        )


def divergence(found: Tensor, prior: Tensor) -> Tensor:
    """Give KL(found || prior) of shares (N, K) and (K,), the mean over rows, in nats.

    A share of 0 counts as 1e-10, as in the released code.

    >>> divergence(torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([0.5, 0.5]))
    tensor(0.3466)
    """
    logs = (found + 1e-10).log() - (prior.to(found) + 1e-10).log()
    return (found * logs).sum(1).mean()


def shares_of(words: str, classes: int) -> Tensor:
    """Read the shares of classes, (K,).

    Raises:
        ValueError: If they are not as many numbers from 0 to 1 as classes, that add up to 1.

    >>> shares_of("0.7, 0.3", 2)
    tensor([0.7000, 0.3000])
    """
    try:
        found = torch.tensor([float(one) for one in words.split(",")])
    except ValueError:
        found = torch.empty(0)
    if len(found) != classes or not (found >= 0).all() or abs(float(found.sum()) - 1) > 0.001:
        raise ValueError(
            f"a prior is {classes} shares that add up to 1, one a class in their order, such as "
            f"{','.join(['0.5', '0.5', *['0'] * (classes - 2)][:classes])}: got {words}"
        )
    return found
