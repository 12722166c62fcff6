"""Streams in cycles and the long stream: what they tell is what was answered."""

from __future__ import annotations

import tomllib
from statistics import mean

import pytest
import torch
from words import meets_words

from adaptune.commands.choices import AT_TEST_TIME
from adaptune.data.readers.folder import read_folder
from adaptune.methods import METHODS
from adaptune.report.terminal import Terminal
from benchmarks import costs, long_stream
from benchmarks.settings import ROOT, Bench, run

PROTOCOL = """
about = "two tiny domains"
seeds = [0]
classes = ["dots", "rings", "stripes"]
pairs = [["photo", "sketch"], ["sketch", "photo"]]
setting = {backbone = "test_efficientnet", weights = "none", image_size = 32, select = "last"}
plan = {epochs = 1}
loading = {batch_size = 8}

[parts.supervised]
against = "supervised/source-only"
variants.source-only = {method = "ft"}

[streams.cycle]
start = "supervised/source-only"
families = ["contrast"]
severity = 3
vendors = ["photo", "sketch"]
cycles = 2
batches = [8]
against = ["source-only"]
variants.source-only = {method = "alpha-bn", alpha = 1.0}
variants.tent = {method = "tent", lr = 0.01}
"""


@pytest.fixture(scope="module")
def found(two_domains, tmp_path_factory):
    vendors = {name: read_folder(two_domains / name, name) for name in ("photo", "sketch")}
    bench = Bench(tomllib.loads(PROTOCOL), vendors, tmp_path_factory.mktemp("work"))
    with Terminal(quiet=True) as terminal:
        return run(bench, ["supervised"], 1, terminal, streamed=True)


def test_a_cycle_is_scored_by_domain_and_what_stays_forgets_nothing(found):
    still, tent = found["streams"]["cycle"][:2]
    assert [one["stream"] for one in found["streams"]["cycle"]] == ["photo"] * 2 + ["sketch"] * 2
    for one in (still, tent):
        (course,) = one["courses"]
        assert list(course["domains"]) == ["contrast", "sketch"]
        for at, reached in enumerate(course["cycles"]):
            assert reached == pytest.approx(mean(v[at] for v in course["domains"].values()))
        assert one["values"] == [pytest.approx(mean(course["cycles"]))]
    assert still["courses"][0]["forgotten"] == 0
    assert still["courses"][0]["collapsed"] == 0
    told = costs.courses(found)
    assert "| `tent` | cycle, 8 |" in told
    assert {one["variant"] for one in found["gains"] if one["setting"] == "test-time"} == {"tent"}


def test_every_method_that_streams_alone_is_in_both():
    streams = tomllib.loads((ROOT / "protocols" / "streams.toml").read_text())["streams"]["cycle"]
    wanted = {name for name in AT_TEST_TIME if not meets_words(METHODS[name])}
    assert {one["method"] for one in streams["variants"].values()} == wanted
    assert {one["method"] for one in long_stream.VARIANTS.values()} == wanted


def test_a_long_stream_tells_time_memory_and_a_collapse():
    net = long_stream.trained().eval()
    torch.manual_seed(0)
    sound = long_stream.lasted(net, {"method": "alpha-bn"}, batches=60)
    broken = long_stream.lasted(net, {"method": "tent", "lr": 50.0}, batches=60)
    assert sound["collapse"] is None
    assert sound["collapsed"] == 0
    assert min(sound["reached"]) > 50
    assert broken["collapsed"] > 0
    rows = [{"method": name, **one} for name, one in (("sound", sound), ("broken", broken))]
    assert costs.lasting({"rows": rows}).count("\n") == 3
