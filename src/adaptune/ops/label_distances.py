"""Answers by a metric on labels: means of Frechet, and distances along the edges of a graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path
from torch import Tensor


def frechet_costs(logits: Tensor, distances: Tensor) -> Tensor:
    """Give each answer's mean squared distance to the truth, as a prediction has it: (N, Y).

    Of logits (N, K) and distances (Y, K) of answers from classes it is ``sum_i p_i d(y, i)^2``, in
    float64; the answer of least cost is the prediction's Frechet mean. Answers may be more than the
    classes. Source: Geometry-Aware Adaptation for Pretrained Models (Roberts et al., 2023).

    >>> line = torch.tensor([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]])
    >>> frechet_costs(torch.zeros(1, 2), line).tolist()
    [[2.0, 1.0, 2.0]]
    """
    return logits.double().softmax(1) @ distances.to(logits.device, torch.float64).square().T


def edge_distances(
    count: int, edges: Sequence[tuple[int, int]], lengths: Sequence[float]
) -> NDArray[np.float64]:
    """Give the lengths of the shortest ways between nodes of a graph, (count, count).

    Edges go both ways, and of two between the same nodes the shorter one counts; where no way leads
    the length is infinite.

    >>> edge_distances(3, [(0, 1), (1, 2)], [1.0, 2.0]).tolist()
    [[0.0, 1.0, 3.0], [1.0, 0.0, 2.0], [3.0, 2.0, 0.0]]
    """
    least: dict[tuple[int, int], float] = {}
    for (one, other), length in zip(edges, lengths, strict=True):
        ends = (min(one, other), max(one, other))
        least[ends] = min(length, least.get(ends, length))
    at = np.array(list(least), dtype=np.int64).reshape(-1, 2)
    graph = csr_array((list(least.values()), (at[:, 0], at[:, 1])), shape=(count, count))
    found: NDArray[np.float64] = shortest_path(graph, method="D", directed=False)
    return found
