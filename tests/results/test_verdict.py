"""Words say what a comparison decides, and never more than it does."""

import math

import pytest

from adaptune.results.ranking import Versus
from adaptune.results.score import Measure
from adaptune.results.summary import Interval
from adaptune.results.verdict import verdict, verdicts

HOME = Interval(1.0, 0.5, 1.5)
CLEAR, OPEN = Interval(3.0, 1.0, 5.0), Interval(3.0, -1.0, 7.0)


def told(gap, domains, seeds, *, images=260, home=HOME, measure=None):
    count = domains * seeds
    found = Versus("a", "b", home, gap, count - 1, 0, 1, images)
    return verdict(found, domains, measure or Measure())


def test_the_difference_is_told_with_its_interval_and_what_was_counted():
    said = told(CLEAR, 3, 2)
    assert said.startswith(
        "Elsewhere a is 3.0 points better than b (95%: 1.0 to 5.0; 5 wins, 1 ties, 0 losses). "
        "At home it is 1.0 points better (95%: 0.5 to 1.5). "
    )


@pytest.mark.parametrize(
    ("gap", "domains", "seeds", "said", "unsaid"),
    [
        (OPEN, 2, 1, "2 training domains with 1 seed do not decide between them", "explains"),
        (OPEN, 9, 3, "9 training domains with 3 seeds do not decide", "explains"),
        (Interval(3.0, 0.0, 6.0), 9, 3, "do not decide", "explains"),
        (CLEAR, 4, 3, "4 training domains are too few to speak of others", "not decide"),
        (CLEAR, 1, 3, "1 training domain is too few to speak of others", "not decide"),
        (
            CLEAR,
            5,
            3,
            "Over 5 training domains with 3 seeds that is more than the choice of",
            "too few",
        ),
    ],
)
def test_what_is_decided_depends_on_the_interval_and_on_how_many_domains(
    gap, domains, seeds, said, unsaid
):
    words = told(gap, domains, seeds)
    assert said in words
    assert unsaid not in words


@pytest.mark.parametrize(
    ("domains", "seeds", "images", "chance"),
    [
        (5, 3, 260, "the choice of domains, seeds and test images"),
        (5, 1, 260, "the choice of domains and test images"),
        (5, 3, 0, "the choice of domains and seeds"),
        (2, 3, 260, "the choice of seeds and test images"),
        (2, 1, 260, "the choice of test images"),
        (2, 1, 0, "their difference"),
    ],
)
def test_a_clear_difference_is_more_than_what_was_counted_and_no_more(
    domains, seeds, images, chance
):
    assert f"that is more than {chance} explains" in told(CLEAR, domains, seeds, images=images)


def test_one_seed_and_images_that_are_not_counted_are_owned_up_to():
    assert "One seed does not show" in told(CLEAR, 5, 1)
    assert "One seed does not show" not in told(CLEAR, 5, 2)
    assert "test images is not counted in" in told(CLEAR, 5, 2, images=0)
    assert "test images is not counted in" not in told(CLEAR, 5, 2)


def test_a_worse_method_is_called_worse_by_a_positive_number():
    assert "a is 3.0 points worse than b (95%: 1.0 to 5.0" in told(Interval(-3.0, -5.0, -1.0), 5, 2)


def test_another_measure_has_its_own_unit_and_nothing_is_said_of_a_home_that_there_is_not():
    nowhere = Interval(math.nan, math.nan, math.nan)
    said = told(CLEAR, 5, 2, home=nowhere, measure=Measure("mae", "degrees", "lower"))
    assert "a is 3 degrees better than b" in said
    assert "home" not in said


def test_the_best_is_compared_with_each_other_one():
    pairs = [(one, other) for one in "abc" for other in "abc" if one != other]
    found = verdicts([Versus(*pair, HOME, CLEAR, 2, 0, 0) for pair in pairs], "b", 2, Measure())
    assert list(found) == ["a", "c"]
    assert all("Elsewhere b is" in said for said in found.values())
