"""What is pushed opens elsewhere, and tells nothing of this machine."""

import json
import sys
import types
from pathlib import Path

import pytest
import torch
import yaml

from adaptune import Network
from adaptune.commands import main
from adaptune.runs.sharing import SHARED, pull_run, push_run

OF_IMAGES = sorted({*SHARED} - {"tokenizer.json"})


@pytest.fixture(scope="module")
def shared(finished, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "folder"
    assert main(["push", str(finished), str(folder)]) == 0
    return folder


def same(one: Path, other: Path) -> bool:
    x = torch.randn(2, 3, 32, 32)
    nets = [Network.load(folder).eval() for folder in (one, other)]
    with torch.no_grad():
        return bool((nets[0](x) == nets[1](x)).all())


def test_a_pushed_run_is_pulled_and_predicts(shared, finished, photos, tmp_path, told):
    assert sorted(one.name for one in shared.iterdir()) == OF_IMAGES
    assert told("pull", shared, "--out", tmp_path / "theirs")[0] == 0
    assert same(tmp_path / "theirs", finished / "best")
    out = tmp_path / "said.csv"
    assert told("predict", tmp_path / "theirs", photos / "dots", "--out", out)[0] == 0
    assert len(out.read_text().splitlines()) == 21


def test_nothing_of_this_machine_is_in_it(shared, finished, photos):
    for name in ("results.json", "config.yaml", "README.md", "export.json", "network.json"):
        text = (shared / name).read_text()
        assert str(photos.parent) not in text, name
        assert str(finished) not in text, name
    settings = yaml.safe_load((shared / "config.yaml").read_text())
    assert settings["data"] == "photo"
    assert settings["ood"] == ["sketch=sketch"]
    both = [json.loads((place / "results.json").read_text()) for place in (shared, finished)]
    assert both[0]["id_accuracy"] == both[1]["id_accuracy"]


def test_a_folder_with_other_things_is_left_alone(finished, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="holds other things .letter.txt."):
        push_run(finished, str(tmp_path))
    with pytest.raises(ValueError, match="no folder that was pushed to"):
        pull_run(str(tmp_path), tmp_path / "out")


def test_a_repository_is_private_and_gives_these_files_alone(
    shared, finished, tmp_path, monkeypatch
):
    calls = []
    hub = types.ModuleType("huggingface_hub")

    def upload(repo_id, folder_path):
        calls.append((repo_id, sorted(one.name for one in Path(folder_path).iterdir())))

    def download(name, *, revision, local_dir, allow_patterns):
        calls.append((name, revision, allow_patterns))
        pull_run(str(shared), Path(local_dir))

    hub.create_repo = lambda name, private, exist_ok: calls.append((name, private)) or f"at {name}"
    hub.upload_folder, hub.snapshot_download = upload, download
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert push_run(finished, "hf:me/birds") == "at me/birds"
    assert calls == [("me/birds", True), ("me/birds", OF_IMAGES)]
    net = pull_run("hf:me/birds", tmp_path / "theirs", revision="v1")
    assert calls[-1] == ("me/birds", "v1", list(SHARED))
    assert net.classes == ("dots", "rings", "stripes")
    hub.snapshot_download = lambda *_, **__: 1 / 0
    with pytest.raises(OSError, match="the hub did not give me/birds"):
        pull_run("hf:me/birds", tmp_path / "others")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"pip install 'adaptune\[hub\]'"):
        push_run(finished, "hf:me/birds")
