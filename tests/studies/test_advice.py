"""Every rule of the advice is reached, names methods that there are, and can be run."""

import pytest

from adaptune.commands import main
from adaptune.commands.advice import without
from adaptune.commands.parser import Parser
from adaptune.methods import METHODS
from adaptune.studies.advice import FEW, RULES, Facts, advise
from benchmarks.advice import written

CASES = [
    (Facts(), ("ft", "lp-ft", "daft")),
    (Facts(norms=False), ("lp-ft", "daft")),
    (Facts(images=FEW - 1), ("lp", "lp-ft", "daft")),
    (Facts(domains=2), ("ft", "drm", "ibn")),
    (Facts(domains=2, norms=False), ("ft", "drm")),
    (Facts(target=True), ("adabn", "shot")),
    (Facts(domains=0, start=True, target=True), ("adabn", "shot")),
    (Facts(domains=0, start=True, target=True, norms=False), ("shot", "sfda2")),
    (Facts(domains=0, start=True, target=True, open_set=True), ("glc",)),
    (Facts(domains=0, start=True, target=True, asks=True), ("lftl", "shot")),
    (Facts(domains=0, start=True), ("alpha-bn", "tent")),
    (Facts(domains=0, start=True, norms=False), ()),
]


@pytest.mark.parametrize(("facts", "methods"), CASES)
def test_facts_decide_what_is_named(facts, methods):
    assert advise(facts).methods == methods


def test_every_rule_is_reached():
    assert {advise(facts).when for facts, _ in CASES} == {rule.when for rule in RULES}


@pytest.mark.parametrize("facts", [facts for facts, _ in CASES], ids=str)
def test_what_is_named_exists_and_can_be_used_on_what_there_is(facts):
    for name in advise(facts).methods:
        needs = METHODS[name].needs
        assert not needs.labeled or facts.domains
        assert not needs.unlabeled or facts.target or METHODS[name].setting == "test-time"
        assert needs.domains <= max(1, facts.domains)
        if not facts.norms:
            assert name not in ("adabn", "alpha-bn", "tent", "ibn")


class Parsed(Exception):
    """Says that words were understood."""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.when)
def test_its_commands_are_understood_by_the_parsers_that_they_are_for(rule, monkeypatch):
    parse = Parser.parse_args

    def parsed(self, *args, **settings):
        raise Parsed(parse(self, *args, **settings))

    monkeypatch.setattr(Parser, "parse_args", parsed)
    for line in written(rule):
        command, *words = line.split()[1:]
        with pytest.raises(Parsed) as found:
            main(["--debug", command, *words])
        (given,) = found.value.args
        if command == "compare":
            assert tuple(given.methods.split(",")) == rule.methods
            assert given.out == "comparison"
        if command == "stream":
            assert given.method in rule.methods


def test_methods_that_go_on_have_a_run_trained_first_unless_there_is_one():
    first = {rule.words: written(rule) for rule in RULES}
    assert [line.split()[1] for line in first["DATA --target DIR"]] == ["fit", "compare"]
    assert "--from=run" in first["DATA --target DIR"][1]
    assert "DATA" not in first["DATA --target DIR"][1], "it would choose the epoch"
    assert [line.split()[1] for line in first["--from RUN --target DIR"]] == ["compare"]


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("photos --target DIR --seeds 3", "photos"),
        ("--target DIR photos", "photos"),
        ("--target=DIR photos --advise --epochs 2", "photos --epochs 2"),
        ("photos --ood a=1 b=2 --json", "photos"),
        ("photos --ood=a=1 b=2 --classes x y", "photos --classes x y"),
    ],
)
def test_options_are_left_out_with_their_values(words, left):
    options, flags = {"--target", "--seeds", "--ood"}, {"--advise", "--json"}
    assert without(words.split(), options, flags) == left.split()
