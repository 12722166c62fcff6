"""What the terminal says of open sets."""

from __future__ import annotations

import pytest

from adaptune.report.terminal import Terminal


@pytest.mark.parametrize(
    ("known", "unknown", "said"),
    [
        (0.0, 100.0, "higher --unknown-above"),
        (40.0, 0.0, "lower --unknown-above"),
        (40.0, 60.0, ""),
    ],
)
def test_a_threshold_that_tells_nothing_apart_comes_with_advice(capsys, known, unknown, said):
    with Terminal() as terminal:
        terminal.open_sets({"glc": {"wild": {"known": known, "unknown": unknown, "h": 0.0}}})
    told = " ".join(capsys.readouterr().err.split())
    assert "H-score" in told
    assert said in told
    assert ("note: glc, wild" in told) == bool(said)
