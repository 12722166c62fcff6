"""DAFT's beginning and end in other loops."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from adaptune.engine.plan import Plan
from adaptune.integrations.start import DaftStart, refuse_resumed
from adaptune.networks.heads import Readout
from adaptune.ops.probe import cross_validated_probe, penalties
from adaptune.types import Group

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def parts():
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*body, nn.Linear(6, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 10)
    batches = [(torch.randn(8, 3, 9, 9) + 2, torch.randint(3, (8,))) for _ in range(4)]
    return model, optimizer, schedule, batches


def test_rates_are_those_of_daft_and_schedules_follow_them(parts):
    model, optimizer, schedule, batches = parts
    DaftStart("5", lr=0.2, k=0.5).begin(model, batches, optimizer, [schedule])
    head = model[5]
    assert isinstance(head, Readout)
    fast = Plan(momentum=0.9).rate(Group(head, 0.5, curvature=head.bound))
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, fast]
    assert {id(one) for one in optimizer.param_groups[1]["params"]} == set(
        map(id, head.parameters())
    )
    optimizer.step()
    schedule.step()
    assert schedule.get_last_lr() == pytest.approx([0.18, 0.9 * fast])


def test_the_head_starts_at_zero_on_standardised_features_and_ends_plain(parts):
    model, optimizer, schedule, batches = parts
    x = torch.cat([x for x, _ in batches])
    start = DaftStart("5", head_start="zero")
    before = model[:5].eval()(x)
    report = start.begin(model, batches, optimizer)
    assert report.converted == 1
    torch.testing.assert_close(model[:5].eval()(x), before)
    assert not model(x).any()
    torch.testing.assert_close(model[5].mean, before.mean(0), atol=1e-5, rtol=1e-4)
    for images, labels in batches:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model.train()(images), labels).backward()
        optimizer.step()
    answers = model.eval()(x)
    start.end(model)
    assert type(model[5]) is nn.Linear
    assert list(model[5].state_dict()) == ["weight", "bias"]
    torch.testing.assert_close(model(x), answers, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("named", [False, True])
def test_the_head_starts_at_the_probe_of_what_the_pass_saw(parts, named):
    model, optimizer, _, batches = parts
    features = torch.cat([model[:5].eval()(x) for x, _ in batches]).detach()
    y = (features[:, 0] > features[:, 0].median()).long() * 2  # of three classes one is not seen
    given = list(zip(torch.cat([x for x, _ in batches]).split(8), y.split(8), strict=True))
    if named:
        given = [{"pixel_values": x, "labels": y} for x, y in given]
    DaftStart("5").begin(model, given, optimizer)
    probe = cross_validated_probe(features, y, classes=3, cs=penalties(19))
    raw = features @ probe.weight.T.float() + probe.bias.float()
    torch.testing.assert_close(model[5](features), raw, atol=2e-3, rtol=2e-3)
    assert {id(one) for one in model[5].parameters()} == {
        id(one) for one in optimizer.param_groups[1]["params"]
    }


def test_a_probe_without_labels_is_refused_and_a_start_at_zero_needs_none(parts):
    model, optimizer, _, batches = parts
    bare = [x for x, _ in batches]
    with pytest.raises(ValueError, match="head_start='zero'"):
        DaftStart("5").begin(model, bare, optimizer)
    DaftStart("5", head_start="zero").begin(model, bare, optimizer)


def test_a_published_head_reads_raw_features_at_its_rate(parts):
    model, optimizer, _, batches = parts
    DaftStart("5", lr=0.2, head_lr=0.4).begin(model, batches, optimizer)
    assert model[5].mean is None
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.4]


def test_what_it_cannot_do_is_refused_in_words(parts):
    model, optimizer, _, batches = parts
    with pytest.raises(ValueError, match=r"no linear layer .*'4'.* are 5"):
        DaftStart("4").begin(model, batches, optimizer)
    with pytest.raises(ValueError, match="the optimiser is AdamW"):
        DaftStart("5").begin(model, batches, torch.optim.AdamW(model.parameters()))
    with pytest.raises(ValueError, match="after 3 steps"):
        refuse_resumed(3)


def told_by(name, photos, tmp_path, monkeypatch, capsys) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, str(photos)])
    runpy.run_path(str(EXAMPLES / name))
    return capsys.readouterr().out


def test_the_trainer_of_transformers_takes_the_callback(photos, tmp_path, monkeypatch, capsys):
    pytest.importorskip("accelerate")
    out = told_by("trainer_loop.py", photos, tmp_path, monkeypatch, capsys)
    assert "9 of 9 batch norms converted on 48 examples" in out
    assert float(out.rstrip().rpartition("accuracy ")[2].rstrip("%\n")) > 80


@pytest.mark.filterwarnings("ignore")  # Lightning warns of its own calls, and of few workers
def test_the_trainer_of_lightning_takes_the_callback(photos, tmp_path, monkeypatch, capsys):
    pytest.importorskip("lightning")
    out = told_by("lightning_loop.py", photos, tmp_path, monkeypatch, capsys)
    assert "batch norms converted on 48 examples" in out
