"""Random words on the command line: whatever they are, an exit code and a sentence."""

from __future__ import annotations

import io
import os
import re
import signal
import socket
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptune.commands import COMMANDS, main
from adaptune.network import Network

PATIENCE = 60
"""Seconds after which a command hangs."""

DAMAGED_CONFIGS = {
    "cut.yaml": b"method: [daft",
    "words.yaml": b"just words",
    "list.yaml": b"- method\n- daft",
    "empty.yaml": b"",
    "null.yaml": b"method: null\ndata: null\nout: null",
    "kinds.yaml": b"method: [ft, lp]\ndata: {a: 1}\nout: 3",
    "numbers.yaml": b"lr: fast\nepochs: -1\nseed: 1.5\nbatch_size: .nan",
    "unknown.yaml": b"method: tnt\ncolour: red",
    "binary.yaml": bytes(range(256)),
    "python.yaml": b"data: !!python/object/apply:os.getcwd []",
    "deep.yaml": b"data: " + b"[" * 3000,
    "deep closed.yaml": b"data: " + b"[" * 3000 + b"]" * 3000,
    "itself.yaml": b"config: itself.yaml\ndata: nowhere\nout: out",
    "keys.yaml": b"1: 2\n? [a, b]\n: 3\nnull: 4",
    "loop.yaml": b"data: &a [*a]\nout: out",
    "twice.yaml": b"data: a\ndata: b\nlr: 1\nlr: 2",
    "date.yaml": b"data: 2020-01-01\nout: 2020-01-01 10:00:00\nood: {a: b}\nclasses: cat",
    "fits.yaml": b"method: lp\ndata: nowhere\nout: out\nlr: 0.1",
}

DAMAGED_TABLES = {
    "empty.csv": b"",
    "header.csv": b"path,label\n",
    "nowhere.csv": b"path,label\nnowhere.png,cat\nnowhere.png,dog\n",
    "quotes.csv": b'path,label\n"a.png,cat\n',
    "binary.csv": bytes(range(256)),
    "columns.csv": b"a,b,c\n1,2\n",
    "table.parquet": b"PAR1 and no more",
}

DAMAGED_JSON = {
    "cut": '{"format": 1',
    "list": "[]",
    "nothing": "{}",
    "null": "null",
    "future": '{"format": 99}',
    "kinds": '{"format": "one", "origin": 3}',
    "origin": '{"format": 1, "origin": {"kind": "moon", "name": "x", "head": "y"}, "classes": []}',
}
