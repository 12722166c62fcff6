from __future__ import annotations

import runpy
import sys
from pathlib import Path

from conftest import draw_domain

EXAMPLE = Path(__file__).parents[1] / "examples" / "own_loop.py"


def test_the_example_of_a_loop_of_ones_own_runs_and_is_short(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [EXAMPLE.name, str(draw_domain(tmp_path / "photos", each=30))])
    runpy.run_path(str(EXAMPLE))
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("49 of 49 batch norms converted on 64 examples")
    assert last.startswith("epoch 5: loss ")
    assert (tmp_path / "own_loop.pt").stat().st_size > 1e7
    assert len(EXAMPLE.read_text().splitlines()) < 60
