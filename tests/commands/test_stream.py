"""`stream` labels images as they come, and an interrupted one keeps what it wrote."""

import csv
import json
import os
import signal
from shutil import copyfile

import pytest

from adaptune.commands import main
from adaptune.data.inputs import image
from adaptune.data.opening import other_domains
from adaptune.engine.evaluate import sample_outputs
from adaptune.networks.network import Network
from adaptune.ops.information import uncertainty


def lines(file) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as rows:
        return list(csv.DictReader(rows))


@pytest.fixture
def own_sketches(sketches, tmp_path):
    """Sketches by class, one of which is broken."""
    folder = tmp_path / "sketch"
    for path in sketches.glob("*/*"):
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        copyfile(path, folder / path.parent.name / path.name)
    (folder / "dots" / "dots-07b.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "labels.csv"


@pytest.mark.parametrize(
    "method", ["alpha-bn", "tent", "tent --optimizer adamw --lr 0.001 --episodic"]
)
def test_every_image_has_a_line_and_labels_score_the_stream_in_the_end(
    finished, own_sketches, out, told, method
):
    words = [finished, own_sketches, "--method", *method.split(), "--batch-size", 7, "--out", out]
    code, said, error = told("stream", *words, "--json")
    assert code == 0, error
    found = lines(out)
    assert [one["path"] for one in found] == [str(p) for p in sorted(own_sketches.glob("*/*"))]
    [broken] = [one for one in found if one["problem"]]
    assert broken["path"].endswith("dots-07b.png")
    assert "1 of them could not be read" in error
    assert f"left out {broken['path']}" in error
    results = json.loads(said)
    right = sum(one["predicted"] == one["path"].split("/")[-2] for one in found)
    for name in ("adapted", "unadapted"):
        counts = [results["scores"][name][part]["count"] for part in ("all", "last")]
        assert counts == [60, 15]
    assert results["scores"]["adapted"]["all"]["accuracy"] == pytest.approx(100 * right / 60)
    assert list(results["problems"]) == [broken["path"]]
    assert results["images"] == 61


def test_at_alpha_1_it_says_what_predict_says(finished, sketches, tmp_path, told):
    ours, theirs = tmp_path / "ours.csv", tmp_path / "theirs.csv"
    code, said, _ = told("stream", finished, sketches, "--alpha", 1, "--out", ours, "--json")
    assert code == 0
    assert told("predict", finished, sketches, "--out", theirs)[0] == 0
    assert lines(ours) == lines(theirs)
    scores = json.loads(said)["scores"]
    assert scores["adapted"] == scores["unadapted"]


def test_a_network_that_rejects_says_unknown_as_predict_does(finished, sketches, tmp_path, told):
    net = Network.load(finished / "best")
    rows = other_domains({"sketch": sketches}, classes=net.classes).with_input(net.preprocess)
    unsure = uncertainty(sample_outputs(net, rows.tests()["sketch"]).logits).sort().values
    net.threshold = float(unsure[29:31].mean())
    net.save(tmp_path / "net")
    ours, theirs, closed = (tmp_path / f"{name}.csv" for name in ("ours", "theirs", "closed"))
    words = [sketches, "--alpha", 1, "--json", "--out"]
    code, said, _ = told("stream", tmp_path / "net", *words, ours)
    assert code == 0
    assert told("stream", finished, *words, closed)[0] == 0
    assert told("predict", tmp_path / "net", sketches, "--out", theirs)[0] == 0
    assert lines(ours) == lines(theirs)
    assert sum(one["predicted"] == "unknown" for one in lines(ours)) == 30
    for one, other in zip(lines(ours), lines(closed), strict=True):
        assert one["predicted"] in (other["predicted"], "unknown")
        assert one["confidence"] == other["confidence"]
    scores = json.loads(said)["scores"]
    right = sum(one["predicted"] == one["path"].split("/")[-2] for one in lines(ours))
    assert scores["adapted"]["all"]["accuracy"] == pytest.approx(100 * right / 60)
    assert scores["adapted"] == scores["unadapted"]


def test_a_flat_folder_works_and_has_no_scores(finished, sketches, tmp_path, out, told):
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in sketches.glob("*/*-0*.png"):
        copyfile(path, flat / path.name)
    code, said, error = told("stream", finished, flat, "--out", out, "--json")
    assert code == 0
    assert json.loads(said)["scores"] == {}
    assert "accuracy" not in error
    assert [one["path"] for one in lines(out)] == [str(path) for path in sorted(flat.iterdir())]


def test_names_of_folders_change_no_answer(finished, sketches, tmp_path, told):
    wrong = tmp_path / "wrong"
    for at, path in enumerate(sorted(sketches.glob("*/*"))):
        folder = wrong / ("dots", "rings", "stripes")[at // 20 - 2]
        folder.mkdir(parents=True, exist_ok=True)
        copyfile(path, folder / f"{at:02}.png")
    order = {f"{at:02}.png": path.name for at, path in enumerate(sorted(sketches.glob("*/*")))}
    found = []
    for source in (sketches, wrong):
        file = tmp_path / f"{source.name}.csv"
        words = [finished, source, "--method", "tent", "--batch-size", 20, "--episodic"]
        assert told("stream", *words, "--out", file)[0] == 0
        names = [one["path"].split("/")[-1] for one in lines(file)]
        found.append(
            {order.get(n, n): one["predicted"] for n, one in zip(names, lines(file), strict=True)}
        )
    assert found[0] == found[1]


def test_an_interrupted_stream_keeps_what_it_wrote(finished, sketches, out, told, monkeypatch):
    whole = out.with_name("whole.csv")
    words = [finished, sketches, "--method", "tent", "--batch-size", 8]
    assert told("stream", *words, "--out", whole)[0] == 0
    read, read_image = [], image.read_image

    def interrupted(path, part=None):
        read.append(path)
        if len(read) == 30:
            os.kill(os.getpid(), signal.SIGINT)
        return read_image(path, part)

    monkeypatch.setattr(image, "read_image", interrupted)
    code, _, error = told("stream", *words, "--out", out)
    assert code == 130
    assert f"{out} keeps what was answered by then" in error
    assert lines(out) == lines(whole)[:24]


def test_lines_are_in_the_file_as_soon_as_their_batch_is_answered(
    finished, sketches, out, told, monkeypatch
):
    there, read_image = [], image.read_image

    def counting(path, part=None):
        there.append(len(lines(out)) if out.exists() else 0)
        return read_image(path, part)

    monkeypatch.setattr(image, "read_image", counting)
    assert told("stream", finished, sketches, "--batch-size", 15, "--out", out)[0] == 0
    assert there == [0] * 15 + [15] * 15 + [30] * 15 + [45] * 15


@pytest.mark.parametrize("method", ["alpha-bn", "tent"])
def test_images_may_come_one_by_one(finished, sketches, out, told, method):
    words = [finished, sketches / "dots", "--method", method, "--batch-size", 1]
    assert told("stream", *words, "--out", out)[0] == 0
    assert all(one["predicted"] for one in lines(out))


def test_the_seed_decides_a_shuffled_order(finished, sketches, out, told):
    found = []
    for seed in (0, 0, 1):
        words = [finished, sketches, "--shuffle", "--seed", seed]
        assert told("stream", *words, "--out", out)[0] == 0
        found.append([one["path"] for one in lines(out)])
    assert found[0] == found[1]
    assert found[0] != found[2]
    assert sorted(found[0]) == sorted(found[2]) != found[0]


def test_broken_files_alone_are_no_crash(finished, tmp_path, out, told):
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"no image")
    assert told("stream", finished, folder, "--out", out)[0] == 0
    [line] = lines(out)
    assert line["problem"]


def test_folders_without_images_and_methods_that_do_not_stream_are_refused(
    finished, tmp_path, out, told
):
    code, _, error = told("stream", finished, tmp_path, "--out", out)
    assert code == 1
    assert f"no image files in {tmp_path}" in error
    assert not out.exists()
    assert main(["stream", str(finished), str(tmp_path), "--method", "ft"]) == 2


def test_a_run_with_experts_streams_by_what_its_folder_holds(
    finished, photos, sketches, tiny, tmp_path, told
):
    run = tmp_path / "run"
    words = ["--method=meta-dmoe", f"--source=sketch={sketches}", "--epochs=1", f"--out={run}"]
    code, _, error = told("fit", photos, *words, "--teacher", finished, finished, *tiny)
    assert code == 0, error
    out = tmp_path / "labels.csv"
    words = ["--method=meta-dmoe", "--batch-size=16", f"--out={out}", "--json"]
    code, said, error = told("stream", run, sketches, *words)
    assert code == 0, error
    assert set(json.loads(said)["scores"]) == {"adapted", "unadapted"}
    assert len(lines(out)) == json.loads(said)["images"]
    code, _, error = told("stream", finished, sketches, *words)
    assert code != 0
    assert "this network has no experts" in error


def test_domains_come_one_after_the_other_again_and_again(finished, photos, sketches, out, told):
    words = [photos, f"drawn={sketches}", "--cycles=2", "--batch-size=16", f"--out={out}"]
    code, said, error = told("stream", finished, *words, "--method=tent", "--lr=0.01", "--json")
    assert code == 0, error
    results = json.loads(said)
    own, drawn = (sorted(str(p) for p in one.glob("*/*")) for one in (photos, sketches))
    found = lines(out)
    assert [one["path"] for one in found] == 2 * (own + drawn)
    visits = [(one["domain"], one["cycle"]) for one in results["visits"]]
    assert visits == [(photos.name, 1), ("drawn", 1), (photos.name, 2), ("drawn", 2)]
    start = 0
    for one in results["visits"]:
        part = found[start : start + one["images"]]
        right = sum(line["predicted"] == line["path"].split("/")[-2] for line in part)
        assert one["adapted"]["accuracy"] == pytest.approx(100 * right / len(part))
        start += one["images"]
    reached = [one["adapted"]["accuracy"] for one in results["visits"]]
    lost = {photos.name: reached[0] - reached[2], "drawn": reached[1] - reached[3]}
    assert results["forgetting"]["adapted"] == pytest.approx(lost)
    assert set(results["forgetting"]["unadapted"].values()) == {0.0}
    assert "forgotten from the first cycle to the last" in error
    assert "domain by domain" in error


def test_a_batch_is_of_one_domain_and_the_first_is_answered_as_if_alone(
    finished, photos, sketches, tmp_path, told
):
    alone, both = tmp_path / "alone.csv", tmp_path / "both.csv"
    words = ["--method=tent", "--lr=0.01", "--batch-size=7"]
    assert told("stream", finished, photos, *words, f"--out={alone}")[0] == 0
    assert told("stream", finished, photos, sketches, *words, f"--out={both}")[0] == 0
    assert lines(both)[: len(lines(alone))] == lines(alone)


def test_a_collapse_is_said_in_words_and_a_stream_that_holds_says_so(finished, sketches, out, told):
    words = [finished, sketches, "--batch-size=6", "--shuffle", "--window=12", f"--out={out}"]
    code, said, error = told("stream", *words, "--alpha=1", "--json")
    assert code == 0
    assert "answers are of many classes" in error
    window = json.loads(said)["window"]
    assert (window["images"], window["collapsed_images"]) == (12, 0)
    assert "collapse" not in window
    words += ["--cycles=6", "--method=tent", "--lr=20", "--on-nonfinite=skip", "--json"]
    code, said, error = told("stream", *words)
    assert code == 0, error
    assert "ANSWERS HAVE COLLAPSED to few classes" in error
    window = json.loads(said)["window"]
    assert window["collapse"]["most"] in ("dots", "rings", "stripes")
    assert window["collapsed_images"] > 0
    assert window["course"][-1]["share"] > window["course"][0]["share"]


def test_two_domains_of_one_name_are_refused(finished, sketches, out, told):
    code, _, error = told("stream", finished, sketches, sketches, "--out", out)
    assert code == 1
    assert "two domains are called" in error
