"""Tuning several methods: one whose trials all diverge does not end the others."""

from adaptune.engine.plan import Plan
from adaptune.report.terminal import Terminal
from adaptune.results.trial import Trial
from adaptune.runs.setup import Setup
from adaptune.studies import comparison
from adaptune.studies.comparison import plan_tuning, tune


class Unseen:
    """Data that nobody looks at."""

    def tracked(self, track):
        return self

    def without_tests(self):
        return self


def test_a_method_of_which_no_trial_ends_is_run_as_it_comes(tmp_path, monkeypatch, capsys):
    states = {"ft": "pruned", "daft": "complete"}

    def trials(search, *, folder, terminal):
        state = states[search.method]
        return [Trial(at, {"lr": rate}, state, 9.0 * at) for at, rate in enumerate((0.03, 0.5))]

    monkeypatch.setattr(comparison, "search", trials)
    variants = {name: (name, {}, Plan()) for name in states}
    plans = plan_tuning(variants, {"photo": Unseen()}, Setup(), budget=2, folder=tmp_path)
    with Terminal() as terminal:
        chosen = tune(plans, jobs=1, terminal=terminal)["photo"]
    assert chosen["ft"].values == {"lr": 0.03}
    assert chosen["daft"].values == {"lr": 0.5}
    assert "no trial of ft on photo came to an end" in capsys.readouterr().err
