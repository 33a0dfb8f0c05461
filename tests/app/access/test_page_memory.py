"""What Gradio keeps of a page, and whether the page listens for its answers."""

from __future__ import annotations

from types import SimpleNamespace

from app.access.page_memory import AnswerStreams


def test_a_page_does_not_hear_an_event_that_no_connection_stands_for():
    waiting: dict[str, set[str]] = {"page": {"event"}, "idle": set()}
    streams = AnswerStreams(SimpleNamespace(_queue=SimpleNamespace(pending_event_ids_session=waiting)))
    assert streams.unheard("page")
    assert not streams.unheard("idle")
    assert not streams.unheard("unknown")
    with streams.listening("page"):
        assert not streams.unheard("page")
        with streams.listening("page"):
            assert not streams.unheard("page")
        assert not streams.unheard("page")
    assert streams.unheard("page")
    waiting["page"].clear()
    assert not streams.unheard("page")
