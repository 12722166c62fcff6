"""Weights of files put into networks: by name, or in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from os.path import commonprefix

import torch
from torch import Tensor, nn

from adaptune.networks.dense import named_as_whole
from adaptune.networks.network import Network
from adaptune.networks.split import fill

COUNTERS = ("num_batches_tracked",)
"""Ends of names that older weights files lack."""


def load_by_name(net: Network, state: dict[str, Tensor], where: str) -> None:
    """Load body weights by name; the file's own head, and whatever else it has, is left out.

    Of a network with a decoder the file has all, or else the encoder alone under its own names:
    then the decoder stays as it is, random, and a note says so.

    Raises:
        ValueError: If a weight of the body is missing, has another shape or is no finite number.
    """
    body = net.body.state_dict()
    decoders = tuple(f"{part}." for part in net.neck)
    of_neck = tuple(key for key in body if key.startswith(decoders)) if decoders else ()
    if any(key.endswith(of_neck) for key in state):
        net.neck, of_neck = (), ()
    names = {key: key for key in body if key not in of_neck}
    if of_neck:
        before = commonprefix(list(names)).rpartition(".")[0]
        names = {key: key.removeprefix(f"{before}.") for key in names}
        net.notes.append(f"{where} has no weights of the decoder, which starts at random")
    of_stages = net.origin.kind == "timm-features" or (net.origin.kind == "smp" and bool(of_neck))
    if of_stages and not set(names.values()) <= state.keys():
        names = {key: named_as_whole(name) for key, name in names.items()}
    own = {name: body[key] for key, name in names.items()}
    state, prefix = without_prefix(state, own, where)
    if prefix:
        net.notes.append(f"the weights in {where} are read without {prefix!r} before their names")
    missing = [key for key in own if key not in state and not key.endswith(COUNTERS)]
    misfit = [
        f"{key}: {tuple(state[key].shape)} in the file, {tuple(value.shape)} in the network"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    said = []
    if missing:
        said.append(f"{len(missing)} of {len(own)} weights are missing, such as {missing[0]}")
    if misfit:
        said.append(f"{len(misfit)} of {len(own)} have another shape, such as {misfit[0]}")
    if said:
        raise ValueError(
            f"{where} does not fit {net.origin.name}: {'; '.join(said)}; name the backbone that "
            "the file was saved from"
        )
    _refuse_broken(state, own, where)
    fill(net.body, body | {key: state.get(name, own[name]) for key, name in names.items()})


def without_prefix(
    state: dict[str, Tensor], names: Collection[str], where: str
) -> tuple[dict[str, Tensor], str]:
    """Take off what stands before all of a network's ``names`` in a file, such as ``model.``.

    Raises:
        ValueError: If the file holds the network more than once.

    >>> without_prefix({"net.a": torch.ones(1), "b": torch.ones(1)}, ["a"], "a file")
    ({'a': tensor([1.])}, 'net.')
    """
    own = {name for name in names if not name.endswith(COUNTERS)}
    if own <= state.keys():
        return state, ""
    counts: Counter[str] = Counter()
    for key in state:
        dots = [at + 1 for at, letter in enumerate(key) if letter == "."]
        counts.update(key[:dot] for dot in dots if key[dot:] in own)
    most = max(counts.values(), default=0)
    prefixes = sorted(prefix for prefix, count in counts.items() if count == most)
    if len(prefixes) > 1 and most == len(own):
        raise ValueError(
            f"{where} holds the network {len(prefixes)} times, under {', '.join(prefixes[:4])}: "
            "save the weights of one of them alone"
        )
    if len(prefixes) != 1 or most <= sum(name in state for name in own):
        return state, ""
    prefix = prefixes[0]
    taken = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return taken, prefix


def _refuse_broken(state: dict[str, Tensor], own: dict[str, Tensor], where: str) -> None:
    """Refuse weights that would not be finite in a network's own arithmetic."""
    broken = {
        key: count
        for key, value in own.items()
        if key in state and (count := int((~torch.isfinite(state[key].to(value.dtype))).sum()))
    }
    if broken:
        raise ValueError(
            f"{where} holds {sum(broken.values())} weights that are no finite numbers, in "
            f"{len(broken)} of its tensors (first in {next(iter(broken))}): the training that "
            "saved it had failed; take an earlier file"
        )


def load_in_order(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Load weights whose names differ but whose order is the same; the head comes last.

    Raises:
        ValueError: If a shape differs.
    """
    own = module.state_dict()
    given = list(state.values())[: len(own)]
    pairs = dict(zip(own, given, strict=True))
    for key, value in own.items():
        if pairs[key].shape != value.shape:
            raise ValueError(
                f"weight {key} should have shape {tuple(value.shape)} and has "
                f"{tuple(pairs[key].shape)}: the package's weights are not the expected ones"
            )
    module.load_state_dict(pairs)
