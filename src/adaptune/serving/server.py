"""Serve an app on the loopback address until somebody stops it."""

from __future__ import annotations

import importlib.util
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp

HOME = "127.0.0.1"

AT_ONCE = 32
"""Requests that are answered or wait; more are told to come again."""


def need_server() -> None:
    """Say what to install where pages cannot be served.

    Raises:
        ValueError: If that is so.
    """
    for name in ("starlette", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"pages in a browser need {name}: pip install 'adaptune[label]'")


def serve(app: ASGIApp, *, port: int, most: int, say: Callable[[str], None]) -> None:
    """Serve an app on this machine alone, at an address with a new token, until Ctrl-C.

    Args:
        app: What answers, behind a `Guard`.
        port: The port, or 0 for any that is free.
        most: The largest body of a request in bytes.
        say: Told the address as soon as it can be opened.

    Raises:
        OSError: If the port is taken.
    """
    import uvicorn

    from adaptune.serving.guard import Guard

    token = secrets.token_urlsafe(32)
    with _listening(port) as opened:
        port = opened.getsockname()[1]
        guarded = Guard(app, token=token, port=port, most=most)
        config = uvicorn.Config(
            guarded,
            log_level="warning",
            access_log=False,  # its lines would hold the token
            lifespan="off",
            server_header=False,
            ws="none",
            proxy_headers=False,
            limit_concurrency=AT_ONCE,
            timeout_graceful_shutdown=3,
        )
        say(f"open http://{HOME}:{port}/{token}/ in a browser; Ctrl-C ends it")
        with suppress(KeyboardInterrupt):  # the way to end it
            uvicorn.Server(config).run(sockets=[opened])


def _listening(port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((HOME, port))
        opened.listen()
    except OSError as error:
        opened.close()
        raise OSError(
            f"port {port} cannot be had ({error.strerror}): choose another --port, or leave it out"
        ) from error
    return opened
