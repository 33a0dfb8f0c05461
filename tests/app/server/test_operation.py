"""A started server as whoever runs it sees it: health, numbers, log and end."""

from __future__ import annotations

import base64
import json
import os
import signal

import httpx
import pytest

from a3tune.bundle import EXAMPLES
from a3tune.errors import RequestError
from app.server.operation import Operation
from tests.attack.attack import Visitor, picture
from tests.support.hostile_files import endless_jpeg, packed
from tests.support.page_client import PageClient
from tests.support.waiting import until

QUESTION = "Is there a zebra behind the spleen?"


def get(url: str, path: str, **headers: str) -> httpx.Response:
    return httpx.get(f"{url}{path}", headers=headers, trust_env=False, timeout=60)


def browser(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, trust_env=False, timeout=120)


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """A folder of modules with which a server gets no answer when it asks for its own page, as on a busy machine."""
    folder = tmp_path_factory.mktemp("busy")
    (folder / "sitecustomize.py").write_text(
        "import httpx\n\n\ndef late(url, **options):\n    raise httpx.ReadTimeout('busy')\n\n\nhttpx.head = late\n"
    )
    return folder


@pytest.fixture(scope="module")
def ended(serve, busy):
    """What a server said while it was asked, and once it was told to end in the middle of an answer."""
    told = {}
    with (
        serve(A3TUNE_LOG="json", PYTHONPATH=str(busy)) as server,
        PageClient(server.url) as visitor,
        PageClient(server.url) as late,
    ):
        told["alive"] = get(server.url, "/healthz").json()
        until(lambda: get(server.url, "/readyz").status_code == 200, pause=0.1)
        told["ready"] = get(server.url, "/readyz").json()
        told["opened"] = visitor.open(EXAMPLES / "chest_mass.png")
        told["numbers"] = get(server.url, "/metrics").text
        told["for a proxy"] = get(server.url, "/metrics", **{"X-Forwarded-For": "10.1.2.3"}).status_code
        answer = visitor.ask(QUESTION)
        next(answer)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: get(server.url, "/readyz").json()["ending"])
        with pytest.raises(httpx.HTTPStatusError) as refused:
            late.open(EXAMPLES / "chest_mass.png")
        told["late"] = refused.value.response
        told["parts"] = len(list(answer))
        told["code"] = server.process.wait()
        told["log"] = server.log.read_text()
    return told


def test_a_server_says_that_it_lives_and_when_it_can_answer(ended):
    assert ended["alive"] == {"alive": True}
    assert ended["ready"] == {"ready": True, "model": "ready", "disk": True, "ending": False}
    assert "Opened." in ended["opened"]


def test_its_numbers_count_what_was_done_and_name_nobody(ended):
    numbers = ended["numbers"]
    assert "a3tune_model_ready 1.0" in numbers
    assert 'a3tune_work_total{kind="decode",outcome="done"}' in numbers
    assert 'a3tune_work_seconds_count{kind="decode"}' in numbers
    assert "process_resident_memory_bytes" in numbers
    assert "chest_mass" not in numbers
    assert "127.0.0.1" not in numbers
    assert ended["for a proxy"] == 403


def test_it_finishes_the_answer_takes_on_nothing_new_and_ends_well(ended):
    assert ended["parts"] >= 1
    assert ended["late"].status_code == 503
    assert "restarted" in ended["late"].json()["detail"]
    assert ended["code"] == 0


def test_its_log_is_json_without_what_was_asked_or_who_asked(ended):
    lines = [json.loads(line) for line in ended["log"].splitlines()]
    answers = [line for line in lines if line.get("kind") == "answer"]
    assert [(line["outcome"], line["level"], line["logger"]) for line in answers][-1] == ("done", "info", "a3tune.app")
    assert [line["message"] for line in lines if "unfinished" in line] == ["The server ended"]
    assert next(line["unfinished"] for line in lines if "unfinished" in line) == 0
    for secret in ("zebra", "chest_mass", "127.0.0.1", os.environ.get("USER") or "root"):
        assert secret not in ended["log"]


@pytest.fixture
def keeping(tmp_path) -> dict[str, str]:
    """The variables of a server that keeps things encrypted in ``studio``."""
    key = base64.b64encode(bytes(32)).decode()
    return {"A3TUNE_STUDIO": str(tmp_path / "studio"), "A3TUNE_KEEP": "encrypted", "A3TUNE_KEEP_KEY": key}


def test_what_a_killed_server_kept_is_found_by_the_next_one_which_a_second_signal_ends_at_once(
    serve, keeping, tmp_path
):
    opened = tmp_path / "studio" / "encrypted" / "open"
    rows = b"image,question,answer,split\na.png,Is there a mass?,no,train\n"
    with serve("--deployment", "server", **keeping) as server, browser(server.url) as client:
        ann = Visitor(client)
        archive = ann.file(packed({"data.csv": rows, "a.png": picture()}), "mine.zip")
        assert "Looked through" in ann.call("tune-zip", "upload", **{"tune-zip": archive})
        server.process.kill()
        server.process.wait()
    (table,) = opened.rglob("data.csv")
    assert table.read_bytes() == rows
    name = table.relative_to(opened).parts[2]

    (tmp_path / "endless.jpg").write_bytes(endless_jpeg())
    with (
        serve("--deployment", "server", A3TUNE_DECODE_SECONDS="3600", **keeping) as server,
        browser(server.url) as client,
        PageClient(server.url) as visitor,
    ):
        assert not list(opened.rglob("data.csv"))
        again = Visitor(client)
        again.secret = ann.secret
        told = again.call("tune-start", "click", **{"tune-data": name, "tune-others": "max_steps=100000000"})
        assert "A3TUNE_RUN_STEPS" in told
        assert table.read_bytes() == rows
        visitor.begin_to_open(tmp_path / "endless.jpg")
        server.process.send_signal(signal.SIGTERM)
        until(lambda: get(server.url, "/readyz").json()["ending"])
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait() == -signal.SIGTERM


@pytest.mark.parametrize("variables", [{"A3TUNE_LOG": "xml"}, {"A3TUNE_DRAIN_SECONDS": "soon"}])
def test_a_variable_that_cannot_be_is_refused(variables, tmp_path):
    name, value = next(iter(variables.items()))
    with pytest.raises(RequestError, match=rf"It is {value}\..*{name}"):
        Operation(variables, lambda: "ready", lambda: 0, tmp_path)
