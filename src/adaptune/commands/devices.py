"""Where a command computes: its ``--device``, and what is opened by it."""

from __future__ import annotations

from lightning_fabric import Fabric

from adaptune.commands.options import Parser
from adaptune.runtime.devices import DEVICES, WHY


def add_device(parser: Parser) -> None:
    """Let a command be told where to compute; those that train have it of `Setup`."""
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where")


def fabric_on(device: str) -> Fabric:
    """Choose where to compute, in one process.

    Raises:
        ValueError: If this machine has no such device.
    """
    try:
        return Fabric(accelerator=device, devices=1)
    except RuntimeError as error:
        why = f", or {WHY[device]}" if device in WHY else ""
        raise ValueError(
            f"torch finds nothing here for --device {device}: give --device auto{why}"
        ) from error
