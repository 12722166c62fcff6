"""Networks of timm and torchvision of every kind, at any size, seen as their weights want."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from torchvision.transforms import v2
from two import AFRESH

from adaptune.commands import main
from adaptune.data.inputs.image import transform_for
from adaptune.networks.architectures import torchvision_preprocess
from adaptune.networks.backbones import open_backbone, resized
from adaptune.networks.network import Network
from adaptune.tasks.classification import Classification
from benchmarks.backbones import BEGIN, END, HEAD, PAGE, Row, names, opened, plainly, table, tried

CLASSES = ("cat", "dog", "hen")

KINDS = {
    "deit_tiny_distilled_patch16_224": "two heads whose mean counts",
    "levit_128s": "two heads behind batch norms",
    "crossvit_tiny_240": "two heads that read different features",
    "efficientvim_m1": "heads of every stage, weighed",
    "volo_d1_224": "an auxiliary head of every patch",
    "dla46x_c": "a convolution as head",
    "resnetv2_18": "a convolution as head, behind a pooling",
    "test_nfnet": "a linear head in a module of its own",
    "vit_tiny_patch16_dinov3_qkvb": "a body without a head by default",
    "test_vit": "images of one size",
    "torchvision/googlenet": "auxiliary heads in train mode",
    "torchvision/mnasnet0_5": "a module that asks for its version",
    "torchvision/mobilenet_v3_small": "a head behind a hidden layer",
}


@pytest.mark.parametrize("name", KINDS, ids=list(KINDS))
def test_a_network_of_every_kind_trains_converts_and_opens_again_here_and_in_its_library(name):
    row = tried(name, "")
    assert (row.works, row.said) == (True, "")


@pytest.mark.parametrize("name", ["torchvision/squeezenet1_1"])
def test_a_rectifier_behind_the_head_is_left_out_and_said_to_be(name):
    assert "answers otherwise" in tried(name, "").said


def test_auxiliary_heads_are_silent_in_the_saved_network():
    net = Network.from_timm("volo_d1_224", CLASSES)
    state = net.plain_state()
    assert not state["aux_head.weight"].any()
    assert torch.equal(state["head.weight"], net.head.weight)


def test_two_heads_are_saved_as_one_twice():
    state = Network.from_timm("levit_128s", CLASSES).plain_state()
    assert torch.equal(state["head.linear.weight"], state["head_dist.linear.weight"])


@pytest.mark.parametrize("name", models.list_models(models))
def test_torchvision_images_are_seen_as_the_weights_own_transforms_see_them(name):
    own = models.get_model_weights(name).DEFAULT.transforms()
    look = torchvision_preprocess(name)
    resize, crop = transform_for(look).fixed.transforms
    assert isinstance(resize, v2.Resize)
    assert (resize.size, crop.size) == (own.resize_size, (own.crop_size[0],) * 2)
    assert resize.interpolation == own.interpolation
    assert (list(look.mean), list(look.std)) == (own.mean, own.std)


def test_a_torchvision_network_takes_the_preprocessing_of_its_weights():
    net = open_backbone("torchvision/efficientnet_b1", CLASSES, weights="none")
    assert (net.preprocess.size, net.preprocess.interpolation) == (240, "bilinear")
    image = torch.randint(0, 256, (3, 300, 400), dtype=torch.uint8)
    own = models.get_model_weights("efficientnet_b1").DEFAULT.transforms()
    assert torch.allclose(
        transform_for(net.preprocess)(image), own(image), atol=0.02
    )  # one level of grey


DEIT = "deit_tiny_patch16_224"
SHARES = ["--val-share", "0.25", "--test-share", "0.25"]


def photos(folder: Path) -> str:
    for kind in CLASSES:
        (folder / kind).mkdir(parents=True)
        for number in range(16):
            image = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
            v2.functional.to_pil_image(image).save(folder / kind / f"{number}.png")
    return str(folder)


def test_fit_and_doctor_say_that_a_prefix_was_left_out(tmp_path, capsys):
    data, file = photos(tmp_path / "data"), tmp_path / "w.pth"
    state = timm.create_model("test_efficientnet").state_dict()
    torch.save({f"net.{key}": value for key, value in state.items()}, file)
    words = [
        "--backbone",
        "test_efficientnet",
        "--weights",
        str(file),
        "--image-size",
        "32",
        *SHARES,
    ]
    fit = ["fit", data, "--out", str(tmp_path / "run"), "--epochs", "1", "--method", "ft"]
    for command in ([*fit, "--image-size", "32"], ["doctor", data]):
        main([*command, *words])
        out, err = capsys.readouterr()
        assert "without 'net.' before their names" in " ".join((out + err).split())


class TestSize:
    def test_a_network_whose_weights_want_another_size_than_its_builder_is_built_for_it(self):
        with torch.device("meta"):
            net = open_backbone("torchvision/vit_h_14", CLASSES, weights="none")
            side = net.preprocess.size
            assert side == 518
            assert net.body(torch.zeros(1, 3, side, side)).shape == (1, net.width)

    @pytest.mark.parametrize("name", ["test_vit", "swin_tiny_patch4_window7_224", DEIT])
    def test_a_network_for_one_size_is_built_for_another_and_loads_so(self, name, tmp_path):
        net = open_backbone(name, CLASSES, weights="none", size=64).eval()
        assert net.preprocess.size == 64
        x = torch.randn(2, 3, 64, 64)
        net.save(tmp_path)
        assert torch.equal(Network.load(tmp_path).eval()(x), net(x))

    @pytest.mark.parametrize("name", ["test_vit", "swin_tiny_patch4_window7_224", DEIT])
    def test_a_network_that_has_weights_changes_its_size_and_loads_so(self, name, tmp_path):
        net = resized(open_backbone(name, CLASSES, weights="none"), 96).eval()
        x = torch.randn(2, 3, 96, 96)
        net.save(tmp_path)
        assert torch.equal(Network.load(tmp_path).eval()(x), net(x))

    def test_a_network_that_takes_another_size_as_it_is_stays_as_it_is(self, tmp_path):
        x, plain = torch.randn(2, 3, 96, 96), timm.create_model("test_vit", num_classes=3).eval()
        net = open_backbone("test_vit", CLASSES, weights="none", size=96).eval()
        plain.load_state_dict(net.plain_state())
        assert torch.allclose(plain(x), net(x), atol=1e-6)

    def test_weights_of_one_size_are_read_for_another(self, tmp_path):
        state = timm.create_model(DEIT).state_dict()
        save_file(state, tmp_path / "w.safetensors")
        net = open_backbone(DEIT, CLASSES, weights=tmp_path / "w.safetensors", size=96)
        assert net.body(torch.zeros(1, 3, 96, 96)).shape == (1, net.width)
        assert torch.equal(net.body.blocks[0].attn.qkv.weight, state["blocks.0.attn.qkv.weight"])

    @pytest.mark.parametrize("name", ["halonet_h1", "torchvision/vit_b_32", "test_coatnet"])
    def test_a_size_that_cannot_be_is_refused_in_one_sentence(self, name):
        with pytest.raises(ValueError, match=r"cannot take images of 50 pixels \(.*--image-size"):
            open_backbone(name, CLASSES, weights="none", size=50)

    def test_fit_refuses_it_without_calling_it_a_bug(self, tmp_path, capsys):
        data = photos(tmp_path / "data")
        words = "--backbone test_coatnet --weights none --image-size 50 --epochs 1 --method ft"
        assert main(["fit", data, "--out", str(tmp_path / "run"), *words.split(), *SHARES]) == 1
        said = capsys.readouterr().err
        assert "test_coatnet cannot take images of 50 pixels" in said
        assert "bug in adaptune" not in said

    def test_a_run_is_gone_on_from_at_another_size(self, tmp_path, capsys):
        data, runs = photos(tmp_path / "data"), (str(tmp_path / "one"), str(tmp_path / "two"))
        common = ["--epochs", "1", "--method", "ft", *SHARES]
        words = ["--backbone", DEIT, "--weights", "none", "--image-size", "64"]
        assert main(["fit", data, "--out", runs[0], *words, *common]) == 0
        words = ["--from", runs[0], "--image-size", "32"]
        assert main(["fit", data, "--out", runs[1], *words, *common]) == 0
        assert Network.load(tmp_path / "two" / "best").preprocess.size == 32
        words = ["--from", runs[0], "--image-size", "8"]
        assert main(["fit", data, "--out", str(tmp_path / "three"), *words, *common]) == 1
        assert "cannot take images of 8 pixels" in capsys.readouterr().err

    def test_looking_whether_it_can_draws_no_random_number(self):
        torch.manual_seed(0)
        plain = open_backbone("test_efficientnet", CLASSES, weights="none")
        after = torch.rand(3)
        torch.manual_seed(0)
        sized = open_backbone("test_efficientnet", CLASSES, weights="none", size=32)
        assert torch.equal(after, torch.rand(3))
        assert all(map(torch.equal, plain.state_dict().values(), sized.state_dict().values()))


class Answer(dict):
    def __getattr__(self, name):
        return self[name]


class Objects(nn.Module):
    """Answers with an object, and reads features by a sequence or a convolution."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.stem, self.pool, self.head = nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), head

    def forward(self, pixel_values):
        return Answer(logits=self.head(self.pool(self.stem(pixel_values))), hidden_states=())


