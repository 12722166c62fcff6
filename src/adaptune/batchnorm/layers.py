"""Batch-norm layers of any network: find them, hold them, mix their statistics, describe them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from adaptune.batchnorm.override import BatchNormOverride
from adaptune.runtime.inputs import not_in_python
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


def mixed_statistics(share: float) -> BatchNormOverride:
    """Give a mode in which batch norms normalise by a mix of their own statistics and the batch's.

    ``share`` of mean and variance are the running ones, the rest the batch's: 1 is eval mode and 0
    train mode, to the bit, except that running statistics never move. A layer with one value a
    channel, as of one image without extent, keeps to its running statistics: one value has no
    variance. Layers stay as they are; each process mixes its own batch.

    Raises:
        ValueError: If the share is not from 0 to 1.

    >>> norm = nn.BatchNorm1d(1).eval()
    >>> with mixed_statistics(0.0):
    ...     norm(torch.tensor([[8.0], [10.0]])).flatten()
    tensor([-1.0000,  1.0000], grad_fn=<ViewBackward0>)
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of the running statistics is from 0 to 1: got {share}")
    return BatchNormOverride(partial(mixed_batch_norm, share=share))


def mixed_batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    share: float,
) -> Tensor:
    """Normalise ``x`` (N, C, ...) by ``share`` of the running statistics and the rest its own.

    Its own variance is the biased one, by which batch norm normalises. Gradients flow through what
    is the batch's. Without running statistics the batch's are all there is. ``training`` and
    ``momentum`` are heard and not heeded, so that this can stand in for torch's.

    >>> x, mean, variance = torch.tensor([[0.0], [2.0]]), torch.tensor([3.0]), torch.tensor([3.0])
    >>> mixed_batch_norm(x, mean, variance, eps=0.0, share=0.5).flatten()
    tensor([-1.4142,  0.0000])
    """
    del training, momentum
    if running_mean is None or running_var is None or (share == 0 and x.numel() > x.shape[1]):
        return F.batch_norm(x, None, None, weight, bias, True, 0.0, eps)
    if share == 1 or x.numel() <= x.shape[1]:
        return F.batch_norm(x, running_mean, running_var, weight, bias, False, 0.0, eps)
    if x.device.type == "cpu" and x.dtype.itemsize > 2 and not _learns(x, weight, bias):
        own = torch.batch_norm_update_stats(x, None, None, 0.0)  # twice as fast as what follows
        mean, variance = own[0].lerp(running_mean, share), own[1].lerp(running_var, share)
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    variance, mean = torch.var_mean(wide, [0, *range(2, x.dim())], correction=0)
    mean = torch.lerp(mean, running_mean.to(mean), share)
    scale = (torch.lerp(variance, running_var.to(mean), share) + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    shape = [1, -1, *[1] * (x.dim() - 2)]
    return torch.addcmul(shift.view(shape), wide, scale.view(shape)).to(x.dtype)


def _learns(*tensors: Tensor | None) -> bool:
    """Tell whether gradients will be asked for."""
    wanted = (one.requires_grad for one in tensors if one is not None)
    return torch.is_grad_enabled() and any(wanted)


def need_batchnorm(model: nn.Module) -> None:
    """Refuse a network that has no batch norm to adapt.

    Raises:
        ValueError: If it has none.

    >>> need_batchnorm(nn.BatchNorm1d(1))
    """
    if not any(True for _ in batchnorms(model)):
        found = ", ".join(other_norms(model)) or "no normalisation that is a layer"
        raise ValueError(
            f"this method adapts batch norms and the network has none (it has {found}): take a "
            "network with batch norm, such as a ResNet or an EfficientNet"
        )


def train_batchnorm_only(model: nn.Module) -> None:
    """Let the weights and biases of batch norms learn, and nothing else.

    Raises:
        ValueError: If no batch norm has a weight or a bias.

    >>> net = nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2))
    >>> train_batchnorm_only(net)
    >>> [name for name, one in net.named_parameters() if one.requires_grad]
    ['1.weight', '1.bias']
    """
    need_batchnorm(model)
    model.requires_grad_(False)
    own = [one for _, norm in batchnorms(model) for one in (norm.weight, norm.bias)]
    learning = [one for one in own if one is not None]
    if not learning:
        raise ValueError(
            "no batch norm of this network has a weight or a bias (affine=False), so there is "
            "nothing to train: take a network whose batch norms have them"
        )
    for one in learning:
        one.requires_grad_(True)


def train_norms_only(model: nn.Module, *, without: float = 0.0) -> None:
    """Let weights and biases of batch, group and layer norms learn, and nothing else.

    ``without`` is the share of these layers, last in the network, that stay.

    Raises:
        ValueError: If there is none.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    >>> train_norms_only(net)
    >>> [name for name, one in net.named_parameters() if one.requires_grad]
    ['1.weight', '1.bias']
    """
    kinds = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)
    norms = [one for one in model.modules() if isinstance(one, kinds)]
    norms = [one for one in norms if any(True for _ in one.parameters())]
    if not norms:
        raise ValueError(
            "this method adapts norms and the network has none with weights: take a network with "
            "batch, group or layer norms, such as a ResNet or a transformer"
        )
    model.requires_grad_(False)
    for one in norms[: len(norms) - int(without * len(norms))]:
        one.requires_grad_(True)


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
    return sorted({type(module).__name__ for module in _not_batchnorms(model)})


def _not_batchnorms(model: nn.Module) -> Iterator[nn.Module]:
    for module in model.modules():
        named = "Norm" in type(module).__name__ and not isinstance(module, _BatchNorm)
        # What has layers in it is a block, whatever its name.
        if named and not any(True for child in module.children() for _ in child.parameters()):
            yield module


def unconverted(model: nn.Module) -> Iterator[str]:
    """Say what kinds of normalisation stay as they are, and why."""
    if fixed := not_in_python(model):
        yield f"{fixed}: convert the network that it was made from, before that"
        return
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
