"""Changes to a network's architecture, by name, so that a saved network can be built again."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from adaptune.networks.heads import Head
from adaptune.networks.layers.all_in_one import all_in_one
from adaptune.networks.layers.branches import two_branches
from adaptune.networks.layers.common_space import common_space
from adaptune.networks.layers.cosine_head import cosine_head
from adaptune.networks.layers.domain_attention import domain_attention
from adaptune.networks.layers.domain_heads import domain_heads
from adaptune.networks.layers.dynamic_kernels import dynamic_kernels
from adaptune.networks.layers.experts import experts
from adaptune.networks.layers.generic_features import generic_features
from adaptune.networks.layers.instance_batchnorm import ibn
from adaptune.networks.layers.neighbourhood_attention import neighbourhood_attention
from adaptune.networks.layers.prompts import learn_image_prompts, learn_prompts, remember
from adaptune.networks.layers.region_prompts import region_prompts
from adaptune.networks.layers.routes import further_route, routed_head
from adaptune.networks.layers.style_attention import style_attention
from adaptune.networks.layers.sub_prototypes import sub_prototypes
from adaptune.networks.layers.zero_shot_head import zero_shot_head

Surgery = Callable[..., tuple[nn.Module, Head]]
"""Takes body, head and plain keyword arguments; gives the body and the head to use instead.

It may change the body in place, and refuses a head that it cannot take. A head that it makes is a
`Head` that folds into itself, whose ``weight`` and ``bias`` are those of the head that it stands
for. What it adds takes its shapes from body, head and arguments alone, its weights are loaded
later.
"""

SURGERIES: dict[str, Surgery] = {
    "all-in-one": all_in_one,
    "common-space": common_space,
    "cosine-head": cosine_head,
    "domain-attention": domain_attention,
    "domain-heads": domain_heads,
    "dynamic-kernels": dynamic_kernels,
    "experts": experts,
    "further-route": further_route,
    "generic-features": generic_features,
    "ibn": ibn,
    "image-prompts": learn_image_prompts,
    "neighbourhood-attention": neighbourhood_attention,
    "prompts": learn_prompts,
    "region-prompts": region_prompts,
    "remember": remember,
    "routed-head": routed_head,
    "style-attention": style_attention,
    "sub-prototypes": sub_prototypes,
    "two-branches": two_branches,
    "zero-shot-head": zero_shot_head,
}
"""Every surgery that a saved network may ask for; its name is part of the files."""


ANOTHER_SPACE = {"common-space"}
"""Surgeries after which features are of another space; those that others add stand behind."""


def operate(body: nn.Module, head: Head, name: str, **arguments: object) -> tuple[nn.Module, Head]:
    """Apply a surgery by name.

    Raises:
        ValueError: If there is none of that name, or it does not take these arguments or this head.

    >>> operate(nn.Identity(), nn.Linear(2, 2), "no-such")
    Traceback (most recent call last):
    ValueError: there is no surgery named 'no-such': a newer adaptune may know it
    """
    if name not in SURGERIES:
        raise ValueError(f"there is no surgery named {name!r}: a newer adaptune may know it")
    try:
        return SURGERIES[name](body, head, **arguments)
    except (TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"the surgery {name} cannot be done with {arguments}: {error}") from error
