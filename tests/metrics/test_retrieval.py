"""How high partners and documents stand, by hand and by the formulas."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from adaptune.metrics.found import gain, recall, reciprocal_rank, score_found
from adaptune.metrics.retrieval import PairTally
from adaptune.ops.bm25 import BM25
from adaptune.ops.nearest import Nearest
from adaptune.types import Outputs


def tally(rows: torch.Tensor, partners: torch.Tensor, y: torch.Tensor, sizes=(100,)) -> PairTally:
    """Show a tally embeddings whose partners' ids are single numbers."""
    table = {int(one): own for one, own in zip(y.flatten(), partners, strict=True)}
    found = PairTally(lambda ids: torch.stack([table[int(one)] for one in ids.flatten()]))
    index = torch.arange(len(rows))
    for at in zip(*(part.split(sizes[0]) for part in (rows, y, index)), strict=True):
        found.add(Outputs(at[0], at[1], at[0], at[2]))
    found.merge()
    return found


def test_ranks_of_partners_come_to_what_is_counted_by_hand():
    # Rows 0 and 1 find theirs first, row 2 second, row 3 last of four.
    rows = torch.tensor([[9.0, 0, 0, 0], [0, 9, 0, 0], [0, 8, 5, 0], [5, 4, 3, 1]])
    scores = tally(rows, torch.eye(4), torch.arange(4)[:, None]).scores()
    assert scores.main.name == "recall@1"
    assert scores.main.value == 50
    assert scores.detail["recall@5"] == 100
    assert scores.detail["mrr"] == pytest.approx(100 * (1 + 1 + 1 / 2 + 1 / 4) / 4)
    ndcg = (1 + 1 + 1 / math.log2(3) + 1 / math.log2(5)) / 4
    assert scores.detail["ndcg@10"] == pytest.approx(100 * ndcg)


def test_a_network_that_says_the_same_of_all_is_not_right():
    scores = tally(torch.ones(4, 2), torch.ones(4, 2), torch.arange(4)[:, None]).scores()
    assert scores.main.value == 0
    assert scores.detail["mrr"] == pytest.approx(100 / 2.5)


def test_a_partner_of_several_rows_is_one_partner_and_right_for_each():
    rows = torch.tensor([[1.0, 0], [1, 0.1], [0, 1]])
    partners, y = torch.tensor([[1.0, 0], [1, 0], [0, 1]]), torch.tensor([[7], [7], [8]])
    scores = tally(rows, partners, y).scores()
    assert scores.main.value == 100
    assert scores.detail["recall@1 back"] == 100
    assert scores.loss == pytest.approx(float(F.cross_entropy(rows, torch.tensor([0, 0, 1]))))


def test_batches_do_not_show_and_a_mistake_names_the_row_whose_partner_was_found():
    random = torch.Generator().manual_seed(0)
    rows, partners = (torch.randn(50, 6, generator=random) for _ in range(2))
    partners, y = F.normalize(partners, dim=1), torch.arange(50)[:, None]
    whole, parts = (tally(rows, partners, y, (size,)) for size in (50, 7))
    assert whole.scores() == parts.scores()
    worst = whole.mistakes()[0]
    alike = F.normalize(rows, dim=1) @ partners.T
    assert worst.answer == alike[worst.row].argmax()
    assert worst.confidence == pytest.approx(float((alike.amax(1) - alike.diagonal()).max()))


def test_gains_are_those_of_the_formula():
    found, grades = ["a", "b", "c", "d"], {"a": 1.0, "c": 3.0, "x": 2.0, "d": -1.0}
    own = 1 / math.log2(2) + 3 / math.log2(4)
    best = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    assert gain(found, grades) == pytest.approx(own / best)
    assert gain(["c", "x", "a"], grades) == pytest.approx(1)
    assert gain(found, grades, at=1) == pytest.approx(1 / 3)
    assert reciprocal_rank(["b", "d", "c"], grades) == pytest.approx(1 / 3)
    assert reciprocal_rank(["b"] * 10 + ["a"], grades) == 0
    assert recall(found, grades, 2) == pytest.approx(1 / 3)


def test_queries_without_a_relevant_document_are_left_out_and_none_at_all_is_refused():
    found = {"p": ["a"], "q": ["a"]}
    scores = score_found(found, {"p": {"a": 1.0}, "q": {"a": 0.0}, "r": {"a": 1.0}}, 5)
    assert scores == {"ndcg@10": 100, "mrr@10": 100, "recall@1": 100, "recall@5": 100}
    with pytest.raises(ValueError, match="no query that was asked has a relevant document"):
        score_found(found, {"r": {"a": 1.0}}, 5)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_the_nearest_are_the_same_for_parts_of_any_size(size, monkeypatch):
    monkeypatch.setattr("adaptune.ops.nearest.QUERIES", 3)
    random = torch.Generator().manual_seed(0)
    queries, documents = (torch.randn(n, 5, generator=random).double() for n in (8, 60))
    documents[30:] = documents[:30]
    nearest = Nearest(queries, 9)
    for part, numbers in zip(documents.split(size), torch.arange(60).split(size), strict=True):
        nearest.add(part, numbers)
    order = (queries @ documents.T).sort(dim=1, descending=True, stable=True)
    assert torch.allclose(nearest.scores, order.values[:, :9])
    assert torch.equal(nearest.numbers[:, :8], order.indices[:, :8])


def test_fewer_documents_than_asked_for_are_all_given():
    nearest = Nearest(torch.eye(2), 9)
    nearest.add(torch.eye(2), torch.arange(2))
    assert nearest.numbers.tolist() == [[0, 1], [1, 0]]


def test_words_are_weighed_as_the_formula_says():
    texts = ["a red cat and a red dog", "a dog", "blue", ""]
    found = BM25(texts).scores("Red dog, dog no-such")
    lengths = [7, 2, 1, 0]
    mean = sum(lengths) / 4

    def part(often: int, length: int, texts_of: int) -> float:
        idf = math.log(1 + (4 - texts_of + 0.5) / (texts_of + 0.5))
        return idf * often / (often + 1.2 * (1 - 0.75 + 0.75 * length / mean))

    assert found[0] == pytest.approx(part(2, 7, 1) + 2 * part(1, 7, 2))
    assert found[1] == pytest.approx(2 * part(1, 2, 2))
    assert found[2:].tolist() == [0, 0]
    assert [number for number, _ in BM25(texts).top("dog", 5)] == [1, 0]
    assert BM25([]).top("dog", 5) == []
