"""The files of Gradio's own pages, read and packed once and then kept in memory."""

from __future__ import annotations

from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from a3tune.recently_used import RecentlyUsed

_FOLDER = "/assets/"
# What asks for something else than the whole file.
_SPECIAL = {"range", "if-none-match", "if-modified-since"}
# Headers that are made anew: the length, and what is said to the origin that asked first (which the gate keeps back).
_LENGTH, _FOR_ORIGINS = b"content-length", b"access-control-"
# A page asks for about 90 of some 900, in one way of packing them.
_CAPACITY, _MOST_BYTES = 200, 1_000_000


class _File(NamedTuple):
    start: Message
    body: bytes


class KeptAssets:
    """ASGI middleware: answers for a file of Gradio's package from memory, once it was asked for.

    A page asks for some ninety of them at once. To open, read and pack each of them for every page takes a tenth of a
    second, in which the page's own events wait. They belong to the installed package and hold nothing of any visitor.

    Args:
        app: what reads and packs them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._files: RecentlyUsed[_File] = RecentlyUsed(_CAPACITY)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        inside = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] != "http" or scope["method"] != "GET" or not inside.startswith(_FOLDER):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if scope.get("query_string") or not _SPECIAL.isdisjoint(headers.keys()):
            await self._app(scope, receive, send)
            return
        accepted = headers.get("accept-encoding", "")
        key = inside, "br" in accepted, "gzip" in accepted
        kept = self._files.get(key)
        if kept is not None:
            await send(dict(kept.start))
            await send({"type": "http.response.body", "body": kept.body})
            return
        told: list[Message] = []

        async def listen(message: Message) -> None:
            told.append(dict(message))
            await send(message)

        await self._app(scope, receive, listen)
        file = _whole_file(told)
        if file is not None:
            self._files.put(key, file)


def _whole_file(told: list[Message]) -> _File | None:
    """What was sent, if it is a file that was found, to its end and not too large."""
    start, *parts = told
    whole = bool(parts) and all("body" in part for part in parts) and not parts[-1].get("more_body", False)
    body = b"".join(part.get("body", b"") for part in parts)
    if start.get("status") != 200 or not whole or len(body) > _MOST_BYTES:
        return None
    headers = [
        (name, value)
        for name, value in start["headers"]
        if name.lower() != _LENGTH and not name.lower().startswith(_FOR_ORIGINS)
    ]
    return _File({**start, "headers": [*headers, (_LENGTH, str(len(body)).encode())]}, body)
