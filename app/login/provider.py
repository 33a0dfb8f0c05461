"""An identity provider (OpenID Connect): the way there with a code that only this server can use, and what its tokens
say of a person."""

from __future__ import annotations

import hmac
import time
from typing import Any, NamedTuple

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from app.login.settings import OidcSettings, is_safe_address

ASYMMETRIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
"""The signatures that are taken: those that whoever knows the public key cannot make."""

_KEY_TYPES = ("RSA", "EC", "OKP")
_TIMEOUT = 10.0
# How long what the provider says of itself is believed, and how soon its keys are asked for again, in seconds.
_BELIEVED, _KEYS_AGAIN = 3600.0, 30.0
# How far its clock may differ, in seconds.
_LEEWAY = 60
_FAULTS = (
    httpx2.HTTPError,
    httpx2.InvalidURL,
    AuthlibBaseError,
    JoseError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
)


class ProviderFault(Exception):
    """The provider's answer is none that can be trusted, or there is none; the text says why, for the log."""


class Claims(NamedTuple):
    """What the provider says of a person.

    Attributes:
        subject: its name for them, which it gives nobody else.
        name: what they are called.
        groups: their groups.
    """

    subject: str
    name: str
    groups: tuple[str, ...]


class Provider:
    """The identity provider of this server.

    Args:
        settings: where it is, and as what this server is known there.
    """

    def __init__(self, settings: OidcSettings) -> None:
        self._settings = settings
        self._about: dict[str, Any] = {}
        self._asked = -_BELIEVED
        self._keys: KeySet | None = None
        self._keys_asked = -_KEYS_AGAIN

    @property
    def issuer(self) -> str:
        """The provider's address, as it names itself."""
        return self._settings.issuer

    @property
    def way_out(self) -> str:
        """Where one signs out of the provider itself; "" where it does not say."""
        address = self._about.get("end_session_endpoint")
        return str(address) if is_safe_address(address) else ""

    async def way_in(self, back: str, state: str, nonce: str, verifier: str) -> str:
        """The address at the provider where a person signs in.

        Args:
            back: where the browser comes back to.
            state, nonce, verifier: secrets of this login.

        Raises:
            ProviderFault: it cannot be asked.
        """
        try:
            async with self._client(back) as client:
                endpoint = await self._endpoint(client, "authorization_endpoint")
                address, _ = client.create_authorization_url(endpoint, state=state, code_verifier=verifier, nonce=nonce)
                return str(address)
        except _FAULTS as error:
            raise _fault(error) from None

    async def identify(self, back: str, code: str, nonce: str, verifier: str) -> Claims:
        """Who signed in.

        Args:
            back, nonce, verifier: as they were given to `way_in`.
            code: what the browser brought back.

        Raises:
            ProviderFault: the provider does not say so, or not in a way that can be trusted.
        """
        try:
            async with self._client(back) as client:
                endpoint = await self._endpoint(client, "token_endpoint")
                token = await client.fetch_token(endpoint, code=code, code_verifier=verifier)
                claims = await self._checked(client, token, nonce)
                return await self._completed(client, token, claims)
        except _FAULTS as error:
            raise _fault(error) from None

    # ---- tokens ------------------------------------------------------------------------------

    async def _checked(self, client: AsyncOAuth2Client, token: dict[str, Any], nonce: str) -> dict[str, Any]:
        """The claims of the identity token, once it is known to be this provider's, for this server and this login."""
        read = await self._verified(client, str(token["id_token"]))
        options = {
            "iss": {"essential": True, "value": self._settings.issuer},
            "aud": {"essential": True, "value": self._settings.client},
        }
        params = {
            "client_id": self._settings.client,
            "nonce": nonce,
            "access_token": token.get("access_token"),
        }
        CodeIDToken(read.claims, read.header, options, params).validate(leeway=_LEEWAY)
        if not hmac.compare_digest(str(read.claims.get("nonce")), nonce):
            raise ProviderFault("nonce")
        if not isinstance(read.claims["sub"], str) or not read.claims["sub"]:
            raise ProviderFault("sub")
        return dict(read.claims)

    async def _verified(self, client: AsyncOAuth2Client, text: str) -> jwt.Token:
        """A token whose signature is one of the provider's keys'."""
        keys = await self._key_set(client, again=False)
        try:
            return jwt.decode(text, keys, algorithms=ASYMMETRIC)
        except (JoseError, ValueError):
            # It may sign with a new key by now.
            renewed = await self._key_set(client, again=True)
            if renewed is keys:
                raise
            return jwt.decode(text, renewed, algorithms=ASYMMETRIC)

    async def _key_set(self, client: AsyncOAuth2Client, *, again: bool) -> KeySet:
        now = time.monotonic()
        if self._keys is None or (again and now - self._keys_asked > _KEYS_AGAIN):
            answer = await client.get(await self._endpoint(client, "jwks_uri"), auth=None)
            answer.raise_for_status()
            found = [
                key for key in answer.json()["keys"] if key.get("kty") in _KEY_TYPES and key.get("use", "sig") == "sig"
            ]
            self._keys, self._keys_asked = KeySet.import_key_set({"keys": found}), now
        return self._keys

    async def _completed(self, client: AsyncOAuth2Client, token: dict[str, Any], claims: dict[str, Any]) -> Claims:
        """The person; what the token leaves out is asked for, and has to be of the same subject."""
        claim = self._settings.groups_claim
        if claim not in claims and "userinfo_endpoint" in self._about:
            bearer = {"Authorization": f"Bearer {token['access_token']}"}
            endpoint = await self._endpoint(client, "userinfo_endpoint")
            answer = await client.get(endpoint, headers=bearer, auth=None)
            answer.raise_for_status()
            more = answer.json()
            if more.get("sub") != claims["sub"]:
                raise ProviderFault("the subject of userinfo")
            claims = {**more, **claims}
        groups = claims.get(claim, ())
        groups = [groups] if isinstance(groups, str) else groups
        if not isinstance(groups, (list, tuple)):
            raise ProviderFault("the form of the groups")
        name = next((str(claims[key]) for key in ("name", "preferred_username") if claims.get(key)), "")
        return Claims(claims["sub"], name[:100], tuple(group for group in groups if isinstance(group, str)))

    # ---- the provider ------------------------------------------------------------------------

    def _client(self, back: str) -> AsyncOAuth2Client:
        secret = self._settings.secret
        methods = self._about.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        way = "client_secret_basic" if "client_secret_basic" in methods else "client_secret_post"
        return AsyncOAuth2Client(
            self._settings.client,
            secret or None,
            token_endpoint_auth_method=way if secret else "none",
            scope=self._settings.scopes,
            redirect_uri=back,
            code_challenge_method="S256",
            timeout=_TIMEOUT,
            follow_redirects=False,
        )

    async def _endpoint(self, client: AsyncOAuth2Client, name: str) -> str:
        """An address that the provider says of itself."""
        now = time.monotonic()
        if now - self._asked >= _BELIEVED:
            place = f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration"
            answer = await client.get(place, auth=None)
            answer.raise_for_status()
            about = answer.json()
            if about["issuer"] != self._settings.issuer:
                raise ProviderFault("it names itself otherwise than A3TUNE_OIDC_ISSUER")
            self._about, self._asked = about, now
        address = self._about[name]
        if not is_safe_address(address):
            raise ProviderFault(f"{name} is no https address")
        return str(address)


def _fault(error: Exception) -> ProviderFault:
    """Only the kind of a foreign error: its text may quote a token."""
    words = getattr(error, "claim", None) or getattr(error, "error", None)
    known = str(words) if isinstance(words, str) and words.replace("_", "").isalnum() else ""
    return ProviderFault(f"{type(error).__name__} {known}".strip())
