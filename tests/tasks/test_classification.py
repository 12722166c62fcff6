import pytest
import torch

from adaptune.metrics.classification import open_set
from adaptune.metrics.shares import wilson
from adaptune.results.score import Scores
from adaptune.tasks.classification import Classification
from adaptune.types import Outputs


def outputs(guess: list[int], y: list[int]) -> Outputs:
    logits = torch.eye(3)[torch.tensor(guess)] * 5
    return Outputs(logits, torch.tensor(y), logits, torch.arange(len(y)))


def score(task: Classification, given: Outputs) -> Scores:
    tally = task.tally()
    tally.add(given)
    return tally.scores()


def test_scores_count_what_was_right_and_what_was_taken_for_what():
    scores = score(Classification(3), outputs([0, 1, 2, 2], [0, 1, 1, 2]))
    assert scores.main.value == 75.0
    assert scores.detail["confusion"] == ((1, 0, 0), (0, 1, 1), (0, 0, 1))
    assert scores.main.low < 75.0 < scores.main.high
    right, wrong = 5 - torch.tensor(2 + torch.e**5).log(), torch.tensor(2 + torch.e**5).log()
    assert scores.loss == pytest.approx(float((-3 * right + wrong) / 4), rel=1e-5)


def test_open_sets_are_scored_by_known_classes_unknown_images_and_their_harmonic_mean():
    y = torch.tensor([0, 0, 0, 1, 3, 3])
    guess = torch.tensor([0, 0, 3, 1, 3, 2])
    logits = 5 * torch.eye(4)[guess]
    scores = score(Classification(3, unknown=True), Outputs(logits, y, logits, torch.arange(6)))
    known, unknown = 100 * (2 / 3 + 1) / 2, 50.0  # class 2 has no image and does not count
    assert scores.detail["open_set"]["known"] == pytest.approx(known)
    assert scores.detail["open_set"]["unknown"] == unknown
    assert scores.detail["open_set"]["h"] == pytest.approx(2 * known * unknown / (known + unknown))
    assert scores.main.value == pytest.approx(100 * 4 / 6)
    assert scores.to_dict()["open_set"] == scores.detail["open_set"]


@pytest.mark.parametrize("y", [[0, 1, 1], [2, 2, 2]])
def test_a_set_without_known_or_without_unknown_images_has_no_harmonic_mean(y):
    logits = torch.eye(3)
    scores = score(
        Classification(2, unknown=True), Outputs(logits, torch.tensor(y), logits, torch.arange(3))
    )
    assert "open_set" not in scores.detail
    assert "open_set" not in scores.to_dict()


def test_a_prediction_that_cannot_say_unknown_is_refused_where_the_task_has_it():
    with pytest.raises(ValueError, match="3 classes and unknown has 4 outputs and got 3"):
        score(Classification(3, unknown=True), outputs([0], [0]))


def test_nothing_is_right_where_nothing_is_known_right():
    confusion = torch.tensor([[0, 2], [3, 0]])
    assert open_set(confusion) == {"known": 0.0, "unknown": 0.0, "h": 0.0}


def test_wilson_intervals_hold_in_the_corners():
    assert wilson(0, 10)[0] == 0.0
    assert wilson(10, 10)[1] == 1.0
    assert wilson(10, 10)[0] == pytest.approx(0.7225, abs=1e-3)
    wide, narrow = wilson(5, 10), wilson(500, 1000)
    assert narrow[1] - narrow[0] < wide[1] - wide[0]


def test_the_hardest_images_are_the_surest_mistakes():
    logits = torch.tensor([[0.0, 2.0], [0.0, 9.0], [5.0, 0.0], [0.0, 4.0]])
    rows = Outputs(logits, torch.tensor([0, 0, 0, 0]), logits, torch.arange(4))
    whole, parts = Classification(2).tally(), Classification(2).tally()
    whole.add(rows)
    for at in ([2, 3], [0, 1]):
        parts.add(rows.at(torch.tensor(at)))
    assert [one.row for one in whole.mistakes()] == [1, 3, 0]
    assert parts.mistakes() == whole.mistakes()
    assert whole.mistakes()[0].answer == 1
