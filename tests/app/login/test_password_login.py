"""Names and passwords in a file, and the person whom a proxy names."""

from __future__ import annotations

import io

import pytest
from argon2 import PasswordHasher

from a3tune.errors import RequestError
from app.login import people
from app.login.people import People, add_person, ask_password, remove_person
from app.login.signing_in import SESSION

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch):
    monkeypatch.setattr(people, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "keys" / "people"
    add_person(path, "ann", "tuner", PASSWORD)
    add_person(path, "bob", "operator", f"{PASSWORD} too")
    return path


def sign_in(client, name="ann", password=PASSWORD, **headers):
    return client.post("/login", data={"name": name, "password": password}, headers=headers)


def test_the_file_holds_hashes_that_only_this_user_reads(file):
    lines = file.read_text().splitlines()
    assert [line.split()[:2] for line in lines] == [["tuner", "ann"], ["operator", "bob"]]
    assert all(line.split()[2].startswith("$argon2id$") for line in lines)
    assert PASSWORD not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    add_person(file, "ann", "viewer", f"another {PASSWORD}")
    assert (People(file).read()["ann"].role, len(People(file).read())) == ("viewer", 2)
    remove_person(file, "ann")
    assert list(People(file).read()) == ["bob"]
    with pytest.raises(RequestError, match="'ann' is not in it"):
        remove_person(file, "ann")


@pytest.mark.parametrize(
    ("name", "role", "password", "words"),
    [
        ("ann smith", "tuner", PASSWORD, "letters, digits"),
        ("ann\nroot", "tuner", PASSWORD, "letters, digits"),
        ("", "tuner", PASSWORD, "letters, digits"),
        ("ann", "root", PASSWORD, "one of viewer, tuner, operator"),
        ("ann", "tuner", "short", "12 to 1024 letters"),
        ("ann", "tuner", "x" * 1025, "12 to 1024 letters"),
    ],
)
def test_what_is_no_person_is_not_written(tmp_path, name, role, password, words):
    with pytest.raises(RequestError, match=words):
        add_person(tmp_path / "people", name, role, password)
    assert not (tmp_path / "people").exists()


def test_a_file_that_cannot_be_trusted_is_refused(file, tmp_path):
    text = file.read_text()
    for content, words in (
        ("", "names nobody"),
        (f"{text}ann plain-text\n", "Line 3"),
        ("root x $argon2id$", "Line 1"),
    ):
        file.write_text(content)
        with pytest.raises(RequestError, match=words):
            People(file)
    file.write_text(text)
    file.chmod(0o620)
    with pytest.raises(RequestError, match="chmod go-w"):
        People(file)
    with pytest.raises(RequestError, match="cannot be read"):
        People(tmp_path / "nothing")


def test_a_password_is_read_from_a_pipe_or_asked_for_twice(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\nmore\n"))
    assert ask_password() == PASSWORD
    given = iter([PASSWORD, "something else"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda words: next(given))
    with pytest.raises(RequestError, match="They differ"):
        ask_password()


def test_somebody_signs_in_by_name_and_password_and_is_out_with_the_file(house, file):
    server = house("password", {}, people=str(file))
    client = server.browser()
    page = client.get("/login")
    assert '<form method="post" action="/login">' in page.text
    for name, password in (("ann", "wrong"), ("nobody", PASSWORD), ("", ""), ("ann", f"{PASSWORD} too")):
        answer = sign_in(client, name, password)
        assert answer.status_code == 403
        assert "not known here" in answer.text
        assert SESSION not in client.cookies
    answer = sign_in(client)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    known = client.get("/").json()
    assert (known["role"], known["subject"], known["issuer"]) == ("tuner", "ann", "password")
    # Somebody else in the same browser is somebody else, in a visit of their own.
    first = client.cookies[SESSION]
    sign_in(client, "bob", f"{PASSWORD} too")
    other = client.get("/").json()
    assert other["owner"] != known["owner"]
    assert other["visit"] != known["visit"]
    assert server.browser(cookie=f"{SESSION}={first}").get("/").status_code == 303
    sign_in(client)
    add_person(file, "ann", "viewer", PASSWORD)
    assert client.get("/").json()["role"] == "viewer"
    remove_person(file, "ann")
    assert client.get("/").status_code == 303
    assert [act for act, *_ in server.noted][:4] == ["sign-in-refused"] * 4
    assert PASSWORD not in repr(server.noted)


def test_passwords_cannot_be_tried_out(house, file):
    server = house("password", {}, people=str(file), login_tries=3)
    eve = server.browser("198.51.100.7")
    assert [sign_in(eve, "ann", f"guess {number}").status_code for number in range(4)] == [403, 403, 403, 429]
    assert sign_in(eve).status_code == 429, "nor is the right one taken any more"
    assert "A3TUNE_LOGIN_TRIES" in sign_in(eve).text
    # Nor from other addresses under that name; others still come in.
    assert sign_in(server.browser("198.51.100.8")).status_code == 429
    assert sign_in(server.browser("198.51.100.8"), "bob", f"{PASSWORD} too").status_code == 303
    # One network of 64 bits is one address.
    statuses = [
        sign_in(server.browser(f"2001:db8::{number}"), f"n{number}", "guess").status_code for number in range(4)
    ]
    assert statuses == [403, 403, 403, 429]


def test_what_is_no_form_of_the_page_is_refused(house, file):
    server = house("password", {}, people=str(file))
    client = server.browser()
    assert sign_in(client, origin="https://evil.example").status_code == 403
    assert sign_in(client, **{"sec-fetch-site": "cross-site"}).status_code == 403
    assert client.post("/login", content=b"x" * 9000).status_code == 413
    assert client.post("/login", content=b"name=" + b"\xff").status_code == 400
    assert client.post("/login", content=b"&".join([b"a=1"] * 99)).status_code == 400
    assert client.post("/login", json={"name": "ann", "password": PASSWORD}).status_code == 403
    assert sign_in(client, "ann'--", "\0" * 30).status_code == 403
    assert client.get("/login/start").status_code == 401


def test_an_audit_that_cannot_be_written_signs_nobody_in_and_keeps_nobody(house, file):
    server = house("password", {}, people=str(file))
    client = server.browser()
    sign_in(client)

    def full(identity, act, facts) -> None:
        raise RequestError(expected="an audit that can be written", got="It cannot be", remedy="Make room")

    server.note = full
    server.app._way._audit = full
    answer = sign_in(server.browser(), "bob", f"{PASSWORD} too")
    assert answer.status_code == 503
    assert "set-cookie" not in answer.headers
    assert client.post("/logout").status_code == 200
    assert client.get("/").status_code == 303


GROUPS = {"A3TUNE_VIEWERS": "students", "A3TUNE_OPERATORS": "admins"}


def test_a_proxy_says_who_asks_and_nobody_else_does(house):
    server = house("proxy", {**GROUPS, "A3TUNE_PROXIES": "10.0.0.5, fd00::/16"})
    person = {"X-Remote-User": "ann@example.org", "X-Remote-Groups": "students, admins", "X-Forwarded-For": "192.0.2.1"}
    known = server.browser("10.0.0.5", **person).get("/").json()
    assert (known["subject"], known["role"], known["client"]) == ("ann@example.org", "operator", "192.0.2.1")
    assert server.browser("fd00::1", **person).get("/").json()["owner"] == known["owner"]
    assert server.browser("::ffff:10.0.0.5", **person).get("/").status_code == 200
    for peer in ("10.0.0.6", "127.0.0.1", "203.0.113.7", "testclient", "fe80::1"):
        answer = server.browser(peer, **person).get("/")
        assert answer.status_code == 403
        assert "A3TUNE_PROXIES" in answer.text
        assert server.browser(peer, **person).post("/gradio_api/queue/join", json={}).status_code == 403
        assert server.browser(peer).get("/healthz").status_code == 200
    assert server.environment == {"FORWARDED_ALLOW_IPS": ""}


def test_a_proxy_that_does_not_say_it_clearly_lets_nobody_in(house):
    server = house("proxy", {**GROUPS, "A3TUNE_PROXIES": "10.0.0.5"})
    client = server.browser("10.0.0.5")
    group = ("X-Remote-Groups", "admins")
    for headers in (
        [group], [("X-Remote-User", ""), group], [("X-Remote-User", "a"), ("X-Remote-User", "b"), group],
        [("X-Remote-User", "a")], [("X-Remote-User", "a"), ("X-Remote-Groups", "others")],
        [("X-Remote-User", "a"), group, group], [("X_Remote_User", "a"), group], [("X-Remote-User", "a" * 201), group],
    ):  # fmt: skip
        assert client.get("/", headers=headers).status_code == 403
        assert client.post("/logout", headers=headers).status_code == 403


def test_two_people_in_one_browser_behind_a_proxy_have_visits_of_their_own(house):
    server = house("proxy", {**GROUPS, "A3TUNE_PROXIES": "10.0.0.5"})
    client = server.browser("10.0.0.5")
    ann, bob = ({"X-Remote-User": name, "X-Remote-Groups": "students"} for name in ("ann", "bob"))
    client.get("/", headers=ann)
    visits = [client.get("/", headers=person).json()["visit"] for person in (ann, bob, ann)]
    assert visits[0] == visits[2] != visits[1]
    assert client.post("/gradio_api/queue/join", json={"session_hash": "page-1"}, headers=ann).status_code == 200
    assert client.post("/gradio_api/queue/join", json={"session_hash": "page-1"}, headers=bob).status_code == 403


def test_many_logins_of_one_person_end_the_oldest(house, file):
    server = house("password", {}, people=str(file), login_tries=None)
    clients = [server.browser() for _ in range(21)]
    for client in clients:
        assert sign_in(client).status_code == 303
    assert [client.get("/").status_code for client in clients] == [303] + [200] * 20
