"""Clients of a federated run: copies of a network that learn apart and meet in rounds."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.rules import Separate, uncounted
from adaptune.networks.network import Network
from adaptune.ops.federation import weighted_mean
from adaptune.runtime.processes import add_up, join
from adaptune.tasks.task import Task
from adaptune.types import Domains, Labeled, Objective


class Clients(nn.Module):
    """Copies of a network, one a labelled domain, each of which sees the rows of its own alone.

    What a server would hold is theirs weighted by ``rows`` (K,). A client that was not ``sound``
    (K,) in a step, whose loss or gradient was not finite, is left out until the round ends, and
    begins the next with what the others came to. ``taken`` counts steps.

    >>> net = Network.from_module(nn.Sequential(nn.Linear(2, 3)), head="0", classes=["a", "b"])
    >>> clients = Clients(net, 2)
    >>> clients.names
    ('client 1', 'client 2')
    """

    rows: Tensor
    sound: Tensor
    taken: Tensor

    def __init__(self, net: Network, count: int) -> None:
        super().__init__()
        self.names = tuple(f"client {number}" for number in range(1, count + 1))
        self.register_buffer("rows", torch.ones(count))
        self.register_buffer("sound", torch.ones(count, dtype=torch.bool))
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))
        self.begin(net)

    def begin(self, net: Network) -> None:
        """Let all begin with a network as it stands."""
        self.copies = nn.ModuleList(deepcopy(net) for _ in self.names)

    @torch.no_grad()
    def weigh(self, data: Domains) -> None:
        """Let each client count by the labelled rows that its domain has: one pass over them."""
        found = torch.zeros_like(self.rows)
        for rows in data.scan("train"):
            found += torch.bincount(rows.domain, minlength=len(found)).to(found)
        self.rows.copy_(add_up(found))

    @property
    def rule(self) -> Separate:
        """How gradients are formed: each client's by its own loss, or not at all."""
        return Separate(dict(zip(self.names, self.copies, strict=True)), self._hear)

    def ask(self, task: Task, rows: Labeled) -> Objective:
        """Ask each client for the labels of its rows of a batch: a term each.

        Raises:
            ValueError: If a client has none there.
        """
        terms, logits = {}, []
        for number, (name, copy) in enumerate(zip(self.names, self.copies, strict=True)):
            own = (rows.domain == number).nonzero().flatten()
            if not len(own):
                raise ValueError(
                    f"a batch, or a process's part of it, has no image of labelled domain "
                    f"{number + 1}, so {name} cannot learn: give a larger --batch-size"
                )
            logits.append(copy(rows.x[own]))
            terms[name] = join(task.losses(logits[-1], rows.y[own])).mean()
        return Objective(terms, torch.cat(logits))

    @torch.no_grad()
    def gather_in_(self, net: Network) -> None:
        """Make a network the mean of the clients that are sound; stay as it is if none is."""
        shares = self.rows * self.sound
        total = shares.sum()
        shares = shares / total.clamp_min(1)
        states = [copy.state_dict().values() for copy in self.copies]
        for own, *theirs in zip(net.state_dict().values(), *states, strict=True):
            if own.is_floating_point():
                own.copy_(torch.where(total > 0, weighted_mean(theirs, shares), own))
            else:
                own.copy_(theirs[0])

    @torch.no_grad()
    def hand_out_(self, net: Network, ends: Tensor, *, keep_norms: bool) -> None:
        """Where a round ``ends`` (), a Boolean, give clients the network, and hope of the next.

        Those that are sound may keep their own batch norms, weights and statistics.
        """
        norms = {f"{name}.{key}" for name, one in batchnorms(net) for key in one.state_dict()}
        for copy, sound in zip(self.copies, self.sound, strict=True):
            own = copy.state_dict()
            for name, value in net.state_dict().items():
                takes = ends & ~sound if keep_norms and name in norms else ends
                own[name].copy_(torch.where(takes, value, own[name]))
        self.sound |= ends

    @torch.no_grad()
    def speak(self, net: Network, rows: Labeled, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give what clients tell a server: features (N, D) of their rows, logits (K, M, C) of x.

        What is not sound tells nothing; where none is, ``net`` speaks for them. Running statistics
        do not follow.
        """
        sound = self.sound.tolist()
        told, logits = [], []
        with uncounted(self), uncounted(net):
            for number, copy in enumerate(self.copies):
                if any(sound) and not sound[number]:
                    continue
                one: Any = copy if any(sound) else net
                own = (rows.domain == number).nonzero().flatten()
                told.append(one.body(rows.x[own]))
                logits.append(one(x))
        ours = torch.cat(told)
        return ours[ours.isfinite().all(1)], torch.stack(logits)

    def told(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give terms as a run logs them: which client is left out, 1 or 0, and 0 for its loss."""
        known = dict(zip(self.names, self.sound, strict=True))
        kept = {
            name: torch.where(known[name], term, 0.0) if name in known else term
            for name, term in terms.items()
        }
        return kept | {f"{name} left out": (~one).float() for name, one in known.items()}

    def _hear(self, sound: Tensor) -> None:
        self.sound &= sound
