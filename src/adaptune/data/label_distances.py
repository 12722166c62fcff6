"""How far labels lie apart, read from a CSV: a square of distances, a tree, or a graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptune.data.names import first_few, normal_name, printable
from adaptune.data.readers.manifest import TableRows, read_csv
from adaptune.ops.label_distances import edge_distances

TREE, GRAPH, LENGTH = ("child", "parent"), ("from", "to"), "length"
EXPECTED = (
    "expected a square of distances under the names of its columns, child,parent[,length], or "
    "from,to[,length]"
)


@dataclass(frozen=True, eq=False)
class LabelDistances:
    """What can be answered, by name, and the distances between, (Y, Y); the first are classes."""

    names: tuple[str, ...]
    table: Tensor


def read_label_distances(file: Path, classes: Sequence[str]) -> LabelDistances:
    """Read a CSV of distances between labels, whose answers begin with ``classes``.

    A square has the names of labels as its columns, behind one for the names of its rows. A tree,
    ``child,parent``, has a line for each node that has a parent, and its answers are the classes
    and all leaves. A graph, ``from,to``, has a line an edge, and every node is an answer. A
    distance is then the length of the shortest way; edges are 1 long, or as ``length`` says.
    Whether a square keeps the triangle inequality is not asked.

    Raises:
        ValueError: If there is no such file, it is none of these, distances are none (not numbers
            from 0 up, not the same both ways, not 0 to itself), a child has two parents, no way
            leads from one answer to another, or a class is not there.
    """
    if not file.is_file():
        raise ValueError(f"no distances between labels at {printable(file)}: see data.md")
    head, rows = read_csv(file)
    columns = [one.strip().casefold() for one in head]
    kind = tuple(columns[:2])
    if kind in (TREE, GRAPH) and columns[2:] in ([], [LENGTH]):
        names, table, inner = _edges(file, rows, len(columns), tree=kind == TREE)
    else:
        names, table, inner = *_square(file, head, rows), set()
    lacking = [one for one in classes if one not in names]
    if lacking:
        raise ValueError(
            f"{file} has no distances of the network's classes {first_few(lacking)}: it has "
            f"{first_few(names)}"
        )
    further = [one for one in names if one not in classes and one not in inner]
    answers = (*classes, *further)
    at = [names.index(one) for one in answers]
    table = table[np.ix_(at, at)]
    if np.isinf(table).any():
        one, other = np.argwhere(np.isinf(table))[0]
        raise ValueError(
            f"{file}: no way leads from {answers[one]} to {answers[other]}: give the edges between"
        )
    return LabelDistances(answers, torch.from_numpy(table))


def _number(said: str) -> float:
    """Read a distance; infinity where it is none."""
    try:
        value = float(said)
    except ValueError:
        return math.inf
    return value if 0 <= value < math.inf else math.inf


def _square(
    file: Path, head: Sequence[str], rows: TableRows
) -> tuple[list[str], NDArray[np.float64]]:
    names = [normal_name(one) for one in head[1:]]
    if not names or len({*names}) < len(names):
        raise ValueError(f"{file} has the columns {printable(','.join(head))}: {EXPECTED}")
    found: dict[str, list[float]] = {}
    for where, values in rows:
        numbers = [_number(one) for one in values[1:]]
        name = normal_name(values[0])
        if name not in names or name in found or len(numbers) != len(names):
            raise ValueError(
                f"{file}, {where}: a row is one of the columns' names and {len(names)} distances, "
                f"once each, and this is {printable(','.join(values))}"
            )
        if math.inf in numbers:
            wrong = values[1 + numbers.index(math.inf)]
            raise ValueError(f"{file}, {where}: {printable(wrong)!r} is no number from 0 up")
        found[name] = numbers
    if len(found) < len(names):
        raise ValueError(
            f"{file} has no row of {first_few([one for one in names if one not in found])}: a "
            "square has one for each column"
        )
    table = np.array([found[one] for one in names])
    for one, other in np.argwhere(~np.isclose(table, table.T, rtol=1e-6, atol=0)):
        raise ValueError(
            f"{file}: from {names[one]} to {names[other]} it is {table[one, other]:g}, and back "
            f"{table[other, one]:g}: a distance is the same both ways"
        )
    for one in np.flatnonzero(table.diagonal()):
        raise ValueError(
            f"{file}: {names[one]} has the distance {table[one, one]:g} from itself: expected 0"
        )
    return names, table


def _edges(
    file: Path, rows: TableRows, columns: int, *, tree: bool
) -> tuple[list[str], NDArray[np.float64], set[str]]:
    """Read the edges of a tree or a graph; give nodes, distances, and a tree's inner nodes."""
    numbers: dict[str, int] = {}
    edges, lengths = list[tuple[int, int]](), list[float]()
    parents: dict[str, str] = {}
    for where, values in rows:
        ends = [normal_name(one) for one in values[:2]]
        length = _number(values[2]) if len(values) > 2 else 1.0
        if len(values) != columns or "" in ends or ends[0] == ends[1] or not 0 < length < math.inf:
            raise ValueError(
                f"{file}, {where}: an edge is between two names, and its length a number above 0: "
                f"got {printable(','.join(values))}"
            )
        if tree and ends[0] in parents:
            raise ValueError(
                f"{file}, {where}: {ends[0]} has two parents, {parents[ends[0]]} and {ends[1]}: "
                "name columns from,to where labels are a graph"
            )
        parents[ends[0]] = ends[1]
        first, second = (numbers.setdefault(one, len(numbers)) for one in ends)
        edges.append((first, second))
        lengths.append(length)
    inner = {*parents.values()} if tree else set()
    return list(numbers), edge_distances(len(numbers), edges, lengths), inner
