"""The labelling page's server: who may ask, and that no answer is lost."""

import csv
import io
import tarfile
from dataclasses import replace

import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from adaptune.data.annotators import PeopleAnnotator
from adaptune.data.domains import Loading
from adaptune.data.listing import Example, Part
from adaptune.data.opening import other_domains
from adaptune.data.questions import Questions
from adaptune.runtime.signals import Waiting
from adaptune.serving.guard import Guard
from adaptune.serving.labelling import MOST, Desk, labelling_app

CLASSES = ("dots", "rings", "stripes")
TOKEN, PORT = "secret", 8123
HOME = f"http://127.0.0.1:{PORT}"


@pytest.fixture
def desk(sketches, tmp_path):
    data = other_domains({}, classes=CLASSES, target=sketches, loading=Loading())
    data = replace(data, answers=PeopleAnnotator(tmp_path / "questions.csv"))
    with pytest.raises(Waiting):
        data.query_labels(torch.tensor([0, 25, 50]))
    return Desk(tmp_path)


@pytest.fixture
def client(desk):
    return served(desk)


def served(desk) -> TestClient:
    app = Guard(labelling_app(desk), token=TOKEN, port=PORT, most=MOST)
    return TestClient(app, base_url=HOME)


def labels(desk) -> list[str]:
    with (desk.folder / "questions.csv").open(newline="") as file:
        return [row["label"] for row in csv.DictReader(file)]


def images(client) -> list[dict[str, str]]:
    return client.get(f"/{TOKEN}/state").json()["images"]


def answer(client, one, label, before=""):
    said = {"id": one["id"], "label": label, "before": before}
    return client.post(f"/{TOKEN}/answer", json=said)


def test_an_answer_is_on_the_disk_and_can_be_changed_and_taken_back(client, desk):
    first, second, _ = images(client)
    assert answer(client, first, "dots").json() == {"label": "dots"}
    assert labels(desk) == ["dots", "", ""]
    assert answer(client, second, "stripes").status_code == 200
    assert answer(client, first, "rings", before="dots").status_code == 200
    assert answer(client, second, "", before="stripes").status_code == 200
    assert labels(desk) == ["rings", "", ""]
    assert [one["label"] for one in images(client)] == ["rings", "", ""]
    assert "1 of 3 answered" in desk.words()


def test_of_two_tabs_that_differ_the_second_is_told_and_nothing_is_overwritten(client, desk):
    first = images(client)[0]
    assert answer(client, first, "dots").status_code == 200
    assert answer(client, first, "dots").status_code == 200, "an answer whose reply was lost"
    told = answer(client, first, "rings")
    assert (told.status_code, told.json()) == (409, {"label": "dots"})
    assert labels(desk)[0] == "dots"


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/state", {}),
        ("/wrong/state", {}),
        (f"/{TOKEN}x/state", {}),
        (f"/{TOKEN}/state", {"host": "evil.example"}),
        (f"/{TOKEN}/state", {"host": "127.0.0.1:1"}),
        (f"/{TOKEN}/state", {"origin": "http://evil.example"}),
        (f"/{TOKEN}/state", {"origin": "null"}),
    ],
)
def test_a_missing_token_a_foreign_host_and_a_foreign_origin_are_refused(client, path, headers):
    assert client.get(path, headers=headers).status_code == 403


def test_its_own_origin_is_let_in_and_nothing_foreign_may_be_loaded(client):
    reply = client.get(f"/{TOKEN}/", headers={"origin": HOME})
    assert reply.status_code == 200
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    for name in ("", "label.js", "page.css"):
        text = client.get(f"/{TOKEN}/{name}").text
        assert "http://" not in text
        assert "https://" not in text


def test_only_images_that_are_asked_about_are_served(client, desk):
    first = images(client)[0]
    assert client.get(f"/{TOKEN}/image/{first['id']}").headers["content-type"] == "image/png"
    for other in ("0" * 16, "..%2F..%2Fetc%2Fpasswd", "../questions.csv", "%2e%2e/questions.csv"):
        assert client.get(f"/{TOKEN}/image/{other}").status_code in (403, 404)
    gone = {"id": "0" * 16}
    assert answer(client, gone, "dots").status_code == 404
    assert answer(client, first, "emus").status_code == 404
    assert labels(desk) == ["", "", ""]


def test_bodies_that_are_too_large_or_no_answer_are_refused(client, desk):
    place = f"/{TOKEN}/answer"
    assert client.post(place, content=b"x" * (MOST + 1)).status_code == 413
    chunks = (b"x" * 1024 for _ in range(MOST // 1024 + 1))
    assert client.post(place, content=chunks).status_code == 413
    for content in (b"", b"[]", b"{}", b'{"id": 1, "label": 2, "before": 3}', b"\xff"):
        assert client.post(place, content=content).status_code == 400
    assert labels(desk) == ["", "", ""]


def test_a_table_that_cannot_be_read_is_said_and_left_alone(client, desk):
    first = images(client)[0]
    (desk.folder / "questions.csv").write_text("nonsense\n")
    told = answer(client, first, "dots")
    assert told.status_code == 500
    assert "expected the columns path,label" in told.text
    assert (desk.folder / "questions.csv").read_text() == "nonsense\n"


def test_other_columns_and_line_ends_stay(client, desk):
    first = images(client)[0]
    table = desk.folder / "questions.csv"
    table.write_bytes(f"\ufeffpath,label,sure\r\n{first['name']},,yes\r\n".encode())
    assert answer(client, first, "dots").status_code == 200
    assert table.read_bytes().decode() == f"\ufeffpath,label,sure\r\n{first['name']},dots,yes\r\n"


def test_images_within_tars_are_shown_and_answered(sketches, tmp_path):
    files = sorted(sketches.glob("*/*.png"))[::30]
    shard = tmp_path / "shard.tar"
    with tarfile.open(shard, "w") as tar:
        for file in files:
            tar.add(file, f"{file.stem}.png")
            label = tmp_path / f"{file.stem}.cls"
            label.write_text(file.parent.name)
            tar.add(label, label.name)
    data = other_domains({}, classes=CLASSES, target=shard, loading=Loading())
    data = replace(data, answers=PeopleAnnotator(tmp_path / "questions.csv"))
    with pytest.raises(Waiting):
        data.query_labels(torch.tensor([0, 1]))
    read = Questions.load(tmp_path / "questions.json").images
    assert [one.part for one in read] == [one.part for one in data.target.rows.examples]
    client = served(Desk(tmp_path))
    for one, file in zip(images(client), files, strict=True):
        shown = Image.open(io.BytesIO(client.get(f"/{TOKEN}/image/{one['id']}").content))
        assert shown.tobytes() == Image.open(file).tobytes()
        assert answer(client, one, file.parent.name).status_code == 200
    assert data.query_labels(torch.tensor([0, 1])).tolist() == [0, 1]


def test_the_version_of_a_remote_part_is_kept(tmp_path):
    part = Part(tmp_path / "a.tar", "1.png", 512, 99, "v7")
    asked = Questions((Example(tmp_path / "a.tar" / "1.png", "", part=part),), CLASSES)
    asked.save(tmp_path / "questions.json")
    assert Questions.load(tmp_path / "questions.json") == asked


def test_a_run_that_asks_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="asks for no labels now"):
        labelling_app(Desk(tmp_path))
