"""CLIP and SigLIP of transformers: embeddings are the library's, before and after."""

import json

import pytest
import torch
from texts import tokenizer

from adaptune.data.class_words import class_texts, text_ids, with_words
from adaptune.networks.backbones import open_backbone
from adaptune.networks.clip import clip_state
from adaptune.networks.heads import Readout
from adaptune.networks.network import Network

pytest.importorskip("transformers")

TEXTS = ["good film", "the film was a story with music", "lovely"]
NAMES = ("good", "bad")


def parts() -> dict[str, dict[str, object]]:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    sizes["num_attention_heads"] = 2
    text = {"vocab_size": 64, "max_position_embeddings": 12, "bos_token_id": 2, "eos_token_id": 3}
    return {
        "text_config": sizes | text | {"pad_token_id": 0},
        "vision_config": sizes | {"hidden_size": 20, "image_size": 32, "patch_size": 16},
    }


def written(folder, kind: str):
    """Write a tiny random model as `save_pretrained` does."""
    import transformers

    torch.manual_seed(0)
    said = parts()
    if kind == "clip":
        config = transformers.CLIPConfig(**said, projection_dim=8)
        model = transformers.CLIPModel(config)
    else:
        said["text_config"] |= {"projection_size": 20}
        model = transformers.SiglipModel(transformers.SiglipConfig(**said))
    with torch.no_grad():
        for one in model.parameters():
            one.add_(0.1 * torch.randn_like(one))
        model.logit_scale.fill_(2.0)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer())
    look = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "resample": 3}
    look |= {"do_resize": True, "do_normalize": True, "do_rescale": True}
    look |= {"rescale_factor": 1 / 255, "size": {"height": 32, "width": 32}}
    if kind == "clip":
        look |= {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
        look["do_center_crop"] = True
    look["image_processor_type"] = {"clip": "CLIPImageProcessor"}.get(kind, "SiglipImageProcessor")
    (folder / "preprocessor_config.json").write_text(json.dumps(look))
    return model.eval()


def asked(model, kind: str):
    """Give ids as the library wants them: with padding, of SigLIP up to the end."""
    from tokenizers import Tokenizer

    read = Tokenizer.from_str(tokenizer())
    read.no_padding()
    rows = [read.encode(one).ids for one in TEXTS]
    length = 12 if kind == "siglip" else max(map(len, rows))
    ids = torch.tensor([one + [0] * (length - len(one)) for one in rows])
    own = {"attention_mask": (ids != 0).long()} if kind == "clip" else {}
    return model.get_text_features(input_ids=ids, **own).pooler_output


@pytest.fixture(params=["clip", "siglip"])
def kind(request):
    return request.param


@torch.no_grad()
def test_embeddings_are_those_of_the_library(kind, tmp_path):
    model, x = written(tmp_path / "m", kind), torch.randn(3, 3, 32, 32)
    net = open_backbone(f"clip:{tmp_path / 'm'}", ["pairs"]).eval()
    images = model.get_image_features(pixel_values=x).pooler_output
    own = net.head.embed(net.body(x))
    assert torch.allclose(own, images / images.norm(dim=1, keepdim=True), atol=1e-6)
    texts = asked(model, kind)
    found = net.partners(text_ids(net.joint.look, TEXTS))
    assert torch.allclose(found, texts / texts.norm(dim=1, keepdim=True), atol=1e-6)
    assert net.joint.warmth.item() == pytest.approx(torch.tensor(2.0).exp().item())
    look = net.preprocess
    assert (look.size, look.interpolation, look.crop) == (32, "bicubic", 1.0)
    assert look.mean == pytest.approx((0.5, 0.4, 0.3))


@torch.no_grad()
def test_what_was_saved_opens_here_and_in_the_library(kind, tmp_path):
    import transformers

    model, x = written(tmp_path / "m", kind), torch.randn(3, 3, 32, 32)
    net = open_backbone(f"clip:{tmp_path / 'm'}", ["pairs"]).eval()
    net.body.post_layernorm.weight.mul_(1.5)
    net.joint.tower.final_layer_norm.weight.mul_(0.5)
    state = clip_state(net)
    left = model.load_state_dict(state, strict=False)
    assert not left.unexpected_keys
    assert set(left.missing_keys) <= {"logit_scale", "logit_bias"}
    model.save_pretrained(tmp_path / "again")
    plain = type(model).from_pretrained(tmp_path / "again").eval()
    assert isinstance(plain, transformers.PreTrainedModel)
    images = plain.get_image_features(pixel_values=x).pooler_output
    own = net.head.embed(net.body(x))
    assert torch.allclose(own, images / images.norm(dim=1, keepdim=True), atol=1e-6)
    net = with_words(net, NAMES, class_texts(NAMES, ["the {} film", "{}"]))
    net.save(tmp_path / "words")
    again = Network.load(tmp_path / "words").eval()
    assert torch.equal(again(x), net(x))
    again.head.renew()
    assert torch.allclose(again(x), net(x), atol=1e-5)
    texts = asked(plain, kind)
    found = again.partners(text_ids(again.joint.look, TEXTS))
    assert torch.allclose(found, texts / texts.norm(dim=1, keepdim=True), atol=1e-6)


@torch.no_grad()
def test_a_linear_head_on_clip_is_saved_without_the_tower(tmp_path):
    written(tmp_path / "m", "clip")
    net = open_backbone(f"clip:{tmp_path / 'm'}", NAMES).eval()
    net = with_words(net, NAMES, class_texts(NAMES, ["{}"]))
    x = torch.randn(3, 3, 32, 32)
    before = net(x)
    net.operate("zero-shot-head", outputs=8)
    net.save(tmp_path / "linear")
    again = Network.load(tmp_path / "linear").eval()
    assert isinstance(again.head, Readout)
    assert torch.allclose(again(x), before, atol=1e-5)


def test_what_is_no_clip_is_refused_in_words(tmp_path):
    for said in (b"", b"[", b"{}", b'{"model_type": "bert"}', b"[" * 99999):
        (tmp_path / "config.json").write_bytes(said)
        with pytest.raises(ValueError, match="no CLIP or SigLIP"):
            open_backbone(f"clip:{tmp_path}", ["a"])
    written(tmp_path / "m", "clip")
    with pytest.raises(ValueError, match="12 tokens at most"):
        open_backbone(f"clip:{tmp_path / 'm'}", ["a"], length=20)
    with pytest.raises(ValueError, match="cannot take images of 48"):
        open_backbone(f"clip:{tmp_path / 'm'}", ["a"], size=48)
    with pytest.raises(ValueError, match="leave out masks"):
        open_backbone(f"clip:{tmp_path / 'm'}", ["a"], stride=8)
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="safetensors"):
        open_backbone(f"clip:{tmp_path / 'm'}", ["a"])
    (tmp_path / "m" / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"no tokenizer\.json"):
        open_backbone(f"clip:{tmp_path / 'm'}", ["a"])


