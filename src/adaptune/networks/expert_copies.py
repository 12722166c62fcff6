"""Networks copied into the places of a network's experts."""

from __future__ import annotations

from collections.abc import Sequence

from adaptune.networks.inputs import need_images
from adaptune.networks.layers.experts import Experts, frozen
from adaptune.networks.network import Network


def take_experts(both: Experts, net: Network, others: Sequence[Network]) -> None:
    """Copy the bodies of other networks into the places of the experts that ``net`` has.

    Raises:
        ValueError: If one is of another architecture or preprocessing.
    """
    look = need_images(net.preprocess)
    for number, (expert, other) in enumerate(zip(both.experts, others, strict=True), start=1):
        own = need_images(other.preprocess)
        try:
            if (own.size, own.mean, own.std) != (look.size, look.mean, look.std):
                raise RuntimeError("its images are prepared in another way")
            expert.load_state_dict(frozen(other.body).state_dict())
        except RuntimeError as error:
            said = str(error).splitlines()[-1].strip()
            raise ValueError(
                f"expert {number} is no network as the one that learns, and here experts are: "
                f"{said}; train all of one --backbone, at one size"
            ) from error
