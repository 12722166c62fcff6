"""The epoch that is tested is chosen by merit, whichever way a score is better."""

import math
from itertools import pairwise

from adaptune.results.score import Score, Scores
from adaptune.runs.epochs import RunState
from adaptune.selection.epochs import BestEpoch, best_by_validation


def chosen(values, error=0.0, **measure) -> list[int]:
    """The best epoch after each of some scores."""
    best, told = BestEpoch(), []
    for epoch, value in enumerate(values):
        main = Score("any", value, value, value, error, **measure)
        best = best_by_validation(best, epoch, Scores(main, 1.0, 10))
        told.append(best.epoch)
    return told


def test_the_first_epoch_is_the_best_so_far_however_bad_it_is():
    assert chosen([-40.0]) == [0]
    assert chosen([900.0], better="lower") == [0]


def test_where_lower_is_better_the_lowest_is_kept():
    assert chosen([9.0, 5.0, 7.0, 4.0], better="lower") == [0, 1, 1, 3]
    assert chosen([9.0, 5.0, 7.0, 4.0]) == [0, 0, 0, 0]


def test_one_standard_error_is_let_pass_on_either_side():
    values = [9.0, 5.0, 5.9, 6.1]
    assert chosen(values, error=1.0, better="lower") == [0, 1, 2, 2]
    assert chosen([100 - value for value in values], error=1.0) == [0, 1, 2, 2]


def test_a_score_and_its_opposite_choose_the_same_epochs():
    values = [math.sin(3 * at) for at in range(30)]
    mirrored = [-value for value in values]
    assert chosen(values, error=0.1) == chosen(mirrored, error=0.1, better="lower")
    assert all(a <= b for a, b in pairwise(chosen(values)))


def test_a_checkpoint_of_an_earlier_version_is_gone_on_with():
    before = {"epoch": 3, "accuracy": 71.0, "loss": 0.5, "bar": 68.0}
    state = RunState.from_dict({"best": before, "notes": {"layout": "auto"}, "skipped": 2})
    assert state.best == BestEpoch(3, 68.0, 71.0, 0.5)
    assert (state.measure.name, state.skipped) == ("accuracy", 2)
    assert RunState.from_dict(state.to_dict()) == state
