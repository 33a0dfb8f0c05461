"""Signing in at an identity provider: one that keeps to the rules, and ones that break each of them."""

from __future__ import annotations

import base64
import hmac
import json
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from app.login.signing_in import BROWSER, SESSION
from tests.support.identity_provider import SECRET, signing_key


def sent_away(client, **headers):
    """Where the provider is to be asked."""
    answer = client.get("/login/start", headers=headers)
    assert answer.status_code == 303
    return answer.headers["location"]


def come_back(client, provider, **changed):
    brought = {**provider.sign_in(sent_away(client)), **changed}
    return client.get("/login/callback", params=brought)


def test_nobody_gets_in_but_by_the_login_and_machines_still_learn_of_the_health(house, groups):
    client = house("oidc", groups).browser()
    answer = client.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    for method, path in (
        ("GET", "/config"), ("GET", "/modules/x.js"), ("GET", "/assets/a.js"), ("GET", "/gradio_api/info"),
        ("GET", "/gradio_api/heartbeat/page-1"), ("GET", "/gradio_api/queue/data?session_hash=page-1"),
        ("POST", "/gradio_api/queue/join"), ("POST", "/gradio_api/upload"), ("POST", "/gradio_api/component_server"),
        ("POST", "/"), ("GET", "/login/"), ("GET", "/gradio_api/login/start"),
    ):  # fmt: skip
        answer = client.request(method, path)
        assert answer.status_code == 401, path
        assert "Reload the page to sign in" in answer.json()["detail"]
    for path in ("/healthz", "/readyz", "/metrics", "/gradio_api/startup-events"):
        assert client.get(path).status_code == 200
    with pytest.raises(Exception), client.websocket_connect("/gradio_api/queue/join"):  # noqa: B017, PT011
        pass


@pytest.mark.parametrize("prefix", ["/healthz", "/metrics", "/gradio_api", "/gradio_api/startup-events", "/login"])
def test_no_path_of_a_proxy_opens_what_is_closed(house, groups, prefix):
    client = house("oidc", groups).browser()
    for end in ("/", prefix, f"{prefix}/", "/config", "/gradio_api/info"):
        answer = client.get(f"{prefix}{end}", headers={"x-forwarded-prefix": prefix})
        assert answer.status_code in (303, 401), end


def test_the_page_asks_no_other_host_and_runs_no_script(house, groups):
    answer = house("oidc", groups).browser().get("/login")
    assert "Sign in at 127.0.0.1" in answer.text
    assert "<script" not in answer.text
    assert "http" not in answer.text.replace("http-equiv", "")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'self'" in policy
    assert answer.headers["cache-control"] == "no-store"


def test_a_person_is_known_by_issuer_and_subject_with_the_role_of_their_groups(house, groups, provider):
    server = house("oidc", groups)
    client = server.browser()
    answer = come_back(client, provider)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = next(text for text in answer.headers.get_list("set-cookie") if text.startswith(SESSION))
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie
    known = client.get("/").json()
    assert (known["role"], known["issuer"], known["subject"]) == ("tuner", provider.issuer, "person-1")
    assert (known["name"], len(known["owner"])) == ("Ann", 40)
    assert "set-cookie" not in client.get("/").headers, "the login names the visit"
    assert server.noted == [("sign-in", "person-1", {})]
    # Somebody else with the same address and name is somebody else.
    provider.claims = {"sub": "person-2", "groups": ["staff"], "name": "Ann", "email": "ann@example.org"}
    other = server.browser()
    come_back(other, provider)
    assert other.get("/").json()["owner"] != known["owner"]
    # The same person in another browser has the same folder, and another visit.
    provider.claims = {"sub": "person-1", "groups": ["students", "admins"], "email": "ann@example.org"}
    again = server.browser()
    come_back(again, provider)
    second = again.get("/").json()
    assert (second["owner"], second["role"]) == (known["owner"], "operator")
    assert second["visit"] != known["visit"]


def test_under_https_and_a_path_of_a_proxy_the_cookies_say_so(house, groups, provider):
    client = house("oidc", groups).browser(base="http://studio.example")
    proxy = {"x-forwarded-proto": "https", "x-forwarded-prefix": "/studio"}
    assert client.get("/", headers=proxy).headers["location"] == "/studio/login"
    assert 'href="/studio/login/start"' in client.get("/studio/login", headers=proxy).text
    address = sent_away(client, **proxy)
    assert parse_qs(urlsplit(address).query)["redirect_uri"] == ["https://studio.example/studio/login/callback"]
    brought = {**provider.sign_in(address)}
    name, value = BROWSER, next(iter(client.cookies.jar)).value
    answer = client.get("/login/callback", params=brought, headers={**proxy, "cookie": f"{name}={value}"})
    assert answer.headers["location"] == "/studio/"
    for cookie in answer.headers.get_list("set-cookie"):
        assert "Path=/studio; HttpOnly; SameSite=Lax; Secure" in cookie


