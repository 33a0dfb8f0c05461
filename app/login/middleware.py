"""In front of the gate: nobody who is not known gets any further, but for what machines ask of the server's health."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from a3tune.errors import RequestError
from app.access.deployment import Deployment
from app.access.gate import Refusal
from app.access.headers import is_secure, joined_headers, path_inside, root_of, safe_headers
from app.access.identity import IDENTITY, Identity
from app.access.origins import Hosts
from app.access.routes import API, HEALTH
from app.login.addresses import asking_address
from app.login.pages import message_page
from app.login.settings import LoginSettings

log = logging.getLogger("a3tune.app")

# Machines ask for the server's health; its numbers have a check of their own. Gradio begins by asking itself.
_OPEN = (*HEALTH, "/metrics", f"{API}/startup-events")
# What a page asks by itself, whether somebody is there or not.
_NO_SIGN_OF_LIFE = (f"{API}/component_server", f"{API}/heartbeat/", f"{API}/app_id")
_OVER = "You are not signed in any more. Reload the page to sign in again."


class Asked:
    """A request, as a way of logging in sees it.

    Attributes:
        request: the request.
        root: under which path the page is served.
        peer: the address of the connection.
        address: that of the browser, as far as proxies are believed.
        secure: whether the browser asked by https.
    """

    def __init__(self, scope: Scope, receive: Receive, root: str, settings: LoginSettings) -> None:
        self.request, self.root = Request(scope, receive), root
        self.peer = (scope.get("client") or ("",))[0]
        forwarded = ",".join(self.request.headers.getlist("x-forwarded-for"))
        self.address = asking_address(self.peer, forwarded, settings.proxies)
        self.secure = is_secure(dict(self.request.headers), scope.get("scheme", ""))

    @property
    def page(self) -> str:
        """The page's address, as the browser knows it."""
        headers = self.request.headers
        host = headers.get("x-forwarded-host", "").split(",")[0].strip() or headers.get("host", "")
        return f"{'https' if self.secure else 'http'}://{host}{self.root}"


class Way(Protocol):
    """A way of logging in."""

    paths: tuple[str, ...]
    """Its own addresses."""

    async def answer(self, path: str, asked: Asked) -> Response:
        """The answer at one of its own addresses.

        Raises:
            Refusal: it goes no further, in words.
        """

    def identity(self, asked: Asked, *, used: bool) -> Identity | None:
        """Who asks; None for nobody that is known.

        Raises:
            Refusal: somebody who may not come in.
        """

    def holds(self, identity: Identity) -> bool:
        """Whether somebody who is still being answered is still logged in."""


class Front:
    """ASGI middleware in front of the gate.

    Args:
        app: the gate.
        way: how people log in.
        settings: the same, as it was told.
        deployment: where the application runs.
        hosts: the server's names.
        root_path: under which path the page is served, "" for none.
    """

    def __init__(
        self, app: ASGIApp, way: Way, settings: LoginSettings, deployment: Deployment, hosts: Hosts, root_path: str
    ) -> None:
        self._app, self._way, self._settings = app, way, settings
        self._deployment, self._hosts, self._root_path = deployment, hosts, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request of somebody who is known through, with who it is."""
        if scope["type"] != "http":  # the gate closes web sockets
            await self._app(scope, receive, send)
            return
        headers = joined_headers(scope["headers"])
        root = root_of(headers, self._root_path)
        path = path_inside(scope["path"], root)
        asked = Asked(scope, receive, root, self._settings)
        scope = {**scope, "client": (asked.address, 0)}
        if path in _OPEN:
            await self._app(scope, receive, send)
            return
        try:
            own = path in self._way.paths
            fault = self._hosts.fault(headers, page=own and scope["method"] in ("GET", "HEAD"))
            if own and fault:
                raise Refusal(403, fault)
            if own:
                response = await self._way.answer(path, asked)
            else:
                identity = self._way.identity(asked, used=not path.startswith(_NO_SIGN_OF_LIFE))
                if identity is not None:
                    await self._let_in(identity, {**scope, IDENTITY: identity}, receive, send)
                    return
                response = self._stranger(path, scope, root)
        except Refusal as refusal:
            response = self._refused(refusal, path, root)
        except RequestError as error:
            response = self._refused(Refusal(503, str(error)), path, root)
        response.headers.update({name.decode(): value.decode() for name, value in safe_headers(self._deployment)})
        # The form has to say that it is this site's, also to browsers that say nothing else of it.
        response.headers["referrer-policy"] = "same-origin"
        await response(scope, receive, send)

    def _stranger(self, path: str, scope: Scope, root: str) -> Response:
        if path == "/" and scope["method"] in ("GET", "HEAD"):
            return RedirectResponse(f"{root}/login", 303)
        return JSONResponse({"detail": _OVER, "error": _OVER}, 401)

    def _refused(self, refusal: Refusal, path: str, root: str) -> Response:
        if path == "/" or path in self._way.paths:
            again = "Try again" if self._way.paths else ""
            page = message_page("Not signed in", refusal.words, root, again, alert=True)
            return HTMLResponse(page, refusal.status)
        return JSONResponse({"detail": refusal.words, "error": refusal.words}, refusal.status)

    async def _let_in(self, identity: Identity, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer somebody who is known as long as they are: what still comes when they are not is not sent."""
        ended = False

        async def send_while_known(message: Message) -> None:
            nonlocal ended
            if ended:
                return
            if message["type"] == "http.response.body" and not self._way.holds(identity):
                ended = True
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        async def receive_while_known() -> Message:
            return {"type": "http.disconnect"} if ended else await receive()

        await self._app(scope, receive_while_known, send_while_known)


Audit = Callable[[Identity, str, dict[str, Any]], None]
"""Takes note of what somebody does: an act and the plain facts of it."""


def host_of(address: str) -> str:
    """The host of an address, for people."""
    return urlsplit(address).hostname or address
