"""DAFT in the Trainer of Lightning."""

from __future__ import annotations

from typing import Any

from adaptune.integrations.start import DaftStart, refuse_resumed


def daft_callback(head: str, **settings: Any) -> Any:
    """Make a callback of `lightning.Trainer` that begins and ends as `DaftStart`.

    The module's ``forward`` takes images and answers with logits, and its optimiser is torch's SGD,
    whose rates the callback sets.

    Raises:
        ValueError: If Lightning is missing.
    """
    try:
        from lightning.pytorch import Callback
    except ImportError as error:
        raise ValueError(
            "the callback needs lightning: pip install 'adaptune[lightning]'"
        ) from error
    start = DaftStart(head, **settings)

    class DaftCallback(Callback):  # type: ignore[misc]
        report: Any = None

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            refuse_resumed(trainer.global_step)
            [optimizer] = trainer.optimizers
            schedulers = [one.scheduler for one in trainer.lr_scheduler_configs]
            self.report = start.begin(pl_module, trainer.train_dataloader, optimizer, schedulers)

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            start.end(pl_module)

    return DaftCallback()
