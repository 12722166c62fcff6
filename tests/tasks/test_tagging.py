"""Tagging: the loss of its words, the bound of its curvature, scores against plain counts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from adaptune.metrics.tags import TagTally, mean_f1
from adaptune.networks.tokens import at_every_place
from adaptune.ops.conditioning import Spread, largest_moment
from adaptune.ops.spans import UNTAGGED
from adaptune.results.score import Scores
from adaptune.tasks.tagging import Tagging
from adaptune.types import Outputs

NAMES = ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")
K, D = len(NAMES), 4


def some(count: int = 20, length: int = 9, seed: int = 0) -> Outputs:
    random = torch.Generator().manual_seed(seed)
    y = torch.randint(K, (count, length), generator=random)
    y[torch.rand(y.shape, generator=random) < 0.3] = UNTAGGED
    y[3:4] = UNTAGGED
    logits = torch.randn(count, K, length, generator=random)
    own = y.clamp_max(K - 1).unsqueeze(1)
    logits.scatter_add_(1, own, torch.full(own.shape, 1.5))
    return Outputs(logits, y, torch.randn(count, D, length, generator=random), torch.arange(count))


def tallied(outputs: Outputs, size: int = 100, names: tuple[str, ...] = NAMES) -> TagTally:
    tally = TagTally(K, names)
    for at in torch.arange(len(outputs.y)).split(size):
        tally.add(outputs.at(at))
    tally.merge()
    return tally


def test_the_loss_of_a_text_is_the_mean_over_its_words_that_have_a_tag():
    outputs = some(3, 6)
    logits, y = outputs.logits.double(), outputs.y
    y[2] = UNTAGGED
    wanted = []
    for row, tags in zip(logits, y.tolist(), strict=True):
        terms = [
            math.log(sum(math.exp(v) for v in row[:, at].tolist())) - float(row[tag, at])
            for at, tag in enumerate(tags)
            if tag != UNTAGGED
        ]
        wanted.append(sum(terms) / max(1, len(terms)))
    found = Tagging(K).losses(logits, y)
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64))
    assert found[2] == 0
    parts = Tagging(K).loss(logits[:1], y[:1]) / 3 + 2 * Tagging(K).loss(logits[1:], y[1:]) / 3
    torch.testing.assert_close(Tagging(K).loss(logits, y), parts)


def test_outputs_of_no_places_are_refused():
    with pytest.raises(ValueError, match="keeps tokens apart"):
        Tagging(K).loss(torch.zeros(2, K), torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="5 tags has outputs"):
        TagTally(K).add(replace(some(), logits=torch.zeros(20, K)))


def test_the_curvature_is_at_most_half_the_largest_moment_of_all_places():
    """Texts of any length weigh the same in both, since their tokens come again behind the end."""
    random = torch.Generator().manual_seed(1)
    size = torch.tensor([2, 3, 6, 12])
    mask = torch.arange(12) < size.unsqueeze(1)
    hidden = torch.randn(4, 12, D, generator=random, dtype=torch.float64)
    hidden[0] *= 5
    hidden -= hidden.mean((0, 1))
    features = at_every_place(hidden, mask, 12)
    y = torch.randint(K, (4, 12), generator=random).where(mask, UNTAGGED)

    def slope(at: torch.Tensor) -> torch.Tensor:
        loss = Tagging(K).loss(torch.einsum("kd,ndl->nkl", at, features), y)
        return torch.autograd.grad(loss, at, create_graph=True)[0]

    gradient = slope(at := torch.zeros(K, D, dtype=torch.float64, requires_grad=True))
    vector, length = torch.randn(K, D, generator=random, dtype=torch.float64), 0.0
    for _ in range(60):
        image = torch.autograd.grad(gradient, at, vector / vector.norm(), retain_graph=True)[0]
        vector, length = image, float(image.norm())
    spread = Spread()
    spread(None, features)
    scatter = spread.pooled()
    second = scatter.mean.outer(scatter.mean)
    moment = largest_moment(scatter, torch.ones(D, dtype=torch.float64))
    bound = Tagging.curvature * (moment + float(torch.linalg.eigvalsh(second)[-1]))
    assert 0.2 * bound < length <= bound * (1 + 1e-9)


def chunks(tags: list[str]) -> set[tuple[int, int, str]]:
    """Give spans by the rules of the scorer of CoNLL-2000, word after word."""
    found, start, kind, before = set(), -1, "", "O"
    for at, tag in enumerate([*tags, "O"]):
        letter, _, own = tag.partition("-")
        if kind and (letter in "OBS" or own != kind or before in "ES"):
            found.add((start, at - 1, kind))
            kind = ""
        if letter != "O" and not kind:
            start, kind = at, own
        before = letter
    return found


@pytest.mark.parametrize(
    "names", [NAMES, ("O", "B-A", "I-A", "E-A", "S-A", "B-B", "I-B", "E-B", "S-B")]
)
def test_spans_are_those_of_the_scorer_of_conll(names):
    random = torch.Generator().manual_seed(2)
    y = torch.randint(len(names), (60, 8), generator=random)
    y[torch.rand(y.shape, generator=random) < 0.2] = UNTAGGED
    guess = torch.where(torch.rand(y.shape, generator=random) < 0.7, y.clamp_max(0) + y, 0)
    guess = guess.clamp_max(len(names) - 1)
    met = there = said = 0
    for tags, own in zip(y.tolist(), guess.tolist(), strict=True):
        asked = [at for at, tag in enumerate(tags) if tag != UNTAGGED]
        true, found = (chunks([names[one[at]] for at in asked]) for one in (tags, own))
        met, there, said = met + len(true & found), there + len(true), said + len(found)
    logits = torch.nn.functional.one_hot(guess, len(names)).movedim(2, 1).float()
    tally = TagTally(len(names), names)
    tally.add(Outputs(logits, y, logits, torch.arange(60)))
    assert tally.spans.sum(0).tolist() == [met, there, said]
    assert met > 20
    assert tally.scores().main.value == pytest.approx(200 * met / (there + said))


def test_words_are_counted_where_tags_are_of_no_spans():
    outputs = some()
    right = asked = 0
    for logits, tags in zip(outputs.logits, outputs.y.tolist(), strict=True):
        for at, tag in enumerate(tags):
            asked += tag != UNTAGGED
            right += tag == int(logits[:, at].argmax())
    for names in ((), ("NN", "VB", "DT", "IN", "JJ")):
        scores = tallied(outputs, names=names).scores()
        assert scores.main.name == "token accuracy"
        assert scores.main.value == pytest.approx(100 * right / asked)
        assert scores.main.low < scores.main.value < scores.main.high
    scores = tallied(outputs).scores()
    assert scores.main.name == "span F1"
    assert scores.detail["token_accuracy"] == pytest.approx(100 * right / asked)
    assert sum(map(sum, scores.detail["confusion"])) == asked
    assert scores.detail["empty"] == 1
    assert set(scores.detail["by_type"]) == {"LOC", "PER"}
    assert scores.loss == pytest.approx(float(Tagging(K).loss(outputs.logits, outputs.y)))


def test_any_batches_come_to_the_same_and_json_gives_them_back():
    whole, parts = tallied(some()), tallied(some(), size=3)
    assert whole.scores() == parts.scores()
    assert whole.mistakes() == parts.mistakes()
    found = whole.scores()
    assert Scores.from_dict(found.to_dict(), found.main.measure).main == found.main


def test_mistakes_are_the_surest_wrong_word_of_a_text():
    outputs = some()
    worst = tallied(outputs).mistakes()
    assert len({one.row for one in worst}) == len(worst) == 12
    assert [one.confidence for one in worst] == sorted((o.confidence for o in worst), reverse=True)
    first = worst[0]
    asked = (outputs.y[first.row] < K).nonzero().flatten()
    at = int(asked[first.place])
    assert int(outputs.y[first.row, at]) == first.truth != first.answer
    assert int(outputs.logits[first.row, :, at].argmax()) == first.answer


def test_a_set_without_tags_is_refused_and_one_without_spans_scores_zero():
    with pytest.raises(ValueError, match="no word could be scored"):
        TagTally(K, NAMES).scores()
    y = torch.full((2, 3), K - 1)
    logits = torch.nn.functional.one_hot(y, K).movedim(2, 1).float()
    tally = TagTally(K, NAMES)
    tally.add(Outputs(logits, y, logits, torch.arange(2)))
    scores = tally.scores()
    assert (scores.main.value, scores.detail["token_accuracy"]) == (0, 100)


def test_the_interval_holds_the_score_of_most_draws_and_shrinks_with_texts():
    import numpy as np

    few = mean_f1("span F1", np.array([[1, 2, 2], [2, 2, 3]] * 5))
    many = mean_f1("span F1", np.array([[1, 2, 2], [2, 2, 3]] * 50))
    assert few.low < few.value < few.high
    assert many.high - many.low < few.high - few.low
