"""Which methods are worth comparing on what there is to learn from: rules that stand on results.

`docs/advice.md` has the same rules with the numbers that they stand on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from adaptune.methods import METHODS

FEW = 10
"""Training images a class below which none of the project's results were measured."""


@dataclass(frozen=True)
class Facts:
    """What there is to learn from, and what is to learn.

    Args:
        domains: How many labelled domains there are; 0 where none is at hand.
        images: Labelled training images a class.
        target: Whether images of the target are at hand, without labels.
        start: Whether there is a finished run to start from.
        open_set: Whether images may be of none of the classes.
        asks: Whether somebody labels a few images of the target on request.
        norms: Whether the network has batch norms.
    """

    domains: int = 1
    images: float = 100.0
    target: bool = False
    start: bool = False
    open_set: bool = False
    asks: bool = False
    norms: bool = True


@dataclass(frozen=True)
class Rule:
    """Methods to compare where ``holds`` does, ``when`` and ``why`` in words.

    ``words`` are what a comparison is given where it does, ``stands`` the parts of the results that
    the rule stands on, if any, and ``command`` is what runs the methods.
    """

    when: str
    words: str
    holds: Callable[[Facts], bool]
    methods: tuple[str, ...]
    why: str
    stands: str = ""
    command: Literal["compare", "stream", "predict"] = "compare"

    @property
    def starts(self) -> bool:
        """Whether the methods go on from a finished run: one of them sees no labels."""
        return any(not METHODS[name].needs.labeled for name in self.methods)


RULES = (
    Rule(
        "a finished run and images that come one after the other",
        "--from RUN",
        lambda facts: facts.start and not facts.target and not facts.domains and facts.norms,
        ("alpha-bn", "tent"),
        "alpha-bn gained in batches of every size on corrupted images, and moves no weight; tent "
        "needs large batches",
        "test-time",
        "stream",
    ),
    Rule(
        "the same, and a network without batch norms",
        "--from RUN",
        lambda facts: facts.start and not facts.target and not facts.domains,
        (),
        "all that adapts to a stream here works by batch norms, so let the run answer as it is",
        command="predict",
    ),
    Rule(
        "images of the target, of which some are of none of the classes",
        "--from RUN --target DIR --open-set",
        lambda facts: facts.target and facts.open_set,
        ("glc",),
        "it beat the best threshold on confidence on every pair; the page has what the run reached "
        "before",
        "open-adapted",
    ),
    Rule(
        "images of the target, and somebody who labels a few dozen of them",
        "--from RUN --target DIR --oracle",
        lambda facts: facts.target and facts.asks,
        ("lftl", "shot"),
        "sixty labels gained more than any method without them; shot says what they are worth",
        "source-free",
    ),
    Rule(
        "images of the target without labels",
        "DATA --target DIR",
        lambda facts: facts.target and facts.norms,
        ("adabn", "shot"),
        "adabn gained on every pair and moves no weight, shot alone added to it on the mean; what "
        "learns from both domains at once gained less",
        "source-free",
    ),
    Rule(
        "images of the target, and a network without batch norms",
        "--from RUN --target DIR",
        lambda facts: facts.target,
        ("shot", "sfda2"),
        "they need no batch norms; all results are of networks that have them, where much of the "
        "gain was theirs",
        "source-free",
    ),
    Rule(
        "labelled images of several domains, and a network without batch norms",
        "DATA --source NAME=DIR",
        lambda facts: facts.domains > 1 and not facts.norms,
        ("ft", "drm"),
        "ibn works by batch norms; all results are of networks that have them",
        "generalisation",
    ),
    Rule(
        "labelled images of several domains",
        "DATA --source NAME=DIR",
        lambda facts: facts.domains > 1,
        ("ft", "drm", "ibn"),
        "drm was above plain fine-tuning by more than pairs differ, ibn on most pairs",
        "generalisation",
    ),
    Rule(
        f"fewer than {FEW} labelled images a class",
        "DATA",
        lambda facts: facts.images < FEW,
        ("lp", "lp-ft", "daft"),
        "with five images a class and twenty steps daft was first at home and lp-ft elsewhere; lp, "
        "which moves no feature, is what to beat",
    ),
    Rule(
        "labelled images, and a network without batch norms",
        "DATA",
        lambda facts: not facts.norms,
        ("lp-ft", "daft"),
        "daft has its head alone there, for there is nothing to convert; not measured",
    ),
    Rule(
        "labelled images",
        "DATA",
        lambda facts: True,
        ("ft", "lp-ft", "daft"),
        "daft was first over five domains of emoji, tuned or not; with photos and clip art lp-ft, "
        "tuned, was above it elsewhere and below it at home; ft says what the care is worth",
        "supervised",
    ),
)


def advise(facts: Facts) -> Rule:
    """Give the first rule that holds.

    >>> advise(Facts(domains=0, start=True, target=True)).methods
    ('adabn', 'shot')
    """
    return next(rule for rule in RULES if rule.holds(facts))
