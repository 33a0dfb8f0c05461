"""A small identity provider on this machine, which keeps to the rules or breaks one of them."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "studio", "a secret of the test"


@cache
def signing_key(name: str) -> RSAKey:
    """A key of this name."""
    return RSAKey.generate_key(2048, {"kid": name, "use": "sig"})


class IdentityProvider:
    """What it says of itself, of the person who signs in, and what it signs.

    Attributes:
        issuer: its address.
        claims: of the person, in its identity token.
        userinfo: what it says when it is asked for more.
        spoil: changes header and claims before they are signed, and may sign them itself.
        about: what it says of itself beside its addresses.
        asked: the paths that were asked for.
    """

    def __init__(self) -> None:
        self.key = signing_key("first")
        self.claims: dict[str, Any] = {"sub": "person-1", "groups": ["staff"], "name": "Ann"}
        self.userinfo: dict[str, Any] = {}
        self.spoil: Callable[[dict, dict], str | None] = lambda header, claims: None
        self.about: dict[str, Any] = {}
        self.asked: list[str] = []
        self._codes: dict[str, dict[str, str]] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked.append(self.path)
                self._send(*provider._look_up(self.path))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                form = {name: values[0] for name, values in parse_qs(body).items()}
                self._send(*provider._token(form, self.headers.get("authorization", "")))

            def _send(self, status: int, answer: dict) -> None:
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_address[1]}"

    def sign_in(self, address: str) -> dict[str, str]:
        """A person signs in at the address where the browser was sent: what it comes back with."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert asked["client_id"] == CLIENT
        code = f"code-{len(self._codes)}"
        self._codes[code] = asked
        return {"code": code, "state": asked["state"]}

    def _look_up(self, path: str) -> tuple[int, dict]:
        if path.endswith("/openid-configuration"):
            places = {
                name: f"{self.issuer}/{name}" for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")
            }
            more = {"userinfo_endpoint": f"{self.issuer}/userinfo"} if self.userinfo else {}
            return 200, {"issuer": self.issuer, **places, **more, **self.about}
        if path == "/jwks_uri":
            return 200, {"keys": [self.key.as_dict(private=self.key.key_type == "oct")]}
        return 200, self.userinfo

    def _token(self, form: dict[str, str], authorization: str) -> tuple[int, dict]:
        asked = self._codes.pop(form["code"], None)
        proof = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        basic = base64.b64encode(urlencode({"": CLIENT})[1:].encode() + b":" + SECRET.encode()).decode()
        if asked is None or proof != asked["code_challenge"] or form["redirect_uri"] != asked["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        if authorization != f"Basic {basic}":
            return 401, {"error": "invalid_client"}
        now = int(time.time())
        header = {"alg": "RS256", "kid": self.key.kid}
        claims = {
            "iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"], **self.claims,
        }  # fmt: skip
        text = self.spoil(header, claims)
        text = jwt.encode(header, claims, self.key) if text is None else text
        return 200, {"access_token": "access", "token_type": "Bearer", "id_token": text}


@contextmanager
def identity_provider() -> Iterator[IdentityProvider]:
    """One that answers as long as the block lasts."""
    provider = IdentityProvider()
    thread = threading.Thread(target=provider.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        provider.server.shutdown()
        provider.server.server_close()
        thread.join()
