"""Inspections that come back on show: those of earlier questions, of another page of the visit, of every new page.

It knows nothing of Gradio.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from a3tune.errors import Cancelled, RequestError
from app.engine.ids import RegionSessionId, ResultId, SessionId
from app.inspect.asking.prepared import PreparedAnswers
from app.inspect.sessions.opened_image import OpenedImage
from app.inspect.sessions.regions import RegionService
from app.inspect.sessions.results import Result, ResultStore, removed
from app.inspect.sessions.sessions import Sessions


class Reopening:
    """Puts inspections back on show.

    Args:
        sessions: what is on show.
        results: the inspections.
        regions: where their attention is measured.
        prepared: what every page opens with.
    """

    def __init__(
        self, sessions: Sessions, results: ResultStore, regions: RegionService, prepared: PreparedAnswers
    ) -> None:
        self._sessions, self._results, self._regions, self._prepared = sessions, results, regions, prepared

    def welcome(self, session_id: SessionId) -> Result | None:
        """Begin a session with what its page opened with; None where there is no result yet, or where the session has
        another image by now."""
        result = self._prepared.opening
        if result is None or self._sessions.opened(session_id) is not None:
            return None
        return self._show_again(session_id, result)

    def reopen(self, session_id: SessionId, name: ResultId) -> Result:
        """Put one of the session's results back on show with its image, whose regions can then be found anew.

        Raises:
            RequestError: the session has no such result any more.
        """
        for result in self._results.of(session_id):
            if result.id == name:
                return self._show_again(session_id, result)
        raise removed()

    def restore(self, session_id: SessionId, wanted: Any) -> tuple[OpenedImage, Result | None] | None:
        """Put what another page of the same visit's has on show on show here, with all that can be opened again there:
        what this page had before it was reloaded, or what a link of the visitor's own names. None where there is none.

        Args:
            session_id: the page's session.
            wanted: names of two results, the first that is there counts, and of an image's regions; "" for none.
        """
        named, last, image = map(str, wanted) if isinstance(wanted, list) and len(wanted) == 3 else ("", "", "")
        for name in (ResultId(named), ResultId(last)):
            with suppress(RequestError, Cancelled):
                self._results.share(name, session_id)
                result = self.reopen(session_id, name)
                return result.opened, result
        with suppress(RequestError, Cancelled):
            self._regions.check(RegionSessionId(image))
            other = self._sessions.name_of(RegionSessionId(image))
            opened = None if other is None else self._sessions.opened(other)
            if other is not None and opened is not None:
                for earlier in reversed(self._results.of(other)):
                    self._results.add(session_id, earlier)
                return self._sessions.show_again(session_id, opened), None
        return None

    def _show_again(self, session_id: SessionId, result: Result) -> Result:
        result = replace(result, opened=self._sessions.show_again(session_id, result.opened))
        self._results.add(session_id, result)
        self._regions.attach(result.opened.regions, result.id, result.inspection)
        return result
