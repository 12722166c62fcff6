"""Write a page for each method, and their lists: ``python -m benchmarks.pages``.

They say what the methods say of themselves, and what the results of the protocols in `MEASURED` say
of them where these are there; nobody edits them.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptune.catalog import Entry, catalog
from adaptune.engine.method import ranges, teachers_of
from adaptune.methods import METHODS
from benchmarks.layout import markdown, percent
from benchmarks.table import ROOT

FOLDER = ROOT / "docs" / "methods"
RESULTS = ROOT / "benchmarks" / "results"
MEASURED = {
    "settings": "",
    "settings-long": "20 epochs of all classes",
    "settings-passes": "",
    "settings-references": "three pairs, one seed",
    "streams": "three networks, one seed",
    "texts": "sentences of four places, one seed",
    "settings-styles": "three pairs, one seed",
    "settings-open": "targets with further classes, three pairs, one seed",
    "settings-clients": "three triples, one seed",
    "earth-methods": "maps of the Earth",
    "earth-few": "five labelled tiles of another map of the Earth",
}
"""Protocols of settings, and what they measure in a word where that differs from the first."""
README = ROOT / "README.md"
BASELINES = ("source-only", "erm")
Gain = Mapping[str, Any]

# What there is to learn from, the words that run it, and the page that tells more.
SETTINGS = {
    "supervised": (
        "Labelled images, texts or pairs.",
        "adaptune fit DATA --method {name} --out run",
        "settings",
    ),
    "generalisation": (
        "Labelled images of several domains.",
        "adaptune fit DATA --source NAME=DIR --method {name} --out run",
        "settings",
    ),
    "teachers": (
        "Labelled images, a finished run, and others that it learns from.",
        "adaptune fit DATA --from RUN --teacher RUN --method {name} --out run",
        "teachers",
    ),
    "few-shot": (
        "Labelled images, and a few labelled ones of the target, the last that `--source` names.",
        "adaptune fit DATA --source NAME=DIR --method {name} --out run",
        "segmentation",
    ),
    "semi-supervised": (
        "A few labelled images of a domain, and many of it without labels.",
        "adaptune fit DATA --target DIR --method {name} --out run",
        "settings",
    ),
    "unsupervised": (
        "Labelled images, and images of the target without labels.",
        "adaptune fit DATA --target DIR --method {name} --out run",
        "settings",
    ),
    "source-free": (
        "A finished run, whose images may be gone, and images of the target without labels.",
        "adaptune fit --from RUN --target DIR --method {name} --out run",
        "settings",
    ),
    "test-time": (
        "A finished run, and images that it answers as they come.",
        "adaptune stream RUN DIR --method {name} --out predictions.csv",
        "streams",
    ),
}


def measured(folder: Path = RESULTS) -> list[Gain]:
    """Read the gains that were measured, each with its protocol; none before they are."""
    return [
        {**gain, "protocol": name}
        for name in MEASURED
        if (file := folder / f"{name}.json").exists()
        for gain in json.loads(file.read_text())["gains"]
    ]


def pages(gains: Iterable[Gain]) -> dict[Path, str]:
    """Give all pages by their file."""
    entries, of = catalog(), list(gains)
    files = {FOLDER / f"{one.name}.md": page(one, _of(one, of)) for one in entries}
    return {FOLDER / "README.md": index(entries, of), **files}


def page(entry: Entry, gains: Sequence[Gain]) -> str:
    """Write what there is to know of one method."""
    method, (_, _, more) = METHODS[entry.name], SETTINGS[entry.setting]
    told = [
        f"# {entry.name}",
        entry.summary,
        f"Setting: [{entry.setting}](../{more}.md). Works on: {entry.works_on}.",
        f"Paper: {entry.paper}.",
        _use(entry),
        f"In Python it is `adaptune.{method.__name__}`.{_further(entry)}",
        "## How it works",
        _text(inspect.getdoc(method) or ""),
        "## Hyper-parameters",
        _parameters(entry),
    ]
    if gains:
        told.append("## What we measured")
    for name in MEASURED:
        own = [gain for gain in gains if gain["protocol"] == name]
        told += [*map(_measured, own), *([_where(name)] if own else [])]
    return "\n\n".join(told) + "\n"


def _where(name: str) -> str:
    """Say what a protocol's numbers are, and where they come from."""
    chosen = "" if name == "settings" else f" --protocol benchmarks/protocols/{name}.toml"
    return (
        "Values are means over seeds, gains means over pairs with a 95% interval over pairs:\n"
        f"[{name}.json](../../benchmarks/results/{name}.json), by `python -m benchmarks.settings"
        f"{chosen}`."
    )


