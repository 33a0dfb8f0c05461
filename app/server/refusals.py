"""Requests that the page never sends, refused in words."""

from __future__ import annotations

import logging

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("a3tune.app")

# What Gradio's routes raise at a number of no event, a component that is not there, a name that is too long.
_MALFORMED = (LookupError, ValueError, TypeError, AttributeError, OSError)


class Refusals:
    """ASGI middleware: a request at which Gradio's routes fail before they answer gets 400 and a sentence; the log has
    the error's type alone.

    Args:
        app: what serves the page.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        answering = False

        async def watch(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except _MALFORMED as error:
            if answering or scope["type"] != "http":
                raise
            log.warning("Refused a request that is none of the page's (%s)", type(error).__name__)
            detail = "This request is none that the page sends. Load the page again."
            await JSONResponse({"detail": detail}, 400)(scope, receive, send)
