"""The parts of a page: files of this package that never change while it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

KINDS = {"html": "text/html", "js": "text/javascript", "css": "text/css"}


def page_routes(name: str) -> Iterator[Route]:
    """Give what serves a page ``name.html`` at the root, its script and the style of all pages."""
    for path, file in (("/", f"{name}.html"), (f"/{name}.js", f"{name}.js"), ("/page.css",) * 2):
        yield Route(path, _served(file.lstrip("/")))


def _served(file: str) -> Callable[[Request], Awaitable[Response]]:
    content = (files("adaptune.serving") / "pages" / file).read_bytes()
    kind = KINDS[file.rpartition(".")[2]]

    async def served(request: Request) -> Response:
        del request
        return Response(content, media_type=f"{kind}; charset=utf-8")

    return served