def test_groups_that_the_token_leaves_out_are_asked_for_and_have_to_be_the_persons(house, groups, provider):
    provider.claims = {"sub": "person-1"}
    provider.userinfo = {"sub": "person-1", "groups": "admins"}
    server = house("oidc", groups)
    client = server.browser()
    assert come_back(client, provider).status_code == 303
    assert client.get("/").json()["role"] == "operator"
    provider.userinfo = {"sub": "person-2", "groups": "admins"}
    assert come_back(server.browser(), provider).status_code == 403


def packed(*parts):
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def unsigned(header, claims):
    return packed(json.dumps({"alg": "none", "kid": header["kid"]}).encode(), json.dumps(claims).encode(), b"")


def with_secret(secret):
    """A token signed as if the secret were shared: whoever knows a public key could use that as one."""

    def spoil(header, claims):
        text = packed(json.dumps({"alg": "HS256", "kid": header["kid"]}).encode(), json.dumps(claims).encode())
        return f"{text}.{packed(hmac.digest(secret, text.encode(), 'sha256'))}"

    return spoil


def with_own_key(header, claims):
    return jwt.encode(header, claims, signing_key("another"))


def with_embedded_key(header, claims):
    key = ECKey.generate_key("P-256")
    return jwt.encode({"alg": "ES256", "jwk": key.as_dict(private=False)}, claims, key)


def changed_later(header, claims):
    head, _, signature = jwt.encode(header, {**claims, "sub": "somebody else"}, signing_key("first")).split(".")
    return f"{head}.{packed(json.dumps(claims).encode())}.{signature}"


def claims_with(**changed):
    def spoil(header, claims):
        claims.update({name: value(claims) if callable(value) else value for name, value in changed.items()})
        for name in [name for name, value in claims.items() if value is None]:
            del claims[name]

    return spoil


HOSTILE = {
    "wrong nonce": (claims_with(nonce="another"), "InvalidClaimError nonce"),
    "no nonce": (claims_with(nonce=None), "MissingClaimError nonce"),
    "nonce of another form": (claims_with(nonce=lambda claims: [claims["nonce"]]), "InvalidClaimError nonce"),
    "wrong issuer": (claims_with(iss="https://evil.example"), "InvalidClaimError iss"),
    "no issuer": (claims_with(iss=None), "MissingClaimError iss"),
    "issuer with a slash more": (claims_with(iss=lambda claims: f"{claims['iss']}/"), "InvalidClaimError iss"),
    "wrong audience": (claims_with(aud="another-client"), "InvalidClaimError aud"),
    "no audience": (claims_with(aud=None), "MissingClaimError aud"),
    "another client's": (claims_with(aud=["studio", "another"], azp="another"), "InvalidClaimError azp"),
    "several without saying whose": (claims_with(aud=["studio", "another"]), "MissingClaimError azp"),
    "expired": (claims_with(exp=time.time() - 120), "ExpiredTokenError exp"),
    "no end": (claims_with(exp=None), "MissingClaimError exp"),
    "from the future": (claims_with(iat=time.time() + 3600), "InvalidClaimError iat"),
    "not yet": (claims_with(nbf=time.time() + 3600), "InvalidClaimError nbf"),
    "no subject": (claims_with(sub=None), "MissingClaimError sub"),
    "empty subject": (claims_with(sub=""), "sub"),
    "a subject that is a number": (claims_with(sub=5), "InvalidClaimError sub"),
    "another access token": (claims_with(at_hash="AAAA"), "InvalidClaimError at_hash"),
    "groups of another form": (claims_with(groups={"staff": True}), "the form of the groups"),
    "no signature": (unsigned, "UnsupportedAlgorithmError"),
    "the public key as a secret": (
        with_secret(signing_key("first").as_pem(private=False)),
        "UnsupportedAlgorithmError",
    ),
    "the client's secret": (with_secret(SECRET.encode()), "UnsupportedAlgorithmError"),
    "another key of that name": (with_own_key, "BadSignatureError"),
    "a key of its own": (with_embedded_key, "InvalidKeyTypeError"),
    "changed later": (changed_later, "BadSignatureError"),
    "no token": (lambda header, claims: "x.y.z", "DecodeError"),
}


