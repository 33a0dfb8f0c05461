"""The gate in front of every route, around a stand-in for Gradio that tells what reached it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from gradio.route_utils import FileUploadProgress
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.access import upload_route
from app.access.deployment import DEPLOYMENTS
from app.access.gate import COOKIE, Gate, Settings
from app.access.identity import ASKER, IDENTITY, Identity
from app.access.origins import Hosts
from app.access.uploads import UploadFolder
from app.access.visits import Visits

OWN = "http://localhost:7860"


async def tell(request: Request):
    asker = request.scope[ASKER]
    body = (await request.body()).decode()
    if "cannot be called" in body:
        return JSONResponse({"error": None}, 500)
    return JSONResponse(
        {"path": request.url.path, "query": request.url.query, "body": body, "role": asker.identity.role},
        headers={"access-control-allow-origin": "*", "cache-control": "public"},
    )


@pytest.fixture
def serve(tmp_path):
    """(deployment, client=..., **settings) -> (the visits, a maker of browsers)."""

    def build(name="space", client="203.0.113.7", identity=None, **settings):
        visits = Visits(DEPLOYMENTS[name], UploadFolder(tmp_path / "uploads"))
        told = Settings(Hosts(["studio.example"]), **{"role": ("tuner", "tuner"), **settings})
        inner = Starlette(routes=[Route("/{path:path}", tell, methods=["GET", "POST", "OPTIONS", "PUT"])])

        async def gradio(scope, receive, send):
            if scope["path"].endswith("/cancel") and name == "local":
                raise KeyError(scope["headers"])
            await inner(scope, receive, send)

        gate = Gate(gradio, told, visits)

        async def app(scope, receive, send):
            if identity is not None:
                scope[IDENTITY] = identity
            await gate(scope, receive, send)

        def browser():
            return TestClient(app, OWN, client=(client, 50000))

        return visits, browser

    return build


def arrive(browser, page="page-1"):
    """A browser that has loaded the page."""
    client = browser()
    assert client.get("/").status_code == 200
    assert client.post("/gradio_api/queue/join", json={"session_hash": page}).status_code == 200
    return client


def upload(client, content=b"picture", name="scan.png", page="upload-1"):
    answer = client.post(f"/gradio_api/upload?upload_id={page}", files={"files": (name, content)})
    assert answer.status_code == 200, answer.text
    return answer.json()[0]


def test_the_page_brings_a_cookie_that_no_script_reads_and_nothing_of_other_hosts(serve):
    _, browser = serve()
    answer = browser().get("/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert "'unsafe-inline'" not in policy["script-src"]
    assert not [name for name, value in policy.items() if "//" in value and name != "frame-ancestors"]
    assert "https://huggingface.co" in policy["frame-ancestors"]
    assert (answer.headers["x-content-type-options"], answer.headers["referrer-policy"]) == ("nosniff", "no-referrer")
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers


def test_a_framed_space_gets_a_cookie_for_frames(serve):
    _, browser = serve()
    answer = browser().get("/", headers={"x-forwarded-proto": "https"})
    assert "SameSite=None; Secure; Partitioned" in answer.headers["set-cookie"]
    _, browser = serve("server")
    answer = browser().get("/", headers={"x-forwarded-proto": "https"})
    assert "SameSite=Lax; Secure" in answer.headers["set-cookie"]
    assert answer.headers["content-security-policy"].endswith("frame-ancestors 'self'")


def test_every_page_has_a_nonce_of_its_own(serve):
    _, browser = serve()
    client = browser()
    assert len({client.get("/").headers["content-security-policy"] for _ in range(3)}) == 3


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 403),
        ({"x-forwarded-host": "evil.example"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "null", "sec-fetch-site": "cross-site"}, 403),
        ({"origin": "null", "sec-fetch-site": "none"}, 403),
        ({"origin": "null", "sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}, 403),
        ({"origin": OWN, "sec-fetch-site": "same-origin"}, 200),
        ({"host": "studio.example", "origin": "https://studio.example"}, 200),
        ({}, 200),
    ],
)
def test_requests_of_other_sites_end_before_gradio(serve, headers, status):
    client = arrive(serve()[1])
    answer = client.post("/gradio_api/queue/join", json={"session_hash": "page-1"}, headers=headers)
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("name", ["x-forwarded-host", "origin"])
def test_of_two_headers_of_a_name_none_hides_the_other(serve, name):
    client = arrive(serve()[1])
    own = {"x-forwarded-host": "localhost:7860", "origin": OWN}[name]
    for first, second in (("https://evil.example", own), (own, "https://evil.example")):
        headers = [(name, first), (name, second)]
        assert client.post("/gradio_api/cancel", json={"session_hash": "page-1"}, headers=headers).status_code == 403


def test_a_preflight_and_what_is_no_route_end_before_gradio(serve):
    client = arrive(serve()[1])
    for method, path in (("OPTIONS", "/gradio_api/queue/join"), ("PUT", "/"), ("GET", "/gradio_api/deep_link")):
        assert client.request(method, path).status_code == 404
    with pytest.raises(Exception), client.websocket_connect("/gradio_api/queue/join"):  # noqa: B017, PT011
        pass


def test_a_page_of_one_browser_is_of_no_use_to_another(serve):
    _, browser = serve()
    ann, eve = arrive(browser, "page-1"), arrive(browser, "page-2")
    stranger = browser()
    for client, status in ((ann, 200), (eve, 403), (stranger, 401)):
        for path in ("/gradio_api/heartbeat/page-1", "/gradio_api/queue/data?session_hash=page-1"):
            assert client.get(path).status_code == status
        for path in ("queue/join", "run/predict", "component_server/", "cancel"):
            assert client.post(f"/gradio_api/{path}", json={"session_hash": "page-1"}).status_code == status
    assert "cookie" in stranger.get("/gradio_api/heartbeat/page-1").json()["detail"]


def test_an_event_of_another_page_is_not_cancelled(serve):
    client = arrive(serve(event_page={"mine": "page-1", "other": "page-2"}.get)[1])
    for event, status in (("mine", 200), ("unknown", 200), ("other", 403)):
        answer = client.post("/gradio_api/cancel", json={"session_hash": "page-1", "event_id": event})
        assert answer.status_code == status


def test_only_a_visits_own_upload_is_a_file(serve):
    _, browser = serve()
    ann, eve = arrive(browser, "page-1"), arrive(browser, "page-2")
    path, same = upload(ann), upload(eve, page="upload-2")
    assert path != same
    assert path.endswith("/scan.png")
    inner = {"path": path, "meta": {"_type": "gradio.FileData"}}
    body = {"session_hash": "page-1", "data": ["", [inner]], "event_data": None}
    assert ann.post("/gradio_api/queue/join", json=body).json()["body"] == json.dumps(body, separators=(",", ":"))
    for wrong in (path, "/etc/passwd", "https://evil.example/x.png", "/gradio_api/file=x", 5):
        stolen = {"session_hash": "page-2", "data": [{"deep": [{**inner, "path": wrong}]}]}
        assert eve.post("/gradio_api/run/predict", json=stolen).status_code == 403
    own, other = (client.get("/gradio_api/upload_progress?upload_id=upload-1").json() for client in (ann, eve))
    assert own["query"].endswith("-upload-1")
    assert own["query"] != other["query"], "how far an upload is, is kept apart for each visit"
    assert eve.get(f"/gradio_api/file={path}").status_code == 404


def test_a_request_names_no_more_files_than_can_be_looked_for(serve):
    _, browser = serve()
    ann = browser()
    ann.get("/")
    paths = [{"path": f"/tmp/{number}"} for number in range(10_001)]
    answer = ann.post("/gradio_api/queue/join", json={"session_hash": "page-of-ann", "data": paths})
    assert (answer.status_code, "names 10,001 files" in answer.text) == (413, True)


def test_uploads_that_nobody_follows_and_names_of_none_take_no_memory_for_good(serve, monkeypatch):
    followed = FileUploadProgress()
    monkeypatch.setattr(upload_route, "file_upload_statuses", followed)
    monkeypatch.setattr(upload_route, "_MOST_FOLLOWED", 3)
    _, browser = serve()
    client = browser()
    for number in range(20):
        followed.track(f"upload-{number}")
        # Gradio waits for an upload of the name that it is asked for.
        assert followed._signals[f"nobody-{number}"]
    client.get("/gradio_api/upload_progress?upload_id=another")
    assert list(followed._statuses) == ["upload-17", "upload-18", "upload-19"]
    assert len(followed._signals) == 3


def test_what_is_too_large_is_told_with_who_can_raise_it(serve):
    visits, browser = serve()
    client = arrive(browser)
    visits.deployment = replace(visits.deployment, request_mb=0.001, upload_file_mb=0.001, upload_each_mb=0.002)
    answers = [
        client.post("/gradio_api/queue/join", json={"session_hash": "page-1", "data": ["x" * 2000]}),
        client.post("/gradio_api/upload", files={"files": ("a.png", b"x" * 1500)}),
        client.post("/gradio_api/upload", files={"files": ("a.png", b"x" * 5000)}),
    ]
    assert [answer.status_code for answer in answers] == [413, 413, 429]
    for answer, name in zip(answers, ("REQUEST", "UPLOAD_FILE", "UPLOAD_EACH"), strict=True):
        assert f"raise A3TUNE_{name}_MB" in answer.json()["detail"]
    assert not [path for path in visits.uploads.root.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"session_hash": 5}', b'{"session_hash": "../x"}', b"[" * 100_000, b"\xff\xfe",
     b'{"session_hash": "page-1", "data": ' + b"[" * 80 + b"]" * 80 + b"}"],
)  # fmt: skip
def test_what_is_no_request_of_the_page_is_refused(serve, content):
    client = arrive(serve()[1])
    assert client.post("/gradio_api/queue/join", content=content).status_code == 400


def test_what_cannot_be_called_is_told_in_words(serve):
    client = arrive(serve()[1])
    for path in ("run/predict", "component_server"):
        answer = client.post(f"/gradio_api/{path}", json={"session_hash": "page-1", "data": ["cannot be called"]})
        assert answer.status_code == 400
        assert answer.json()["error"] == "This request is none that the page sends. Load the page again."


def test_only_a_page_that_asked_for_something_waits_for_answers(serve):
    client = arrive(serve(has_answers=lambda page: page == "page-2")[1])
    for page, status in (("page-1", 404), ("page-2", 200), ("unknown", 404), ("", 400), ("a/b", 400)):
        assert client.get("/gradio_api/queue/data", params={"session_hash": page}).status_code == status
    assert client.get("/gradio_api/heartbeat/page-1").status_code == 200


def test_what_fails_behind_the_gate_is_told_without_a_trace(serve, caplog):
    client = arrive(serve("local")[1])
    caplog.clear()
    answer = client.post("/gradio_api/cancel", json={"session_hash": "page-1"})
    assert answer.status_code == 400
    assert "number" in answer.json()["detail"]
    assert "KeyError" in caplog.text
    assert "cookie" not in caplog.text + answer.text


def test_the_address_of_the_page_opens_nothing(serve):
    _, browser = serve()
    assert browser().get("/?deep_link=abc&__theme=dark&view=x").json()["query"] == "__theme=dark"
    answer = browser().get("/config?deep_link=abc")
    assert answer.json()["query"] == ""
    assert COOKIE in answer.headers["set-cookie"], "a program's cookie comes with it"


def test_a_program_without_cookies_may_ask_at_home_and_from_this_machine_alone(serve):
    body = {"session_hash": "page-1"}
    for name, client, status in (
        ("local", "127.0.0.1", 200),
        ("local", "203.0.113.7", 401),
        ("space", "127.0.0.1", 401),
    ):
        _, browser = serve(name, client)
        assert browser().post("/gradio_api/queue/join", json=body).status_code == status
    # What a browser began is of no use to it.
    _, browser = serve("local", "127.0.0.1")
    arrive(browser, "page-1")
    assert browser().post("/gradio_api/queue/join", json=body).status_code == 403


def test_who_asks_is_known_by_the_login_or_by_where_they_ask_from(serve):
    def role(browser):
        return browser().get("/").json()["role"]

    assert role(serve("local", "127.0.0.1", role=("operator", "tuner"))[1]) == "operator"
    assert role(serve("local", "203.0.113.7", role=("operator", "tuner"))[1]) == "tuner"
    assert role(serve("server", identity=Identity("viewer"), role=("operator", "operator"))[1]) == "viewer"


@pytest.mark.parametrize("settings", [{"root_path": "/studio"}, {}])
@pytest.mark.parametrize("stripped", [True, False])
def test_under_a_path_of_a_proxy_all_is_the_same(serve, settings, stripped):
    _, browser = serve(**settings)
    headers = {} if settings else {"x-forwarded-prefix": "/studio"}
    client = browser()
    answer = client.get("/" if stripped else "/studio/", headers=headers)
    assert answer.status_code == 200
    assert answer.json()["path"] == "/"
    assert "Path=/studio;" in answer.headers["set-cookie"]
    assert client.get("/studio/gradio_api/deep_link", headers=headers).status_code == 404


def test_a_wrong_cookie_is_none(serve):
    _, browser = serve()
    for value in ("x", "x" * 44, 'a"; b', "ü" * 43):
        client = browser()
        headers = {"cookie": f"{COOKIE}={value}".encode()}
        answer = client.post("/gradio_api/queue/join", json={"session_hash": "page-1"}, headers=headers)
        assert answer.status_code == 401


def test_uploads_without_a_form_are_refused(serve):
    client = arrive(serve()[1])
    for content, kind in (
        (b"x", "text/plain"),
        (b"x", "multipart/form-data"),
        (b"--b\r\n\r\nx", "multipart/form-data; boundary=b"),
    ):
        answer = client.post("/gradio_api/upload", content=content, headers={"content-type": kind})
        assert answer.status_code == 400
