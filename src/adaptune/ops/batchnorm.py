"""Batch-norm layers of any network: find them, hold their behaviour, describe their state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from adaptune.types import BatchNormPolicy


def batchnorms(model: nn.Module) -> Iterator[tuple[str, _BatchNorm]]:
    """Yield each batch norm once, under its first name: 1d to 3d, synchronised, lazy, timm's.

    >>> [name for name, _ in batchnorms(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))]
    ['1']
    """
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            yield name, module


def hold_batchnorm(model: nn.Module, policy: BatchNormPolicy) -> None:
    """Make the batch norms of ``model`` keep to ``policy``, whatever calls ``model.train()`` later.

    Under ``eval`` the layers normalise by their running statistics, which stay as they are, while
    the rest of the network trains; their weight and bias still learn unless ``requires_grad`` says
    otherwise. ``train`` and ``converted`` give the layers back to ``model.train()``. The hold lives
    in the layers, so it survives epochs, wrappers, `copy.deepcopy` and pickling. A layer put in
    place of a held one is not held: call this after `SyncBatchNorm.convert_sync_batchnorm`.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    >>> hold_batchnorm(net, "eval")
    >>> net.train()[1].training
    False
    """
    for _, norm in batchnorms(model):
        norm.__dict__.pop("train", None)
        if policy == "eval":
            norm.__dict__["train"] = partial(_stay, norm)
            norm.training = False
        else:
            norm.train(model.training)


def _stay(norm: nn.Module, mode: bool = True) -> nn.Module:
    """Stand in for `train` of a held layer: every mode is eval."""
    del mode
    norm.training = False
    return norm


@dataclass(frozen=True)
class BatchNormState:
    """What one batch norm does when the network is in train mode."""

    name: str
    kind: str
    channels: int
    held: bool
    learns: bool
    follows: bool
    notes: tuple[str, ...]


def describe_batchnorm(model: nn.Module) -> list[BatchNormState]:
    """Say of every batch norm whether it is held, whether it learns, and what is odd about it.

    Gradients and statistics are frozen separately: ``learns`` says whether weight or bias take
    gradients, ``held`` whether train mode leaves the layer in eval, ``follows`` whether the
    running statistics follow the batches of train mode.

    >>> net = nn.Sequential(nn.BatchNorm1d(2)).requires_grad_(False)
    >>> [(state.learns, state.follows) for state in describe_batchnorm(net)]
    [(False, True)]
    """
    around = wrapper_notes(model)
    return [
        BatchNormState(
            name=name,
            kind=type(norm).__name__,
            channels=norm.num_features,
            held="train" in norm.__dict__,
            learns=any(p.requires_grad for p in norm.parameters(recurse=False)),
            follows="train" not in norm.__dict__ and _moves(norm),
            notes=(*oddities(norm), *around),
        )
        for name, norm in batchnorms(model)
    ]


def _moves(norm: _BatchNorm) -> bool:
    return norm.running_mean is not None and norm.track_running_stats and norm.momentum != 0


def wrapper_notes(model: nn.Module) -> list[str]:
    """Name what wrappers around the layers do to their statistics, one sentence each."""
    if any(isinstance(module, nn.DataParallel) for module in model.modules()):
        return [
            "nn.DataParallel keeps the statistics of the first device's share of each batch only: "
            "train with DistributedDataParallel, or hold the layers with the eval policy"
        ]
    return []


def oddities(norm: _BatchNorm) -> Iterator[str]:
    """Name the settings of a layer that surprise people, one sentence each."""
    if norm.running_mean is None:
        yield "keeps no running statistics: it normalises by the batch in eval mode too"
    elif not norm.track_running_stats:
        yield (
            "track_running_stats is off but statistics are there: it normalises by them in eval "
            "mode, by the batch in train mode, and they never follow"
        )
    if norm.momentum == 0:
        yield (
            "momentum is 0: the statistics stand still, yet train mode normalises by the batch; "
            "to freeze the layer, hold it with the eval policy"
        )


def other_norms(model: nn.Module) -> list[str]:
    """Name the kinds of normalisation in the network that are not batch norm.

    >>> other_norms(nn.Sequential(nn.LayerNorm(2), nn.GroupNorm(1, 2)))
    ['GroupNorm', 'LayerNorm']
    """
    kinds = {
        type(module).__name__
        for module in model.modules()
        if not isinstance(module, _BatchNorm)
        and not any(True for child in module.children() for _ in child.parameters())
    }  # what has layers in it is a block, whatever its name
    return sorted(kind for kind in kinds if "Norm" in kind)


def unconverted(model: nn.Module) -> Iterator[str]:
    """Say what kinds of normalisation stay as they are, and why."""
    kinds = other_norms(model)
    frozen = [kind for kind in kinds if kind.startswith("Frozen")]
    if not any(True for _ in batchnorms(model)):
        yield "no batch norm in this network, so there is nothing to convert: " + (
            f"it has {', '.join(kinds)}, which do not normalise by the batch"
            if kinds
            else "its norms may be folded into other layers or called as functions"
        )
    elif frozen:
        yield f"{', '.join(frozen)} stay as they are: train mode is eval mode to them"
