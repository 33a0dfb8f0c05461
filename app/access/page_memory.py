"""What Gradio itself keeps of a page in memory: its widgets' values and the answers that it did not fetch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr


def forget_page(blocks: gr.Blocks, page: str) -> None:
    """Drop what is kept of a page that is over, which Gradio would do after an hour, or never."""
    holder, queue = blocks.state_holder, blocks._queue
    with holder.lock:
        holder.session_data.pop(page, None)
        holder.time_last_used.pop(page, None)
    queue.pending_messages_per_session.pop(page, None)
    for event in queue.pending_event_ids_session.pop(page, ()):
        queue.event_ids_to_events.pop(event, None)


def has_answers(blocks: gr.Blocks, page: str) -> bool:
    """Whether a page asked for something whose answer is still to be told."""
    return page in blocks._queue.pending_messages_per_session


def page_of_event(blocks: gr.Blocks, event: str) -> str | None:
    """The page whose event waits or runs under this name; None where there is none."""
    known = blocks._queue.event_ids_to_events.get(event)
    return None if known is None else known.session_hash


class AnswerStreams:
    """Which pages listen for the answers to their events.

    Gradio's page opens a connection for them where it believes that none stands. An event that is sent while the server
    ends the connection of the events before is answered to nobody, until the page sends another one.

    Args:
        blocks: the application whose events they are.
    """

    def __init__(self, blocks: gr.Blocks) -> None:
        self._queue = blocks._queue
        self._open: Counter[str] = Counter()

    @contextmanager
    def listening(self, page: str) -> Iterator[None]:
        """While a page's connection stands."""
        self._open[page] += 1
        try:
            yield
        finally:
            self._open[page] -= 1
            self._open += Counter()

    def unheard(self, page: str) -> bool:
        """Whether events of a page are at work, or done, whose answers it does not listen for."""
        return page not in self._open and bool(self._queue.pending_event_ids_session.get(page))
