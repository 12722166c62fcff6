"""Records that Weights & Biases and MLflow keep of a run, opened again when it goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

PROJECT = "adaptune"
"""What the project, or experiment, is called that records belong to, unless the tracker's own
environment says otherwise."""


class Record(Protocol):
    """One record of one run, which outlives the process."""

    def open(self, folder: Path, number: str, settings: Mapping[str, Any]) -> str:
        """Open record ``number``, or a new one where that is ""; give its number."""

    def send(self, numbers: Mapping[str, float], epoch: int) -> None:
        """Add what was measured of an epoch."""

    def close(self, *, finished: bool) -> None:
        """Say that no more comes now."""


class WandbRecord:
    """A run of Weights & Biases; ``WANDB_MODE=offline`` keeps it in the run's folder.

    Project, entity, address and mode are those of its own environment and settings.
    """

    def open(self, folder: Path, number: str, settings: Mapping[str, Any]) -> str:
        """Open the run, or go on in it."""
        import os

        import wandb

        project = {} if os.environ.get("WANDB_PROJECT") else {"project": PROJECT}
        self.run = wandb.init(
            **project,
            dir=str(folder),
            name=folder.resolve().name,
            id=number or None,
            resume="allow",
            config=dict(settings),
            # Its capture of the terminal would fight with ours.
            settings=wandb.Settings(console="off", quiet=True),
        )
        return str(self.run.id)

    def send(self, numbers: Mapping[str, float], epoch: int) -> None:
        """Log an epoch as a step."""
        self.run.log(dict(numbers), step=epoch, commit=True)

    def close(self, *, finished: bool) -> None:
        """Send what is left."""
        self.run.finish(exit_code=0 if finished else 1)


class MLflowRecord:
    """A run of MLflow, where ``MLFLOW_TRACKING_URI`` says, of the experiment that it names."""

    def open(self, folder: Path, number: str, settings: Mapping[str, Any]) -> str:
        """Open the run, or go on in it."""
        import os

        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient()
        if number:
            self.number = number
            self.client.update_run(number, status="RUNNING")
            return number
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self.client.get_experiment_by_name(name)
        home = experiment.experiment_id if experiment else self.client.create_experiment(name)
        run = self.client.create_run(home, run_name=folder.resolve().name)
        self.number = str(run.info.run_id)
        params = [Param(key, str(value)[:500]) for key, value in settings.items()]
        self.client.log_batch(self.number, params=params)
        return self.number

    def send(self, numbers: Mapping[str, float], epoch: int) -> None:
        """Log an epoch as a step, unless it is there from just before a crash."""
        from mlflow.entities import Metric

        name = next(iter(numbers))
        if any(one.step == epoch for one in self.client.get_metric_history(self.number, name)):
            return
        now = int(time.time() * 1000)
        metrics = [Metric(key, value, now, epoch) for key, value in numbers.items()]
        self.client.log_batch(self.number, metrics=metrics)

    def close(self, *, finished: bool) -> None:
        """Say whether it finished."""
        self.client.set_terminated(self.number, status="FINISHED" if finished else "KILLED")
