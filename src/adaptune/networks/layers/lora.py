"""Low-rank adapters of a body's layers, by peft, and the plain layers that they fold into."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


def add_lora(body: nn.Module, *, rank: int, alpha: float) -> list[str]:
    """Put a low-rank adapter on every layer that can have one, freeze all else; name the layers.

    A layer of weight W (O, ...) then computes as one of ``W + alpha / rank * B A``, with A (rank,
    ...) random and B (O, rank) zero, so that at first nothing changes. These are linear layers, and
    convolutions of one group without dilation; kinds of their own that derive from them are not.
    Source: LoRA (Hu et al., 2022).

    Raises:
        ValueError: If peft is not installed, or there is no such layer.
    """
    names = adaptable_layers(body)
    _inject(body, dict.fromkeys(names, rank), alpha / rank)
    return names


def _inject(body: nn.Module, ranks: dict[str, int], scale: float = 1.0) -> None:
    """Put an adapter of a rank of its own on each layer that is named, and freeze all else."""
    if importlib.util.find_spec("peft") is None:
        raise ValueError("low-rank adapters need peft: pip install 'adaptune[peft]'")
    from peft import LoraConfig, inject_adapter_in_model

    own = {f"^{re.escape(name)}": rank for name, rank in ranks.items()}
    alphas = {name: scale * rank for name, rank in own.items()}
    most = max(ranks.values())
    inject_adapter_in_model(
        LoraConfig(
            r=most,
            lora_alpha=scale * most,
            target_modules="|".join(map(re.escape, ranks)),
            rank_pattern=own,
            alpha_pattern=alphas,
        ),
        body,
    )


def adaptable_layers(body: nn.Module) -> list[str]:
    """Name the layers that can have an adapter, in order.

    Raises:
        ValueError: If there is none.

    >>> adaptable_layers(nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2)))
    ['0', '2']
    """
    names = [name for name, layer in body.named_modules() if name and adaptable(layer)]
    if not names:
        raise ValueError(
            "low-rank adapters go on linear layers and convolutions of one group, and the network "
            "has none below its head: take another backbone"
        )
    return names


def add_minor_components(body: nn.Module, names: Sequence[str], *, rank: int) -> None:
    """Let the smallest singular components of layers learn, and freeze all else but their biases.

    A weight W, (O, I) or a kernel (O, I, h, w) as (O, I h w), is U S V'. Its ``rank`` smallest
    components become an adapter, B = U_r sqrt(S_r) and A = sqrt(S_r) V_r', and W - B A is frozen,
    so that at first nothing changes. Of a layer with fewer components all learn. The SVD is whole,
    in float64: one by random projections finds the largest. Source: SoMA (Yun et al., 2024).

    Raises:
        ValueError: If peft is not installed.
    """
    _inject(body, {name: min(rank, *_matrix(body, name).shape) for name in names})
    for name in names:
        layer: Any = body.get_submodule(name)
        base, (key,) = layer.get_base_layer(), layer.lora_A
        a, b = layer.lora_A[key].weight, layer.lora_B[key].weight
        left, sizes, right = torch.linalg.svd(
            base.weight.detach().flatten(1).double(), full_matrices=False
        )
        root = sizes[-len(a) :].sqrt()
        with torch.no_grad():
            b.copy_((left[:, -len(a) :] * root).view_as(b))
            a.copy_((root[:, None] * right[-len(a) :]).view_as(a))
            base.weight.sub_((b.flatten(1) @ a.flatten(1)).view_as(base.weight))
        if base.bias is not None:
            base.bias.requires_grad_(True)


def _matrix(body: nn.Module, name: str) -> Tensor:
    weight: Any = body.get_submodule(name).weight
    flat: Tensor = weight.flatten(1)
    return flat


def adaptable(layer: nn.Module) -> bool:
    """Tell whether a layer can have an adapter that folds into its weight.

    >>> [adaptable(one) for one in (nn.Linear(4, 2), nn.Conv2d(4, 4, 3, groups=4), nn.ReLU())]
    [True, False, False]
    """
    if type(layer) is nn.Conv2d:
        plain = layer.groups == 1 and layer.padding_mode == "zeros"
        return plain and max(layer.dilation) == 1
    return type(layer) is nn.Linear


def fold_adapters(body: nn.Module) -> nn.Module:
    """Give a body of plain layers that computes the same; itself, where there are no adapters.

    >>> fold_adapters(nn.Linear(4, 2))
    Linear(in_features=4, out_features=2, bias=True)
    """
    names = [name for name, layer in body.named_modules() if hasattr(layer, "get_delta_weight")]
    if not names:
        return body
    body = deepcopy(body)
    for name in names:
        adapter: Any = body.get_submodule(name)
        adapter.merge()
        body.set_submodule(name, adapter.get_base_layer())
    return body