class TestModules:
    @pytest.mark.parametrize(
        "head",
        [nn.Sequential(nn.Flatten(), nn.Linear(4, 9)), nn.Conv2d(4, 9, 1)],
        ids=["sequence", "convolution"],
    )
    def test_answers_may_be_objects_and_heads_sequences_or_convolutions(self, head, tmp_path):
        net = Network.from_module(Objects(head), head="head", classes=CLASSES).eval()
        x = torch.randn(2, 3, 8, 8)
        assert net.body(x).shape == (2, 4)
        net.save(tmp_path)
        again = Network.load(tmp_path, module=Objects(head_like(net))).eval()
        assert torch.equal(again(x), net(x))

    def test_a_head_without_pooling_predicts_places_and_classification_refuses_them(self):
        net = Network.from_module(
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 9, 1)), head="1", classes=CLASSES
        )
        logits, task = net(torch.zeros(1, 3, 8, 8)), Classification(len(CLASSES))
        assert logits.shape == (1, len(CLASSES), 6, 6)
        for loss in (task.loss, task.losses):
            with pytest.raises(
                ValueError, match=r"one class a row, \(N, K\), .* gave \(1, 3, 6, 6\)"
            ):
                loss(logits, torch.zeros(1, dtype=torch.int64))

    def test_scripted_and_exported_networks_are_sent_back_to_where_they_came_from(self):
        x = torch.randn(2, 3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch.jit is on its way out
            traced = torch.jit.trace(nn.Sequential(nn.Linear(3, 2)), x)
        exported = torch.export.export(nn.Sequential(nn.Linear(3, 2)), (x,))
        for module in (traced, exported, exported.module()):
            with pytest.raises(ValueError, match="give the module that it was made from"):
                Network.from_module(module, head="0", classes=CLASSES)


def head_like(net: Network) -> nn.Module:
    last = net.parts[0]
    if last.kernel:
        return nn.Conv2d(4, 9, 1)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 9))


