"""The page on which people show a network an image of theirs and see what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from adaptune.serving.files import page_routes

MOST = 64 * 2**20
"""The largest file in bytes."""


def trying_app(judge: Callable[[Path], dict[str, Any]], about: Mapping[str, Any]) -> Starlette:
    """Make the app of a page to try a network on.

    A file is judged in a folder of its own that is gone afterwards. What cannot be judged is told
    in words, and the next file is judged as if nothing had been.

    Args:
        judge: Says what there is to say of an image file; an OSError says why it cannot.
        about: What the page says of the network.
    """

    async def state(request: Request) -> Response:
        del request
        return JSONResponse({**about, "most": MOST})

    async def look(request: Request) -> Response:
        content = await request.body()
        try:
            return JSONResponse(await run_in_threadpool(_judged, judge, content))
        except OSError as error:
            return PlainTextResponse(f"This cannot be read: {error}.", 422)
        except (MemoryError, RuntimeError) as error:  # such as a GPU's memory that is full
            return PlainTextResponse(f"The network could not answer: {error}.", 500)

    return Starlette(
        routes=[
            *page_routes("try"),
            Route("/state", state),
            Route("/look", look, methods=["POST"]),
        ]
    )


def _judged(judge: Callable[[Path], dict[str, Any]], content: bytes) -> dict[str, Any]:
    with TemporaryDirectory(prefix="adaptune-") as folder:
        file = Path(folder) / "image"
        file.write_bytes(content)
        return judge(file)
