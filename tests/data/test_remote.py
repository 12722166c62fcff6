"""Folders, tars and tables in remote stores are what they are on disk."""

import importlib.util
import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import fsspec
import pytest
import torch

from adaptune.data import Loading, objects, open_domains
from adaptune.data.inputs.image import read_image
from adaptune.data.object_cache import ObjectCache, object_cache
from adaptune.data.objects import UnreachableError
from adaptune.data.readers.folder import read_folder
from adaptune.data.readers.remote import read_remote, read_remote_scenes
from adaptune.data.sources import read_source
from adaptune.data.words import absolute_path, named_folders, read_place

HAS_S3 = all(map(importlib.util.find_spec, ("moto", "s3fs", "flask", "flask_cors")))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTUNE_OBJECTS", str(tmp_path / "kept"))
    monkeypatch.setattr(objects, "PAUSES", (0.0, 0.0))
    object_cache.cache_clear()
    objects._opened.cache_clear()
    yield
    object_cache.cache_clear()
    objects._opened.cache_clear()


@pytest.fixture
def memory(photos):
    """A store in memory that holds the photos."""
    store = fsspec.filesystem("memory")
    put(store, "/bucket/photos", photos)
    store.pipe_file("/bucket/photos/dots/.hidden.png", b"x")
    store.pipe_file("/bucket/photos/dots/notes.txt", b"x")
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]


@pytest.fixture
def asked(monkeypatch) -> list[int]:
    """The sizes of all ranges that stores were asked for."""
    sizes: list[int] = []
    real = objects.fetch

    def counted(part):
        sizes.append(part.size)
        return real(part)

    monkeypatch.setattr(objects, "fetch", counted)
    monkeypatch.setattr("adaptune.data.ranged_file.fetch", counted)
    return sizes


def put(store, place: str, folder: Path) -> None:
    for file in folder.rglob("*.png"):
        store.pipe_file(f"{place}/{file.relative_to(folder)}", file.read_bytes())


