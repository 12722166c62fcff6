"""A test that is alone waits for those that run, and is waited for by those that come."""

from __future__ import annotations

from fcntl import LOCK_EX, LOCK_NB, flock
from threading import Thread
from time import sleep

import pytest
from machine import machine


@pytest.fixture
def files(tmp_path):
    for name in ("whole", "door"):
        (tmp_path / name).touch()
    return tmp_path / "whole", tmp_path / "door"


def test_two_share_the_machine(files):
    with machine(*files, alone=False), machine(*files, alone=False):
        pass


def taken(file) -> bool:
    with file.open() as opened:
        try:
            flock(opened, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_one_that_is_alone_comes_after_those_that_run_and_before_those_that_come_later(files):
    came = []

    def come(name: str, alone: bool) -> None:
        with machine(*files, alone=alone):
            came.append(name)
            assert taken(files[0])

    alone = Thread(target=come, args=("alone", True), daemon=True)
    later = Thread(target=come, args=("later", False), daemon=True)
    with machine(*files, alone=False):
        alone.start()
        while not taken(files[1]):
            sleep(0.01)
        later.start()
        later.join(0.2)
        assert came == [], "one runs, one waits for it, and one waits for that"
    alone.join(10)
    later.join(10)
    assert came == ["alone", "later"]
