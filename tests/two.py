"""Two real processes, or more, that meet once and leave what they found."""

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
    work: Callable[[], dict],
    folder: Path,
    *,
    alone: Callable[[], object] = dict,
    processes: int = 2,
) -> list[dict]:
    """Give what ``work`` comes to in each of the processes; ``alone`` runs before they meet.

    Both are functions of a module.
    """
    torch.multiprocessing.start_processes(
        _one_of_them,
        (work, alone, str(folder), processes),
        nprocs=processes,
        start_method="forkserver",
    )
    return [torch.load(folder / str(rank), weights_only=False) for rank in range(processes)]


def _one_of_them(
    rank: int, work: Callable[[], Any], alone: Callable[[], Any], folder: str, processes: int
) -> None:
    torch.set_num_threads(1)
    alone()
    meeting = f"file://{folder}/meeting"
    torch.distributed.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=processes
    )
    torch.save(work(), f"{folder}/{rank}")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
