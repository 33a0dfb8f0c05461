"""What whoever runs the server says of the login, and what is missing."""

from __future__ import annotations

import pytest

from a3tune.errors import RequestError
from app.login.addresses import asking_address
from app.login.settings import KINDS, read_login

OIDC = {"A3TUNE_OIDC_ISSUER": "https://id.example/realm", "A3TUNE_OIDC_CLIENT": "studio", "A3TUNE_TUNERS": "staff"}
PROXY = {"A3TUNE_PROXIES": "10.0.0.1, fd00::/8", "A3TUNE_VIEWERS": "a, b"}


def test_each_kind_says_what_it_takes(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hidden\n")
    oidc = read_login("oidc", "server", "", {**OIDC, "A3TUNE_OIDC_SECRET_FILE": str(secret)}).oidc
    assert (oidc.secret, oidc.scopes, oidc.groups_claim) == ("hidden", "openid profile", "groups")
    settings = read_login("proxy", "server", "", {**PROXY, "A3TUNE_PROXY_USER": "X-Forwarded-User"})
    assert (settings.user_header, settings.groups_header) == ("x-forwarded-user", "x-remote-groups")
    assert len(settings.proxies) == 2
    assert read_login("password", "server", "people", {}).people.name == "people"
    assert read_login("none", "local", "", {}) is None
    assert len(KINDS) == 4


@pytest.mark.parametrize(
    ("kind", "deployment", "variables", "words"),
    [
        ("oidc", "local", OIDC, "--deployment server"),
        ("oidc", "space", OIDC, "--deployment server"),
        ("ldap", "server", OIDC, "one of none, oidc, password, proxy"),
        ("oidc", "server", {}, "A3TUNE_VIEWERS or"),
        ("oidc", "server", {**OIDC, "A3TUNE_TUNERS": " , "}, "A3TUNE_VIEWERS or"),
        ("oidc", "server", {"A3TUNE_TUNERS": "staff"}, "A3TUNE_OIDC_ISSUER and A3TUNE_OIDC_CLIENT"),
        ("oidc", "server", {**OIDC, "A3TUNE_OIDC_ISSUER": "http://id.example"}, "begins with https"),
        ("oidc", "server", {**OIDC, "A3TUNE_OIDC_ISSUER": "file:///etc"}, "begins with https"),
        ("oidc", "server", {**OIDC, "A3TUNE_OIDC_SECRET_FILE": "/nowhere"}, "cannot be read"),
        ("oidc", "server", {**OIDC, "A3TUNE_OIDC_SCOPES": "profile"}, "openid in A3TUNE_OIDC_SCOPES"),
        ("oidc", "server", {**OIDC, "A3TUNE_PROXIES": "nginx"}, "nginx is none"),
        ("password", "server", {}, "A3TUNE_PEOPLE"),
        ("proxy", "server", {"A3TUNE_VIEWERS": "a"}, "A3TUNE_PROXIES"),
        ("proxy", "server", {"A3TUNE_PROXIES": "10.0.0.1"}, "A3TUNE_VIEWERS or"),
        ("proxy", "server", {**PROXY, "A3TUNE_PROXY_USER": "X_User: "}, "the name of a header"),
    ],
)
def test_what_is_missing_or_wrong_is_told_before_the_server_starts(kind, deployment, variables, words):
    with pytest.raises(RequestError, match=words):
        read_login(kind, deployment, "", variables)


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.7", "", "203.0.113.7"),
        ("203.0.113.7", "127.0.0.1", "203.0.113.7"),
        ("127.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("127.0.0.1", "6.6.6.6, 203.0.113.7", "203.0.113.7"),
        ("127.0.0.1", "203.0.113.7, 127.0.0.1", "203.0.113.7"),
        ("127.0.0.1", "nonsense", "127.0.0.1"),
    ],
)
def test_the_browsers_address_is_the_last_one_that_a_believed_proxy_names(peer, forwarded, address):
    assert asking_address(peer, forwarded, ()) == address
