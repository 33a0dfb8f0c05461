"""What the pages ask of the library: questions to the one shared model, and what came of them.

It knows nothing of Gradio.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from a3tune.attention.sinks import find_sinks, surroundings
from a3tune.bundle import DEMO_NAME
from a3tune.errors import Cancelled, RequestError
from a3tune.types import PatchGrid
from app.common.status import explain
from app.engine import library
from app.engine.background import Step, Task, run
from app.engine.generation import ModelGeneration
from app.engine.model_slot import ModelSlot
from app.engine.private_adapters import PrivateAdapters
from app.engine.region_slot import RegionSlot
from app.inspect.faithfulness import FaithfulnessService
from app.inspect.regions import KeptTarget, RegionService, TargetNumbers
from app.inspect.results import Finished, Kept, ResultStore, ViewNumbers
from app.inspect.sessions import OpenedImage, Sessions, open_example, read_image

if TYPE_CHECKING:
    from a3tune.inspection.inspect import AdapterView, Inspection

# How many bytes of maps the examples' finished results may hold together.
MOST_PREPARED = 256 << 20
# Seconds between two examples that are answered in the background.
_BREATH = 0.05
_WAITING = "Waiting for another visitor's question"


class InspectService:
    """The application's state: the model slot, the region desk, the visits, and the results of their questions.

    Args:
        slot: the model.
        region_slot: what finds and ranks regions; the bundled parts when None.
    """

    def __init__(self, slot: ModelSlot, region_slot: RegionSlot | None = None) -> None:
        self.slot = slot
        self.regions = RegionService(region_slot or RegionSlot())
        self.results = ResultStore()
        self.private_adapters = PrivateAdapters(slot)
        self.faithfulness = FaithfulnessService(slot, self.results, self.private_adapters)
        self.visits = Sessions(self.regions, on_end=self.results.forget)
        self._prepared: dict[tuple[int, str, str, tuple[str, ...]], Inspection] = {}
        self._opening: Kept | None = None
        self._guard = threading.RLock()

    # ---- questions ---------------------------------------------------------------------------

    def cancel(self, visit: str) -> None:
        """Stop the visit's running or waiting question; the result on show stays."""
        record = self.visits.get(visit)
        record.ticket.set()
        if record.opened is not None:
            self.regions.stop(record.opened.board)

    def reserve(self, visit: str) -> None:
        """Announce a question: a cancel from now on stops it, even while it waits for its turn."""
        record = self.visits.get(visit)
        record.ticket.set()
        record.ticket = threading.Event()

    def superseded(self, visit: str) -> bool:
        """Whether a newer question waits, so that the end of an older one is not worth a word."""
        return not self.visits.get(visit).ticket.is_set()

    def ask(
        self, visit: str, question: str, adapters: Sequence[str] = (), own: Mapping[str, Path] = MappingProxyType({})
    ) -> Iterator[Step | Finished]:
        """Ask the question about the visit's image: steps while it runs, the result after each adapter's answer.

        Closing the iterator stops the work.

        Args:
            visit: the visit's name.
            question: the question.
            adapters: "base" and names of adapters, in the order wanted; all that all visitors share when empty.
            own: the visitor's own adapters, folders in PEFT's format by name.

        Raises:
            RequestError: no image, no question, or an unusable one.
            AdapterError: an adapter that there is not.
            ModelError: the model could not be loaded, or cannot do this.
            Cancelled: :meth:`cancel` was called.
        """
        record = self.visits.get(visit)
        ticket, opened, content = record.ticket, record.opened, record.content
        generation = self.slot.generation
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
        name = secrets.token_urlsafe(18)
        known = self._known(opened, question, adapters)
        reports = iter([(known, True)]) if known else self._run(opened, question, adapters, own, ticket)
        numbers: tuple[ViewNumbers, ...] = ()
        for report in reports:
            if isinstance(report, Step):
                yield report
                continue
            inspection, complete = report
            numbers += tuple(_numbers(view, inspection.grid) for view in inspection.views[len(numbers) :])
            finished = _finished(name, inspection, numbers, generation, complete)
            with self._guard:
                if ticket.is_set() or not self.visits.holds(visit, record):
                    raise Cancelled
                self.results.keep(visit, Kept(finished, opened, content, own))
                self.regions.attach(opened.board, name, inspection)
            yield finished

    def _run(
        self,
        opened: OpenedImage,
        question: str,
        adapters: Sequence[str],
        own: Mapping[str, Path],
        cancel: threading.Event,
    ) -> Iterator[Step | tuple[Inspection, bool]]:
        """Steps, and after each adapter what there is so far and whether that is all."""

        def work(task: Task[None]) -> None:
            with generation.answering(), task.turn(self.slot, "Loading the model", _WAITING) as model:
                names = tuple(adapters) or self.slot.adapters
                inspections = library.inspect_each(
                    model,
                    opened.image,
                    question,
                    adapters=names,
                    adapter_set=lambda name: self.private_adapters.set_of(name, own),
                    on_progress=task.progress,
                    should_stop=task.should_stop,
                )
                for inspection in inspections:
                    task.part((inspection, len(inspection.views) == len(names)))

        generation = self.slot.generation
        for report in run(work, cancel, generation):
            if report is not None:
                yield report

    # ---- examples ----------------------------------------------------------------------------

    def prepare(self, examples: Sequence[tuple[Path, str, str]]) -> None:
        """Answer the examples' questions in a thread of its own, so that they show finished results at once.

        Args:
            examples: file, question and key of each; every page opens with the first.
        """

        def work(task: Task[None]) -> None:
            self.slot.wait(None)
            self._prepared.clear()
            size = 0
            for path, question, key in examples:
                image = read_image(path)
                with task.turn(self.slot, "Loading the model", _WAITING) as model:
                    names, adapter_set = self.slot.adapters, self.slot.adapter_set
                    inspection = library.inspect_image(
                        model, image, question, adapters=names, adapter_set=adapter_set, should_stop=task.should_stop
                    )
                size += sum(view.maps.weights.nbytes for view in inspection.views)
                if size > MOST_PREPARED:
                    return
                self._prepared[generation.number, image.sha256, question, names] = inspection
                if len(self._prepared) == 1:
                    numbers = tuple(_numbers(view, inspection.grid) for view in inspection.views)
                    finished = _finished(secrets.token_urlsafe(18), inspection, numbers, generation, True)
                    self._opening = Kept(finished, open_example(path, key), None)
                    # It is no visitor's: all may look into it, and it is never forgotten.
                    self.results.keep("", self._opening)
                # A lock is not fair: whoever waits for the model gets it now.
                task.cancel.wait(_BREATH)

        def told(task: Task[None]) -> None:
            try:
                work(task)
            except Exception as error:
                explain(error)  # to the log: nobody asked
                raise

        generation = self.slot.generation
        Task(told, generation=generation).start()

    @property
    def opening(self) -> Kept | None:
        """The first example with its result, which all pages open with; None before the model in memory gave one."""
        kept = self._opening
        ready = kept is not None and self.slot.status.state == "ready"
        return kept if ready and kept.finished.generation == self.slot.generation.number else None

    def welcome(self, visit: str) -> Kept | None:
        """Begin a visit with what its page opened with; None where there is no result yet, or where the visit has
        another image by now."""
        kept = self.opening
        if kept is None or self.visits.opened(visit) is not None:
            return None
        kept = kept._replace(opened=self.visits.show_again(visit, kept.opened, None))
        self.results.keep(visit, kept)
        self.regions.attach(kept.opened.board, kept.finished.result, kept.finished.inspection)
        return kept

    def _known(self, opened: OpenedImage, question: str, adapters: Sequence[str]) -> Inspection | None:
        """The finished result of an example; visitors' own images are never looked up."""
        if self.slot.status.state != "ready":
            return None
        asked = tuple(adapters) or self.slot.adapters
        return self._prepared.get((self.slot.generation.number, opened.image.sha256, question, asked))

    def is_prepared(self, visit: str, question: str, adapters: Sequence[str] = ()) -> bool:
        """Whether the answer is there already, without asking the model."""
        opened = self.visits.opened(visit)
        return opened is not None and self._known(opened, question, adapters) is not None

    # ---- results -----------------------------------------------------------------------------

    def head_map(self, result: str, adapter: str, layer: int, head: int) -> np.ndarray:
        """Attention of one head from every text token to every patch, float32 [text tokens, patches].

        Args:
            result: the name that :class:`Finished` gave.
            adapter: whose attention.
            layer, head: the head, from 0.

        Raises:
            RequestError: the result was removed, or the model has no such adapter or head.
        """
        maps = self.results.view(result, adapter).maps
        if not (
            isinstance(layer, int) and isinstance(head, int) and 0 <= layer < maps.layers and 0 <= head < maps.heads
        ):
            raise RequestError(
                expected=f"layers 0 to {maps.layers - 1} and heads 0 to {maps.heads - 1}",
                got=f"Layer {layer}, head {head} does not exist",
                remedy="Choose a head of this model",
            )
        return maps.weights[layer, head]

    def measure(self, board: str, keys: Sequence[str], others: Sequence[str]) -> TargetNumbers | None:
        """:meth:`app.inspect.regions.RegionService.choose`, with further results of the same image by their names.

        Raises:
            RequestError: as there, or a result was removed.
        """
        inspections = {str(name): self.results.get(str(name)).finished.inspection for name in others}
        return self.regions.choose(board, keys, inspections)

    def reopen(self, visit: str, result: str) -> Kept:
        """Put one of the visit's results back on show with its image, which gets a new board.

        Raises:
            RequestError: the visit has no such result any more.
        """
        for kept in self.results.of(visit):
            if kept.finished.result == result:
                opened = self.visits.show_again(visit, kept.opened, kept.content)
                self.regions.attach(opened.board, result, kept.finished.inspection)
                kept = kept._replace(opened=opened)
                self.results.keep(visit, kept)
                return kept
        raise RequestError(
            expected="one of the last inspections of this visit",
            got="This one was removed from the server",
            remedy="Open the image and ask again",
        )

    # ---- targets -----------------------------------------------------------------------------

    def keep_target(self, board: str, keys: list[str]) -> tuple[KeptTarget, bytes]:
        """Keep regions of the image on show as the visit's target; see
        :meth:`app.inspect.regions.RegionService.keep`."""
        target, files = self.regions.keep(board, keys)
        visit = self.visits.with_board(board)
        if visit is not None:
            visit.target = target
        return target, files

    def target(self, visit: str) -> KeptTarget | None:
        """The target that the visit kept last."""
        return self.visits.get(visit).target


def _finished(
    name: str, inspection: Inspection, numbers: tuple[ViewNumbers, ...], generation: ModelGeneration, complete: bool
) -> Finished:
    demo = inspection.model == DEMO_NAME
    return Finished(name, inspection, numbers, generation.special_tokens, demo, complete, generation.number)


def _numbers(view: AdapterView, grid: PatchGrid) -> ViewNumbers:
    rows = library.answer_rows(view.tokens, view.maps)
    entropy = library.measure_heads(view.maps, rows=rows)["entropy"]
    return ViewNumbers(surroundings(find_sinks(view.maps), grid), entropy)
