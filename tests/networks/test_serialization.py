"""Weights and saved networks that are damaged or malicious: the exact words, and no code run."""

from __future__ import annotations

import io
import json
import pickle
import struct
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn
from toy import CLASSES

from adaptune.commands import main
from adaptune.networks.backbones import open_backbone
from adaptune.networks.network import Network
from adaptune.networks.serialization import read_weights

BAD = "{file} could not be read as weights"
DAMAGED = (
    f"{BAD}, being cut off, damaged or of another kind: expected a safetensors file, or a torch "
    "file that holds tensors only; copy it again"
)
CODE = (
    f"{BAD}: it holds objects that could run code, and none was run; save the state dict alone, "
    "with torch.save(net.state_dict(), FILE)"
)
SWOLLEN = (
    f"{BAD}: it would unpack to more than 10 times its size, which torch's own files never do; "
    "get it from a source that you trust"
)
NOTHING = (
    "{file} holds no tensors by name, so it is no state dict: save one with "
    "torch.save(net.state_dict(), FILE)"
)
STATE = {"a": torch.ones(64, 8), "b": torch.zeros(64)}


def torch_file(content: object, **options) -> bytes:
    raw = io.BytesIO()
    torch.save(content, raw, **options)
    return raw.getvalue()


def packed(raw: bytes, fill: int = 0) -> bytes:
    """Compress a torch file, its tensors' bytes replaced by ``fill`` zeros."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(made, "w", 8) as new:
        for name in old.namelist():
            new.writestr(name, b"\0" * fill if fill and "/data/" in name else old.read(name))
    return made.getvalue()


def header(text: bytes, size: int | None = None) -> bytes:
    """Write a safetensors file with this header, and no tensors."""
    return struct.pack("<Q", len(text) if size is None else size) + text


def claims(**tensor) -> bytes:
    return header(json.dumps({"a": {"dtype": "F32"} | tensor}).encode())


FILES = {
    "empty.pth": (b"", f"{BAD}: it is empty; copy it again"),
    "empty.safetensors": (b"", f"{BAD}: it is empty; copy it again"),
    "text.pth": (b"404: not found\n", DAMAGED),
    "text.safetensors": (b"404: not found\n", DAMAGED),
    "cut.pth": (torch_file(STATE)[:-90], DAMAGED),
    "cut old.pth": (torch_file(STATE, _use_new_zipfile_serialization=False)[:-90], DAMAGED),
    "cut.safetensors": (save(STATE)[:-1], DAMAGED),
    "other kind.safetensors": (torch_file(STATE), DAMAGED),
    "other zip.pth": (packed(torch_file(STATE))[:60] + b"PK\5\6" + b"\0" * 18, DAMAGED),
    "bomb.pth": (packed(torch_file(STATE), 9_000_000), SWOLLEN),
    "endless header.safetensors": (header(b"{}", 2**63), DAMAGED),
    "long header.safetensors": (header(b"{}", 90_000_000), DAMAGED),
    "deep header.safetensors": (header(b'{"a":' * 9000 + b"1" + b"}" * 9000), DAMAGED),
    "huge tensor.safetensors": (claims(shape=[2**40], data_offsets=[0, 2**42]), DAMAGED),
    "overflow.safetensors": (claims(shape=[2**62, 8], data_offsets=[0, 0]), DAMAGED),
    "list.pth": (torch_file([torch.ones(3)]), NOTHING),
    "settings.pth": (torch_file({"epoch": 3}), NOTHING),
    "nested.pth": (torch_file({"model": {"model": {"model": {}}}}), NOTHING),
    "nothing.safetensors": (save({}), NOTHING),
    "sparse.pth": (torch_file({"a": torch.eye(3).to_sparse()}), NOTHING),
    "complex.pth": (torch_file({"a": torch.ones(3, dtype=torch.complex64)}), NOTHING),
}


def refused(file: Path) -> str:
    with pytest.raises(ValueError, match=".") as raised:
        read_weights(file)
    return str(raised.value)


@pytest.mark.parametrize("name", FILES)
def test_weights_that_cannot_be_read_are_refused_with_these_words(tmp_path, name):
    content, said = FILES[name]
    (tmp_path / name).write_bytes(content)
    assert refused(tmp_path / name) == said.format(file=tmp_path / name)


def test_a_scripted_or_exported_network_is_told_from_a_damaged_file(tmp_path):
    net, x = nn.Linear(2, 2), torch.ones(1, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.jit is on its way out
        torch.jit.save(torch.jit.trace(net, x), tmp_path / "traced.pt")
    torch.export.save(torch.export.export(net, (x,)), tmp_path / "exported.pt2")
    for file in tmp_path.iterdir():
        assert "save that of the module it was made from" in refused(file)


def test_weights_that_are_no_file_are_named(tmp_path):
    for file in (tmp_path / "gone.pth", tmp_path):
        assert refused(file) == f"no weights file at {file}: give the path of one that is there"


class Payload:
    """What runs when it is unpickled by anyone who trusts it."""

    def __init__(self, call, *words: str) -> None:
        self.called = (call, words)

    def __reduce__(self):
        return self.called


def payloads(mark: Path) -> dict[str, Payload]:
    import os
    import subprocess

    return {
        "builtin": Payload(exec, f"open({str(mark)!r}, 'w')"),
        "shell": Payload(os.system, f"touch '{mark}'"),
        "process": Payload(subprocess.check_call, ["touch", str(mark)]),
        "torch": Payload(torch.hub.load_state_dict_from_url, f"file://{mark}", str(mark)),
    }


@pytest.mark.parametrize("name", ["builtin", "shell", "process", "torch"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda bad: torch_file(bad),
        lambda bad: torch_file({"state_dict": STATE, "args": bad}),
        lambda bad: torch_file({"state_dict": STATE | {"c": bad}}),
        lambda bad: torch_file(STATE | {"c": bad}, _use_new_zipfile_serialization=False),
        lambda bad: packed(torch_file({"args": bad})),
        lambda bad: pickle.dumps(bad, 2),
        lambda bad: pickle.dumps(bad),
    ],
)
def test_code_in_weights_never_runs(tmp_path, name, wrap):
    file = tmp_path / "w.pth"
    file.write_bytes(wrap(payloads(tmp_path / "ran")[name]))
    assert refused(file) in {CODE.format(file=file), DAMAGED.format(file=file)}
    assert list(tmp_path.iterdir()) == [file]


def test_the_words_about_code_in_weights(tmp_path):
    file = tmp_path / "w.pth"
    for content in (Payload(exec, "1"), {"state_dict": STATE, "args": nn.Identity()}):
        torch.save(content, file)
        assert refused(file) == CODE.format(file=file)


@pytest.fixture
def source() -> dict[str, torch.Tensor]:
    return open_backbone("test_efficientnet", CLASSES, weights="none").body.state_dict()


def test_weights_that_are_no_finite_numbers_are_counted_and_refused(tmp_path, source):
    source["bn1.running_var"][:2] = torch.inf
    source["conv_stem.weight"][0, 0, 0, 0] = torch.nan
    file = tmp_path / "w.safetensors"
    save_file(source, file)
    with pytest.raises(ValueError, match=".") as raised:
        open_backbone("test_efficientnet", CLASSES, weights=file)
    assert str(raised.value) == (
        f"{file} holds 3 weights that are no finite numbers, in 2 of its tensors (first in "
        "conv_stem.weight): the training that saved it had failed; take an earlier file"
    )


def test_weights_of_another_shape_are_named_before_any_is_copied(tmp_path, source):
    shape = tuple(source["conv_stem.weight"].shape)
    huge = torch.zeros(1).expand(2**20, 2**20)  # a few bytes that claim to be terabytes
    torch.save(source | {"conv_stem.weight": huge}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=".") as raised:
        open_backbone("test_efficientnet", CLASSES, weights=tmp_path / "w.pth")
    assert str(raised.value) == (
        f"{tmp_path / 'w.pth'} does not fit test_efficientnet: 1 of {len(source)} have "
        f"another shape, such as conv_stem.weight: (1048576, 1048576) in the file, {shape} in "
        "the network; name the backbone that the file was saved from"
    )


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    open_backbone("test_efficientnet", CLASSES, weights="none").save(folder)
    return folder


DESCRIBED = "; take the folder from a copy, or open it with the version that wrote it"
OTHER = "{file} is damaged, or another version wrote it: "
SAID = {
    '"unfinished': "{file} is damaged, it is not JSON: take the folder from a copy, or train again",
    "[" * 90_000: "{file} is damaged, it is not JSON: take the folder from a copy, or train again",
    "[1]": f"{OTHER}it should hold format, origin, classes, preprocess, batchnorm{DESCRIBED}",
    "{}": f"{OTHER}format is missing{DESCRIBED}",
}


@pytest.mark.parametrize("text", SAID, ids=lambda text: text[:9])
def test_a_description_that_is_damaged_is_refused_with_these_words(tmp_path, text):
    file = tmp_path / "network.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=".") as raised:
        Network.load(tmp_path)
    assert str(raised.value) == SAID[text].format(file=file)


CHANGES = [
    (("format",), 99, "{file} has format 99, this adaptune reads up to 10: upgrade adaptune"),
    (("format",), "1", f"{OTHER}format should be a whole number above 0{DESCRIBED}"),
    (("ema",), 0.9, f"{OTHER}ema is not known{DESCRIBED}"),
    (("origin", "branch"), "x", f"{OTHER}origin.branch is not known{DESCRIBED}"),
    (("origin", "head"), None, f"{OTHER}origin.head should be text{DESCRIBED}"),
    (("origin",), [], f"{OTHER}origin should hold kind, name, head{DESCRIBED}"),
    (
        ("origin", "kind"),
        "pickle",
        f"{OTHER}origin.kind should be one of timm, torchvision, module{DESCRIBED}",
    ),
    (("classes",), [], f"{OTHER}classes should be a list of names{DESCRIBED}"),
    (("classes",), [1, 2], f"{OTHER}classes should be a list of names{DESCRIBED}"),
    (
        ("preprocess", "size"),
        10**9,
        f"{OTHER}preprocess.size should be a whole number above 0{DESCRIBED}",
    ),
    (("preprocess", "crop"), 0, f"{OTHER}preprocess.crop should be a number above 0{DESCRIBED}"),
    (
        ("preprocess", "mean"),
        [float("nan")],
        f"{OTHER}preprocess.mean should be a list of numbers{DESCRIBED}",
    ),
    (
        ("batchnorm",),
        "frozen",
        f"{OTHER}batchnorm should be one of train, eval, converted{DESCRIBED}",
    ),
    (
        ("origin", "name"),
        "no_such_net",
        "timm has no model named 'no_such_net'; see timm.list_models()",
    ),
    (
        ("classes",),
        ["one"],
        "{folder}/network.safetensors does not fit test_efficientnet with 1 classes: a weight is "
        "missing, unknown or of another shape; take the folder from a copy, or train again",
    ),
]


@pytest.mark.parametrize(("keys", "value", "said"), CHANGES)
def test_a_network_of_another_version_is_refused_with_these_words(
    tmp_path, kept, keys, value, said
):
    described = json.loads((kept / "network.json").read_text())
    part = described
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    (tmp_path / "network.json").write_text(json.dumps(described))
    (tmp_path / "network.safetensors").write_bytes((kept / "network.safetensors").read_bytes())
    with pytest.raises(ValueError, match=".") as raised:
        Network.load(tmp_path)
    assert str(raised.value) == said.format(file=tmp_path / "network.json", folder=tmp_path)


@pytest.mark.parametrize("size", [None, 0, 9, 1000])
def test_a_network_whose_weights_are_cut_off_is_refused_in_one_sentence(tmp_path, kept, told, size):
    (tmp_path / "network.json").write_bytes((kept / "network.json").read_bytes())
    file = tmp_path / "network.safetensors"
    if size is not None:
        file.write_bytes((kept / "network.safetensors").read_bytes()[:size])
    code, _, error = told("predict", tmp_path, "1.png")
    assert code == 1
    assert str(file) in error
    assert "Traceback" not in error
    with pytest.raises(ValueError, match="network.safetensors"):
        main(["--debug", "predict", str(tmp_path), "1.png"])


def test_layers_called_module_keep_their_name_in_a_network_of_ones_own(tmp_path):
    def own() -> nn.Module:
        inner = nn.Sequential()
        inner.add_module("module", nn.Linear(4, 3))
        inner.add_module("head", nn.Linear(3, 2))
        return inner

    net = Network.from_module(own(), head="head", classes=["a", "b"])
    net.save(tmp_path)
    again = Network.load(tmp_path, module=own())
    x = torch.randn(2, 4)
    assert torch.equal(again(x), net(x))