@pytest.mark.parametrize(("spoil", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_token_that_breaks_a_rule_signs_nobody_in(house, groups, provider, caplog, spoil, reason):
    provider.spoil = spoil
    provider.about = {"id_token_signing_alg_values_supported": ["HS256", "none"]}
    server = house("oidc", groups)
    client = server.browser()
    answer = come_back(client, provider)
    assert answer.status_code == 403
    assert "could not be trusted" in answer.text
    assert f"must be: {reason}" in caplog.text
    assert client.get("/").status_code == 303
    assert server.noted == [("sign-in-refused", "", {"why": "token"})]


def test_a_secret_among_the_providers_keys_is_no_key(house, groups, provider, caplog):
    secret = OctKey.import_key(b"a secret that everybody knows, of thirty-two bytes", {"kid": "first"})
    provider.key, provider.spoil = secret, with_secret(secret.raw_value)
    client = house("oidc", groups).browser()
    assert come_back(client, provider).status_code == 403
    assert "must be:" in caplog.text
    assert client.get("/").status_code == 303


def test_a_state_is_of_one_browser_and_of_one_use(house, groups, provider):
    server = house("oidc", groups)
    ann, eve = server.browser(), server.browser()
    brought = provider.sign_in(sent_away(ann))
    # Eve's own login in Ann's browser, and Ann's in Eve's.
    theirs = provider.sign_in(sent_away(eve))
    assert ann.get("/login/callback", params=theirs).status_code == 400
    assert eve.get("/login/callback", params=brought).status_code == 400
    assert ann.get("/login/callback", params=brought).status_code == 400, "Eve used it up"
    brought = provider.sign_in(sent_away(ann))
    browser = ann.cookies[BROWSER]
    assert ann.get("/login/callback", params=brought).status_code == 303
    replayed = ann.get("/login/callback", params=brought, headers={"cookie": f"{BROWSER}={browser}"})
    assert replayed.status_code == 400
    for wrong in ({"state": "unknown", "code": "x"}, {}, {"code": "x"}):
        assert server.browser().get("/login/callback", params=wrong).status_code == 400
    assert {facts["why"] for act, _, facts in server.noted if act == "sign-in-refused"} == {"state"}


def test_an_error_another_issuer_and_a_wrong_code_sign_nobody_in(house, groups, provider):
    server = house("oidc", groups)
    client = server.browser()
    assert come_back(client, provider, iss="https://evil.example").status_code == 400
    assert come_back(client, provider, code="code-9").status_code == 403
    state = provider.sign_in(sent_away(client))["state"]
    answer = client.get("/login/callback", params={"state": state, "error": "<script>access_denied"})
    assert answer.status_code == 403
    assert "<script" not in answer.text
    assert client.get("/").status_code == 303


def test_a_group_that_is_not_named_may_not_come_in(house, groups, provider):
    provider.claims = {"sub": "person-1", "groups": ["visitors", "staff "], "email": "admin@example.org"}
    server = house("oidc", groups)
    answer = come_back(server.browser(), provider)
    assert answer.status_code == 403
    assert "Ask whoever runs this server" in answer.text
    assert server.noted[-1] == ("sign-in-refused", "", {"why": "groups"})


def test_a_provider_that_is_away_or_another_is_told_in_words(house, groups, provider, caplog):
    for about in ({"issuer": "https://evil.example"}, {"authorization_endpoint": "http://evil.example/authorize"},
                  {"authorization_endpoint": "javascript:alert(1)"}):  # fmt: skip
        provider.about = about
        answer = house("oidc", groups).browser().get("/login/start")
        assert answer.status_code == 503
        assert "does not answer" in answer.text
    groups = {**groups, "A3TUNE_OIDC_ISSUER": "http://127.0.0.1:1"}
    assert house("oidc", groups).browser().get("/login/start").status_code == 503
    assert "evil" not in caplog.text


def test_a_new_key_of_the_providers_is_taken(house, groups, provider, monkeypatch):
    monkeypatch.setattr("app.login.provider._KEYS_AGAIN", 0.0)
    server = house("oidc", groups)
    assert come_back(server.browser(), provider).status_code == 303
    provider.key = signing_key("second")
    assert come_back(server.browser(), provider).status_code == 303
    assert provider.asked.count("/jwks_uri") == 2


def test_what_the_browser_says_of_the_way_back_is_not_followed(house, groups, provider):
    client = house("oidc", groups).browser()
    assert client.get("/login/start", headers={"host": "evil.example"}).status_code == 403
    assert client.get("/login/start", headers={"x-forwarded-host": "evil.example"}).status_code == 403
    for root in ("//evil.example", "https://evil.example", "/a\r\nb", "/studio?x", "/a//b"):
        answer = client.get("/", headers={"x-forwarded-prefix": root})
        assert answer.headers["location"] == "/login"
    answer = come_back(client, provider, next="https://evil.example", redirect="//evil.example")
    assert answer.headers["location"] == "/"


def test_a_login_ends_by_signing_out_idle_and_at_its_longest(house, groups, provider, monkeypatch):
    server = house("oidc", groups)
    client = server.browser()
    come_back(client, provider)
    page = {"session_hash": "page-1"}
    assert client.post("/gradio_api/queue/join", json=page).status_code == 200
    stolen = {"cookie": f"{SESSION}={client.cookies[SESSION]}"}
    ended = []
    server.visits._page_ended = ended.append
    # Another site's form signs nobody out, nor does a picture.
    assert client.post("/logout", headers={"origin": "https://evil.example"}).status_code == 403
    assert client.get("/logout").status_code == 303
    assert client.get("/").status_code == 200
    answer = client.post("/logout", headers={"origin": "http://localhost:7860"})
    assert "You are signed out" in answer.text
    assert ended == ["page-1"], "what was open is gone at once"
    assert server.browser(**stolen).get("/").status_code == 303
    assert [act for act, *_ in server.noted] == ["sign-in", "sign-out"]

    moment = time.monotonic()
    for hours, minutes, step, status in ((12, 60, 3500, 200), (12, 60, 3700, 303), (1, 90, 3000, 303)):
        server = house("oidc", groups, login_hours=hours, login_idle_minutes=minutes)
        client = server.browser()
        monkeypatch.setattr("app.login.sessions.time.monotonic", lambda: moment)
        come_back(client, provider)
        for seconds in (step, 2 * step):
            monkeypatch.setattr("app.login.sessions.time.monotonic", lambda seconds=seconds: moment + seconds)
            answer = client.get("/")
        assert answer.status_code == status
        # What the page asks by itself keeps nobody logged in.
        if status == 200:
            monkeypatch.setattr("app.login.sessions.time.monotonic", lambda: moment + 2 * 3500 + 3000)
            client.get("/gradio_api/app_id")
            monkeypatch.setattr("app.login.sessions.time.monotonic", lambda: moment + 2 * 3500 + 3700)
            assert client.get("/").status_code == 303


def test_an_answer_that_is_being_sent_ends_with_the_login(house, groups, provider):
    server = house("oidc", groups)
    client = server.browser()
    come_back(client, provider)
    sent = []

    def stream() -> None:
        sent.append(1)
        if len(sent) == 3:
            server.browser(**{"cookie": f"{SESSION}={client.cookies[SESSION]}"}).post("/logout")

    client.post("/gradio_api/queue/join", json={"session_hash": "page-1"})
    assert client.get("/gradio_api/queue/data?session_hash=page-1").content == b"data\n" * 4
    server.stream = stream
    assert client.get("/gradio_api/queue/data?session_hash=page-1").content == b"data\n" * 2


def test_two_cookies_of_one_name_are_none(house, groups, provider):
    server = house("oidc", groups)
    client = server.browser()
    come_back(client, provider)
    mine = f"{SESSION}={client.cookies[SESSION]}"
    assert server.browser(cookie=mine).get("/").status_code == 200
    assert server.browser(cookie=f"{SESSION}=other; {mine}").get("/").status_code == 303


def test_logins_that_fail_are_limited_by_the_browsers_own_address(house, groups, provider):
    server = house("oidc", {**groups, "A3TUNE_PROXIES": "10.0.0.0/8"}, login_tries=2)
    through = {"x-forwarded-for": "6.6.6.6, 198.51.100.1"}
    for status in (400, 400, 429):
        answer = server.browser("10.1.2.3", **through).get("/login/callback")
        assert answer.status_code == status
    assert "A3TUNE_LOGIN_TRIES" in answer.text
    # Another address is not kept out, and who comes past the proxies cannot say where from.
    assert server.browser("10.1.2.3", **{"x-forwarded-for": "198.51.100.2"}).get("/login/callback").status_code == 400
    for number in range(3):
        answer = server.browser("192.0.2.9", **{"x-forwarded-for": f"203.0.113.{number}"}).get("/login/callback")
    assert answer.status_code == 429
    assert come_back(server.browser(), provider).status_code == 303
