"""Classifiers of Hugging Face: tiny random ones of real classes, from local folders."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from torchvision.transforms import v2

from adaptune.batchnorm.conversion import convert_batchnorm
from adaptune.commands import main
from adaptune.networks.architectures import WholeImage
from adaptune.networks.backbones import open_backbone
from adaptune.networks.hugging_face import transformers_folder
from adaptune.networks.network import Network

transformers = pytest.importorskip("transformers")

CLASSES = ("cat", "dog", "hen")
SIDE = 32
X = torch.randn(2, 3, SIDE, SIDE)


def config(kind: str):
    return {
        "resnet": lambda: transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=5
        ),
        "vit": lambda: transformers.ViTConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=SIDE,
            patch_size=8,
            num_labels=5,
        ),
        "convnext": lambda: transformers.ConvNextConfig(
            hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], num_labels=5
        ),
        "mobilenet": lambda: transformers.MobileNetV2Config(
            depth_multiplier=0.25, image_size=SIDE, num_labels=5
        ),
    }[kind]()


PROCESSORS = {
    "resnet": lambda: transformers.ConvNextImageProcessor(size={"shortest_edge": SIDE}),
    "vit": lambda: transformers.ViTImageProcessor(size={"height": SIDE, "width": SIDE}),
    "convnext": lambda: transformers.ConvNextImageProcessor(
        size={"shortest_edge": SIDE}, crop_pct=0.8
    ),
    "mobilenet": lambda: transformers.MobileNetV2ImageProcessor(
        size={"shortest_edge": 40}, crop_size={"height": SIDE, "width": SIDE}
    ),
}


@pytest.fixture(params=["resnet", "vit", "convnext", "mobilenet"])
def folder(request, tmp_path):
    made(request.param, tmp_path / "hf")
    return tmp_path / "hf"


def made(kind: str, folder) -> torch.nn.Module:
    torch.manual_seed(0)
    model = transformers.AutoModelForImageClassification.from_config(config(kind)).eval()
    model.save_pretrained(folder)
    PROCESSORS[kind]().save_pretrained(folder)
    return model


def test_the_features_are_those_that_the_models_own_head_reads(folder):
    net = open_backbone(f"hf:{folder}", CLASSES).eval()
    model = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    own = model.get_submodule(net.origin.head)
    assert torch.allclose(own(net.body(X)), model(X).logits, atol=1e-6)
    assert net(X).shape == (2, 3)


def test_it_trains_converts_and_loads_without_the_folder(folder, tmp_path):
    net = open_backbone(f"hf:{folder}", CLASSES)
    learner = torch.optim.SGD(net.train().parameters(), lr=0.01)
    torch.nn.functional.cross_entropy(net(X), torch.tensor([0, 2])).backward()
    learner.step()
    convert_batchnorm(net.body, [X])
    net.eval().save(tmp_path / "saved")
    folder.rename(tmp_path / "elsewhere")
    again = Network.load(tmp_path / "saved").eval()
    assert torch.equal(again(X), net(X))
    assert (again.origin, again.preprocess, again.config) == (
        net.origin,
        net.preprocess,
        net.config,
    )


def test_the_saved_weights_open_in_plain_transformers(folder, tmp_path):
    net = open_backbone(f"hf:{folder}", CLASSES).eval()
    net.save(tmp_path)
    settings = transformers.AutoConfig.from_pretrained(folder)
    settings.num_labels = 3
    plain = transformers.AutoModelForImageClassification.from_config(settings).eval()
    plain.load_state_dict(load_file(tmp_path / "network.safetensors"))
    assert torch.allclose(plain(X).logits, net(X), atol=1e-6)


def test_images_are_made_into_inputs_as_by_the_folders_processor(tmp_path):
    looks = {}
    for kind in PROCESSORS:
        made(kind, tmp_path / kind)
        looks[kind] = open_backbone(f"hf:{tmp_path / kind}", CLASSES).preprocess
    assert {look.size for look in looks.values()} == {SIDE}
    assert [round(looks[kind].crop, 3) for kind in PROCESSORS] == [0.875, 1.0, 0.8, 0.8]
    own = PROCESSORS["vit"]()
    assert looks["vit"].mean == pytest.approx(tuple(own.image_mean))
    assert looks["vit"].std == pytest.approx(tuple(own.image_std))
    assert [looks["vit"].interpolation, looks["resnet"].interpolation] == ["bilinear", "bicubic"]


def test_a_processor_without_normalisation_leaves_pixels_from_0_to_1(tmp_path):
    made("vit", tmp_path)
    transformers.ViTImageProcessor(
        size={"height": SIDE, "width": SIDE}, do_normalize=False
    ).save_pretrained(tmp_path)
    look = open_backbone(f"hf:{tmp_path}", CLASSES).preprocess
    assert look.mean == (0.0, 0.0, 0.0)
    assert look.std == pytest.approx((1.0, 1.0, 1.0))


def test_a_folder_without_a_processor_says_how_images_are_seen(tmp_path):
    made("vit", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    net = open_backbone(f"hf:{tmp_path}", CLASSES)
    assert net.preprocess.size == SIDE
    assert "no preprocessor_config.json" in net.notes[0]


class TestRefused:
    def test_a_missing_package_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ValueError, match=r"pip install 'adaptune\[transformers\]'"):
            transformers_folder(tmp_path)

    def test_a_folder_that_holds_nothing(self, tmp_path):
        with pytest.raises(ValueError, match="no config.json"):
            open_backbone(f"hf:{tmp_path}", CLASSES)

    @pytest.mark.parametrize(
        "wrong", ["{", '{"model_type": "no-such"}', '{"model_type": "bert"}', "[]", "{}"]
    )
    def test_a_configuration_of_no_image_classifier(self, tmp_path, wrong):
        (tmp_path / "config.json").write_text(wrong)
        with pytest.raises(ValueError, match="no image classifier"):
            open_backbone(f"hf:{tmp_path}", CLASSES)

    def test_code_in_the_folder_never_runs(self, tmp_path):
        mark = tmp_path / "ran"
        own = {"AutoConfig": "own.Own", "AutoModelForImageClassification": "own.Net"}
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": own}))
        (tmp_path / "own.py").write_text(f"open({str(mark)!r}, 'w')\n")
        with pytest.raises(ValueError, match="without running code"):
            open_backbone(f"hf:{tmp_path}", CLASSES)
        assert not mark.exists()

    def test_weights_that_are_missing(self, tmp_path):
        model = made("vit", tmp_path)
        state = {k: v for k, v in model.state_dict().items() if "layernorm" not in k}
        assert len(state) < len(model.state_dict())
        model.save_pretrained(tmp_path, state_dict=state)
        with pytest.raises(ValueError, match="weights are missing"):
            open_backbone(f"hf:{tmp_path}", CLASSES)

    def test_a_class_that_takes_no_images(self, tmp_path):
        small = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 17, "n_positions": 64}
        settings = transformers.ImageGPTConfig(**small)
        transformers.ImageGPTForImageClassification(settings).save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="ImageGPTForImageClassification cannot take images"):
            open_backbone(f"hf:{tmp_path}", CLASSES)

    def test_a_size_that_it_cannot_take(self, tmp_path):
        made("vit", tmp_path)
        with pytest.raises(ValueError, match="cannot take images of 48 pixels"):
            open_backbone(f"hf:{tmp_path}", CLASSES, size=48)

    @pytest.mark.parametrize("wrong", [{}, {"model_type": 3}, {"model_type": "no-such"}, []])
    def test_a_saved_network_whose_configuration_is_damaged(self, tmp_path, wrong):
        made("vit", tmp_path / "hf")
        open_backbone(f"hf:{tmp_path / 'hf'}", CLASSES).save(tmp_path)
        said = json.loads((tmp_path / "network.json").read_text())
        assert said["format"] == 4
        (tmp_path / "network.json").write_text(json.dumps(said | {"config": wrong}))
        with pytest.raises(ValueError, match=r"config should be|no image classifier"):
            Network.load(tmp_path)


def test_two_heads_whose_mean_counts_become_one(tmp_path):
    settings = transformers.DeiTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=SIDE,
        patch_size=8,
        num_labels=3,
    )
    transformers.DeiTForImageClassificationWithTeacher(settings).save_pretrained(tmp_path / "hf")
    net = open_backbone(f"hf:{tmp_path / 'hf'}", CLASSES).eval()
    assert len(net.parts) == 2
    plain = transformers.DeiTForImageClassificationWithTeacher(settings).eval()
    plain.load_state_dict(net.plain_state())
    assert torch.allclose(plain(X).logits, net(X), atol=1e-6)
    net.save(tmp_path / "saved")
    assert torch.equal(Network.load(tmp_path / "saved").eval()(X), net(X))


def test_a_model_of_ones_own_is_split_by_the_name_of_its_classifier(folder, tmp_path):
    def model():
        return transformers.AutoModelForImageClassification.from_pretrained(folder)

    net = Network.from_module(model(), head="classifier", classes=CLASSES).eval()
    assert net.body(X).shape == (2, net.width)
    net.save(tmp_path)
    assert json.loads((tmp_path / "network.json").read_text())["format"] == 1
    assert torch.allclose(Network.load(tmp_path, module=model()).eval()(X), net(X), atol=1e-6)


def test_no_path_of_the_folder_is_kept(folder, tmp_path):
    open_backbone(f"hf:{folder}", CLASSES).save(tmp_path)
    assert str(folder) not in (tmp_path / "network.json").read_text()


def test_a_run_from_a_folder_trains_resumes_and_is_evaluated(tmp_path, capsys):
    made("resnet", tmp_path / "hf")
    for kind in CLASSES:
        (tmp_path / "data" / kind).mkdir(parents=True)
        for number in range(16):
            image = torch.randint(0, 256, (3, SIDE, SIDE), dtype=torch.uint8)
            v2.functional.to_pil_image(image).save(tmp_path / "data" / kind / f"{number}.png")
    run = str(tmp_path / "run")
    words = f"--backbone hf:{tmp_path / 'hf'} --epochs 1 --batch-size 8 --method daft"
    words += " --val-share 0.25 --test-share 0.25"
    assert main(["fit", str(tmp_path / "data"), "--out", run, *words.split()]) == 0
    (tmp_path / "hf").rename(tmp_path / "gone")
    assert main(["evaluate", run]) == 0
    capsys.readouterr()


def segformer():
    return transformers.SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=12,
        num_labels=5,
    )


class TestASegFormer:
    """A network of places from a folder: encoder and decoder, or the encoder alone."""

    @pytest.fixture
    def folder(self, tmp_path):
        torch.manual_seed(0)
        model = transformers.SegformerForSemanticSegmentation(segformer())
        model.train()(torch.randn(8, 3, SIDE, SIDE) + 0.5)  # statistics that are not a new layer's
        model.save_pretrained(tmp_path / "hf")
        processor = transformers.SegformerImageProcessor(size={"height": SIDE, "width": SIDE})
        processor.save_pretrained(tmp_path / "hf")
        return tmp_path / "hf"

    def test_its_features_are_those_that_its_own_last_layer_reads(self, folder):
        net = open_backbone(f"hf:{folder}", CLASSES, stride=8).eval()
        model = transformers.SegformerForSemanticSegmentation.from_pretrained(folder).eval()
        with torch.no_grad():
            features = net.body(X)
            own = model.decode_head.classifier(features)
            assert torch.allclose(own, model(X).logits, atol=1e-6)
        assert features.shape == (2, 12, SIDE // 4, SIDE // 4)
        assert (net.preprocess.size, net.preprocess.crop) == (SIDE, 1.0)
        assert isinstance(net.preprocess, WholeImage)
        assert not net.neck

    def test_its_batch_norm_is_converted_and_it_opens_in_plain_transformers(self, folder, tmp_path):
        net = open_backbone(f"hf:{folder}", CLASSES, stride=8).eval()
        with torch.no_grad():
            before = net(X)
            report = convert_batchnorm(net.body, [X])
            after = net.eval()(X)
        assert [one.name for one in report.layers] == ["decode_head.batch_norm"]
        assert float((after - before).norm() / before.norm()) < 1e-5
        net.save(tmp_path / "saved")
        saved = json.loads((tmp_path / "saved/network.json").read_text())
        config = transformers.AutoConfig.for_model(**saved["config"], num_labels=3)
        plain = transformers.AutoModelForSemanticSegmentation.from_config(config).eval()
        plain.load_state_dict(load_file(tmp_path / "saved/network.safetensors"))
        again = Network.load(tmp_path / "saved").eval()
        assert isinstance(again.preprocess, WholeImage)
        with torch.no_grad():
            assert torch.allclose(plain(X).logits, after, atol=1e-6)
            assert torch.equal(again(X), after)

    def test_a_folder_of_its_encoder_alone_has_a_decoder_that_begins_at_random(
        self, tmp_path, capfd
    ):
        model = transformers.SegformerForImageClassification(segformer())
        model.save_pretrained(tmp_path / "hf")
        capfd.readouterr()
        net = open_backbone(f"hf:{tmp_path / 'hf'}", CLASSES, stride=8, size=SIDE)
        assert net.neck == ("decode_head",)
        assert "no weights of the decoder" in net.notes[-1]
        assert "MISSING" not in "".join(capfd.readouterr())
        own, given = net.body.segformer.state_dict(), model.segformer.state_dict()
        assert all(torch.equal(own[key], value) for key, value in given.items())

    def test_what_labels_no_places_is_refused_in_words(self, tmp_path):
        made("resnet", tmp_path / "hf")
        with pytest.raises(ValueError, match="is no network for semantic segmentation"):
            open_backbone(f"hf:{tmp_path / 'hf'}", CLASSES, stride=8)