def test_damaged_descriptions_of_towers_are_refused(tmp_path):
    written(tmp_path / "m", "clip")
    net = open_backbone(f"clip:{tmp_path / 'm'}", ["a"])
    net.save(tmp_path / "n")
    file = tmp_path / "n" / "network.json"
    said = json.loads(file.read_text())
    for part, key, value in (
        ("joint", "model_type", "gone"),
        ("joint", "settings", {"hidden_size": "x"}),
    ):
        wrong = json.loads(json.dumps(said))
        wrong["config"][part]["tower"][key] = value
        file.write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match="no CLIP or SigLIP"):
            Network.load(tmp_path / "n")


def test_commands_on_a_clip_folder(tmp_path, told):
    from conftest import draw_domain

    written(tmp_path / "m", "clip")
    draw_domain(tmp_path / "photo", each=5)
    clip, data = f"clip:{tmp_path / 'm'}", f"photo={tmp_path / 'photo'}"
    code, out, error = told(
        *("evaluate", clip, "--data", data, "--words", "the {}", "--device", "cpu", "--json")
    )
    assert code == 0, error
    zero_shot = json.loads(out)["scores"]["photo"]
    assert zero_shot["count"] == 15
    files = (tmp_path / "photo" / "dots", "--classes", "cat", "dog", "--out", tmp_path / "p.csv")
    code, _, error = told("predict", clip, *files)
    assert code == 0, error
    run = ("--backbone", clip, "--words", "the {}", "--epochs", 1, "--batch-size", 8)
    code, _, error = told(
        *("fit", tmp_path / "photo", *run, "--method", "ft", "--lr", 0.001, "--device", "cpu"),
        *("--out", tmp_path / "run"),
    )
    assert code == 0, error
    assert (tmp_path / "run" / "best" / "tokenizer.json").is_file()
    code, _, error = told("evaluate", tmp_path / "run", "--device", "cpu")
    assert code == 0, error
    code, _, error = told("predict", clip, tmp_path / "photo", "--out", tmp_path / "q.csv")
    assert code == 1
    assert "--classes" in error
