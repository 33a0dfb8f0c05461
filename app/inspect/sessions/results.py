"""The inspections that visitors can still look into: the last ones of each session, in memory only."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from a3tune.attention.sinks import find_sinks, surroundings
from a3tune.bundle import DEMO_NAME
from a3tune.errors import RequestError
from a3tune.geometry.patch_grid import to_patches
from a3tune.types import PatchGrid
from app.access.deployment import LOCAL, Deployment
from app.access.identity import check_visit, visit_of_asker
from app.engine import library
from app.engine.ids import ResultId, SessionId
from app.engine.model_generation import ModelGeneration
from app.inspect.sessions.opened_image import OpenedImage

if TYPE_CHECKING:
    from a3tune.inspection.inspect import Inspection
    from a3tune.inspection.views import AdapterView

# How many inspections of a session can be opened again, and how many bytes of maps and files they may hold together:
# the maps of one answer of a large model take 150 MB. The newest one always stays.
MOST_RESULTS = 20
MOST_BYTES = 512 << 20


class ViewNumbers(NamedTuple):
    """What the page needs of one view besides its maps.

    Attributes:
        sinks: the patches that draw attention whatever the word, each with those around it (see
            a3tune.attention.sinks.surroundings).
        entropy: float64 [layers, heads], normalised entropy of each head's mean map of the answer, 0 to 1; NaN for a
            head that gives nothing to the image.
        inside: the critical heads' attention inside the reference mask over the words of the answer, 0 to 1, as an
            evaluation measures it; None where there is none.
    """

    sinks: dict[int, tuple[int, ...]]
    entropy: np.ndarray
    inside: float | None = None


def no_numbers(view: AdapterView) -> ViewNumbers:
    """Of an answer that is still being written: they would be other ones with the next word."""
    return ViewNumbers({}, np.full(view.visual_ratio.shape, np.nan))


def view_numbers(view: AdapterView, grid: PatchGrid, reference: np.ndarray | None = None) -> ViewNumbers:
    """Those of a view whose answer is whole; ``reference`` is where the answer lies, bool [height, width]."""
    rows = library.answer_rows(view.tokens, view.maps)
    entropy = library.measure_heads(view.maps, rows=rows)["entropy"]
    inside = None
    if reference is not None:
        measured = library.measure_head_set(view.maps, view.critical_heads, to_patches(reference, grid), rows)
        inside = measured["attention_mass"]
    return ViewNumbers(surroundings(find_sinks(view.maps), grid), entropy, inside)


@dataclass(frozen=True, eq=False)
class Result:
    """An inspection with all that is needed to put it on show, and the name under which its maps can be fetched.

    Attributes:
        id: the unguessable name.
        inspection: what came out so far: one view for each adapter that has answered.
        numbers: one for each view.
        opened: the image with its choices.
        generation: the model that answered.
        complete: whether every adapter that was asked has answered.
        writing: whether the last view's answer is still being written.
        own: folders by name of the visitor's own adapters that were there to choose from.
        asked: the adapters, in the order of their answers.
    """

    id: ResultId
    inspection: Inspection
    numbers: tuple[ViewNumbers, ...]
    opened: OpenedImage
    generation: ModelGeneration
    complete: bool = True
    writing: bool = False
    own: Mapping[str, Path] = field(default_factory=dict)
    asked: tuple[str, ...] = ()

    @property
    def is_examples_own(self) -> bool:
        """Whether it is the answer to the question that comes with an example: one press away at any time."""
        return self.opened.is_examples_own(self.inspection.question)

    @property
    def demo(self) -> bool:
        """Whether the bundled model answered."""
        return self.inspection.model == DEMO_NAME

    @property
    def reference_mask(self) -> np.ndarray | None:
        """Where the answer lies, bool [height, width] in source pixels, where that is known."""
        return self.opened.reference_mask(self.inspection.question)

    def numbers_of(self, adapter: str) -> ViewNumbers:
        """The numbers of one adapter's view.

        Raises:
            RequestError: that adapter was not asked.
        """
        view = self.view(adapter)
        return next(numbers for one, numbers in zip(self.inspection.views, self.numbers, strict=True) if one is view)

    @property
    def size(self) -> int:
        """About how many bytes it holds."""
        maps = sum(view.maps.weights.nbytes for view in self.inspection.views)
        image = self.opened.image
        pictures = image.pixels.nbytes + (0 if image.model_pixels is None else image.model_pixels.nbytes)
        return maps + pictures + len(self.opened.content or b"")

    def view(self, adapter: str) -> AdapterView:
        """One adapter's view.

        Raises:
            RequestError: that adapter was not asked.
        """
        for view in self.inspection.views:
            if view.adapter == adapter:
                return view
        raise RequestError(
            expected="an adapter that was asked",
            got=f"The result has no adapter {adapter!r}",
            remedy="Ask the question with this adapter",
        )


class ResultStore:
    """Results by their names, which session they belong to, and which visit that belongs to.

    Args:
        deployment: how much all of them may hold in memory.
    """

    def __init__(self, deployment: Deployment = LOCAL) -> None:
        self._most_bytes = None if deployment.results_mb is None else deployment.results_mb * 1e6
        self._of_session: OrderedDict[SessionId | None, OrderedDict[ResultId, Result]] = OrderedDict()
        self._visits: dict[SessionId | None, str] = {}
        self._guard = threading.RLock()

    def add(self, session: SessionId | None, result: Result) -> None:
        """Make a result the session's newest, in place of one of the same name; the oldest ones make room, those of
        examples' own questions before others.

        A result of no session is everybody's.
        """
        with self._guard:
            results = self._of_session.setdefault(session, OrderedDict())
            results[result.id] = result
            results.move_to_end(result.id)
            size = sum(known.size for known in results.values())
            while len(results) > 1 and (len(results) > MOST_RESULTS or size > MOST_BYTES):
                size -= results.pop(_first_to_go(results)).size
            self._of_session.move_to_end(session)
            self._visits[session] = visit_of_asker()
            self._make_room()

    def _make_room(self) -> None:
        """Drop the oldest results of the sessions that asked longest ago, until all hold no more than they may; of
        each the newest stays."""
        if self._most_bytes is None:
            return
        size = sum(known.size for results in self._of_session.values() for known in results.values())
        for session, results in self._of_session.items():
            while session is not None and len(results) > 1 and size > self._most_bytes:
                size -= results.pop(_first_to_go(results)).size

    def get(self, name: ResultId) -> Result:
        """The result of this name, if it is everybody's or of the visit of whoever asks.

        Raises:
            RequestError: there is none, or it was removed.
        """
        with self._guard:
            for session, results in self._of_session.items():
                if name in results and (session is None or check_visit(self._visits[session])):
                    return results[name]
        raise removed()

    def share(self, name: ResultId, session: SessionId) -> None:
        """Give a session all results of the one that has this result, as far as it is of the visit of whoever asks.

        Raises:
            RequestError: there is none, or it was removed.
        """
        with self._guard:
            for known, results in self._of_session.items():
                if name in results and known is not None and check_visit(self._visits[known]):
                    for result in list(results.values()):
                        self.add(session, result)
                    return
        raise removed()

    def head_map(self, name: ResultId, adapter: str, layer: int, head: int) -> np.ndarray:
        """Attention of one head from every text token to every patch, float32 [text tokens, patches].

        Args:
            name: the result.
            adapter: whose attention.
            layer, head: the head, from 0.

        Raises:
            RequestError: the result was removed, or the model has no such adapter or head.
        """
        maps = self.get(name).view(adapter).maps
        if not (
            isinstance(layer, int) and isinstance(head, int) and 0 <= layer < maps.layers and 0 <= head < maps.heads
        ):
            raise RequestError(
                expected=f"layers 0 to {maps.layers - 1} and heads 0 to {maps.heads - 1}",
                got=f"Layer {layer}, head {head} does not exist",
                remedy="Choose a head of this model",
            )
        return maps.weights[layer, head]

    def of(self, session: SessionId) -> tuple[Result, ...]:
        """The session's results, newest first."""
        with self._guard:
            return tuple(reversed(self._of_session.get(session, OrderedDict()).values()))

    def forget(self, session: SessionId) -> list[ResultId]:
        """Drop all results of a session, and say which no other session has."""
        with self._guard:
            gone = self._of_session.pop(session, OrderedDict[ResultId, Result]())
            self._visits.pop(session, None)
            return [name for name in gone if not any(name in results for results in self._of_session.values())]


def _first_to_go(results: Mapping[ResultId, Result]) -> ResultId:
    *earlier, _ = results
    return next((name for name in earlier if results[name].is_examples_own), earlier[0])


def removed() -> RequestError:
    """What is raised where a result is asked for that is not there, for whoever asks."""
    return RequestError(
        expected="a result that is still open",
        got="This result was removed from the server",
        remedy="Ask the question again",
    )
