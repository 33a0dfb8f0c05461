"""What the page asks of gradio beyond its documented ways."""

from __future__ import annotations

import inspect

from gradio.queueing import Queue


def test_gradio_still_rests_between_looks_as_long_as_it_is_told():
    assert "sleep(self.sleep_when_free)" in inspect.getsource(Queue.start_processing)
    assert "sleep(self.progress_update_sleep_when_free)" in inspect.getsource(Queue.start_progress_updates)
