"""What `adaptune compare --advise` says: methods worth comparing, and the commands to run."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from typing import Any

from jsonargparse import Namespace

from adaptune.batchnorm.layers import batchnorms
from adaptune.commands.in_turn import check_domains, open_sources
from adaptune.commands.options import setting_of
from adaptune.data.domains import DomainData
from adaptune.report.terminal import Terminal
from adaptune.runs.setup import Setup
from adaptune.studies.advice import Facts, Rule, advise

FLAGS = {"--advise", "--json", "--oracle", "--open-set", "--rates"}
"""Options of a comparison without a value."""

COMPARING = {
    "--methods",
    "--seeds",
    "--set",
    "--domains",
    "--tune",
    "--untuned",
    "--jobs",
    "--executor",
}
"""Options that `adaptune fit` has no use for, beside flags."""

OF_DATA = {"--source", "--classes", "--domain", "--val-share", "--test-share"}
"""Options that say what of DATA is trained on."""

SEVERAL = {"--ood", "--source", "--set", "--classes"}
"""Options that take all words up to the next option."""

RUN, OUT = "run", "comparison"
"""Where a first run and a comparison go if the words do not say."""


def give_advice(words: Sequence[str], given: Namespace, terminal: Terminal) -> dict[str, Any]:
    """Look at the data and the network, and say what to compare.

    Returns:
        What ``--json`` prints: methods, reason and commands.

    Raises:
        ValueError: If the task is one that no result here is of.
    """
    if given.task != Setup.task:
        raise ValueError(
            f"--advise stands on results of {Setup.task}, and this is {given.task}: compare what "
            f"`adaptune methods --task {given.task}` lists"
        )
    check_domains(given)
    data, *_ = (source.data for source in open_sources(given, terminal.track).values())
    rule = advise(_facts(given, data))
    told = commands(rule, words, given)
    terminal.say(f"{rule.when}: {rule.why}")
    terminal.say("\n".join([f"what to compare: {', '.join(rule.methods) or 'nothing'}", *told]))
    return {
        "when": rule.when,
        "methods": list(rule.methods),
        "why": rule.why,
        "commands": told,
    }


def _facts(given: Namespace, data: DomainData) -> Facts:
    training = len(data.sets.get("train", ()))
    net = setting_of(given).network(data.classes)
    return Facts(
        domains=data.domains if training else 0,
        images=training / len(data.classes),
        target=len(data.target) > 0,
        start=bool(given.get("from")),
        open_set=given.open_set,
        asks=given.oracle,
        norms=any(True for _ in batchnorms(net.body)),
    )


def commands(rule: Rule, words: Sequence[str], given: Namespace) -> list[str]:
    """Write the commands that run what a rule names, with the words of the comparison.

    Methods that go on from a finished run have one trained first, if there is none, and are not
    given its images: these would choose the epoch.
    """
    start, data = given.get("from"), given.get("data")
    if rule.command == "stream":
        told = [
            ["stream", start, "DIR", f"--method={one}", f"--out={one}.csv"] for one in rule.methods
        ]
    elif rule.command == "predict":
        told = [["predict", start, "DIR", "--out=predictions.csv"]]
    else:
        told = []
        kept = without(words, {"--methods"}, {"--advise"})
        if rule.starts and not start:
            training = without(words, {*COMPARING, "--target", "--ood", "--out"}, FLAGS)
            told.append(["fit", *training, f"--out={RUN}"])
            kept.append(f"--from={RUN}")
        if rule.starts and data:
            kept = [word for word in without(kept, OF_DATA, ()) if word != data]
        out = [] if given.get("out") else [f"--out={OUT}"]
        told.append(["compare", *kept, f"--methods={','.join(rule.methods)}", *out])
    return [shlex.join(["adaptune", *one]) for one in told]


def without(words: Sequence[str], options: Collection[str], flags: Collection[str]) -> list[str]:
    """Leave options with their values, and flags, out of the words of a command.

    >>> without(["photos", "--seeds", "3", "--advise", "--epochs=2"], {"--seeds"}, {"--advise"})
    ['photos', '--epochs=2']
    """
    kept, values = list[str](), 0
    for word in words:
        if word.startswith("--"):
            name, equals, _ = word.partition("=")
            values = 0
            if name in options and (not equals or name in SEVERAL):
                values = len(words) if name in SEVERAL else 1
            if name in options or name in flags:
                continue
        elif values:
            values -= 1
            continue
        kept.append(word)
    return kept
