"""Questions to the one shared model about what a session has on show.

It knows nothing of Gradio.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from a3tune.errors import Cancelled, RequestError
from app.engine import library
from app.engine.background import Draft, Step, Task, run
from app.engine.ids import RegionSessionId, ResultId, SessionId
from app.engine.model_slot import ModelSlot
from app.engine.private_adapters import PrivateAdapters
from app.inspect.asking import zero_gpu
from app.inspect.asking.prepared import LOADING, WAITING, PreparedAnswers
from app.inspect.sessions.opened_image import OpenedImage
from app.inspect.sessions.regions import RegionService
from app.inspect.sessions.results import Result, ResultStore, ViewNumbers, no_numbers, view_numbers
from app.inspect.sessions.session import Asked, Session
from app.inspect.sessions.sessions import Sessions

if TYPE_CHECKING:
    from a3tune.inspection.inspect import Inspection
    from a3tune.models.load import VisionLanguageModel
    from a3tune.prefixes.cache import PrefixCache, PrefixStore


class Questions:
    """Asks, and stops asking.

    Args:
        slot: the model.
        sessions: what is on show.
        results: where the answers are kept.
        regions: where their attention is measured.
        private_adapters: the adapters of single visitors.

    Attributes:
        prepared: the answers to the examples' questions.
    """

    def __init__(
        self,
        slot: ModelSlot,
        sessions: Sessions,
        results: ResultStore,
        regions: RegionService,
        private_adapters: PrivateAdapters,
    ) -> None:
        self.slot, self._sessions, self._results, self._regions = slot, sessions, results, regions
        self._private_adapters = private_adapters
        self.prepared = PreparedAnswers(slot, regions.slot, results, self.inspect)
        self._store: PrefixStore | None = None
        self._guard = threading.RLock()

    def cancel(self, session_id: SessionId) -> bool:
        """Stop the session's running or waiting question; the result on show stays. Gives whether that is all: nobody
        else tells of the end of a question that waited for an image."""
        session = self._sessions.get(session_id)
        waited = session.asked is not None and session.asked.state == "waits"
        session.cancel.set()
        if waited:
            session.asked = None
        if session.opened is not None:
            self._regions.stop(session.opened.regions)
        return waited

    def reserve(self, session_id: SessionId, asked: Asked | None = None) -> bool:
        """Announce a question: a cancel from now on stops it, even while it waits for its turn.

        Args:
            session_id: the session.
            asked: what a visitor asks; None for what is asked right away by whoever announces it.

        Returns:
            whether it waits for an image that is on its way; whoever opens that asks it.
        """
        return self._sessions.get(session_id).reserve(asked or Asked("", by_visitor=False, state="runs"))

    def was_asked(self, session_id: SessionId, question: str) -> bool:
        """Whether the session asked this before, about any image."""
        return question == self._sessions.get(session_id).left.strip() or self.has_answer(session_id, question)

    def has_answer(self, session_id: SessionId, question: str) -> bool:
        """Whether the session asked this before, about any image, and has what came of it."""
        return any(result.inspection.question == question for result in self._results.of(session_id))

    def choose_pair(self, regions: RegionSessionId, adapters: Sequence[str]) -> None:
        """Have the session's next question answered by these first, which are compared on the page.

        Raises:
            RequestError: the image is no longer open, or another visit's.
        """
        self._regions.check(regions)
        session = self._sessions.showing(regions)
        if session is not None:
            session.pair = tuple(adapters)

    def superseded(self, session_id: SessionId) -> bool:
        """Whether a newer question waits, so that the end of an older one is not worth a word."""
        return not self._sessions.get(session_id).cancel.is_set()

    def ask(
        self,
        session_id: SessionId,
        question: str,
        adapters: Sequence[str] = (),
        own: Mapping[str, Path] = MappingProxyType({}),
    ) -> Iterator[Step | Result]:
        """Ask the question about the session's image: steps while it runs, the result as its words are written and
        after each adapter's answer. What was written stays when it is cancelled.

        Closing the iterator stops the work.

        Args:
            session_id: the session.
            question: the question.
            adapters: "base" and names of adapters, in the order wanted; all that all visitors share when empty.
            own: the visitor's own adapters, folders in PEFT's format by name.

        Raises:
            RequestError: no image, no question, or an unusable one.
            AdapterError: an adapter that there is not.
            ModelError: the model could not be loaded, or cannot do this.
            Cancelled: :meth:`cancel` was called.
        """
        session = self._sessions.get(session_id)
        cancel, opened, generation = session.cancel, session.opened, self.slot.generation
        if opened is None:
            raise RequestError(
                expected="an image to ask about",
                # A page may still show the one of before.
                got="The server has none open for this page: none was chosen, or it has started anew and forgot it",
                remedy="Choose an example, or open your file again",
            )
        question = question.strip()
        if not question:
            raise RequestError(
                expected="a question about the image",
                got="The question is empty",
                remedy="Write a question or choose a suggestion",
            )
        asked, shown = tuple(adapters) or self.slot.adapters, opened
        # Side A before side B: the page puts them where they come.
        first_asked = sorted(asked, key=lambda name: (*session.pair, name).index(name))

        def work(task: Task[Inspection]) -> Inspection:
            nonlocal shown, generation
            with self.slot.answering(task, LOADING, WAITING) as (model, generation):
                shown = self._sessions.read_for_model(session_id, shown, model.convention)
                prefixes = self._prefixes_of(session_id, session)
                for inspection in self.inspect(model, shown, question, first_asked, own, task, prefixes, task.draft):
                    if len(inspection.views) < len(asked):
                        task.part(inspection)
                return inspection

        known = self.prepared.known(opened, question, asked)
        if known is not None:  # the example may have been opened before its model was there
            shown = self._sessions.read_for_model(session_id, opened, self.slot.convention)
        # Nothing is told of it before its first part has come.
        first = cast("Inspection", known)
        result = Result(
            ResultId(secrets.token_urlsafe(18)), first, (), opened, generation, own=own, asked=tuple(first_asked)
        )
        finished: tuple[ViewNumbers, ...] = ()
        for report in run(work, cancel, kind="answer") if known is None else (known,):
            if isinstance(report, Step):
                yield report
                continue
            if writing := isinstance(report, Draft):
                inspection = cast("Inspection", report.value)
                numbers = *finished, no_numbers(inspection.views[-1])
            else:
                inspection = report
                new, mask = inspection.views[len(finished) :], shown.reference_mask(question)
                numbers = finished = *finished, *(view_numbers(view, inspection.grid, mask) for view in new)
            result = replace(
                result,
                inspection=inspection,
                opened=shown,
                generation=generation,
                numbers=numbers,
                complete=not writing and len(inspection.views) == len(asked),
                writing=writing,
            )
            with self._guard:
                if cancel.is_set() or not self._sessions.holds(session_id, session):
                    raise Cancelled
                self._results.add(session_id, result)
                if not writing:
                    self._regions.attach(opened.regions, result.id, inspection)
            yield result

    def _prefixes_of(self, session_id: SessionId, session: Session) -> PrefixCache:
        """What the model has read for a session; of all sessions together it is bounded."""
        with self._guard:
            self._store = self._store or library.PrefixStore()
            session.prefixes = session.prefixes or library.PrefixCache(self._store)
        if not self._sessions.holds(session_id, session):  # it ended meanwhile, perhaps before there was one to close
            session.prefixes.close()
        return session.prefixes

    def inspect(
        self,
        model: VisionLanguageModel,
        opened: OpenedImage,
        question: str,
        adapters: Sequence[str],
        own: Mapping[str, Path],
        task: Task,
        prefixes: PrefixCache | None = None,
        on_words: Callable[[Inspection], None] | None = None,
    ) -> Iterator[Inspection]:
        """One question about one image, asked for some work that holds the model."""
        if zero_gpu.is_held():
            task.progress("Waiting for a GPU", 0.0)
            return zero_gpu.inspect_each(opened.image, question, tuple(adapters), dict(own))
        return library.inspect_each(
            model,
            opened.image,
            question,
            adapters=adapters,
            adapter_set=lambda name: self._private_adapters.set_of(name, own),
            on_words=on_words,
            on_progress=task.progress,
            should_stop=task.should_stop,
            prefixes=prefixes,
        )

    def is_prepared(self, session_id: SessionId, question: str, adapters: Sequence[str] = ()) -> bool:
        """Whether the answer is there already, without asking the model."""
        opened = self._sessions.opened(session_id)
        return (
            opened is not None
            and self.prepared.known(opened, question, tuple(adapters) or self.slot.adapters) is not None
        )
