"""Federated knowledge alignment."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Any, ClassVar

from adaptune.engine.clients import Clients
from adaptune.engine.method import Descend, Method
from adaptune.engine.rules import Plain
from adaptune.networks.network import Network
from adaptune.ops.adversary import critic, domain_loss, ramp, reverse
from adaptune.ops.discrepancy import mmd
from adaptune.ops.federation import vote
from adaptune.runtime.processes import join
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Needs, Objective, Rate


class FedKA(Method):
    """Average clients of single domains, and align the mean with a target that only a server sees.

    A labelled domain is a client, as in `fedavg`: each trains a copy of the network on its own
    images, and the server gets their mean, weighted by images. The server then takes steps of its
    own on unlabelled images of the target, and hands out what it came to. Clients give it features
    and weights, never images. Its steps match the features of the target by the mean's body with
    those that clients gave, by MK-MMD (embedding matching) and by a critic whose gradient is
    reversed (the features' disentangler); and clients vote: where they agree on the class of a
    target image, the network is asked for it. Source: Feature Distribution Matching for Federated
    Domain Generalization (Sun et al., 2022).

    Batch norms normalise by the batch at hand, a client's or the target's. Running statistics of
    clients follow their own images, those of the server in its steps the target's; and each takes
    the other's weights and statistics when they meet. Clients judge target images by the batch's
    statistics, which theirs do not follow. Predictions use the server's.

    Only the abstract was read: the parts and their roles are the paper's. Ours are the critic as
    the disentangler's form (that of DANN, with its ramp), the sum of the terms and its weights, a
    quorum of votes rather than a majority, five kernels around the mean squared distance, and how
    many steps each side takes. The Group Effect, what averaging costs on the target, takes labels
    that a run does not have, so it is not measured. Clients that are not sound are left out as in
    `fedavg`. The log's terms are means over all steps, of which each side takes some.

    Args:
        lr: The rate of clients and server.
        local: The steps of a client in a round.
        server: The steps of the server after them.
        match: How much MK-MMD counts.
        disentangle: How much the reversed gradient counts.
        consensus: How much the clients' votes count.
        quorum: The share of clients that must vote alike.
        hidden: The units of each of the critic's two hidden layers.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
    """

    needs: ClassVar[Needs] = Needs(unlabeled=True, domains=2)
    setting: ClassVar[str] = "unsupervised"
    task: Classification

    def __init__(
        self,
        net: Network,
        task: Classification,
        *,
        lr: Rate = 0.03,
        local: int = 2,
        server: int = 1,
        match: Annotated[float, Between(0.01, 10.0)] = 0.1,
        disentangle: Annotated[float, Between(0.01, 10.0)] = 0.1,
        consensus: Annotated[float, Between(0.01, 10.0)] = 1.0,
        quorum: float = 1.0,
        hidden: int = 1024,
        batchnorm: BatchNormPolicy = "train",
    ) -> None:
        if local < 1 or server < 0 or not 0 <= quorum <= 1:
            raise ValueError(
                "a round has 1 step of a client or more and 0 of the server or more, and a quorum "
                f"is 0 to 1: got local {local}, server {server}, quorum {quorum}"
            )
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.local, self.server, self.match = lr, local, server, match
        self.disentangle, self.consensus, self.quorum = disentangle, consensus, quorum
        self.hidden, self.batchnorm = hidden, batchnorm
        self.clients = Clients(net, task.domains)
        self.critic = critic(net.width, hidden)

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Convert batch norms if the policy says so; count the images of each client."""
        notes = super().prepare(data)
        self.clients.begin(self.net)
        self.clients.weigh(data)
        return notes

    def groups(self) -> list[Group]:
        """Train clients, and the server's network and critic, at one rate."""
        trained = (*self.clients.copies, self.net, self.critic)
        return [Group(one, self.lr) for one in trained]

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Let clients take a step, or after their last ones the server."""
        turn = int(self.clients.taken) % (self.local + self.server)
        self.clients.taken += 1
        if turn < self.local:
            self.rule = self.clients.rule
            asked = partial(self.clients.ask, self.task, batch.labeled)
            done = descend(asked, *self.clients.copies)
            self.clients.gather_in_(self.net)
            done = replace(done, terms=self.clients.told(done.terms))
        else:
            self.rule = Plain()
            done = descend(partial(self.align, batch), self.net, self.critic)
        ends = self.clients.sound.new_full((), turn + 1 == self.local + self.server)
        self.clients.hand_out_(self.net, ends, keep_norms=False)
        return done

    def objective(self, batch: Batch) -> Objective:
        """Say what both sides ask for."""
        asked = self.clients.ask(self.task, batch.labeled)
        return replace(asked, terms=asked.terms | self.align(batch).terms)

    def align(self, batch: Batch) -> Objective:
        """Ask the server's network for features like the clients' and for what they agree on."""
        ours, logits = self.clients.speak(self.net, batch.labeled, batch.unlabeled.x)
        voted, agreed = vote(logits)
        features = self.net.body(batch.unlabeled.x)
        logits = self.net.head(features)
        scale = self.disentangle * ramp(batch.progress)
        said = self.critic(reverse(features, scale))
        sure = agreed >= self.quorum - 1e-6
        terms = {
            "match": self.match * mmd(join(ours), join(features)),
            "disentangle": domain_loss(self.critic(ours), said),
            "consensus": self.consensus * (sure * self.task.losses(logits, voted)).mean(),
        }
        return Objective(terms, logits, features)
