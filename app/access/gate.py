"""The gate in front of every route: foreign names and sites, unknown routes and other visitors' things end here."""

from __future__ import annotations

import errno
import json
import logging
import re
import secrets
import traceback
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from a3tune.errors import RequestError
from app.access.headers import (
    NONCE,
    cookie_header,
    is_secure,
    joined_headers,
    path_inside,
    read_cookie,
    root_of,
    safe_headers,
)
from app.access.identity import ASKER, IDENTITY, Asker, Identity, Role
from app.access.origins import Hosts, is_loopback
from app.access.page_memory import AnswerStreams
from app.access.routes import API, HEALTH, HEARTBEAT, NAMES_ITS_PAGE, UPLOAD, is_route
from app.access.upload_route import drop_unfollowed, take_upload
from app.access.visits import PAGE_NAME, Denied, Visit, Visits, is_secret, login_visit, new_secret, visit_name
from app.engine.ids import SessionId

COOKIE = "a3tune-visit"

log = logging.getLogger("a3tune.app")

_FIXED = re.compile(r"/(?:assets|static)/.*|/favicon\.ico")
_BRINGS_COOKIE = ("/", "/config", "/config/")
_DEEPEST = 64
# Each is looked for on the disk while all other requests wait; the page sends a series, of a few thousand at most.
_MOST_FILES = 10_000
_DISK_FULL = "The disk of the server is full, so nothing of this was kept. Try again later, or tell whoever runs it."
_UNFIT = json.dumps(
    dict.fromkeys(("detail", "error"), "This request is none that the page sends. Load the page again.")
).encode()


class Refusal(Exception):
    """A request that goes no further.

    Attributes:
        status: of the answer.
        words: why.
    """

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words


class Settings(NamedTuple):
    """What the gate is told once.

    Attributes:
        hosts: the server's names.
        root_path: under which path the page is served, "" for none.
        role: of visitors that nobody logged in: that of requests from this machine, and of others.
        event_page: event -> the page that it belongs to, None for none that waits or runs.
        has_answers: whether a page asked for something whose answer is still to be told.
        streams: which pages listen for their answers.
        audit: takes note of what somebody does in a visit: an act and the plain facts of it.
    """

    hosts: Hosts
    root_path: str = ""
    role: tuple[Role, Role] = ("operator", "tuner")
    event_page: Callable[[str], str | None] = lambda event: None
    has_answers: Callable[[str], bool] = lambda page: True
    streams: AnswerStreams | None = None
    audit: Callable[[Identity, str, str, dict[str, Any]], None] = lambda identity, visit, act, facts: None


