"""DAFT in the Trainer of transformers."""

from __future__ import annotations

from typing import Any

from adaptune.integrations.start import DaftStart, refuse_resumed


def daft_callback(head: str, **settings: Any) -> Any:
    """Make a callback of `transformers.Trainer` that begins and ends as `DaftStart`.

    Give the Trainer ``optimizers=(torch.optim.SGD(model.parameters(), lr, momentum=0.9), None)``;
    rates are set by the callback.

    Raises:
        ValueError: If transformers is missing.
    """
    try:
        from transformers import TrainerCallback
    except ImportError as error:
        raise ValueError(
            "the callback needs transformers: pip install 'adaptune[transformers]'"
        ) from error
    start = DaftStart(head, **settings)

    class DaftCallback(TrainerCallback):  # type: ignore[misc]
        report: Any = None

        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            refuse_resumed(state.global_step)
            schedule = given.get("lr_scheduler")
            self.report = start.begin(
                given["model"],
                given["train_dataloader"],
                given["optimizer"],
                [] if schedule is None else [schedule],
            )

        def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            start.end(given["model"])

    return DaftCallback()
