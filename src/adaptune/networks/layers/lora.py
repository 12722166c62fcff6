"""Low-rank adapters of a body's layers, by peft, and the plain layers that they fold into."""

from __future__ import annotations

import importlib.util
import re
from copy import deepcopy
from typing import Any

from torch import nn


def add_lora(body: nn.Module, *, rank: int, alpha: float) -> list[str]:
    """Put a low-rank adapter on every layer that can have one, freeze all else; name the layers.

    A layer of weight W (O, ...) then computes as one of ``W + alpha / rank * B A``, with A (rank,
    ...) random and B (O, rank) zero, so that at first nothing changes. These are linear layers, and
    convolutions of one group without dilation; kinds of their own that derive from them are not.
    Source: LoRA (Hu et al., 2022).

    Raises:
        ValueError: If peft is not installed, or there is no such layer.
    """
    if importlib.util.find_spec("peft") is None:
        raise ValueError("low-rank adapters need peft: pip install 'adaptune[peft]'")
    names = [name for name, layer in body.named_modules() if name and adaptable(layer)]
    if not names:
        raise ValueError(
            "low-rank adapters go on linear layers and convolutions of one group, and the network "
            "has none below its head: take another backbone"
        )
    from peft import LoraConfig, inject_adapter_in_model

    targets = "|".join(map(re.escape, names))
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets), body)
    return names


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
