"""A method with its data and plan, ready to be trained and judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lightning_fabric import Fabric

from adaptune.data.domains import DomainData
from adaptune.engine.evaluate import Evaluation, evaluate, sample_outputs
from adaptune.engine.loop import Epoch, fit
from adaptune.engine.method import Method
from adaptune.engine.plan import Plan
from adaptune.networks.network import Network
from adaptune.ops.rejection import calibrate_threshold
from adaptune.results.score import Scores
from adaptune.tasks.task import Task
from adaptune.types import Labeled


@dataclass(frozen=True)
class Session:
    """A method with its data and plan, ready to be trained.

    One that ``calibrates`` finds the threshold of an open set anew whenever it is validated.
    """

    method: Method
    data: DomainData
    plan: Plan
    fabric: Fabric
    calibrates: bool = False

    @property
    def task(self) -> Task:
        """What is predicted."""
        return self.method.task

    @property
    def net(self) -> Network:
        """The network that is trained."""
        return self.method.net

    def epochs(
        self,
        state: dict[str, Any] | None = None,
        pause: Callable[[], bool] = lambda: False,
        begin: Callable[[], None] = lambda: None,
    ) -> Iterator[Epoch]:
        """Train, from ``state`` on, if that of an epoch is given; see `fit`."""
        how: dict[str, Any] = {"state": state, "pause": pause, "begin": begin}
        return fit(self.method, self.data, self.plan, fabric=self.fabric, **how)

    @property
    def validates(self) -> bool:
        """Whether there are images to validate on, which a run without its source lacks."""
        return "val" in self.data.sets

    def validate(self) -> Scores:
        """Score the method on ID validation, as it stands, by a threshold found there if asked."""
        if self.calibrates:
            seen = sample_outputs(self.method, self.data.scan("val"), fabric=self.fabric)
            self.net.threshold = calibrate_threshold(seen.logits)
        return self.evaluate(self.data.scan("val")).scores

    def evaluate(self, rows: Iterable[Labeled]) -> Evaluation:
        """Evaluate the method on a set, as it stands."""
        return evaluate(self.method, rows, self.task, fabric=self.fabric)