class Gate:
    """ASGI middleware in front of all others.

    Args:
        app: what serves.
        settings: what it is told once.
        visits: the visits.
    """

    def __init__(self, app: ASGIApp, settings: Settings, visits: Visits) -> None:
        self._app, self._settings, self._visits = app, settings, visits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it in words."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page needs no web socket
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = _Answer(scope, send, self)
        try:
            await self._serve(answer.scope, receive, answer)
        except Refusal as refusal:
            await answer.refuse(refusal.status, refusal.words)
        except Denied as error:
            await answer.refuse(403, str(error))
        except RequestError as error:
            await answer.refuse(429, str(error))
        except Exception as error:
            if answer.begun:
                raise
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                await answer.refuse(507, _DISK_FULL)
                return
            # What no page of this application sends; its text may hold what was sent, so that only its place is kept.
            number = secrets.token_hex(3)
            place = "".join(traceback.format_tb(error.__traceback__)[-3:])
            log.error("A request failed with %s, number %s\n%s", type(error).__name__, number, place)
            await answer.refuse(400, f"This request could not be read (number {number} in the server's log)")

    async def _serve(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        headers, path, method = answer.headers, scope["path"], scope["method"]
        fault = self._settings.hosts.fault(headers, page=path == "/" and method in ("GET", "HEAD"))
        if fault and path not in HEALTH:
            raise Refusal(403, fault)
        if not is_route(method, path):
            raise Refusal(404, "There is nothing here")
        identity: Identity = scope.get(IDENTITY) or Identity(self._role(scope))
        visit = _visit_of(headers, identity)
        if path in _BRINGS_COOKIE and not visit:
            answer.new_secret = new_secret()
        keeps_under = partial(self._visits.keeps_under, visit)
        scope[ASKER] = Asker(identity, visit, keeps_under, partial(self._settings.audit, identity, visit))
        page = await self._page_of(scope, answer)
        if page is None and not NAMES_ITS_PAGE.fullmatch(path) and path != UPLOAD:
            await self._app(scope, receive, answer)
            return
        if page is not None and not PAGE_NAME.fullmatch(page):
            raise Refusal(400, "This request names no page")
        if not visit and not self._may_come_without(scope):
            raise Refusal(
                401, "This page needs a cookie: let the browser keep it, or open the page in a window of its own"
            )
        if path == UPLOAD:
            progress = _progress_name(visit, scope)
            response: Response = await take_upload(Request(scope, receive), visit, self._visits, progress)
            await response(scope, receive, answer)
        elif path.startswith(HEARTBEAT):
            self._visits.enter(visit, SessionId(page or ""))
            await self._watch(SessionId(page or ""), scope, receive, answer)
        elif page is not None:
            self._visits.enter(visit, SessionId(page))
            if not self._settings.has_answers(page):
                raise Refusal(404, "This page asked for nothing that is still to be answered")
            with self._settings.streams.listening(page) if self._settings.streams else nullcontext():
                await self._app(scope, receive, answer)
        else:
            await self._app(scope, await self._checked_body(visit, scope, receive), answer)

    async def _watch(self, page: SessionId, scope: Scope, receive: Receive, answer: _Answer) -> None:
        """Serve the connection by which a page says that it is open."""
        self._visits.opened(page)
        try:
            await self._app(scope, receive, answer)
        finally:
            self._visits.closed(page)

    # ---- whose it is -------------------------------------------------------------------------

    def _role(self, scope: Scope) -> Role:
        near, far = self._settings.role
        return near if is_loopback((scope.get("client") or ("",))[0]) else far

    def _may_come_without(self, scope: Scope) -> bool:
        """Whether a program that keeps no cookie may ask: on a person's own machine only."""
        client = (scope.get("client") or ("",))[0]
        return self._visits.deployment.name == "local" and is_loopback(client)

    async def _page_of(self, scope: Scope, answer: _Answer) -> str | None:
        """The page that an address names; None where it names none."""
        path, query = scope["path"], _query(scope)
        if path.startswith(HEARTBEAT):
            return path.removeprefix(HEARTBEAT)
        if path == f"{API}/queue/data":
            return query.get("session_hash", "")
        if path == f"{API}/upload_progress":
            # Another visit's upload is not found under this name.
            name = _progress_name(scope[ASKER].visit, scope)
            drop_unfollowed()
            scope["query_string"] = f"upload_id={name}".encode()
        # Nothing of the address is of use to the page but the theme that a person chose.
        if path in _BRINGS_COOKIE:
            theme = query.get("__theme", "")
            scope["query_string"] = f"__theme={theme}".encode() if theme in ("light", "dark", "system") else b""
        return None

    async def _checked_body(self, visit: str, scope: Scope, receive: Receive) -> Receive:
        """The body of a request, whole, once it is known to name a page and files of this visit's alone."""
        deployment = self._visits.deployment
        content = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refusal(400, "The connection was closed")
            content += message.get("body", b"")
            more = message.get("more_body", False)
            if deployment.request_mb is not None and len(content) > deployment.request_mb * 1e6:
                raise Refusal(413, str(deployment.refusal("request_mb", "This request holds more")))
        try:
            body = json.loads(content)
            paths = set(_paths(body, 0))
        except (ValueError, RecursionError):
            raise Refusal(400, "This request could not be read") from None
        page = body.get("session_hash") if isinstance(body, dict) else None
        if not isinstance(page, str) or not PAGE_NAME.fullmatch(page):
            raise Refusal(400, "This request names no page")
        if self._settings.streams is not None:
            scope[ASKER] = scope[ASKER]._replace(unheard=partial(self._settings.streams.unheard, page))
        if len(paths) > _MOST_FILES:
            raise Refusal(413, f"This request names {len(paths):,} files. At most {_MOST_FILES:,} are taken at once")
        entered: Visit = self._visits.enter(visit, SessionId(page))
        self._visits.check_files(entered, paths)
        if scope["path"] == f"{API}/cancel" and self._settings.event_page(str(body.get("event_id"))) not in (
            None,
            page,
        ):
            raise Refusal(403, "This event belongs to another page")
        held: list[Message] = [{"type": "http.request", "body": bytes(content), "more_body": False}]

        async def again() -> Message:
            return held.pop() if held else await receive()

        return again

    def cookie(self, secret: str, headers: dict[str, str], scope: Scope) -> bytes:
        """The header that gives a browser the secret of its visit."""
        secure = is_secure(headers, scope.get("scheme", ""))
        # A Space is framed by its hub.
        framed = secure and self._visits.deployment.name == "space"
        return cookie_header(COOKIE, secret, scope["a3tune.root"], secure=secure, framed=framed)

    def root(self, headers: dict[str, str]) -> str:
        """Under which path the page is served."""
        return root_of(headers, self._settings.root_path)

    def headers(self, nonce: str, *, fixed: bool) -> list[tuple[bytes, bytes]]:
        """What every answer tells the browser."""
        return safe_headers(self._visits.deployment, nonce, fixed=fixed)


class _Answer:
    """The sending side of a request: adds what every answer tells the browser."""

    def __init__(self, scope: Scope, send: Send, gate: Gate) -> None:
        self._send, self._gate = send, gate
        self.headers = joined_headers(scope["headers"])
        self.begun, self.new_secret, self._unfit = False, "", False
        root = gate.root(self.headers)
        path = path_inside(scope["path"], root)
        nonce = secrets.token_hex(16)
        self.scope = {**scope, "path": path, "root_path": root, "a3tune.root": root, NONCE: nonce}
        self._fixed, self._nonce = bool(_FIXED.fullmatch(path)), nonce if path == "/" else ""

    async def __call__(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self.begun = True
            told = self._gate.headers(self._nonce, fixed=self._fixed and message["status"] < 400)
            ours = {name for name, _ in told}
            kept = [
                (name, value)
                for name, value in message.get("headers", ())
                if name.lower() not in ours and not name.lower().startswith(b"access-control-")
            ]
            if self.new_secret:
                kept.append((b"set-cookie", self._gate.cookie(self.new_secret, self.headers, self.scope)))
            # The page's handlers tell their faults in words: what Gradio cannot call was no request of the page.
            self._unfit = message["status"] == 500 and bool(NAMES_ITS_PAGE.fullmatch(self.scope["path"]))
            if self._unfit:
                kept = [(name, value) for name, value in kept if name.lower() != b"content-length"]
                kept.append((b"content-length", str(len(_UNFIT)).encode()))
                message = {**message, "status": 400}
            message = {**message, "headers": [*kept, *told]}
        elif self._unfit:
            if message.get("more_body"):
                return
            message = {**message, "body": _UNFIT}
        await self._send(message)

    async def refuse(self, status: int, words: str) -> None:
        """Answer why a request goes no further."""
        if self.begun:
            return
        response = JSONResponse({"detail": words, "error": words}, status)

        async def nothing() -> Message:
            return {"type": "http.disconnect"}

        await response(self.scope, nothing, self)


def _visit_of(headers: dict[str, str], identity: Identity) -> str:
    """The visit that a request belongs to, which ends with its login where there is one; "" where its browser has no
    cookie."""
    if identity.session:
        return login_visit(identity.session)
    secret = read_cookie(headers.get("cookie", ""), COOKIE)
    return visit_name(f"{secret}{identity.owner or ''}") if is_secret(secret) else ""


def _progress_name(visit: str, scope: Scope) -> str:
    """Under what an upload's progress is kept: what the page drew, apart from all other visits; "" for nothing."""
    drawn = _query(scope).get("upload_id", "")
    return f"{visit}-{drawn}" if PAGE_NAME.fullmatch(drawn.rjust(4, "0")) else ""


def _query(scope: Scope) -> dict[str, str]:
    try:
        found = parse_qs(scope.get("query_string", b"").decode(), max_num_fields=20)
    except ValueError:
        return {}
    return {name: values[0] for name, values in found.items()}


def _paths(value: Any, depth: int) -> Iterator[str]:
    """Every path in a body that Gradio would open as a file."""
    if depth > _DEEPEST:
        raise RecursionError
    if isinstance(value, dict):
        if "path" in value and value["path"] is not None:
            yield str(value["path"])
        for inner in value.values():
            yield from _paths(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _paths(inner, depth + 1)
