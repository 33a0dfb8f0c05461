"""Signing in with a provider or a password: the addresses, and the cookie by which somebody is known from then on."""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from a3tune.errors import RequestError
from app.access.deployment import Deployment
from app.access.gate import Refusal
from app.access.headers import cookie_header, read_cookie
from app.access.identity import Identity, known_person
from app.access.visits import is_secret, new_secret
from app.login.addresses import is_among, neighbourhood
from app.login.attempts import Attempts
from app.login.middleware import Asked, Audit, host_of
from app.login.pages import message_page, sign_in_page
from app.login.people import People
from app.login.provider import Provider, ProviderFault
from app.login.sessions import Sessions
from app.login.settings import LoginSettings

log = logging.getLogger("a3tune.app")

SESSION, BROWSER = "a3tune-session", "a3tune-login"
"""The cookies: who is signed in, and whose login has begun."""

_MOST_BODY = 8192
_MOST_BEGUN = 10_000
_BEGUN_SECONDS = 600.0
_NOT_KNOWN = "That name and password are not known here."


class _Begun(NamedTuple):
    """A login that has begun at the provider: of which browser, with which secrets, and when."""

    browser: str
    nonce: str
    verifier: str
    back: str
    moment: float


class _Cookies:
    """What signing in with a provider and with a password have in common.

    Args:
        settings: how people log in.
        deployment: how long a login holds and how often it may fail.
        left: told of the login of somebody who signed out.
        audit: takes note.
    """

    paths: tuple[str, ...] = ("/login", "/logout")

    def __init__(
        self, settings: LoginSettings, deployment: Deployment, left: Callable[[Identity], None], audit: Audit
    ) -> None:
        self._settings, self._left, self._audit = settings, left, audit
        self._sessions, self._attempts = Sessions(deployment), Attempts(deployment)

    def identity(self, asked: Asked, *, used: bool) -> Identity | None:
        """Whose cookie it is."""
        return self._sessions.find(_cookie(asked, SESSION), used=used)

    def holds(self, identity: Identity) -> bool:
        """Whether the login goes on."""
        return self._sessions.holds(identity)

    def _begin(self, identity: Identity, asked: Asked) -> Response:
        """Sign somebody in; who this browser was before is signed out."""
        secret = self._sessions.begin(identity)
        try:
            identity = self._sessions.find(secret) or identity
            self._audit(identity, "sign-in", {})
        except RequestError:
            self._sessions.end(secret)
            raise
        self._end(asked)
        response = RedirectResponse(f"{asked.root}/", 303)
        _give(response, asked, SESSION, secret)
        return response

    def _end(self, asked: Asked) -> None:
        identity = self._sessions.end(_cookie(asked, SESSION))
        if identity is not None:
            self._left(identity)
            try:
                self._audit(identity, "sign-out", {})
            except RequestError as error:  # leaving is never refused
                log.error("A sign-out was not noted: %s", error)

    def _signed_out(self, asked: Asked, out: str = "") -> Response:
        if asked.request.method != "POST":
            return RedirectResponse(f"{asked.root}/", 303)
        self._end(asked)
        words = "You are signed out, and what you had open is gone. Your data sets and runs stay for a while."
        response = HTMLResponse(message_page("Signed out", words, asked.root, "Sign in again", out=out))
        _give(response, asked, SESSION, "", end=True)
        return response

    def _try(self, *keys: str) -> None:
        """Count a try.

        Raises:
            Refusal: too many failed.
        """
        try:
            self._attempts.begin(*keys)
        except RequestError as error:
            raise Refusal(429, str(error)) from None

    def _failed(self, why: str) -> None:
        """Note a try that failed; the name that was typed may be a password."""
        self._audit(Identity("viewer"), "sign-in-refused", {"why": why})


class ByProvider(_Cookies):
    """Signing in at an identity provider; the arguments are those of :class:`_Cookies`, after the provider."""

    paths = (*_Cookies.paths, "/login/start", "/login/callback")

    def __init__(self, provider: Provider, *others: Any) -> None:
        super().__init__(*others)
        self._provider = provider
        self._begun: OrderedDict[str, _Begun] = OrderedDict()

    async def answer(self, path: str, asked: Asked) -> Response:
        """See :class:`app.login.middleware.Way`."""
        if path == "/logout":
            return self._signed_out(asked, self._provider.way_out)
        if asked.request.method not in ("GET", "HEAD"):
            raise Refusal(405, "This address is only looked at")
        if path == "/login/start":
            return await self._start(asked)
        if path == "/login/callback":
            return await self._come_back(asked)
        return HTMLResponse(sign_in_page(asked.root, host_of(self._provider.issuer)))

    async def _start(self, asked: Asked) -> Response:
        browser = _cookie(asked, BROWSER)
        browser = browser if is_secret(browser) else new_secret()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        back = f"{asked.page}/login/callback"
        try:
            address = await self._provider.way_in(back, state, nonce, verifier)
        except ProviderFault as fault:
            log.error("The identity provider cannot be used: %s", fault)
            raise Refusal(503, "The identity provider does not answer. Try again in a minute.") from None
        self._begun[state] = _Begun(_hash(browser), nonce, verifier, back, time.monotonic())
        while len(self._begun) > _MOST_BEGUN:
            self._begun.popitem(last=False)
        response = RedirectResponse(address, 303)
        _give(response, asked, BROWSER, browser)
        return response

    async def _come_back(self, asked: Asked) -> Response:
        key = f"address {neighbourhood(asked.address)}"
        self._try(key)
        query = asked.request.query_params
        # Whatever comes of it, it is of no use a second time.
        begun = self._begun.pop(query.get("state", ""), None)
        fits = begun is not None and secrets.compare_digest(begun.browser, _hash(_cookie(asked, BROWSER)))
        if begun is None or not fits or time.monotonic() - begun.moment > _BEGUN_SECONDS:
            self._failed("state")
            raise Refusal(400, "This login began in another browser, was used, or is too old. Sign in again.")
        if query.get("iss", self._provider.issuer) != self._provider.issuer or len(query.getlist("state")) != 1:
            self._failed("issuer")
            raise Refusal(400, "Another identity provider answered. Sign in again.")
        if "code" not in query:
            self._failed("provider")
            raise Refusal(403, "The identity provider did not sign you in.")
        try:
            person = await self._provider.identify(begun.back, query["code"], begun.nonce, begun.verifier)
        except ProviderFault as fault:
            log.error("A login was refused, since what the provider sent is not what it must be: %s", fault)
            self._failed("token")
            raise Refusal(403, "What the identity provider sent could not be trusted. Sign in again.") from None
        role = self._settings.role_of(person.groups)
        if role is None:
            self._failed("groups")
            raise Refusal(403, "None of your groups may come in here. Ask whoever runs this server to add one.")
        self._attempts.succeeded(key)
        response = self._begin(known_person(role, self._provider.issuer, person.subject, person.name), asked)
        _give(response, asked, BROWSER, "", end=True)
        return response


