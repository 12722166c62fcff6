"""Two real processes that meet once and leave what they found."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

AFRESH = multiprocessing.get_context("forkserver")
"""Processes that begin with what takes seconds to import, and with nothing of the tests' own."""
AFRESH.set_forkserver_preload(["adaptune.runs.experiment", "adaptune.methods", "optuna"])


def on_two(
    work: Callable[[], dict], folder: Path, *, alone: Callable[[], object] = dict
) -> list[dict]:
    """Give what ``work`` comes to in each of two processes; ``alone`` runs before they meet.

    Both are functions of a module.
    """
    torch.multiprocessing.start_processes(
        _one_of_two, (work, alone, str(folder)), nprocs=2, start_method="forkserver"
    )
    return [torch.load(folder / str(rank), weights_only=False) for rank in (0, 1)]


def _one_of_two(rank: int, work: Callable[[], Any], alone: Callable[[], Any], folder: str) -> None:
    torch.set_num_threads(1)
    alone()
    meeting = f"file://{folder}/meeting"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    torch.save(work(), f"{folder}/{rank}")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
