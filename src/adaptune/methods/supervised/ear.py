"""An encoder with adaptors that grow where data are new."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.engine.method import Method
from adaptune.networks.layers.routes import RoutedHead
from adaptune.networks.network import Network
from adaptune.ops.hypervectors import bundle, own_strangeness, patterns
from adaptune.runtime.processes import add_up, gather
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Domains, Group, Objective, Rate


class EAR(Method):
    """Keep the network and add a small adaptor for each domain that is new to it.

    For sequences: `adaptune compare --sequence A,B --methods ear`, or `fit --from RUN`. The body is
    frozen. Its features become hypervectors, signs of random projections, added up by class; how
    strange an image is to a domain is 1 minus its largest cosine with a class. Of the first domain
    the head learns. Of a later one, if fewer than ``known`` of its images are familiar to a route
    there is, a new route is added, a shallow adaptor and a readout, which alone learns; if not,
    nothing grows or moves. An image takes the first route that it is familiar to, or else the one
    that it is least strange to. So what was familiar before is answered to the bit as before.
    Source: Efficient Model Adaptation for Continual Learning at the Edge (Daniels et al., 2023).

    Batch norms normalise by running statistics, which stay: features are those of the network that
    was started from.

    Only the abstract was read. The structure is the paper's: a fixed encoder, out-of-distribution
    detection by hyperdimensional computing, adaptors found by search without training, growth
    where needed, routing. All equations are ours: signs of Gaussian projections around the first
    domain's mean, limits that keep a share of the domain's own training images (each judged without
    itself), first come first served routing, and the adaptor's width, the smallest of four whose
    patterns of active units on 128 images score nearly as well as the best (after NASWOT).

    Args:
        lr: The rate of what learns.
        codes: The length of hypervectors.
        keep: The share of a domain's training images that its limit calls familiar.
        known: The share of familiar images from which a domain is not new.
        units: The smallest adaptor that is tried; the others have 2, 4 and 8 times as many units.
        near: The share of the best score that an adaptor must reach.
    """

    setting: ClassVar[str] = "supervised"
    task: Classification

    def __init__(
        self,
        net: Network,
        task: Classification,
        *,
        lr: Rate = 0.1,
        codes: int = 2048,
        keep: float = 0.95,
        known: float = 0.7,
        units: int = 16,
        near: float = 0.95,
    ) -> None:
        if not (0 < keep < 1 and 0 <= known <= 1 and 0 < near <= 1 and units > 0):
            raise ValueError(
                "keep, known and near are shares and an adaptor has units: got "
                f"keep {keep}, known {known}, near {near}, units {units}"
            )
        super().__init__(net, task, batchnorm="eval")
        self.lr, self.codes, self.keep = lr, codes, keep
        self.known, self.units, self.near = known, units, near
        self.begins = not isinstance(net.head, RoutedHead)
        if self.begins:
            net.operate("routed-head", codes=codes)
        self.head.learning.fill_(0 if self.begins else -1)

    @property
    def head(self) -> RoutedHead:
        """The network's head, which holds all routes."""
        assert isinstance(self.net.head, RoutedHead)
        return self.net.head

    @torch.no_grad()
    def prepare(self, data: Domains) -> dict[str, Any]:
        """See whether the domain is new; if so, add a route for it, and remember it."""
        self.net.eval()
        none = self.head.center.new_zeros(0, self.net.width)
        found, labels = [none], [self.head.learning.new_zeros(0)]
        for rows in data.scan("train"):
            found.append(self.net.body(rows.x))
            labels.append(rows.y)
        features, y = torch.cat(found), torch.cat(labels)
        notes: dict[str, Any] = {}
        if self.begins:
            count = add_up(torch.tensor(float(len(features))))
            self.head.center.copy_(add_up(features.sum(0)) / count.to(features))
        else:
            shares = gather(self.head.excess(features) <= 0).float().mean(0)
            notes["familiar"] = [round(one, 4) for one in shares.tolist()]
            if float(shares.max()) >= self.known:
                return {"routes": notes | {"grown": 0}}
            width = self.width_for(gather(features)[:128])
            self.net.operate("further-route", units=width)
            notes["grown"] = width
            self.head.learning.fill_(len(self.head.routes))
        codes, memory = self.head.codes(features), self.head.memory(-1)
        memory.bundles.copy_(add_up(bundle(codes, y, len(memory.bundles))))
        strange = gather(own_strangeness(codes, y, memory.bundles))
        memory.limit.copy_(strange.float().quantile(self.keep))
        return {"routes": notes}

    def width_for(self, features: Tensor) -> int:
        """Choose an adaptor's units without training, by features (N, D)."""
        scores = {}
        for times in (1, 2, 4, 8):
            layer = nn.Linear(features.shape[1], times * self.units).to(features)
            scores[times * self.units] = float(patterns(F.linear(features, layer.weight) > 0))
        best = max(scores.values())
        return min(width for width, score in scores.items() if score >= self.near * best)

    def groups(self) -> list[Group]:
        """Train the route that is new; nothing where none is."""
        learning = int(self.head.learning)
        if learning < 0:
            return []
        return [Group(self.head.routes[learning - 1] if learning else self.head, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask the route that learns for the label."""
        with torch.no_grad():
            features = self.net.body(batch.labeled.x)
        logits = self.head.read(features, max(int(self.head.learning), 0))
        return Objective({"task": self.task.loss(logits, batch.labeled.y)}, logits, features)
