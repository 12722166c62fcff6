"""Plug-and-play: its loss by the formula, what stays, and who answers as images get worse."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch.utils.data import TensorDataset
from toy import CLASSES, domains, images, network, tinted, trained

from adaptune.commands import main
from adaptune.data import Loading, from_datasets
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.teachers import plug_and_play
from adaptune.methods.teachers.plug_and_play import PlugAndPlay
from adaptune.networks.layers.branches import chosen
from adaptune.networks.reference import Reference
from adaptune.ops.augmix import augmix
from adaptune.tasks.classification import Classification
from adaptune.types import Batch

TASK = Classification(len(CLASSES))


def made(net, teacher, **options) -> PlugAndPlay:
    return PlugAndPlay(net, TASK, Reference(teacher, net.preprocess), **options)


def test_each_term_is_the_formula_in_float64():
    student, teacher = trained(epochs=1).double(), trained(1, epochs=1).double()
    before = deepcopy(student)
    method = made(student, teacher).double().train()
    with torch.no_grad():
        for one in (method.net.head.robust, method.net.head.combined):
            one.weight.normal_()
    rows = next(iter(domains().batches(PlugAndPlay.needs, 0))).labeled
    rows = replace(rows, x=rows.x.double())
    torch.manual_seed(4)
    found = method.objective(Batch(rows)).terms
    torch.manual_seed(4)
    look = student.preprocess
    changed = augmix(rows.x, look.mean, look.std, 3)

    def wanted(head, x):
        total = 0.0
        for image, label in zip(x, rows.y.repeat(2), strict=False):
            q = teacher.eval()(image[None])[0].softmax(0)
            p = head(before.eval().body(image[None]))[0].softmax(0)
            u = -(q * q.log()).sum() / math.log(len(CLASSES))
            total = total + (1 - u) * (q * (q / p).log()).sum() - u * p[label].log()
        return total.item() / len(x)

    robust = wanted(method.net.head.robust, changed)
    combined = wanted(method.net.head.combined, torch.cat([rows.x, changed]))
    assert found["robust"].item() == pytest.approx(robust, rel=1e-9)
    assert found["combined"].item() == pytest.approx(combined, rel=1e-9)


@pytest.fixture(scope="module")
def robust():
    """A student, and a teacher that was trained on tinted images too."""
    (x, y), (val, test) = images(96).tensors, (images(30, seed=seed) for seed in (1, 2))
    both = TensorDataset(torch.cat([x, tinted(x, 1.0)]), y.repeat(2))
    data = from_datasets(both, val, test, classes=CLASSES, loading=Loading(batch_size=16))
    teacher = network(3)
    for _ in fit(FineTune(teacher, TASK, lr=0.1), data, Plan(epochs=6, layout="contiguous")):
        pass
    return trained(lr=0.1, epochs=12), teacher


def test_what_is_frozen_stays_and_other_heads_answer_more_the_worse_images_are(robust, monkeypatch):
    monkeypatch.setattr(plug_and_play, "augmix", lambda x, *_: tinted(x, 1.0))
    student, teacher = robust
    student.to(memory_format=torch.contiguous_format)  # in which the other is trained
    method = made(deepcopy(student), teacher, lr=0.1)
    kept = {name: one.clone() for name, one in method.state_dict().items()}
    for _ in fit(method, domains(), Plan(epochs=8, layout="contiguous")):
        pass
    moves = {name for name, one in method.state_dict().items() if not torch.equal(one, kept[name])}
    assert {name.split(".")[2] for name in moves if "head" in name} == {"robust", "combined"}
    assert all(".tuned." in name for name in moves if "head" not in name)
    assert not any("running" in name for name in moves)
    x, y = images(150, seed=5).tensors
    shares, right = [], []
    with torch.no_grad():
        for tint in (0.0, 0.5, 1.0):
            changed = tinted(x, tint)
            each = method.eval().net.head.each(method.net.body(changed))
            assert torch.equal(each[:, 0], student.eval()(changed))
            shares.append((chosen(each) == 0).float().mean().item())
            ways = (method(changed), student(changed))
            right.append([100 * (one.argmax(1) == y).float().mean().item() for one in ways])
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1] + 0.2
    assert right[0][0] > 90
    assert right[-1][0] > right[-1][1] + 15


def test_batch_norms_normalise_by_running_statistics_and_those_of_the_copy_learn():
    method = made(trained(), trained(1)).train()
    assert not any(
        one.training for name, one in method.named_modules() if name.endswith(".4.tuned")
    )
    moving = [name for name, one in method.named_parameters() if one.requires_grad]
    assert {"net.body.body.4.tuned.weight", "net.body.body.4.tuned.bias"} <= set(moving)
    assert not any("kept" in name or "body.body.1." in name for name in moving)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="severity is from 1 to 10: got 0"):
        made(trained(), trained(1), severity=0)
    with pytest.raises(ValueError, match="AugMix changes images"):
        augmix(torch.zeros(2, 5), [0.0] * 3, [1.0] * 3, 3)


def test_augmix_changes_each_image_by_its_own_draw():
    x = torch.rand(1, 3, 8, 8).repeat(4, 1, 1, 1)
    torch.manual_seed(0)
    first = augmix(x, [0.5] * 3, [0.5] * 3, 5)
    torch.manual_seed(0)
    assert torch.equal(first, augmix(x, [0.5] * 3, [0.5] * 3, 5))
    assert not torch.equal(first[0], first[1])


def test_a_run_is_judged_evaluated_and_exported_by_what_it_left(
    finished, photos, sketches, tiny, tmp_path, capsys
):
    words = ["fit", str(photos), *tiny, "--method=plug-and-play", "--from", str(finished)]
    words += ["--teacher", str(finished), f"--ood=sketch={sketches}", "--epochs=1"]
    out = tmp_path / "out"
    assert main([*words, f"--out={out}"]) == 0
    moved = json.loads((out / "results.json").read_text())["distortions"]
    assert moved["sketch"]["cosine"] == pytest.approx(1)  # the clean branch's features
    assert main(["evaluate", str(out), "--data", f"sketch={sketches}"]) == 0
    assert main(["export", str(out), f"--out={tmp_path / 'file'}", "--format=torchscript"]) == 0
