"""KTF: its terms by the formula, what is frozen, and what noise does to a few labels."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import nn
from toy import CLASSES, TwoDomains, network

from adaptune.commands import main
from adaptune.engine.descent import Descent
from adaptune.engine.plan import Plan
from adaptune.methods.semi_supervised.ktf import KTF, class_noise
from adaptune.networks.network import Network
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Labeled, Unlabeled

TASK = Classification(len(CLASSES))
SMALL = {"units": 20, "each": 4}
KINDS, WIDTH = 5, 16


def batch():
    return next(iter(TwoDomains().batches(KTF.needs, 0)))


def test_each_term_is_the_formula_in_float64():
    method = KTF(network(), TASK, mu=0.7, **SMALL).double().eval()
    rows = batch()
    for side in (rows.labeled, rows.unlabeled):
        object.__setattr__(side, "x", side.x.double())
    with torch.no_grad():
        for one in method.learnt:
            one.weight.normal_()
    terms = method.objective(rows).terms
    first, last = method.learnt
    points = []
    for x in (rows.labeled.x, rows.unlabeled.x):
        f = method.space.body(x)
        z = (f / f.norm(dim=1, keepdim=True)) @ first.weight.T + first.bias
        z = torch.where(z > 0, z, 0.2 * z)
        points.append(z / z.norm(dim=1, keepdim=True))
    pl, pu = points
    ps, ys, yl = method.noise, torch.arange(12) // 4, rows.labeled.y
    assert terms["task"].item() == pytest.approx(F.cross_entropy(last(pl), yl).item())
    assert terms["source"].item() == pytest.approx(0.1 * F.cross_entropy(last(ps), ys).item())
    said = last(pu).softmax(1)
    total = (ps.mean(0) - torch.cat([pl, pu]).mean(0)).square().sum()
    for k in range(3):
        own = pl[yl == k].sum(0) + (said[:, k, None] * pu).sum(0)
        theirs = own / ((yl == k).sum() + said[:, k].sum())
        total = total + (ps[ys == k].mean(0) - theirs).square().sum()
    assert terms["distance"].item() == pytest.approx(0.7 * total.item() / 4)
    squares = (first.weight**2).sum() + (last.weight**2).sum()
    assert terms["decay"].item() == pytest.approx(0.05 / 2 * squares.item())


def test_projector_and_head_alone_move_and_batch_norms_stay():
    method = KTF(network(), TASK, **SMALL)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    descend = Descent(method, Plan(), Fabric(accelerator="cpu", devices=1))
    method.train().step(batch(), descend)
    moved = {
        key for key, value in method.state_dict().items() if not torch.equal(value, before[key])
    }
    ends = ("projector.weight", "projector.bias", "head.weight", "head.bias")
    assert moved
    assert all(key.endswith(ends) for key in moved)


def test_noise_has_one_mean_a_class_and_length_one():
    torch.manual_seed(0)
    noise = class_noise(6, 200, 50)
    assert torch.allclose(noise.norm(dim=1), torch.ones(1200))
    means = F.normalize(noise.view(6, 200, 50).mean(1), dim=1)
    apart = (means @ means.T - torch.eye(6)).abs().max()
    assert apart < 0.6
    assert (noise.view(6, 200, 50) * means[:, None]).sum(2).mean() > 0.6


def test_what_is_saved_opens_without_the_method(tmp_path):
    net = Network.from_timm("test_resnet", CLASSES)
    method = KTF(net, TASK, **SMALL).eval()
    x = torch.randn(2, 3, 32, 32)
    net.save(tmp_path)
    again = Network.load(tmp_path).eval()
    assert again.width == 20
    assert torch.allclose(again(x), method(x))


def clusters(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Give points around five centres, the first five of which are one of each."""
    random = torch.Generator().manual_seed(seed)
    y = torch.arange(200 + KINDS) % KINDS
    centres = torch.randn(KINDS, WIDTH, generator=random)
    return centres[y] + torch.randn(len(y), WIDTH, generator=random), y


def learnt(seed: int, *, turned: bool = False, **options: float) -> float:
    """Give the accuracy on points without labels, of one labelled a class."""
    x, y = clusters(seed)
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Identity(), nn.Linear(WIDTH, KINDS))
    net = Network.from_module(module, head="1", classes=list("abcde"))
    method = KTF(net, Classification(KINDS), units=64, each=20, **options)
    if turned:
        method.noise.copy_(method.noise.view(KINDS, 20, 64).flip(0).flatten(0, 1))
    row = torch.arange(len(y))
    few = Labeled(x[:KINDS], 0 * row[:KINDS], row[:KINDS], y=y[:KINDS])
    rows = Batch(few, Unlabeled(x[KINDS:], 0 * row[KINDS:] + 1, row[KINDS:]))
    descend = Descent(method, Plan(), Fabric(accelerator="cpu", devices=1))
    for _ in range(40):
        method.step(rows, descend)
    return 100 * float((method.eval()(x[KINDS:]).argmax(1) == y[KINDS:]).double().mean())


def test_noise_costs_nothing_beside_a_few_labels_and_its_labels_do_not_matter():
    def mean(**options) -> float:
        return sum(learnt(seed, **options) for seed in range(3)) / 3

    noise, alone = mean(), mean(mu=0.0, beta=0.0)
    assert alone > 60
    assert noise > alone - 1
    assert abs(mean(turned=True) - noise) < 3


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="beta, mu and decay are numbers from 0 up"):
        KTF(network(), TASK, mu=-1.0)
    with pytest.raises(ValueError, match="a common space has 1 to"):
        KTF(network(), TASK, units=0)


def test_a_run_whose_features_are_of_another_space_tells_of_no_distortion(
    photos, sketches, tiny, tmp_path
):
    out = tmp_path / "all"
    words = ["compare", str(photos), *tiny, "--methods=ktf", "--seeds=1", "--epochs=1"]
    words += ["--target", str(sketches), "--set", "ktf.each=2", "--out", str(out)]
    assert main(words) == 0
    told = json.loads((out / "runs" / "ktf-0" / "results.json").read_text())
    assert not told.get("distortions")
    assert "ktf" in (out / "report.html").read_text()
