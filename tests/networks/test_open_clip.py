"""Models of open_clip: embeddings are the library's, before and after."""

import json

import pytest
import torch
from safetensors.torch import save_file
from texts import tokenizer

from adaptune.data.class_words import class_texts, text_ids, with_words
from adaptune.networks.backbones import open_backbone
from adaptune.networks.clip import clip_state
from adaptune.networks.network import Network

TEXTS = ["good film", "the film was a story with music", "lovely"]
NAMES = ("good", "bad")
SETTINGS = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 64, "width": 16, "heads": 2, "layers": 2},
}
POOLED = {"pool_type": "eos", "eos_id": 3}


def written(folder, *, custom: bool):
    """Write a tiny random model as open_clip's hub folders are."""
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(0)
    said = json.loads(json.dumps(SETTINGS))
    said["text_cfg"] |= POOLED | ({"no_causal_mask": True} if custom else {})
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    model = kind(**said)
    with torch.no_grad():
        for one in model.parameters():
            one.add_(0.1 * torch.randn_like(one))
    folder.mkdir()
    look = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bicubic"}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": said, "preprocess_cfg": look})
    )
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    (folder / "tokenizer.json").write_text(tokenizer())
    return model.eval(), said


def asked() -> torch.Tensor:
    from tokenizers import Tokenizer

    read = Tokenizer.from_str(tokenizer())
    read.no_padding()
    rows = [read.encode(one).ids for one in TEXTS]
    return torch.tensor([one + [0] * (12 - len(one)) for one in rows])


@torch.no_grad()
@pytest.mark.parametrize("custom", [False, True])
def test_embeddings_are_those_of_the_library_and_open_there_again(custom, tmp_path):
    model, said = written(tmp_path / "m", custom=custom)
    x = torch.randn(3, 3, 32, 32)
    net = open_backbone(f"open_clip:{tmp_path / 'm'}", ["pairs"]).eval()
    assert torch.allclose(net.head.embed(net.body(x)), model.encode_image(x, True), atol=1e-6)
    found = net.partners(text_ids(net.joint.look, TEXTS))
    assert torch.allclose(found, model.encode_text(asked(), True), atol=1e-6)
    assert net.joint.warmth.item() == pytest.approx(model.logit_scale.exp().item(), rel=1e-5)
    assert (net.preprocess.size, net.preprocess.interpolation) == (32, "bicubic")
    net = with_words(net, NAMES, class_texts(NAMES, ["the {} film", "{}"]))
    net.save(tmp_path / "words")
    again = Network.load(tmp_path / "words").eval()
    assert torch.equal(again(x), net(x))
    import open_clip

    plain = open_clip.CustomTextCLIP(**said)
    plain.load_state_dict(clip_state(again))
    assert torch.allclose(plain.eval().encode_text(asked(), True), found, atol=1e-6)


@pytest.mark.parametrize("said", [b"", b"[]", b"[" * 99999, b'{"model_cfg": 3}'])
def test_a_folder_that_is_none_is_refused_in_words(said, tmp_path):
    (tmp_path / "tokenizer.json").write_text(tokenizer())
    (tmp_path / "open_clip_config.json").write_bytes(said)
    with pytest.raises(ValueError, match="no model that open_clip can build"):
        open_backbone(f"open_clip:{tmp_path}", ["a"])


def test_models_that_would_be_fetched_and_weights_that_are_gone_are_refused(tmp_path):
    written(tmp_path / "m", custom=False)
    file = tmp_path / "m" / "open_clip_config.json"
    said = json.loads(file.read_text())
    (tmp_path / "m" / "open_clip_model.safetensors").unlink()
    with pytest.raises(ValueError, match="safetensors"):
        open_backbone(f"open_clip:{tmp_path / 'm'}", ["a"])
    said["model_cfg"]["text_cfg"]["hf_model_name"] = "some/where"
    file.write_text(json.dumps(said))
    with pytest.raises(ValueError, match="fetched by name"):
        open_backbone(f"open_clip:{tmp_path / 'm'}", ["a"], weights="none")