def tar_of(folder: Path, fill: int = 0) -> bytes:
    """Write photos as a tar of samples, each beside ``fill`` bytes that no reader wants."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for file in sorted(folder.rglob("*.png")):
            label = file.parent.name.encode()
            for end, content in (("png", file.read_bytes()), ("cls", label), ("bin", bytes(fill))):
                member = tarfile.TarInfo(f"{file.stem}.{end}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return raw.getvalue()


def same(listing, folder: Path) -> None:
    """Hold a listing against a folder: names, labels and pixels."""
    files = {one.path.name: one for one in read_folder(folder, "photos").examples}
    assert {one.path.name: one.label for one in listing.examples} == {
        name: one.label for name, one in files.items()
    }
    for one in listing.examples[::7]:
        assert torch.equal(read_image(one.path, one.part), read_image(files[one.path.name].path))


def test_a_folder_is_listed_without_reading_and_read_once(memory, photos, asked):
    (listing,) = read_source(Path("memory://bucket/photos"), "photos")
    assert not asked
    same(listing, photos)
    assert any("1 hidden" in note for note in listing.notes)
    assert any(".txt 1" in note for note in listing.notes)
    first = len(asked)
    same(listing, photos)
    assert len(asked) == first == len(listing.examples[::7])


def test_tars_are_read_by_ranges_and_their_headers_kept(memory, photos, asked):
    raw = tar_of(photos, fill=2**20)
    memory.pipe_file("/bucket/shards/train-0.tar", raw)
    (listing,) = read_remote(Path("memory://bucket/shards"), "photos")
    same(listing, photos)
    assert {one.split for one in listing.examples} == {"train"}
    assert sum(asked) < len(raw) / 8
    asked.clear()
    same(read_remote(Path("memory://bucket/shards/train-0.tar"), "photos")[0], photos)
    assert not asked


def test_headers_close_together_take_few_requests(memory, photos, asked):
    memory.pipe_file("/bucket/one.tar", tar_of(photos))
    read_remote(Path("memory://bucket/one.tar"), "photos")
    assert len(asked) < 5


def test_scenes_are_read_from_tars_alone(memory, photos):
    with pytest.raises(ValueError, match="holds no tars.*pack them"):
        read_remote_scenes(Path("memory://bucket/photos"), "photos")
    memory.pipe_file("/bucket/scenes/0.tar", tar_of(photos))
    assert len(read_remote_scenes(Path("memory://bucket/scenes"), "photos").examples) == 60


def test_a_table_names_objects_below_its_folder(memory, photos):
    files = sorted(photos.rglob("*.png"))
    rows = [f"photos/{one.parent.name}/{one.name},{one.parent.name}" for one in files]
    memory.pipe_file(
        "/bucket/t.csv", "\n".join(["path,label", *rows, "photos/no.png,dots"]).encode()
    )
    (listing,) = read_remote(Path("memory://bucket/t.csv"), "t")
    assert listing.examples[-1].part is None
    same(type(listing)("t", listing.examples[:-1], listing.classes), photos)
    memory.pipe_file("/bucket/bad.csv", b"path,split\na,b\n")
    with pytest.raises(ValueError, match=r"memory://bucket/bad.csv lacks the column label"):
        read_remote(Path("memory://bucket/bad.csv"), "bad")


def test_words_are_addresses_from_any_folder():
    assert absolute_path(Path("s3://photos/cat")) == "s3://photos/cat"
    assert named_folders(["a=s3://b/c"]) == {"a": Path("s3://b/c")}
    assert read_place("s3://b/year=1/x").path == Path("s3://b/year=1/x")
    assert (read_place("a=s3://b").name, read_place("a=s3://b").place) == ("a", "s3://b")


def test_what_is_damaged_is_fetched_again_and_the_longest_unread_go(tmp_path):
    kept = ObjectCache(tmp_path / "own", bound=400)
    for number in range(10):
        kept.put(kept.key("s3://a", "1", number, 90), bytes([number]) * 90)
        time.sleep(0.002)
    files = [file for file in kept.folder.glob("??/*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 500
    assert kept.get(kept.key("s3://a", "1", 0, 90)) is None
    last = kept.key("s3://a", "1", 9, 90)
    assert kept.get(last) == bytes([9]) * 90
    kept.file(last).write_bytes(kept.file(last).read_bytes()[:-1])
    assert kept.get(last) is None


def test_objects_that_change_or_go_are_named(memory):
    (listing,) = read_remote(Path("memory://bucket/photos"), "photos")
    one, other = listing.examples[:2]
    memory.pipe_file("/" + str(one.path).partition(":/")[2], b"shorter")
    memory.rm_file("/" + str(other.path).partition(":/")[2])
    with pytest.raises(OSError, match="another than when it was listed"):
        read_image(one.path, one.part)
    with pytest.raises(OSError, match="no such file"):
        read_image(other.path, other.part)


def test_a_network_that_fails_is_asked_again_and_then_stops_the_run(memory, monkeypatch):
    data = open_domains("memory://bucket/photos", loading=Loading(batch_size=8))
    real, left = type(memory).open, [2]

    def fails(self, *words, **more):
        left[0] -= 1
        if left[0] >= 0:
            raise ConnectionError("no route")
        return real(self, *words, **more)

    monkeypatch.setattr(type(memory), "open", fails)
    rows = data.sets["train"]
    assert len(rows[0, 0]) == 3
    left[0] = 1000
    with pytest.raises(UnreachableError, match=r"no answer in 3 tries \(no route\).*--resume"):
        read_image(rows.examples[1].path, rows.examples[1].part)
    with pytest.raises(ValueError, match="no answer"):
        list(data.scan("train"))


def test_stores_that_no_package_knows_and_empty_places_are_refused(memory, told):
    with pytest.raises(ValueError, match="nothing lies at memory://bucket/none"):
        read_source(Path("memory://bucket/none"), "none")
    with pytest.raises(ValueError, match=r"opened by a package .*adaptune\[remote\]"):
        read_source(Path("nostore://bucket"), "none")
    code, _, error = told("predict", "run", "s3://bucket/photos")
    assert code == 1
    assert "remote store" in error


def test_a_run_on_a_store_is_the_run_on_the_folder(memory, photos, sketches, tiny, told, tmp_path):
    put(memory, "/bucket/sketches", sketches)
    results = []
    for number, place in enumerate((photos, "memory://bucket/photos")):
        out = tmp_path / str(number)
        other = sketches if place == photos else "memory://bucket/sketches"
        words = [place, "--ood", f"sketch={other}", *tiny, "--epochs=1", "--method=ft"]
        assert told("fit", *words, "--out", out)[0] == 0
        results.append((out / "best" / "network.safetensors").read_bytes())
    assert results[0] == results[1]
    assert "data: memory://bucket/photos" in (out / "config.yaml").read_text()
    assert told("evaluate", out)[0] == 0


def test_a_target_may_be_a_flat_folder(memory, photos):
    put(memory, "/bucket/flat", photos / "dots")
    data = open_domains("memory://bucket/photos", target="memory://bucket/flat")
    assert (data.target.name, len(data.target.rows)) == ("flat", 20)


@pytest.fixture
def server(monkeypatch):
    """A server that speaks S3, on this machine."""
    if not HAS_S3:
        pytest.skip("moto's server or s3fs is not installed: pip install s3fs 'moto[server]'")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(words, **silent) as process:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "nobody")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        for _ in range(300):
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield process
        process.kill()


def test_s3_gives_folders_and_ranges_of_tars(server, photos, asked):
    store = fsspec.filesystem("s3")
    store.mkdir("bucket")
    put(store, "bucket/photos", photos)
    raw = tar_of(photos, fill=2**18)
    store.pipe_file("bucket/shards/photo.tar", raw)
    (listing,) = read_source(Path("s3://bucket/photos"), "photos")
    assert not asked
    same(listing, photos)
    (shards,) = read_source(Path("s3://bucket/shards/photo.tar"), "photos")
    same(shards, photos)
    assert sum(asked) < len(raw) / 2
    data = open_domains("s3://bucket/photos", loading=Loading(batch_size=8, workers=2))
    assert sum(len(one.y) for one in data.scan("train")) == len(data.sets["train"])
    late = shards.examples[1]
    store.pipe_file("bucket/shards/photo.tar", tar_of(photos, fill=2**18 + 1))
    with pytest.raises(OSError, match="another than when it was listed"):
        read_image(late.path, late.part)
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    with pytest.raises(ValueError, match="s3://bucket/photos gave no answer in 3 tries"):
        read_source(Path("s3://bucket/photos"), "photos")