class ByPassword(_Cookies):
    """Signing in with a name and a password; the arguments are those of :class:`_Cookies`, after the people."""

    issuer = "password"

    def __init__(self, people: People, *others: Any) -> None:
        super().__init__(*others)
        self._people = people
        # Each hash takes 64 MB for a moment.
        self._at_once = CapacityLimiter(2)

    async def answer(self, path: str, asked: Asked) -> Response:
        """See :class:`app.login.middleware.Way`."""
        if path == "/logout":
            return self._signed_out(asked)
        if asked.request.method != "POST":
            return HTMLResponse(sign_in_page(asked.root))
        form = await _form(asked.request)
        name, password = form.get("name", "").strip(), form.get("password", "")
        keys = (f"address {neighbourhood(asked.address)}", f"name {_hash(name)}")
        self._try(*keys)
        person = await run_sync(self._people.find, name, password, limiter=self._at_once)
        if person is None:
            self._failed("password")
            return HTMLResponse(sign_in_page(asked.root, fault=_NOT_KNOWN), 403)
        self._attempts.succeeded(*keys)
        return self._begin(known_person(person.role, self.issuer, person.name, person.name), asked)

    def identity(self, asked: Asked, *, used: bool) -> Identity | None:
        """Whose cookie it is, with the role that they have by now; nobody who is not in the file any more."""
        identity = super().identity(asked, used=used)
        person = None if identity is None else self._people.read().get(identity.subject)
        return None if identity is None or person is None else identity._replace(role=person.role)

    def holds(self, identity: Identity) -> bool:
        """Whether the login goes on, and the person is still in the file."""
        try:
            return super().holds(identity) and identity.subject in self._people.read()
        except RequestError:
            return False


class ByProxy:
    """A proxy that says with every request who asks.

    Args:
        settings: which proxy, and its headers.
    """

    paths: tuple[str, ...] = ()
    issuer = "proxy"

    def __init__(self, settings: LoginSettings) -> None:
        self._settings = settings

    async def answer(self, path: str, asked: Asked) -> Response:
        """It has no addresses of its own."""
        raise Refusal(404, "There is nothing here")

    def identity(self, asked: Asked, *, used: bool) -> Identity:
        """Whom the proxy names."""
        if not is_among(asked.peer, self._settings.proxies):
            raise Refusal(403, "This server is reached through its proxy alone (A3TUNE_PROXIES).")
        headers = asked.request.headers
        names, groups = headers.getlist(self._settings.user_header), headers.getlist(self._settings.groups_header)
        if len(names) != 1 or len(groups) > 1 or not 0 < len(names[0].strip()) <= 200:
            raise Refusal(403, f"The proxy does not say who you are ({self._settings.user_header}).")
        role = self._settings.role_of(part.strip() for part in ",".join(groups).split(","))
        if role is None:
            raise Refusal(403, "None of your groups may come in here. Ask whoever runs this server to add one.")
        return known_person(role, self.issuer, names[0].strip(), names[0].strip())

    def holds(self, identity: Identity) -> bool:
        """Whoever was let in is answered to the end."""
        return True


async def _form(request: Request) -> dict[str, str]:
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > _MOST_BODY:
            raise Refusal(413, "This is no name with a password")
    try:
        found = parse_qs(content.decode(), max_num_fields=10)
    except ValueError:
        raise Refusal(400, "This is no name with a password") from None
    return {name: values[0] for name, values in found.items()}


def _cookie(asked: Asked, name: str) -> str:
    return read_cookie(asked.request.headers.get("cookie", ""), name)


def _give(response: Response, asked: Asked, name: str, value: str, *, end: bool = False) -> None:
    header = cookie_header(name, value, asked.root, secure=asked.secure, end=end)
    response.headers.append("set-cookie", header.decode())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
