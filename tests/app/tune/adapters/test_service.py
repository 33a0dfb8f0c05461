"""Adapters of runs and uploads: whose they are and what they are called."""

from __future__ import annotations

import json

import pytest

from a3tune.errors import RequestError
from app.access.visits import new_secret
from app.common.identity import owner_of


def test_adapters_of_runs_and_uploads_are_offered_to_their_owner_only(service, owner):
    assert service.adapters.of(owner) == {}
    for name, facts in (
        ("a" * 12, {"title": "first", "model": "demo"}),
        ("b" * 12, {"title": "first", "model": "demo"}),
        ("c" * 12, {"title": "of another base", "model": "house/model"}),
        ("e" * 12, {"title": "a3", "model": "demo"}),
        ("f" * 12, {"title": "SLAKE, v1.5", "model": "demo"}),
    ):
        folder = service.jobs.studio.runs(owner) / name
        (folder / "run/adapter").mkdir(parents=True)
        (folder / "run/adapter/adapter_model.safetensors").write_bytes(b"x")
        (folder / "job.json").write_text(json.dumps(facts))
    loaded = service.jobs.studio.adapters(owner) / ("d" * 12)
    loaded.mkdir(parents=True)
    (loaded / "adapter_model.safetensors").write_bytes(b"x")
    (loaded / "loaded.json").write_text('{"title": "loaded"}')
    found = service.adapters.of(owner)
    # No name of those that all visitors share, and none that PEFT or a command line cannot take.
    assert set(found) == {"first", "first (2)", "loaded", "a3 (2)", "SLAKE- v1-5"}
    assert found["loaded"] == loaded
    assert service.adapters.name_of(owner, "e" * 12) == "a3 (2)"
    assert service.adapters.name_of(owner, "c" * 12) == ""
    other = owner_of(new_secret())
    assert service.adapters.of(other) == {}
    for act in (service.adapters.delete, service.adapters.zip, service.adapters.before_after):
        with pytest.raises(RequestError, match="no such adapter"):
            act(other, "loaded")
    with pytest.raises(RequestError, match="belongs to a run"):
        service.adapters.delete(owner, "first")
    key = service.adapters.delete(owner, "loaded")
    assert "loaded" not in service.adapters.of(owner)
    service.adapters.restore(owner, key)
    assert service.adapters.of(owner)["loaded"] == loaded
    service.adapters.delete(owner, "loaded")
    service.jobs.studio.purge(seconds=0)
    assert list(loaded.parent.iterdir()) == []
