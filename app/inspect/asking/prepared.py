"""Answers that are there before anybody asks: those to the examples' questions.

It knows nothing of Gradio.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from app.common.status import explain
from app.engine.background import Task
from app.engine.ids import ResultId
from app.engine.model_lock import turn
from app.engine.model_slot import ModelSlot
from app.engine.region_slot import RegionSlot
from app.inspect.sessions.opened_image import OpenedImage, open_example
from app.inspect.sessions.results import Result, ResultStore, view_numbers

if TYPE_CHECKING:
    from a3tune.inspection.inspect import Inspection
    from a3tune.models.load import VisionLanguageModel

    # Asks one question about one image: model, image, question, adapters, the visitor's own ones, the work it is for.
    Inspect = Callable[
        [VisionLanguageModel, OpenedImage, str, Sequence[str], Mapping[str, Path], Task], Iterator[Inspection]
    ]

MOST_PREPARED = 256 << 20  # bytes of maps that the examples' finished results may hold together
LOADING, WAITING = "Loading the model", "Waiting for another visitor's question"
"""What is told while the model is not there yet, or another visitor's."""
_PAUSE = 0.05  # seconds between two examples that are answered in the background


class PreparedAnswers:
    """The examples' finished inspections.

    Args:
        slot: the model.
        region_slot: keeps what it finds in the examples.
        results: where the first example's result is everybody's.
        inspect: asks one question about one image; see :meth:`app.inspect.asking.questions.Questions.inspect`.
    """

    def __init__(self, slot: ModelSlot, region_slot: RegionSlot, results: ResultStore, inspect: Inspect) -> None:
        self._slot, self._region_slot, self._results, self._inspect = slot, region_slot, results, inspect
        self._known: dict[tuple[int, str, str, tuple[str, ...]], Inspection] = {}
        self._opening: Result | None = None

    def prepare(self, examples: Sequence[tuple[Path, str, str]]) -> None:
        """Answer the examples' questions in the background, so that they show finished results at once.

        Args:
            examples: file, question and key of each; every page opens with the first.
        """
        generation = self._slot.generation

        def work(task: Task[None]) -> None:
            self._slot.wait(None)
            self._known.clear()
            size = 0
            for path, question, key in examples:
                opened = open_example(path, key, self._slot.convention)
                self._region_slot.keep(opened.image.sha256)
                with turn(task, self._slot, LOADING, WAITING) as model:
                    asked = self._slot.adapters
                    *_, inspection = self._inspect(model, opened, question, asked, {}, task)
                size += sum(view.maps.weights.nbytes for view in inspection.views)
                if size > MOST_PREPARED:
                    return
                self._known[generation.number, opened.image.sha256, question, asked] = inspection
                if len(self._known) == 1:
                    mask = opened.reference_mask(question)
                    numbers = tuple(view_numbers(view, inspection.grid, mask) for view in inspection.views)
                    name = ResultId(secrets.token_urlsafe(18))
                    self._opening = Result(name, inspection, numbers, opened, generation)
                    # It is no visitor's: all may see it, and it is never forgotten.
                    self._results.add(None, self._opening)
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
        if result is None or self._slot.status.state != "ready" or result.generation is not self._slot.generation:
            return None
        return result

    def known(self, opened: OpenedImage, question: str, asked: tuple[str, ...]) -> Inspection | None:
        """The finished inspection of an example; visitors' own images are never searched for."""
        if self._slot.status.state != "ready":
            return None
        return self._known.get((self._slot.generation.number, opened.image.sha256, question, asked))