def index(entries: Sequence[Entry], gains: Sequence[Gain]) -> str:
    """List all methods by what they learn from."""
    told = ["# Methods", "By what there is to learn from; `adaptune methods` prints the same list."]
    for setting, (what, _, more) in SETTINGS.items():
        own = [one for one in entries if one.setting == setting]
        compared = {one.name: _against_baseline(one, gains) for one in own}
        head = ["method", "works on", "what it does", "paper", f"over {' or '.join(BASELINES)}"]
        rows = [
            [_link(one), one.works_on, one.summary, one.paper, compared[one.name]] for one in own
        ]
        columns = 5 if any(compared.values()) else 4
        table = markdown(head[:columns], [row[:columns] for row in rows])
        told += [f"## {setting}", f"{what} [More](../{more}.md).", table]
    return "\n\n".join(told) + "\n"


def overview(readme: str) -> str:
    """Give the README with its list of methods as they say it, below ``<!-- methods -->``."""
    entries = catalog()
    rows = [
        [setting, SETTINGS[setting][0], ", ".join(_link(one, "docs/methods/") for one in own)]
        for setting in dict.fromkeys(one.setting for one in entries)
        if (own := [one for one in entries if one.setting == setting])
    ]
    table = markdown(["setting", "what there is to learn from", "methods"], rows)
    begin, end = "<!-- methods -->", "<!-- /methods -->"
    before, _, rest = readme.partition(begin)
    return f"{before}{begin}\n{table}\n{end}{rest.partition(end)[2]}"


def _link(entry: Entry, folder: str = "") -> str:
    return f"[`{entry.name}`]({folder}{entry.name}.md)"


def _of(entry: Entry, gains: Iterable[Gain]) -> list[Gain]:
    return [gain for gain in gains if gain["base"] == entry.name]


def _use(entry: Entry) -> str:
    """Say how it is run."""
    _, words, _ = SETTINGS[entry.setting]
    words = words.format(name=entry.name)
    if entry.task == "Matching":
        words = words.replace(" --method", " --task matching --method")
    if "--teacher" not in words and teachers_of(METHODS[entry.name]) != "none":
        words = words.replace(" --out", " --teacher RUN RUN --out")
    return f"```\n{words}\n```"


def _text(said: str) -> str:
    """Give a docstring's prose without its first line and source, in the marks of these pages."""
    _, _, rest = said.partition("\nArgs:\n")[0].partition("\n")
    without = re.sub(r"\s*Source: .+?\.(?=\s|$)", "", rest, flags=re.DOTALL)
    return without.strip().replace("``", "`")


def _parameters(entry: Entry) -> str:
    """Lay out what each is, defaults, and where a search looks."""
    varied = ranges(METHODS[entry.name])
    rows = []
    for name, value in entry.options.items():
        said = str(value).lower() if isinstance(value, bool) else str(value)
        between = f"{varied[name].low:g} to {varied[name].high:g}" if name in varied else ""
        meaning = entry.meanings.get(name, "").replace("``", "`").replace("|", "\\|")
        rows.append([f"`--{name.replace('_', '-')}`", meaning, f"`{said}`", between])
    return markdown(["option", "what it is", "default", "a search varies it"], rows)


def _further(entry: Entry) -> str:
    """Point at the page that somebody wrote of it, if there is one."""
    own = FOLDER.parent / f"{entry.name}.md"
    return f" More of it: [{own.stem}](../{own.name})." if own.exists() else ""


def _measured(gain: Gain) -> str:
    """Say one gain, and lay out the pairs that it is the mean of."""
    against = f"{gain['setting']}, `{gain['variant']}` against `{gain['against']}`"
    over = f"over {gain['count']} pairs, {gain['seeds']} seeds"
    rows = [
        [one["pair"], *(f"{one[key]:.1f}" for key in ("value", "reference"))]
        + [f"{one['value'] - one['reference']:+.1f}"]
        for one in gain["pairs"]
    ]
    head = [gain["measure"], f"`{gain['variant']}`", f"`{gain['against']}`", gain["unit"]]
    return f"{against}: {_gain(gain)} {over}.\n\n{markdown(head, rows)}"


def _gain(gain: Gain) -> str:
    return f"{gain['measure']} {percent(gain, '+')}"


def _against_baseline(entry: Entry, gains: Iterable[Gain]) -> str:
    """Say what a method gains over one that saw the source alone, by each measure and variant."""
    told = []
    for gain in _of(entry, gains):
        if gain["against"] in BASELINES and gain["protocol"] != "settings-passes":
            variant = "" if gain["variant"] == entry.name else f"{gain['variant']}: "
            part = "" if gain["setting"] == entry.setting else gain["setting"]
            where = "".join(f", {word}" for word in (part, MEASURED[gain["protocol"]]) if word)
            told.append(variant + _gain(gain) + where)
    return "; ".join(told)


def main() -> None:
    """Write all pages; those of methods that are gone go."""
    wanted = pages(measured())
    FOLDER.mkdir(exist_ok=True)
    for file in set(FOLDER.glob("*.md")) - set(wanted):
        file.unlink()
    for file, text in wanted.items():
        file.write_text(text)
    README.write_text(overview(README.read_text()))


if __name__ == "__main__":
    main()
