"""Federated averaging."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

from adaptune.engine.clients import Clients
from adaptune.engine.method import Descend, Method
from adaptune.networks.network import Network
from adaptune.tasks.task import Task
from adaptune.types import Batch, BatchNormPolicy, Domains, Group, Needs, Objective, Rate


class FedAvg(Method):
    """Let each labelled domain train a copy of the network, and average the copies in rounds.

    A labelled domain is a client: its copy sees its own images alone. After every ``local`` steps
    all copies become their mean, weighted by how many images each domain has. Predictions, and what
    is saved, are by the mean of the copies as they stand, also within a round. Source:
    Communication-Efficient Learning of Deep Networks from Decentralized Data (McMahan et al.,
    2017).

    Batch norms normalise by each client's own batch, and running statistics of its copy follow;
    both their weights and their statistics are averaged with all others, or stay each client's own
    under ``norms="local"`` (FedBN, Li et al., 2021). What is saved has their mean either way, since
    an unseen domain has none of its own.

    A client whose loss or gradient is not finite is left out until the round ends, then goes on
    from what the others came to. The log names it: "client 2 left out" is the share of an epoch's
    steps; clients are numbered as the labelled domains are given.

    Ours: all clients are in one process (the adapter for Flower is `adaptune.integrations.flower`)
    and all take part in every round; rounds are counted in steps, since a batch holds as many
    images of each domain; clients keep their momentum over rounds, and rates follow the run's one
    schedule. With ``local`` 1 and no momentum a round is a step down the mean of the clients'
    losses, weighted by images, batch norms aside. Memory grows with the clients.

    Args:
        lr: The rate of every client.
        local: The steps of a client between two rounds.
        weigh: Clients count by rows (the images of their domains, a pass over them) or equal.
        norms: Batch norms of clients are averaged, or stay local.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
    """

    needs: ClassVar[Needs] = Needs(domains=2)
    setting: ClassVar[str] = "generalisation"

    def __init__(
        self,
        net: Network,
        task: Task,
        *,
        lr: Rate = 0.03,
        local: int = 10,
        weigh: Literal["rows", "equal"] = "rows",
        norms: Literal["averaged", "local"] = "averaged",
        batchnorm: BatchNormPolicy = "train",
    ) -> None:
        if local < 1:
            raise ValueError(f"a round has 1 step of a client or more: got local {local}")
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.local, self.weigh = lr, local, weigh
        self.norms, self.batchnorm = norms, batchnorm
        self.clients = Clients(net, task.domains)

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Convert batch norms if the policy says so; count the images of each client."""
        notes = super().prepare(data)
        self.clients.begin(self.net)
        if self.weigh == "rows":
            self.clients.weigh(data)
        return notes

    def groups(self) -> list[Group]:
        """Train every client; what a server holds takes their mean and never descends."""
        return [Group(one, self.lr) for one in (*self.clients.copies, self.net)]

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Let every client take a step; average them, and let them meet where a round ends."""
        self.rule = self.clients.rule
        done = descend(partial(self.objective, batch), *self.clients.copies)
        self.clients.taken += 1
        self.clients.gather_in_(self.net)
        told = self.clients.told(done.terms)
        ends = self.clients.taken % self.local == 0
        self.clients.hand_out_(self.net, ends, keep_norms=self.norms == "local")
        return replace(done, terms=told)

    def objective(self, batch: Batch) -> Objective:
        """Ask every client for the labels of its own rows."""
        return self.clients.ask(self.task, batch.labeled)
