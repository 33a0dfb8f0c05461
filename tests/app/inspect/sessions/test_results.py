"""Results in memory: whose they are, and how much they may hold."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from a3tune.errors import RequestError
from app.access.deployment import LOCAL
from app.access.identity import Asker, Identity
from app.inspect.sessions.results import MOST_RESULTS, ResultStore


def result(name, size=1_000_000, *, example=False):
    return SimpleNamespace(id=name, size=size, is_examples_own=example)


def test_all_visitors_together_hold_no_more_than_they_may_and_each_keeps_the_newest():
    store = ResultStore(replace(LOCAL, results_mb=4.5))
    store.add(None, result("everybody's"))
    for place in range(3):
        store.add("one", result(f"one-{place}"))
    assert len(store.of("one")) == 3
    store.add("two", result("two-0"))
    assert [known.id for known in store.of("one")] == ["one-2", "one-1"], "its oldest made room"
    for place in range(1, 4):
        store.add("two", result(f"two-{place}"))
    assert [known.id for known in store.of("one")] == ["one-2"]
    assert [known.id for known in store.of("two")] == ["two-3", "two-2"]
    assert store.get("everybody's").id == "everybody's"


def test_answers_to_examples_own_questions_make_room_before_others():
    store = ResultStore()
    for place in range(MOST_RESULTS - 1):
        store.add("one", result(f"one-{place}"))
    store.add("one", result("example", example=True))
    store.add("one", result("one-last"))
    assert "example" not in [known.id for known in store.of("one")]
    assert len(store.of("one")) == MOST_RESULTS
    store.add("one", result("example", example=True))
    assert store.of("one")[0].id == "example", "the newest one stays"
    assert store.of("one")[-1].id == "one-1"


def test_a_name_that_somebody_else_learnt_opens_nothing(monkeypatch):
    asker = {"visit": "ann"}
    monkeypatch.setattr("app.access.identity.asking", lambda: Asker(Identity("tuner"), asker["visit"]))
    store = ResultStore()
    store.add("page-1", result("hers"))
    store.add(None, result("everybody's"))
    assert store.get("hers").id == "hers"
    asker["visit"] = "eve"
    with pytest.raises(RequestError, match="removed from the server"):
        store.get("hers")
    assert store.get("everybody's").id == "everybody's"
