"""A checkpoint is there whole or not at all, whatever happens while it is written."""

from __future__ import annotations

import os

import pytest
import torch

from adaptune.runs.checkpoint import FORMAT, Checkpoints, pack
from adaptune.runs.folder import Run
from adaptune.runtime import files

resource = pytest.importorskip("resource", reason="limits and forks are the system's")
STATE = {
    "weights": {"a": torch.arange(600.0), "b": torch.ones(2, 3, 4, 4)},
    "epoch": 3,
    "names": ["x", 1, None, 0.5],
    "by number": {0: torch.tensor(1), 1: {"deep": True}},
}
CALLS = ("open", "write", "fsync", "close", "replace", "unlink", "mkdir")


def other(step: int) -> dict:
    return {**STATE, "epoch": step, "weights": {"a": torch.full((600,), float(step))}}


def same(one: object, two: object) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    return one == two


def test_a_state_comes_back_as_it_was_with_keys_types_and_layouts(tmp_path):
    kept = Checkpoints(tmp_path)
    last = STATE["weights"]["b"].to(memory_format=torch.channels_last)
    kept.save(1, STATE | {"last": last})
    back = kept.newest().state
    assert torch.equal(back.pop("last"), last)
    assert same(back, STATE)


def test_the_two_newest_are_kept_and_the_newest_is_read(tmp_path):
    kept = Checkpoints(tmp_path)
    files = [kept.save(step, other(step)) for step in (1, 2, 10)]
    assert sorted(tmp_path.iterdir()) == sorted(files[1:])
    assert kept.newest().file == files[2]


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "longer"])
def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path, harm):
    kept = Checkpoints(tmp_path)
    kept.save(1, other(1))
    file = kept.save(2, other(2))
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    cut = {"flip": content, "cut": content[:-20], "empty": b"", "longer": content + b"0"}
    file.write_bytes(bytes(cut[harm]))
    found = kept.newest()
    assert same(found.state, other(1))
    assert found.damaged == (file,)
    kept.save(2, other(2))
    assert same(kept.newest().state, other(2)), "the damaged one should not stand in the way"


def test_where_none_is_whole_the_error_says_so(tmp_path):
    kept = Checkpoints(tmp_path)
    kept.save(1, other(1)).write_bytes(b"")
    with pytest.raises(ValueError, match=r"no checkpoint in .* is whole \(1 damaged\)"):
        kept.newest()


def test_a_checkpoint_of_a_newer_version_is_refused_kindly(tmp_path, monkeypatch):
    monkeypatch.setattr("adaptune.runs.checkpoint.FORMAT", FORMAT + 1)
    kept = Checkpoints(tmp_path)
    kept.save(1, other(1))
    monkeypatch.undo()
    with pytest.raises(ValueError, match="has format 2 and this adaptune reads up to 1: upgrade"):
        kept.newest()


def calls_of(work, dies_at: int | None) -> int:
    """Do ``work`` in a child that is killed just before its n-th call of the system; count them.

    Writes go out in small parts, so that it is killed between them too.
    """
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        counted = b"".join(iter(lambda: os.read(read, 4096), b""))
        os.close(read)
        os.waitpid(child, 0)
        return len(counted)
    os.close(read)

    def watched(call, *args, **more):
        nonlocal dies_at
        os_write(write, b".")
        if dies_at == 0:
            os._exit(9)
        dies_at = None if dies_at is None else dies_at - 1
        return call(*args, **more)

    os_write = os.write
    for name in CALLS:
        call = getattr(os, name)
        part = (lambda c: lambda f, b: c(f, b[:64]))(call) if name == "write" else call
        setattr(os, name, (lambda c: lambda *a, **k: watched(c, *a, **k))(part))
    try:
        work()
    finally:
        os._exit(0)


def test_killed_at_any_call_while_writing_a_whole_checkpoint_is_always_there(tmp_path):
    calls = calls_of(lambda: Checkpoints(tmp_path / "count").save(3, other(3)), None)
    assert calls >= 50, "the writing should have been watched"
    survived = set()
    for at in range(calls + 1):
        kept = Checkpoints(tmp_path / str(at))
        kept.save(1, other(1))
        kept.save(2, other(2))
        calls_of(lambda kept=kept: kept.save(3, other(3)), at)
        found = kept.newest()
        step = found.state["epoch"]
        assert same(found.state, other(step))
        assert not found.damaged, "nothing half written should bear a checkpoint's name"
        survived.add(step)
        kept.save(4, other(4))
        assert same(kept.newest().state, other(4)), "it should go on from there"
        assert len(list(kept.folder.iterdir())) == 2, "halves should be cleared away"
    assert survived == {2, 3}


def test_a_full_disk_leaves_the_previous_checkpoint_loadable_and_no_half_file(tmp_path):
    kept = Checkpoints(tmp_path)
    kept.save(1, other(1))
    size = len(pack(other(2)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            kept.save(2, other(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert same(kept.newest().state, other(1))
    assert len(list(tmp_path.iterdir())) == 1
    kept.save(2, other(2))
    assert same(kept.newest().state, other(2))


def test_what_cannot_be_read_back_is_an_error_and_the_one_before_stays(tmp_path, monkeypatch):
    kept = Checkpoints(tmp_path)
    kept.save(1, other(1))
    write = files._write_new
    monkeypatch.setattr(files, "_write_new", lambda file, all_, *how: write(file, all_[:-1], *how))
    with pytest.raises(OSError, match="cannot be read back as it was written"):
        kept.save(2, other(2))
    assert same(kept.newest().state, other(1))


def test_two_runs_on_one_folder_are_refused(tmp_path):
    with (
        Run(tmp_path).locked(),
        pytest.raises(OSError, match="another run is writing into"),
        Run(tmp_path).locked(),
    ):
        pass
    with Run(tmp_path).locked():
        pass


def test_a_folder_that_cannot_be_made_or_written_to_is_said_kindly(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be made .*: choose another --out"):
        Run(tmp_path / "file" / "run")
    run = Run(tmp_path / "run")

    def refuse(*args, **more):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match=r"cannot be written to \(Permission denied\)"), run.locked():
        pass


def test_half_a_line_of_metrics_is_no_line(tmp_path):
    run = Run(tmp_path)
    run.log({"epoch": 0})
    with run.metrics.open("a") as file:
        file.write('{"epoch": 1, "ta')
    run.begin("", 5)
    assert run.metrics.read_text() == '{"epoch": 0}\n'
