"""Damaged tables of texts, lines of JSON and tokenizers: never a crash, never a wrong label."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from damage import damaged
from texts import rows, tokenizer

from adaptune.data.inputs import input_of
from adaptune.data.readers.texts import TextSource
from adaptune.networks.inputs import TextInput

pytestmark = [pytest.mark.alone, pytest.mark.no_cover]

MANY = 5_000
"""Damaged files of a kind by hand: ``-m slow``."""

ROWS = [(f'{text}, "so it goes" é', kind) for text, kind in rows(12, "movie")]
EXPECTED = dict(ROWS)


def often(few: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("count", [few, pytest.param(MANY, marks=pytest.mark.slow)])


def comma_separated() -> bytes:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *ROWS])
    return out.getvalue().encode()


def lines_of_json() -> bytes:
    return "".join(json.dumps({"text": t, "label": k}) + "\n" for t, k in ROWS).encode()


KINDS = {"a.csv": comma_separated, "a.jsonl": lines_of_json}


def stands_in(raw: str, text: str, label: str) -> bool:
    """Tell whether the damaged file itself says that a text has a label."""
    quoted = text.replace('"', '""')
    as_json = json.dumps(text)[1:-1]
    said = (f'"{quoted}","{label}', f'"{quoted}",{label}', f'{as_json}", "label": "{label}')
    return any(one in raw for one in said)


def read(file: Path) -> str:
    """Name the outcome of reading a table, whose texts have the labels that they had."""
    try:
        found = TextSource()(file, "own")
    except ValueError as error:
        return "refused" if str(error).startswith(str(file)) else str(error)
    ids = input_of(TextInput(16))
    for one in found[0].examples:
        known = EXPECTED.get(one.text)
        other = known is not None and one.label in {*EXPECTED.values()} - {known}
        if other:  # then damage put the label of another row beside it
            assert stands_in(file.read_bytes().decode("utf-8", "replace"), one.text, one.label)
        assert ids.fixed(one).min() >= 0
    return "read"


@often(250)
@pytest.mark.parametrize("name", KINDS)
def test_damaged_tables_of_texts_are_read_or_refused_in_a_sentence(tmp_path, name, count):
    whole, file = KINDS[name](), tmp_path / name
    file.write_bytes(whole)
    assert read(file) == "read"
    outcomes: Counter[str] = Counter()
    for number in range(count):
        file.write_bytes(damaged(whole, whole, Random(f"{name} {number}")))
        outcomes[read(file)] += 1
    assert set(outcomes) == {"read", "refused"}


@often(250)
def test_damaged_tokenizers_make_ids_or_are_refused_in_a_sentence(count):
    whole = tokenizer().encode()
    outcomes: Counter[str] = Counter()
    for number in range(count):
        content = damaged(whole, whole, Random(f"tokenizer {number}")).decode(errors="replace")
        try:
            reader = input_of(TextInput(12, content, 64))
            ids = [reader.given(text) for text, _ in ROWS[:2]]
        except (ValueError, OSError) as error:
            outcomes["refused" if str(error).startswith("its tokenizer ") else str(error)] += 1
            continue
        assert all(len(one) == 12 and 0 <= int(one.min()) <= int(one.max()) < 64 for one in ids)
        outcomes["read"] += 1
    assert set(outcomes) == {"read", "refused"}
