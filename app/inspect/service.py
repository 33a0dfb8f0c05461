"""What the Inspect tab asks of the library: questions to the one shared model, and what came of them.

It knows nothing of Gradio.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from a3tune.errors import Cancelled, RequestError
from a3tune.images.values import PixelValues
from app.access.deployment import LOCAL, Deployment
from app.common.status import explain
from app.engine import library
from app.engine.background import Draft, Step, Task, run
from app.engine.ids import RegionSessionId, ResultId, SessionId
from app.engine.model_lock import turn
from app.engine.model_slot import ModelSlot
from app.engine.private_adapters import PrivateAdapters
from app.engine.region_slot import RegionSlot
from app.inspect import zero_gpu
from app.inspect.batch.service import BatchService
from app.inspect.faithfulness import FaithfulnessService
from app.inspect.sessions.opened_image import OpenedImage, open_example
from app.inspect.sessions.regions import RegionService, Target, TargetNumbers
from app.inspect.sessions.results import Result, ResultStore, ViewNumbers, no_numbers, removed, view_numbers
from app.inspect.sessions.sessions import Session, Sessions

if TYPE_CHECKING:
    from a3tune.dicomweb.client import DicomWeb
    from a3tune.inspection.inspect import Inspection
    from a3tune.inspection.prefix_cache import PrefixCache, PrefixStore
    from a3tune.models.load import VisionLanguageModel

MOST_PREPARED = 256 << 20  # bytes of maps that the examples' finished results may hold together
_PAUSE = 0.05  # seconds between two examples that are answered in the background
_LOADING, _WAITING = "Loading the model", "Waiting for another visitor's question"


class InspectService:
    """Questions about images: the sessions with what they have open, and the results of their questions.

    Args:
        slot: the model.
        region_slot: what finds and ranks regions; the bundled parts when None.
        deployment: how much results may hold in memory.
    """

    archive: DicomWeb | None = None  # where images may be fetched from, and stored: told by whoever builds the page

    def __init__(self, slot: ModelSlot, region_slot: RegionSlot | None = None, deployment: Deployment = LOCAL) -> None:
        self.slot, self.keeps_source = slot, deployment.name != "space"  # strangers' patients go into no file
        self.regions = RegionService(region_slot or RegionSlot())
        self.results = ResultStore(deployment)
        self.private_adapters = PrivateAdapters(slot)
        self.faithfulness = FaithfulnessService(slot, self.results, self.private_adapters)
        self.sessions = Sessions(self.regions, self._forget, lambda: slot.convention, self.keeps_source)
        self.batches = BatchService(slot, self.regions, self.results, self.sessions, self.inspect, deployment)
        self._prepared: dict[tuple[int, str, str, tuple[str, ...]], Inspection] = {}
        self._opening: Result | None = None
        self._store: PrefixStore | None = None
        self._guard = threading.RLock()

    def _forget(self, session_id: SessionId) -> None:
        """Drop what is kept of a session that has ended."""
        self.faithfulness.forget(self.results.forget(session_id))
        self.batches.forget(session_id)

    # ---- questions ---------------------------------------------------------------------------

    def cancel(self, session_id: SessionId) -> None:
        """Stop the session's running or waiting question; the result on show stays."""
        session = self.sessions.get(session_id)
        session.cancel.set()
        if session.opened is not None:
            self.regions.stop(session.opened.regions)

    def reserve(self, session_id: SessionId) -> None:
        """Announce a question: a cancel from now on stops it, even while it waits for its turn."""
        session = self.sessions.get(session_id)
        session.cancel.set()
        session.cancel = threading.Event()

    def choose_pair(self, regions: RegionSessionId, adapters: Sequence[str]) -> None:
        """Have the session's next question answered by these first, which are compared on the page.

        Raises:
            RequestError: the image is no longer open, or another visit's.
        """
        self.regions.check(regions)
        session = self.sessions.showing(regions)
        if session is not None:
            session.pair = tuple(adapters)

    def frames_ahead(self, regions: RegionSessionId, frames: Sequence[int]) -> list[OpenedImage]:
        """Other frames of the file on show; see :meth:`app.inspect.sessions.sessions.Sessions.frames_ahead`."""
        return self.sessions.frames_ahead(self._showing(regions), frames)

    def pixel_values(self, regions: RegionSessionId) -> tuple[OpenedImage, PixelValues]:
        """What is on show with its values; see :meth:`app.inspect.sessions.sessions.Sessions.values`."""
        return self.sessions.values(self._showing(regions))

    def _showing(self, regions: RegionSessionId) -> Session:
        session = self.sessions.walking(regions)
        if session is None or session.opened is None:
            raise RequestError(
                expected="the image on show", got="It was removed from the server", remedy="Open it again"
            )
        self.regions.check(session.opened.regions)
        return session

    def superseded(self, session_id: SessionId) -> bool:
        """Whether a newer question waits, so that the end of an older one is not worth a word."""
        return not self.sessions.get(session_id).cancel.is_set()

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
        session = self.sessions.get(session_id)
        cancel, opened, generation = session.cancel, session.opened, self.slot.generation
        if opened is None:
            raise RequestError(
                expected="an image to ask about",
                got="No image is open",
                remedy="Choose an example or open a file of your own",
            )
        question = question.strip()
        if not question:
            raise RequestError(
                expected="a question about the image",
                got="The question is empty",
                remedy="Write a question or choose a suggestion",
            )
        asked, shown = tuple(adapters) or self.slot.adapters, opened
        first_asked = sorted(asked, key=lambda name: name not in session.pair)

        def work(task: Task[Inspection]) -> Inspection:
            nonlocal shown, generation
            with self.slot.answering(task, _LOADING, _WAITING) as (model, generation):
                shown = self.sessions.read_for_model(session_id, shown, model.convention)
                prefixes = self._prefixes_of(session_id, session)
                for inspection in self.inspect(model, shown, question, first_asked, own, task, prefixes, task.draft):
                    if len(inspection.views) < len(asked):
                        task.part(inspection)
                return inspection

        known = self._known(opened, question, asked)
        if known is not None:  # the example may have been opened before its model was there
            shown = self.sessions.read_for_model(session_id, opened, self.slot.convention)
        # Nothing is told of it before its first part has come.
        first = cast("Inspection", known)
        result = Result(ResultId(secrets.token_urlsafe(18)), first, (), opened, generation, own=own)
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
                new = inspection.views[len(finished) :]
                numbers = finished = *finished, *(view_numbers(view, inspection.grid) for view in new)
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
                if cancel.is_set() or not self.sessions.holds(session_id, session):
                    raise Cancelled
                self.results.add(session_id, result)
                if not writing:
                    self.regions.attach(opened.regions, result.id, inspection)
            yield result

    def _prefixes_of(self, session_id: SessionId, session: Session) -> PrefixCache:
        """What the model has read for a session; of all sessions together it is bounded."""
        with self._guard:
            self._store = self._store or library.PrefixStore()
            session.prefixes = session.prefixes or library.PrefixCache(self._store)
        if not self.sessions.holds(session_id, session):  # it ended meanwhile, perhaps before there was one to close
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
            adapter_set=lambda name: self.private_adapters.set_of(name, own),
            on_words=on_words,
            on_progress=task.progress,
            should_stop=task.should_stop,
            prefixes=prefixes,
        )

    def read_for_model(self, session_id: SessionId) -> OpenedImage | None:
        """The session's image as the model in memory is given it; None where that is what the session has."""
        opened = self.sessions.opened(session_id)
        if opened is None:
            return None
        fitting = self.sessions.read_for_model(session_id, opened, self.slot.convention)
        return None if fitting is opened else fitting

    # ---- examples ----------------------------------------------------------------------------

    def prepare(self, examples: Sequence[tuple[Path, str, str]]) -> None:
        """Answer the examples' questions in the background, so that they show finished results at once.

        Args:
            examples: file, question and key of each; every page opens with the first.
        """
        generation = self.slot.generation

        def work(task: Task[None]) -> None:
            self.slot.wait(None)
            self._prepared.clear()
            size = 0
            for path, question, key in examples:
                opened = open_example(path, key, self.slot.convention)
                self.regions.slot.keep(opened.image.sha256)
                with turn(task, self.slot, _LOADING, _WAITING) as model:
                    asked = self.slot.adapters
                    *_, inspection = self.inspect(model, opened, question, asked, {}, task)
                size += sum(view.maps.weights.nbytes for view in inspection.views)
                if size > MOST_PREPARED:
                    return
                self._prepared[generation.number, opened.image.sha256, question, asked] = inspection
                if len(self._prepared) == 1:
                    numbers = tuple(view_numbers(view, inspection.grid) for view in inspection.views)
                    name = ResultId(secrets.token_urlsafe(18))
                    self._opening = Result(name, inspection, numbers, opened, generation)
                    # It is no visitor's: all may see it, and it is never forgotten.
                    self.results.add(None, self._opening)
                task.cancel.wait(_PAUSE)  # a lock is not fair: whoever waits for the model gets it now

        def told(task: Task[None]) -> None:
            try:
                work(task)
            except Exception as error:
                explain(error)  # to the log: nobody asked
                raise

        Task(told, generation=generation).start()

    @property
    def opening(self) -> Result | None:
        """The first example with its result, which all pages open with; None before the model in memory gave one."""
        result = self._opening
        if result is None or self.slot.status.state != "ready" or result.generation is not self.slot.generation:
            return None
        return result

    def welcome(self, session_id: SessionId) -> Result | None:
        """Begin a session with what its page opened with; None where there is no result yet, or where the session has
        another image by now."""
        result = self.opening
        if result is None or self.sessions.opened(session_id) is not None:
            return None
        return self._show_again(session_id, result)

    def _known(self, opened: OpenedImage, question: str, asked: tuple[str, ...]) -> Inspection | None:
        """The finished inspection of an example; visitors' own images are never searched for."""
        if self.slot.status.state != "ready":
            return None
        return self._prepared.get((self.slot.generation.number, opened.image.sha256, question, asked))

    def is_prepared(self, session_id: SessionId, question: str, adapters: Sequence[str] = ()) -> bool:
        """Whether the answer is there already, without asking the model."""
        opened = self.sessions.opened(session_id)
        return opened is not None and self._known(opened, question, tuple(adapters) or self.slot.adapters) is not None

    # ---- results -----------------------------------------------------------------------------

    def measure(
        self, regions: RegionSessionId, keys: Sequence[str], others: Sequence[ResultId]
    ) -> TargetNumbers | None:
        """:meth:`~app.inspect.sessions.regions.RegionService.choose`, with further results of the same image by name.

        Raises:
            RequestError: as there, or a result was removed.
        """
        inspections = {name: self.results.get(name).inspection for name in others}
        return self.regions.choose(regions, keys, inspections)

    def reopen(self, session_id: SessionId, name: ResultId) -> Result:
        """Put one of the session's results back on show with its image, whose regions can then be found anew.

        Raises:
            RequestError: the session has no such result any more.
        """
        for result in self.results.of(session_id):
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
                self.results.share(name, session_id)
                result = self.reopen(session_id, name)
                return result.opened, result
        with suppress(RequestError, Cancelled):
            self.regions.check(RegionSessionId(image))
            other = self.sessions.name_of(RegionSessionId(image))
            opened = None if other is None else self.sessions.opened(other)
            if other is not None and opened is not None:
                for earlier in reversed(self.results.of(other)):
                    self.results.add(session_id, earlier)
                return self.sessions.show_again(session_id, opened), None
        return None

    def _show_again(self, session_id: SessionId, result: Result) -> Result:
        result = replace(result, opened=self.sessions.show_again(session_id, result.opened))
        self.results.add(session_id, result)
        self.regions.attach(result.opened.regions, result.id, result.inspection)
        return result

    # ---- targets -----------------------------------------------------------------------------

    def keep_target(self, regions: RegionSessionId, keys: list[str]) -> tuple[Target, bytes]:
        """Make regions of the image on show the session's target; see
        :meth:`app.inspect.sessions.regions.RegionService.keep`."""
        target, files = self.regions.keep(regions, keys)
        session = self.sessions.showing(regions)
        if session is not None:
            session.target = target
        return target, files

    def target(self, session_id: SessionId) -> Target | None:
        """The target that was made in the session last."""
        return self.sessions.get(session_id).target
