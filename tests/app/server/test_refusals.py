"""Requests at which routes fail: a sentence before the answer has begun, and nothing of the request in the log."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.server.refusals import Refusals


async def fail(request):
    raise {"key": KeyError, "name": OSError, "bug": RuntimeError}[request.query_params["as"]]("patient Doe")


async def begin(request):
    async def parts():
        yield b"begun"
        raise ValueError("patient Doe")

    return StreamingResponse(parts())


@pytest.fixture
def client():
    routes = [Route("/fail", fail), Route("/begin", begin), Route("/good", lambda request: PlainTextResponse("good"))]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(Refusals)]), raise_server_exceptions=False)


@pytest.mark.parametrize("kind", ["key", "name"])
def test_a_malformed_request_is_refused_in_words(client, caplog, kind):
    answer = client.get("/fail", params={"as": kind})
    assert (answer.status_code, answer.json()["detail"][:12]) == (400, "This request")
    assert "Refused a request" in caplog.text
    assert "Doe" not in caplog.text


def test_other_errors_and_good_requests_go_their_way(client):
    assert client.get("/fail", params={"as": "bug"}).status_code == 500
    assert client.get("/good").text == "good"


def test_an_answer_that_has_begun_is_not_answered_twice(client):
    assert client.get("/begin").status_code == 200
