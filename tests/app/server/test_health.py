"""What a machine is answered, without a server around it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.server.drain import Drain
from app.server.health import Disk, Health


def client(*, model: str = "ready", folders: tuple[Path, ...] = (), token: str = "", address: str = "127.0.0.1"):
    health = Health(
        Starlette(), lambda: model, Disk(lambda: folders), lambda: (b"number 1\n", "text/plain"), Drain(), token
    )
    return TestClient(health, client=(address, 5000))


@pytest.mark.parametrize("model", ["loading", "failed"])
def test_a_server_without_its_model_lives_but_is_not_ready(model):
    asked = client(model=model)
    assert asked.get("/healthz").status_code == 200
    assert asked.get("/readyz").status_code == 503
    assert asked.get("/readyz").json()["model"] == model
    assert asked.get("/anything").status_code == 404


@pytest.mark.skipif(os.name != "posix", reason="/dev/full belongs to Linux")
def test_a_disk_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    assert client(folders=(tmp_path / "not" / "there",)).get("/readyz").status_code == 200
    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: open("/dev/full", "wb", buffering=0))  # noqa: SIM115
    answer = client(folders=(tmp_path,)).get("/readyz")
    assert (answer.status_code, answer.json()["disk"]) == (503, False)


def test_the_numbers_are_for_this_machine_or_for_the_token():
    assert client().get("/metrics").text == "number 1\n"
    assert client(address="10.0.0.7").get("/metrics").status_code == 403
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
        assert client().get("/metrics", headers={header: "127.0.0.1"}).status_code == 403
    guarded = client(token="secret", address="10.0.0.7")
    assert guarded.get("/metrics", headers={"Authorization": "Bearer secret"}).status_code == 200
    assert guarded.get("/metrics", headers={"Authorization": "Bearer other"}).status_code == 403
    assert client(token="secret").get("/metrics").status_code == 403
