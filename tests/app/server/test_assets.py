"""Gradio's files: read once, the same bytes and headers each time, and nothing else is kept."""

from __future__ import annotations

import gzip

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.server.assets import KeptAssets

WORDS = "const words = 1;\n" * 200
PLAIN = {"accept-encoding": "identity"}


@pytest.fixture
def asked():
    return []


@pytest.fixture
def client(asked):
    async def answer(request):
        asked.append(request.url.path)
        if "missing" in request.url.path:
            return PlainTextResponse("There is nothing here", 404)
        size = 20 if "large" in request.url.path else 1
        return StreamingResponse((WORDS * 50 for _ in range(size)), headers={"etag": "one"}, media_type="text/css")

    paths = ["/assets/{name}", "/config", "/gradio_api/file={name}"]
    routes = [Route(path, answer, methods=["GET", "POST"]) for path in paths]
    middleware = [
        Middleware(KeptAssets),
        Middleware(CORSMiddleware, allow_origins=["http://one", "http://two"]),
        Middleware(GZipMiddleware, minimum_size=100),
    ]
    return TestClient(Starlette(routes=routes, middleware=middleware))


def test_a_file_is_read_once_and_is_the_same_each_time(client, asked):
    answers = [client.get("/assets/index-1.css") for _ in range(3)]
    assert asked == ["/assets/index-1.css"]
    assert {answer.text for answer in answers} == {WORDS * 50}
    assert {answer.headers["content-encoding"] for answer in answers} == {"gzip"}
    assert {(answer.headers["etag"], answer.headers["content-type"]) for answer in answers} == {
        ("one", "text/css; charset=utf-8")
    }
    packed = int(answers[1].headers["content-length"])
    assert 0 < packed < len(gzip.compress(WORDS.encode())) * 50


def test_it_is_packed_only_for_those_who_can_unpack_it(client, asked):
    packed, plain = client.get("/assets/a.js"), client.get("/assets/a.js", headers=PLAIN)
    assert len(asked) == 2
    assert "content-encoding" in packed.headers
    assert "content-encoding" not in client.get("/assets/a.js", headers=PLAIN).headers
    assert packed.text == plain.text
    assert len(asked) == 2


def test_what_was_said_to_one_origin_is_not_said_to_another(client, asked):
    first, other = (client.get("/assets/a.js", headers={"origin": f"http://{name}"}) for name in ("one", "two"))
    assert first.headers["access-control-allow-origin"] == "http://one"
    assert not [name for name in other.headers if name.startswith("access-control")]
    assert (len(asked), other.text) == (1, first.text)


@pytest.mark.parametrize(
    "request_of",
    [
        {"url": "/assets/missing.js"},
        {"url": "/assets/large.js", "headers": PLAIN},
        {"url": "/assets/a.js", "headers": {"range": "bytes=0-3"}},
        {"url": "/assets/a.js", "params": {"as": "other"}},
        {"url": "/assets/a.js", "method": "POST"},
        {"url": "/config"},
        {"url": "/gradio_api/file=assets"},
    ],
    ids=str,
)
def test_nothing_else_is_kept(client, asked, request_of):
    for _ in range(2):
        client.request(**{"method": "GET", **request_of})
    assert len(asked) == 2
