"""What a machine asks the server: whether it lives, whether it can answer, and its numbers."""

from __future__ import annotations

import hmac
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.server.drain import Drain

_LOOPBACK = ("127.0.0.1", "::1")
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "x-forwarded-host")
_ENDING = "The server is being restarted. Your page comes back by itself; what you asked before is still answered."
# Events that begin something new, and the stream by which their answers come.
_BEGINS, _ANSWERS = "/queue/join", "/queue/data"
# How long it is believed that a folder can be written, in seconds: anybody may ask.
_BELIEVED = 5.0


class Disk:
    """Whether folders can be written.

    Args:
        folders: asked for each time; one that is not there yet counts by its nearest parent.
    """

    def __init__(self, folders: Callable[[], tuple[Path, ...]]) -> None:
        self._folders = folders
        self._asked, self._writable = -_BELIEVED, False

    def writable(self) -> bool:
        """Whether a file can be made, with something in it, in each of the folders."""
        now = time.monotonic()
        if now - self._asked >= _BELIEVED:
            self._writable = all(map(_writable, self._folders()))
            self._asked = now
        return self._writable


def _writable(folder: Path) -> bool:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(1 << 16))
            probe.flush()
    except OSError:
        return False
    return True


class Health:
    """Answers ``/healthz``, ``/readyz`` and ``/metrics`` in front of the page, and takes on nothing new at its end.

    * ``/healthz``: 200 as long as the process can answer at all.
    * ``/readyz``: 200 once the model is loaded and the disk can be written, until the server is about to end; else 503.
    * ``/metrics``: numbers in Prometheus' format, for whoever knows the token, or, where there is none, for programs on
      this machine that no proxy speaks for.

    Args:
        app: what serves the page.
        model: state of the model: "loading", "ready" or "failed".
        disk: where visitors' things are written.
        numbers: the metrics as bytes, and their content type.
        drain: the server's end.
        token: what a program has to send as ``Authorization: Bearer TOKEN``.
    """

    def __init__(
        self,
        app: ASGIApp,
        model: Callable[[], str],
        disk: Disk,
        numbers: Callable[[], tuple[bytes, str]],
        drain: Drain,
        token: str = "",
    ) -> None:
        self._app, self._model, self._disk, self._numbers, self._drain = app, model, disk, numbers, drain
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        response = await self._answer(path, scope)
        if response is not None:
            await response(scope, receive, send)
        elif path.endswith(_ANSWERS):
            with self._drain.stream():
                await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, path: str, scope: Scope) -> Response | None:
        if path == "/healthz":
            return JSONResponse({"alive": True})
        if path == "/readyz":
            disk = await run_in_threadpool(self._disk.writable)
            model = self._model()
            ready = model == "ready" and disk and not self._drain.begun
            facts = {"ready": ready, "model": model, "disk": disk, "ending": self._drain.begun}
            return JSONResponse(facts, 200 if ready else 503)
        if path == "/metrics":
            if not self._may_see_numbers(scope):
                return JSONResponse({"detail": "The numbers are for whoever runs this server"}, 403)
            content, kind = await run_in_threadpool(self._numbers)
            return Response(content, media_type=kind)
        if path.endswith(_BEGINS) and self._drain.begun:
            return JSONResponse({"detail": _ENDING}, 503, {"Retry-After": "30"})
        return None

    def _may_see_numbers(self, scope: Mapping[str, Any]) -> bool:
        headers = Headers(raw=scope["headers"])
        if self._token:
            given = headers.get("authorization", "")
            return hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode())
        client = scope.get("client")
        # A proxy on this machine speaks for everybody.
        return client is not None and client[0] in _LOOPBACK and not any(name in headers for name in _FORWARDED)
