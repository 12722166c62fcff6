"""SAMDA: two encoders under one head, losses, three steps, a few images of the target."""

from __future__ import annotations

import json

import pytest
import torch
from dense_start import source_trained
from places import DensePlaces, dense_network
from scenes import draw_scenes
from toy import CLASSES, tinted

from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.few_shot.samda import SAMDA
from adaptune.networks.network import Network
from adaptune.ops.dice import dice_losses
from adaptune.tasks.segmentation import Segmentation
from adaptune.types import Batch, Labeled, Needs

TASK = Segmentation(len(CLASSES), 2)
TINY = {"generic": "test_efficientnet", "generic_weights": "none", "generic_size": 32}


class AFewLabelled(DensePlaces):
    """The toy whose second labelled domain is a few images of the target."""

    def __init__(self, count: int = 4) -> None:
        super().__init__(sources=2, tint=1.0)
        second = (self.domain == 1).nonzero().flatten()
        self.x[second] = tinted(self.x[second] - 0.4, 1.0)
        few = second[:count].repeat(len(second) // count)
        self.x[second], self.y[second] = self.x[few], self.y[few]


def batch(kind: torch.dtype = torch.float32, progress: float = 0.0) -> Batch:
    found = next(AFewLabelled().batches(Needs(domains=2), 0)).labeled
    return Batch(Labeled(found.x.to(kind), found.domain, found.index, y=found.y), progress=progress)


def samda(**options: object) -> SAMDA:
    torch.manual_seed(3)
    return SAMDA(source_trained(), TASK, **TINY | options)


def test_without_weight_on_its_features_the_generic_encoder_changes_nothing():
    rows, method = batch(), samda().eval()
    own = source_trained().eval()(rows.labeled.x)
    torch.testing.assert_close(method.net(rows.labeled.x), own)
    with torch.no_grad():
        method.net.head.weight[:, 12:] = 1.0
    assert not torch.allclose(method.net(rows.labeled.x), own)


def test_a_generic_encoder_sees_what_it_was_trained_on():
    """Resized, and scaled by its own mean and deviation; real weights of a package."""
    net = source_trained()
    method = SAMDA(net, TASK, units=8).eval()
    x = torch.rand(2, 3, 8, 8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (net.preprocess.mean, net.preprocess.std))
    shown = torch.nn.functional.interpolate((x - mean) / std, (224, 224), mode="bilinear")
    raw = shown * std + mean
    from adaptune.networks.backbones import open_backbone

    own = open_backbone("efficientnet-lite0", ["-"]).eval()
    wanted = own.body.forward_features((raw - 127 / 255) / (128 / 255))
    found = method.both.generic((x - mean) / std)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
    assert found.shape == (2, 1280, 7, 7)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_encoders_of_tokens_and_of_maps_give_maps(name):
    method = samda(generic=name, generic_size=160)
    found = method.both.generic(torch.randn(1, 3, 8, 8))
    assert found.shape[1] == method.both.width
    assert found.shape[2] == found.shape[3] > 1


def test_the_terms_are_those_of_their_formulas_in_float64():
    method = samda().double().eval()
    rows = batch(torch.float64, progress=0.5)
    terms = method.objective(rows).terms
    own = rows.labeled.domain == 1
    x, y = rows.labeled.x[own], rows.labeled.y[own]
    p, ce, dice = method.net(x).softmax(1), [], []
    for i in range(len(x)):
        asked = y[i] < 3
        ce.append(-p[i][:, asked].gather(0, y[i][asked][None]).log().mean())
        each = []
        for kind in range(3):
            chance, truth = p[i, kind][asked], (y[i][asked] == kind).double()
            each.append((2 * (chance * truth).sum() + 1e-5) / (chance.sum() + truth.sum() + 1e-5))
        dice.append(1 - sum(each) / 3)
    assert terms["task"].item() == pytest.approx(torch.stack(ce).mean().item())
    assert terms["dice"].item() == pytest.approx(torch.stack(dice).mean().item())


def test_dice_ignores_places_without_a_class_and_is_brought_to_the_masks_grid():
    y = torch.tensor([[[0, 0, 1, 255], [0, 0, 1, 255]]])
    sure = torch.where(torch.tensor([0, 0, 1, 1]) == torch.arange(2)[:, None], 99.0, -99.0)
    sure = sure[None, :, None].expand(1, 2, 2, 4)
    assert dice_losses(sure, y).item() == pytest.approx(0, abs=1e-4)
    assert dice_losses(torch.zeros(1, 2, 1, 2), y).shape == (1,)


@pytest.mark.parametrize(
    ("progress", "moves"), [(0.0, "all"), (0.4, "adaptor and head"), (0.9, "all")]
)
def test_the_expert_learns_in_the_first_and_the_last_third(progress, moves):
    method, asked = samda(), []

    def descend(evaluate, *modules):
        asked.extend(modules)
        return evaluate()

    method.step(batch(progress=progress), descend)
    wanted = [] if moves == "all" else [method.both.adaptor, method.net.head]
    assert asked == wanted


def test_batch_norms_follow_the_domain_whose_turn_it_is_and_the_encoder_has_none():
    for progress, domain in ((0.0, 0), (0.5, 1)):
        method, rows = samda(), batch(progress=progress)
        method.train()
        norm = method.both.body[1]
        before = norm.running_mean.clone()
        kept = {key: value.clone() for key, value in method.both.encoder.state_dict().items()}
        method.objective(rows)
        with torch.no_grad():
            mine = rows.labeled.x[rows.labeled.domain == domain]
            seen = method.both.body[0](mine).mean((0, 2, 3))
        torch.testing.assert_close(norm.running_mean, 0.9 * before + 0.1 * seen)
        own = method.both.encoder
        assert all(torch.equal(kept[key], value) for key, value in own.state_dict().items())
        assert not [m for m in own.modules() if isinstance(m, torch.nn.BatchNorm2d)]


def test_a_saved_network_holds_its_encoder(tmp_path):
    method = SAMDA(
        Network.from_timm_features("test_resnet", CLASSES, stride=8, size=64), TASK, **TINY
    )
    with torch.no_grad():
        method.net.head.weight.normal_()
    method.net.save(tmp_path)
    x = torch.randn(2, 3, 64, 64)
    again = Network.load(tmp_path).eval()
    torch.testing.assert_close(again(x), method.net.eval()(x))
    assert again.width == len(method.net.head.weight[0])


def test_a_part_of_a_batch_without_the_target_is_refused():
    rows = batch(progress=0.5).labeled
    source = rows.domain == 0
    only = Labeled(rows.x[source], rows.domain[source], rows.index[source], y=rows.y[source])
    with pytest.raises(ValueError, match="--accumulate 1"):
        samda().objective(Batch(only, progress=0.5))


def test_a_few_images_of_the_target_are_learnt():
    data, method = AFewLabelled(4), SAMDA(dense_network(), TASK, lr=0.03, **TINY)
    before = data.accuracy(source_trained())
    frozen = {key: value.clone() for key, value in method.both.encoder.state_dict().items()}
    for _ in fit(method, data, Plan(epochs=6, seed=0, layout="contiguous")):
        pass
    assert data.accuracy(method) > before + 15
    for key, value in method.both.encoder.state_dict().items():
        assert torch.equal(value, frozen[key])


@pytest.mark.slow
def test_a_run_from_files_takes_the_last_source_as_the_few_of_the_target(tmp_path, told):
    day = draw_scenes(tmp_path / "day", 14)
    few = draw_scenes(tmp_path / "few", 2, seed=1, shift=60, name="f")
    night = draw_scenes(tmp_path / "night", 4, seed=2, shift=60, name="n")
    words = ["--task=segmentation", "--backbone=test_resnet", "--weights=none", "--image-size=64"]
    words += ["--batch-size=4", "--epochs=3", "--layout=contiguous", f"--ood=night={night}"]
    words += [f"--source=few={few}", "--method=samda", f"--out={tmp_path / 'run'}"]
    options = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    code, _, error = told("fit", day, *words, *options)
    assert code == 0, error
    assert "domains to train on, with their training images: day (12), few (2)" in error
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert found["ood"].keys() == {"night"}
    again = Network.load(tmp_path / "run" / "best")
    assert again.width == again.head.weight.shape[1]
