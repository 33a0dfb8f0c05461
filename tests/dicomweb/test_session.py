"""What a session with a server does to the rest of the process."""

from __future__ import annotations

import logging

from a3tune.dicomweb.session import bounded_session
from a3tune.dicomweb.settings import Server

NAMES = ("urllib3", "dicomweb_client")


def levels() -> list[int]:
    return [logging.getLogger(name).level for name in NAMES]


def test_what_libraries_log_is_dropped_while_any_session_lasts_and_no_longer():
    before = levels()
    first, second = (bounded_session(Server("http://127.0.0.1:1/dicom"), 1, 1.0) for _ in range(2))
    with first:
        assert levels() == [logging.CRITICAL] * 2
        second.__enter__()
    assert levels() == [logging.CRITICAL] * 2
    second.__exit__(None, None, None)
    assert levels() == before
