"""The page to try a network on: what it says of an image, and that no file breaks it."""

import base64
import importlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import NAMES, draw_scenes
from starlette.testclient import TestClient

from adaptune.commands.devices import fabric_on
from adaptune.networks.network import Network
from adaptune.ops.windows import WHOLE
from adaptune.runs.masks import MaskMaker
from adaptune.serving.guard import Guard
from adaptune.serving.judging import Judge
from adaptune.tasks.classification import Classification

CLASSES = ("dots", "rings", "stripes")
TOKEN, PORT = "secret", 8123
HOME = f"http://127.0.0.1:{PORT}"


def served(folder: Path) -> TestClient:
    """Start `adaptune try` on a run, all but the socket."""
    command = importlib.import_module("adaptune.commands.try")
    said = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(command, "serve", lambda app, **options: said.update(options, app=app))
        command.run([str(folder), "--device=cpu"])
    app = Guard(said["app"], token=TOKEN, port=PORT, most=said["most"])
    return TestClient(app, base_url=HOME)


def saved(folder: Path, net: Network, **config: object) -> Path:
    """Write what is needed of a run: its network, and what it was trained on."""
    net.save(folder / "best")
    (folder / "config.yaml").write_text("".join(f"{key}: {it}\n" for key, it in config.items()))
    return folder


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return Network.from_timm("test_efficientnet", CLASSES, size=32).eval()


@pytest.fixture(scope="module")
def run(net, photos, tmp_path_factory):
    return saved(tmp_path_factory.mktemp("tried") / "run", net, data=photos, val_share=0.5)


@pytest.fixture(scope="module")
def client(run):
    return served(run)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A client, its network of places and a scene."""
    folder = tmp_path_factory.mktemp("scenes")
    scenes = draw_scenes(folder / "city", 30)
    (folder / "names.txt").write_text("\n".join(NAMES))
    torch.manual_seed(0)
    net = Network.from_timm_features("test_resnet", NAMES, stride=4, size=48).eval()
    config = {"data": scenes, "label_table": folder / "names.txt", "val_share": 0.4}
    run = saved(folder / "run", net, **config)
    return served(run), net, scenes / "images" / "003.png"


def look(client, content: bytes, **headers: str):
    return client.post(f"/{TOKEN}/look", content=content, headers=headers)


def png(color) -> bytes:
    raw = io.BytesIO()
    Image.new("RGB", (40, 30), color).save(raw, "PNG")
    return raw.getvalue()


def decoded(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def bomb() -> bytes:
    """Give the beginning of a PNG that says that it has 400 million pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    parts = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + parts


def test_an_image_gets_its_answer_how_sure_it_is_and_what_is_near(client, net, photos):
    trained = {one["name"] for one in look(client, png("gray")).json()["nearest"]}
    file = Path(trained.pop())
    said = look(client, file.read_bytes()).json()
    top = {one["name"]: one["share"] for one in said["top"]}
    assert sum(top.values()) == pytest.approx(1)
    assert said["answer"] == max(top, key=top.get)
    assert said["confidence"] == max(top.values())
    near = said["nearest"]
    assert [one["distance"] for one in near] == sorted(one["distance"] for one in near)
    assert (near[0]["name"], near[0]["label"]) == (str(file), file.parent.name)
    assert near[0]["distance"] < 0.01
    assert len(near) == 6
    assert decoded(near[0]["picture"]).size == (16, 16)
    assert decoded(said["picture"]).size == (16, 16)
    assert (said["rejects"], said["outside"]) == (False, False)


def test_an_image_that_is_like_none_is_out_of_the_domain(client):
    about = client.get(f"/{TOKEN}/state").json()
    assert (about["held"], about["classes"], about["why"]) == (29, list(CLASSES), "")
    assert about["rate"] == pytest.approx(1 / 30)
    said = look(client, png("lime")).json()
    assert said["away"] > about["limit"]
    assert (said["outside"], said["farther"]) == (True, 0)


