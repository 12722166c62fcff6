"""Answers that were written down: a file that answers, and one that grows beside a writer."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptune.runtime.files import write_atomically
from adaptune.writers.writer import NoAnswerError, Writer


class RecordedWriter:
    """Answers from a file of JSON lines, ``{"prompt": ..., "answer": ...}``, and from nothing else.

    Of several lines of one prompt the first answers it first, the second when it is asked again.

    Raises:
        ValueError: If the file is missing or damaged.
    """

    def __init__(self, file: Path) -> None:
        if not file.is_file():
            raise ValueError(
                f"no record at {file}: give recorded:FILE, as --record writes one beside a writer"
            )
        self.file, self.known = file, answers_in(file)

    def __call__(self, prompt: str, times: int) -> str:
        """Answer a prompt.

        Raises:
            NoAnswerError: If the file does not know it, or not so often.
        """
        own = self.known.get(prompt, [])
        if times >= len(own):
            raise NoAnswerError(
                f"{self.file} has {len(own)} answers to a prompt that ends in {prompt[-60:]!r} and "
                f"is asked for number {times + 1}: record it with the model"
            )
        return own[times]


class Numbered:
    """Asks a writer as it is, and counts how often each prompt was asked.

    >>> ask = Numbered(lambda prompt, times: f"{prompt}{times}")
    >>> ask("a"), ask("a")
    ('a0', 'a1')
    """

    def __init__(self, writer: Writer) -> None:
        self.writer, self.asked = writer, 0
        self.times: Counter[str] = Counter()

    def __call__(self, prompt: str) -> str:
        """Answer a prompt, the first time, the second time and so on.

        Raises:
            NoAnswerError: As the writer.
        """
        answer = self.writer(prompt, self.times[prompt])
        self.times[prompt] += 1
        return answer


class Recorder:
    """Asks a writer what a file does not know yet, and adds each answer before the next is asked.

    So a command that is run again asks nothing twice, wherever it was stopped. ``by`` says who
    writes and how; a file of another writer is refused.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     for _ in range(2):
    ...         record = Recorder(lambda prompt, _: prompt.upper(), Path(folder) / "a.jsonl", {})
    ...         print(record("a"), record("a"), record.asked)
    A A 2
    A A 0

    Raises:
        ValueError: If the file is damaged, or of another writer.
    """

    def __init__(self, writer: Writer, file: Path, by: Mapping[str, Any]) -> None:
        self.writer, self.file, self.asked = writer, file, 0
        self.by = json.dumps(by, sort_keys=True)
        lines = _whole_lines(file)
        first = next(iter(_objects(lines[:1])), {})
        before = json.dumps(first.get("by", {}), sort_keys=True)
        if lines and before != self.by:
            raise ValueError(
                f"{file} holds answers of another writer, {before}, and this is {self.by}: give "
                "another --record, or the settings that it was begun with"
            )
        self.known = answers_in(file)
        self.times: Counter[str] = Counter()
        if file.is_file():
            write_atomically(
                file, b"".join(line + b"\n" for line in lines)
            )  # without half a line at the end

    def __call__(self, prompt: str) -> str:
        """Answer a prompt, the first time, the second time and so on.

        Raises:
            NoAnswerError: As the writer; then nothing is written down.
        """
        times, own = self.times[prompt], self.known[prompt]
        if times == len(own):
            answer = self.writer(prompt, times)
            self._keep(prompt, answer)
            own.append(answer)
            self.asked += 1
        self.times[prompt] += 1
        return own[times]

    def _keep(self, prompt: str, answer: str) -> None:
        line = {"prompt": prompt, "answer": answer, "by": json.loads(self.by)}
        with self.file.open("ab") as opened:
            opened.write(json.dumps(line).encode() + b"\n")
            opened.flush()
            os.fsync(opened.fileno())


def answers_in(file: Path) -> defaultdict[str, list[str]]:
    """Read a record: the answers to each prompt, in order; none where there is no file.

    Raises:
        ValueError: If a line is no such object.
    """
    known: defaultdict[str, list[str]] = defaultdict(list)
    for number, line in enumerate(_objects(_whole_lines(file)), 1):
        prompt, answer = line.get("prompt"), line.get("answer")
        if not isinstance(prompt, str) or not isinstance(answer, str):
            raise ValueError(
                f'{file}, line {number} is no {{"prompt": "...", "answer": "..."}}: mend the line '
                "or take it out"
            )
        known[prompt].append(answer)
    return known


def _whole_lines(file: Path) -> list[bytes]:
    """Give the lines of a file, without one at the end that was not written to its end."""
    *lines, last = file.read_bytes().split(b"\n") if file.is_file() else [b""]
    return [*lines, last] if last and all(_objects([last])) else lines


def _objects(lines: list[bytes]) -> list[dict[str, Any]]:
    """Parse lines that are not empty; what is no object is an empty one."""
    found = []
    for line in lines:
        try:
            said = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            said = {}
        if said is not None:
            found.append(said if isinstance(said, dict) else {})
    return found
