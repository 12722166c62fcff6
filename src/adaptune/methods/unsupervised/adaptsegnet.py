"""An adversary on output maps."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptune.batchnorm.passes import DomainPasses, Passes
from adaptune.engine.method import Method
from adaptune.networks.network import Network
from adaptune.ops.adversary import LEAST_SIDE, as_it_is, domain_loss, map_critic
from adaptune.ops.places import on_grid
from adaptune.tasks.segmentation import Segmentation
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Needs, Objective, Rate


class AdaptSegNet(Method):
    """Make maps of predictions on the target look to a critic like those on the source.

    A convolutional critic reads maps of probabilities, on the grid of the masks, and tells which
    domain they are of. In the same step the network learns the labels of the source, and to have
    the target's maps taken for the source's: the critic learns nothing of that term, and the
    network nothing of the critic's. Where `dann` compares features place by place, this compares
    how predictions lie beside each other. Source: Learning to Adapt Structured Output Space for
    Semantic Segmentation (Tsai et al., 2018).

    In train mode what batch norms normalise by is said by ``passes``, as in `dann`: each domain's
    own batch, both of which running statistics follow in turn (``separate``, as in the released
    code), or with the source's statistics kept apart (``apart``), or what both have together
    (``joint``).

    The paper's critic learns by Adam at 0.0001, here at a rate of its own by what trains the rest.
    Its second critic, of an inner layer, is left out. Maps of less than 32 places a side are
    interpolated to that, since the critic halves them five times.

    Args:
        lr: The rate of the network.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        passes: How both domains go through batch norms: joint, separate or apart.
        weight: How much being taken for the source counts, by default as much as in the paper.
        judge: The rate of the critic.
        hidden: The channels after the critic's first layer.
    """

    needs: ClassVar[Needs] = Needs(unlabeled=True)
    setting: ClassVar[str] = "unsupervised"

    def __init__(
        self,
        net: Network,
        task: Segmentation,
        *,
        lr: Rate = 0.03,
        batchnorm: BatchNormPolicy = "train",
        passes: Passes = "separate",
        weight: Annotated[float, Between(1e-4, 1.0)] = 0.001,
        judge: Rate = 0.1,
        hidden: int = 64,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.batchnorm, self.passes, self.weight = lr, batchnorm, passes, weight
        self.judge, self.hidden = judge, hidden
        self.critic = map_critic(task.classes, hidden)
        self.both = DomainPasses(net.body, passes)

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Convert batch norms if the policy says so; both domains begin with their statistics."""
        notes = super().prepare(data)
        self.both.start(self.net.body)
        return notes

    def groups(self) -> list[Group]:
        """Train the network, and the critic at a rate of its own."""
        return [Group(self.net, self.lr), Group(self.critic, self.judge)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for the source's labels, for maps like the source's, and for the domain of maps."""
        y = batch.labeled.y
        ours, theirs = self.both(self.net.body, batch.labeled.x, batch.unlabeled.x)
        logits = self.net.head(ours)
        source, target = (chances(one, y) for one in (logits, self.net.head(theirs)))
        taken = as_it_is(self.critic, target)
        terms = {
            "task": self.task.loss(logits, y),
            "alike": self.weight
            * F.binary_cross_entropy_with_logits(taken, torch.ones_like(taken)),
            "domain": domain_loss(self.critic(source.detach()), self.critic(target.detach())),
        }
        return Objective(terms, logits, ours)


def chances(logits: Tensor, y: Tensor) -> Tensor:
    """Give probabilities (N, K, H, W) on the grid of masks (N, H, W), of 32 places a side or more.

    >>> chances(torch.zeros(1, 2, 4, 4), torch.zeros(1, 64, 8)).shape
    torch.Size([1, 2, 64, 32])
    """
    return on_grid(logits, [max(LEAST_SIDE, side) for side in y.shape[1:]]).softmax(1)
