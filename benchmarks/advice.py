"""What `adaptune compare --advise` says, with the results that it stands on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from jsonargparse import Namespace

from adaptune.commands.advice import commands
from adaptune.studies.advice import RULES, Rule
from benchmarks.layout import Results, markdown, percent

PROOF = Path(__file__).parent / "results" / "emoji.json"
ALONE = ("source-only", "erm", "alpha = 1")
"""What saw the source alone, and adapts to nothing."""


def advice(results: Results) -> str:
    """Each rule: what there is, what to compare by which command, why, and what was measured."""
    rows = []
    for rule in RULES:
        names = ", ".join(f"`{name}`" for name in rule.methods) or "nothing"
        run = ", then ".join(f"`{line}`" for line in written(rule))
        gains = "; ".join(measured(rule, results)) or "not measured"
        rows.append([rule.when, names, run, rule.why, gains])
    return markdown(["there is", "compare", "command", "why", "measured, points"], rows)


def written(rule: Rule) -> list[str]:
    """Write the commands of a rule, as for somebody who passed its words."""
    words = rule.words.split()
    start = "RUN" if "RUN" in words else None
    data = "DATA" if "DATA" in words else None
    return commands(rule, words, Namespace(**{"from": start, "data": data}))


def measured(rule: Rule, results: Results) -> Iterator[str]:
    """Say what each of a rule's methods gained, by the parts of the results that it stands on."""
    if rule.stands == "supervised":
        for one in json.loads(PROOF.read_text())["versus"]:
            if one["one"] == "daft (default)" and one["other"] in {*rule.methods} - {"daft"}:
                yield f"`daft` - `{one['other']}` elsewhere {percent(one['ood'], '+')}"
        return
    for one in results["gains"]:
        known = one["variant"] in rule.methods and one["against"] in ALONE
        if known and one["setting"] in rule.stands.split(", "):
            what = one["measure"].removeprefix("accuracy").removeprefix(", ")
            yield " ".join([f"`{one['variant']}`", *([what] if what else []), percent(one, "+")])
