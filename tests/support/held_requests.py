"""What a page sends, held back on its way to the server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, Route

_UPLOAD, _PROGRESS = re.compile(r"/upload\?"), re.compile(r"/upload_progress\?")
_EVENT = re.compile(r"/queue/join\b")


@contextmanager
def sending_held_back(page: Page, *, arrives: bool = True) -> Iterator[None]:
    """No file gets from the page to the server for the length of a ``with`` block, nor after it unless it arrives."""
    held: list[Route] = []
    known = {"content_type": "text/event-stream", "body": 'data: {"msg": "done"}\n\n'}
    page.route(_UPLOAD, lambda route: held.append(route))
    page.route(_PROGRESS, lambda route: route.fulfill(**known))  # the server knows of nothing yet
    try:
        yield
    finally:
        for route in held:
            route.continue_() if arrives else route.abort()
        page.unroute(_UPLOAD)
        page.unroute(_PROGRESS)


@contextmanager
def events_held_back(page: Page) -> Iterator[list[Route]]:
    """No event gets from the page to the server for the length of a ``with`` block; gives those that were sent."""
    held: list[Route] = []
    page.route(_EVENT, lambda route: held.append(route))
    try:
        yield held
    finally:
        for route in held:
            route.continue_()
        page.unroute(_EVENT)
