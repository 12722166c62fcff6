"""What devices can do: which there are, where float64 is, whose random numbers are drawn."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from lightning_fabric import Fabric
from torch import Tensor

Device = Literal["auto", "cpu", "cuda", "mps"]
"""Where to compute. ROCm's devices are called cuda too, Apple's mps; auto takes what there is."""

DEVICES = get_args(Device)

WHY = {
    "cuda": "see why torch.cuda.is_available() is False",
    "mps": "see why torch.backends.mps.is_available() is False",
}
"""Where to look if a device is not there."""


def exact_device(device: torch.device) -> torch.device:
    """Give the device on which what lies on ``device`` can be float64: Apple's have none.

    >>> exact_device(torch.device("cuda")), exact_device(torch.device("mps"))
    (device(type='cuda'), device(type='cpu'))
    """
    return torch.device("cpu") if device.type == "mps" else device


def exact(x: Tensor) -> Tensor:
    """Give ``x`` where it can be float64: itself, or a copy on the CPU.

    >>> x = torch.ones(1)
    >>> exact(x) is x
    True
    """
    return x.to(exact_device(x.device))


def to_float64(x: Tensor) -> Tensor:
    """Give ``x`` in float64, on the CPU where its device has none.

    >>> to_float64(torch.ones(1))
    tensor([1.], dtype=torch.float64)
    """
    return exact(x).double()


@contextmanager
def random_numbers_kept(device: torch.device, *, asked: bool = True) -> Iterator[None]:
    """Draw from the CPU's and a device's random numbers, then put them back; not if not ``asked``.

    >>> with random_numbers_kept(torch.device("cpu")):
    ...     first = torch.rand(3)
    >>> torch.equal(first, torch.rand(3))
    True
    """
    apples = asked and device.type == "mps"
    state = torch.mps.get_rng_state() if apples else None
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices, enabled=asked):
        try:
            yield
        finally:
            if state is not None:
                torch.mps.set_rng_state(state)


def wait_for(device: torch.device) -> None:
    """Return once a device has done what it was asked to, so that time can be taken."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def open_fabric(device: Device, devices: int, precision: Any) -> Fabric:
    """Choose device and arithmetic, and bring up the processes that train together.

    Under torchrun it decides how many there are.

    Raises:
        ValueError: If there are no such devices.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // here
    else:
        here, nodes = devices, 1
    try:
        fabric = Fabric(
            accelerator=device,
            devices=here,
            num_nodes=nodes,
            strategy="ddp" if here * nodes > 1 else "auto",
            precision=precision,
        )
    except (RuntimeError, ValueError) as error:
        why = f", or {WHY[device]}" if device in WHY else ""
        raise ValueError(
            f"{devices} devices of the kind {device!r} cannot be had ({error}): "
            f"give --device cpu, or fewer --devices{why}"
        ) from error
    fabric.launch()
    return fabric
