"""The demo trains on both of its domains in turn and tests on all of them."""

import pytest
from conftest import draw_domain

from adaptune.commands import compare, demo, main
from adaptune.data.rotation import domain_folders


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Run the demo on tiny drawings as far as the comparison; give the words that it asks for."""

    def build(names):
        def built(folder, *_, **__):
            return {name: draw_domain(folder / name, each=4) for name in names}

        return built

    monkeypatch.setattr(demo, "build_demo", build(["twemoji", "openmoji"]))
    monkeypatch.setattr(demo, "build_tests", build(["openmoji-lines", "twemoji-worn"]))
    words = []
    monkeypatch.setattr(compare, "compare", lambda given: (words.append(given) or {}, []))

    def run(*more):
        assert main(["demo", f"--out={tmp_path / 'out'}", *more]) == 0
        return words.pop()

    return run


def test_both_domains_are_trained_on_and_all_that_was_drawn_is_tested(asked, tmp_path):
    given = asked()
    assert given.domains == "twemoji,openmoji"
    assert given.methods == "ft,lp-ft,daft"
    assert list(domain_folders(tmp_path / "out" / "data")) == [
        "openmoji",
        "openmoji-lines",
        "twemoji",
        "twemoji-worn",
    ]
    assert given.data == str(tmp_path / "out" / "data")
    assert given.out == str(tmp_path / "out" / "comparison")


def test_seeds_epochs_and_jobs_reach_the_comparison(asked):
    given = asked("--seeds=3", "--epochs=2", "--jobs=4")
    assert (given.seeds, given.epochs, given.jobs) == (3, 2, 4)
