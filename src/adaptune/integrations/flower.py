"""A client of Flower that trains by a method on its own data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor

from adaptune.batchnorm.layers import batchnorms
from adaptune.data.domains import DomainData
from adaptune.engine.evaluate import evaluate
from adaptune.engine.loop import fit
from adaptune.engine.method import Method
from adaptune.engine.plan import Plan
from adaptune.runtime.seeds import seed_for
from adaptune.types import Split

Arrays = Sequence[Any]
"""Weights as Flower passes them on: numpy arrays, in the order of `RoundClient.names`."""


class RoundClient:
    """What a client of a federated run does, by the names of Flower's NumPyClient.

    A round is a whole `fit` of the plan, from the weights that the server sends: its schedule and
    its momentum begin anew, and its order of images follows the round. Weights go out and come in,
    images never. Use `flower_client`, which makes it one of Flower's.

    Args:
        method: What trains; its network holds the client's weights.
        data: The client's own.
        plan: A round; ``schedule="constant"`` keeps the rate from falling within each.
        norms: Batch norms take part in the exchange, or stay local (FedBN, Li et al., 2021).
        split: What the client is evaluated on.
        fabric: Device and precision; by default the CPU in float32.

    Raises:
        ValueError: If the method looks at the data before its first step, which would undo in each
            round what the others learnt.
    """

    def __init__(
        self,
        method: Method,
        data: DomainData,
        plan: Plan,
        *,
        norms: Literal["averaged", "local"] = "averaged",
        split: Split = "val",
        fabric: Fabric | None = None,
    ) -> None:
        if type(method).prepare is not Method.prepare or method.net.batchnorm == "converted":
            raise ValueError(
                f"{type(method).__name__} looks at the data before its first step, and a round "
                "must go on from the server's weights: take a method that does not, such as ft, "
                "with --batchnorm train or eval"
            )
        self.method, self.data, self.plan = method, data, plan
        self.split: Split = split
        self.fabric = fabric or Fabric(accelerator="cpu", devices=1)
        own = {f"{name}.{key}" for name, one in batchnorms(method.net) for key in one.state_dict()}
        kept = own if norms == "local" else set()
        self.names = [
            name
            for name, one in method.net.state_dict().items()
            if one.is_floating_point() and name not in kept
        ]

    def get_parameters(self, config: Mapping[str, Any]) -> list[Any]:
        """Give the weights that are exchanged."""
        state = self.method.net.state_dict()
        return [state[name].float().cpu().numpy().copy() for name in self.names]

    def fit(
        self, parameters: Arrays, config: Mapping[str, Any]
    ) -> tuple[list[Any], int, dict[str, Any]]:
        """Train a round; give weights, how many images they count for, and means of the terms.

        Raises:
            NonFiniteError: If training breaks; Flower counts this client as failed in the round.
        """
        self._take(parameters)
        seed = seed_for(self.plan.seed, int(config.get("server_round", 0))) % 2**31
        terms: Mapping[str, float] = {}
        plan = replace(self.plan, seed=seed)
        for epoch in fit(self.method, self.data.seeded(seed), plan, fabric=self.fabric):
            terms = epoch.terms
        rows = len(self.data.sets["train"])
        return self.get_parameters(config), rows, {name: float(one) for name, one in terms.items()}

    def evaluate(
        self, parameters: Arrays, config: Mapping[str, Any]
    ) -> tuple[float, int, dict[str, Any]]:
        """Score weights on the client's split: loss, images, the main score by its name."""
        self._take(parameters)
        scores = evaluate(
            self.method, self.data.scan(self.split), self.method.task, fabric=self.fabric
        ).scores
        return float(scores.loss), scores.count, {scores.main.name: float(scores.main.value)}

    @torch.no_grad()
    def _take(self, parameters: Arrays) -> None:
        state: dict[str, Tensor] = self.method.net.state_dict()
        for name, value in zip(self.names, parameters, strict=True):
            state[name].copy_(torch.from_numpy(value))


def flower_client(method: Method, data: DomainData, plan: Plan, **options: Any) -> Any:
    """Make a NumPyClient of Flower, as `RoundClient`, for ``client_fn`` of a ClientApp.

    ``flower_client(...).to_client()`` is what ``client_fn`` gives back; strategies such as Flower's
    FedAvg then average what it sends.

    Raises:
        ValueError: If Flower is missing, or the method looks at the data first.
    """
    try:
        from flwr.client import NumPyClient
    except ImportError as error:
        raise ValueError("the client needs Flower: pip install 'adaptune[flower]'") from error

    class FlowerClient(RoundClient, NumPyClient):  # type: ignore[misc]
        """Flower's client, whose work is all `RoundClient`'s."""

    return FlowerClient(method, data, plan, **options)