def test_files_that_cannot_be_read_are_refused_in_words_and_the_next_one_is_answered(client):
    whole = png("red")
    wrong = [
        b"",
        b"no image",
        whole[:-30],
        whole[:60] + b"\0" * 20 + whole[80:],
        bomb(),
        b"\xff" * 99,
    ]
    for content in wrong:
        told = look(client, content)
        assert told.status_code == 422, content[:30]
        assert told.text.startswith("This cannot be read: ")
    large = look(client, b"x", **{"content-length": str(64 * 2**20 + 1)})
    assert (large.status_code, large.text) == (
        413,
        "That is more than 67,108,864 bytes, which is not taken.",
    )
    assert look(client, whole).status_code == 200


@pytest.mark.parametrize(
    ("place", "headers"),
    [
        ("", {}),
        ("/wrong", {}),
        (f"/{TOKEN}", {"origin": "http://evil.example"}),
        (f"/{TOKEN}", {"host": "evil.example"}),
    ],
)
def test_who_has_no_token_or_is_foreign_is_refused(client, place, headers):
    assert client.post(f"{place}/look", content=png("red"), headers=headers).status_code == 403
    assert client.get(f"{place}/state", headers=headers).status_code == 403


def test_what_was_found_of_the_training_images_is_found_once(client, run, monkeypatch):
    def never(*rest):
        raise AssertionError(rest)

    monkeypatch.setattr("adaptune.serving.neighbours.find_neighbours", never)
    before, again = (look(one, png("red")).json() for one in (client, served(run)))
    assert before == again


def test_a_run_of_few_validation_images_says_that_it_cannot_tell(net, photos, tmp_path):
    client = served(saved(tmp_path, net, data=photos))
    said = look(client, png("lime")).json()
    assert (said["outside"], said["farther"], len(said["nearest"])) == (None, None, 6)
    why = client.get(f"/{TOKEN}/state").json()["why"]
    assert why.startswith("it takes 9 validation images to tell what is out of the domain")


def test_a_network_without_its_images_answers_and_says_why_no_more(net, tmp_path):
    client = served(saved(tmp_path, net, data=tmp_path / "gone"))
    said = look(client, png("lime")).json()
    assert said["answer"] in CLASSES
    assert (said["nearest"], said["outside"]) == ([], None)
    assert "training images" in client.get(f"/{TOKEN}/state").json()["why"]


def test_a_threshold_of_the_runs_own_is_told_beside(net, photos, monkeypatch):
    file = next(photos.glob("*/*.png"))
    monkeypatch.setattr(net, "threshold", 0.01)
    said = Judge(net, Classification(3, unknown=True), fabric_on("cpu"))(file)
    assert (said["rejects"], said["unknown"], said["answer"]) == (True, True, "unknown")
    monkeypatch.setattr(net, "threshold", 0.999999)
    said = Judge(net, Classification(3, unknown=True), fabric_on("cpu"))(file)
    assert (said["rejects"], said["unknown"]) == (True, False)


def test_of_a_network_of_places_the_mask_is_painted_in_the_colours_that_are_named(places):
    client, net, file = places
    said = look(client, file.read_bytes()).json()
    assert "answer" not in said
    mask = MaskMaker(net, fabric_on("cpu"), WHOLE).read(file).numpy()
    painted = np.asarray(decoded(said["mask"]).convert("RGB"))
    assert painted.shape == (*mask.shape, 3)
    assert sum(one["share"] for one in said["top"]) == pytest.approx(1)
    for one in said["top"]:
        here = mask == NAMES.index(one["name"])
        assert one["share"] == pytest.approx(here.mean())
        assert (painted[here] == one["color"]).all()
    assert 1 / 3 < said["confidence"] < 1
    assert len(said["nearest"]) == 6
    assert {one["label"] for one in said["nearest"]} == {""}
    assert said["outside"] in (True, False)
