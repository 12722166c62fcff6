"""Parts that share nothing: one that is not finite stays where it is, the others move as alone."""

from __future__ import annotations

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn
from toy import CLASSES, network

from adaptune.engine.descent import Descent
from adaptune.engine.nonfinite import NonFiniteError
from adaptune.engine.plan import Plan
from adaptune.engine.rules import Separate
from adaptune.methods.supervised.ft import FineTune
from adaptune.tasks.classification import Classification
from adaptune.types import Objective


class Roots(nn.Module):
    """A weight whose root is asked for: finite at 0, where its slope is not."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([start]))


def made(*starts: float):
    method = FineTune(network(), Classification(len(CLASSES)), lr=0.1)
    parts = [Roots(one) for one in starts]
    method.net.head = nn.ModuleList(parts)
    heard = []
    method.rule = Separate({str(at): one for at, one in enumerate(parts)}, heard.append)

    def evaluate() -> Objective:
        terms = {str(at): one.weight.sqrt().sum() for at, one in enumerate(parts)}
        return Objective(terms, torch.zeros(1, 3))

    descend = Descent(method, Plan(momentum=0.0), Fabric(accelerator="cpu", devices=1))
    return parts, heard, lambda: descend(evaluate, *parts)


@pytest.mark.parametrize("start", [0.0, -1.0])
def test_a_gradient_or_a_term_that_is_not_finite_leaves_its_part_out(start):
    (first, second), heard, step = made(4.0, start)
    step()
    assert first.weight.item() == pytest.approx(4 - 0.1 / (2 * 2))
    assert second.weight.item() == start
    assert [one.tolist() for one in heard] == [[True, False]]


def test_where_no_part_is_sound_the_step_is_refused():
    _, heard, step = made(-1.0, -1.0)
    with pytest.raises(NonFiniteError, match="the term '0' is nan"):
        step()
    assert [one.tolist() for one in heard] == [[True, True]], "what is refused leaves nobody out"