def test_the_table_of_the_page_has_a_row_for_every_family_and_network_of_torchvision():
    text = PAGE.read_text()
    lines = text.partition(BEGIN)[2].partition(END)[0].strip().splitlines()
    assert lines[:2] == table([]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert {len(row) for row in cells} == {len(HEAD)}
    assert {row[1] for row in cells} == {*timm.list_modules(), "torchvision"} - without_classifier()
    known = {f"`torchvision/{name}`" for name in models.list_models(models)}
    assert {row[0] for row in cells if row[1] == "torchvision"} == known
    assert all(re.match(r"(yes|no: \w)", row[-1]) for row in cells)


def without_classifier() -> set[str]:
    return {family for family in timm.list_modules() if not timm.list_models(module=family)}


def test_a_row_says_why_a_network_does_not_work():
    assert (
        Row("x", "family", 0, 0, 0, False, "it is no classifier").cells()[-1].startswith("no: it")
    )


@pytest.mark.slow
def test_every_family_of_timm_and_every_network_of_torchvision_works_or_says_why_not():
    rows = [tried(name, family) for name, family in names()]
    print(table(rows))
    refused = {row.name: row.said for row in rows if not row.works}
    assert not any("bug in adaptune" in said or not said for said in refused.values())
    assert len(refused) < len(rows) / 20


def test_the_smallest_size_that_a_network_takes_is_found():
    assert opened("test_vit").preprocess.size == 64
    assert plainly("test_vit", 64)(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def not_imported() -> None:
    """Open a network of timm where transformers was not imported, and see that it still is not."""
    found = "transformers" in sys.modules
    open_backbone("test_efficientnet", ["a", "b"], weights="none")
    sys.exit(found or "transformers" in sys.modules)


def test_transformers_is_imported_only_where_it_is_used():
    process = AFRESH.Process(target=not_imported)
    process.start()
    process.join()
    assert process.exitcode == 0
