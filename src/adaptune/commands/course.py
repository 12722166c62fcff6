"""How a stream went: domain by domain, and whether its answers collapsed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from adaptune.commands.streamed import Answers
from adaptune.engine.visits import Visit, forgetting
from adaptune.metrics.window import AnswerWindow, Spell
from adaptune.report.terminal import Terminal


def course_of(
    visits: Sequence[Visit], answers: Answers, window: AnswerWindow, classes: Sequence[str]
) -> dict[str, Any]:
    """Give as JSON has it what became of each visit, what was forgotten, and the last answers."""
    known: list[dict[str, Any]] = [
        {"domain": one.domain, "cycle": one.cycle, "images": len(one.rows)} | answers.scores_of(one)
        for one in visits
    ]
    scored = [(one, told) for one, told in zip(visits, known, strict=True) if "adapted" in told]
    lost = {
        name: forgetting(
            [visit for visit, _ in scored], [measured(told[name])[1] for _, told in scored]
        )
        for name in ("adapted", "unadapted")
    }

    def said(spell: Spell) -> dict[str, Any]:
        return asdict(spell) | {"most": classes[spell.most]}

    told: dict[str, Any] = {"images": window.size, "course": [said(one) for one in window.points]}
    if window.answered:
        told |= {"last": said(window.now), "collapsed_images": window.collapsed_rows}
    if window.collapse:
        told["collapse"] = said(window.collapse)
    return {"visits": known, "forgetting": lost, "window": told}


def measured(told: dict[str, float]) -> tuple[str, float]:
    """Give what a score is called, which comes first, and its value."""
    return next(iter(told.items()))


def show_visits(terminal: Terminal, course: dict[str, Any]) -> None:
    """Show scores visit by visit where several are known, and what was forgotten."""
    known = [one for one in course["visits"] if "adapted" in one]
    if len(known) < 2:
        return
    measure = measured(known[0]["adapted"])[0]
    rows = []
    for one in known:
        values = [f"{measured(one[name])[1]:.1f}" for name in ("adapted", "unadapted")]
        rows.append([one["domain"], str(one["cycle"]), str(one["images"]), *values])
    names = ["domain", "cycle", "images", "adapted", "unadapted"]
    terminal.table(f"{measure} in percent, domain by domain", names, rows)
    if course["forgetting"]["adapted"]:
        lost = course["forgetting"]["adapted"].items()
        terminal.say(
            "forgotten from the first cycle to the last, in points: "
            + ", ".join(f"{domain} {value:+.1f}" for domain, value in lost)
        )


def collapse_told(window: AnswerWindow, classes: Sequence[str]) -> str:
    """Say in words that answers have collapsed to few classes, or how far they were from it.

    >>> import torch
    >>> window = AnswerWindow(3, size=6)
    >>> window.take(torch.eye(3).repeat(2, 1))
    >>> collapse_told(window, ["cat", "dog", "cow"])
    'answers are of many classes: 33% of the last 6 are cat, the most of any class'
    """
    if not window.answered:
        return "nothing was answered"
    now, first = window.now, window.collapse
    count = min(now.answered, window.size)
    if first is None:
        return (
            f"answers are of many classes: {now.share:.0%} of the last {count} are "
            f"{classes[now.most]}, the most of any class"
        )
    still = "still are" if window.collapsed else "have come back since"
    return (
        f"ANSWERS HAVE COLLAPSED to few classes: after {first.answered} images {first.share:.0%} "
        f"of the last {window.size} were {classes[first.most]}, as various as "
        f"{first.classes:.1f} classes where {window.expected:.1f} were expected; they were so for "
        f"{window.collapsed_rows} images and {still}. Take a smaller rate, larger or mixed "
        "batches, --episodic, or a method that begins anew"
    )
