"""Who may ask a server on this machine: a browser that was given its address, and no page else."""

from __future__ import annotations

import secrets
from collections.abc import Collection

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; "
    b"img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'",
    b"cross-origin-resource-policy": b"same-origin",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",
    b"cache-control": b"no-store",
}
"""What every answer says to browsers: nothing foreign is loaded, framed, guessed at or kept."""


class Guard:
    """Lets a request through to ``app`` if it begins with the token and comes from its own page.

    The token is the first part of the path, compared in constant time; the rest is the app's path.
    The Host has to be this server's own name, since a foreign name may be made to lead to this
    machine (DNS rebinding); an Origin, if a browser tells one, has to be the server's own. A body
    of more than ``most`` bytes is refused as soon as that is known.

    Args:
        app: What is guarded.
        token: The secret part of the address.
        port: The server's port.
        most: The largest body in bytes.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int, most: int) -> None:
        self.app, self.token, self.most = app, token.encode(), most
        self.hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have the app answer it; nothing but HTTP is served."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *HEADERS.items()]}
            await send(message)

        refused = self._refused(Request(scope))
        if refused:
            status, why = refused
            await PlainTextResponse(why, status)(scope, receive, told)
            return
        rest = "/" + str(scope["path"]).lstrip("/").partition("/")[2]
        inner = {**scope, "path": rest, "raw_path": rest.encode(errors="replace"), "root_path": ""}
        await self.app(inner, self._counted(receive), told)

    def _refused(self, request: Request) -> tuple[int, str] | None:
        """Give status and reason if a request is not to be answered."""
        if not _alone(request.headers.getlist("host"), self.hosts):
            return 403, "This server answers to its own name only: open the address it printed."
        origins = request.headers.getlist("origin")
        if origins and not _alone(origins, {f"http://{host}" for host in self.hosts}):
            return 403, "Another page asked for this, which it may not."
        said = str(request.scope["path"]).lstrip("/").partition("/")[0].encode(errors="replace")
        if not secrets.compare_digest(said, self.token):
            return (
                403,
                "The address lacks its secret part: open all of what was printed.",
            )
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.most:
            return 413, self._large()
        return None

    def _counted(self, receive: Receive) -> Receive:
        """Pass a body on until it is too large: not every one says how long it is."""
        count = 0

        async def counting() -> Message:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count > self.most:
                raise HTTPException(413, self._large())
            return message

        return counting

    def _large(self) -> str:
        return f"That is more than {self.most:,} bytes, which is not taken."


def _alone(said: Collection[str], known: Collection[str]) -> bool:
    return len(said) == 1 and all(one.lower() in known for one in said)
