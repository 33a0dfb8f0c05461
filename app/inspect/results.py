"""The inspections that visitors can still look into: the last ones of each visit, in memory only."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from a3tune.errors import RequestError
from app.inspect.sessions import OpenedImage

if TYPE_CHECKING:
    import numpy as np

    from a3tune.inspection.inspect import AdapterView, Inspection

# How many inspections of a visit can be opened again, and how many bytes of maps and files they may hold together:
# the maps of one answer of a large model take 150 MB. The newest one is always kept.
MOST_KEPT = 20
MOST_BYTES = 512 << 20


class ViewNumbers(NamedTuple):
    """What the page needs of one view besides its maps.

    Attributes:
        sinks: the patches that draw attention whatever the word, each with those around it (see
            a3tune.attention.sinks.surroundings).
        entropy: float64 [layers, heads], normalised entropy of each head's mean map of the answer, 0 to 1; NaN for a
            head that gives nothing to the image.
    """

    sinks: dict[int, tuple[int, ...]]
    entropy: np.ndarray


class Finished(NamedTuple):
    """An inspection, and the unguessable name under which its maps can be fetched.

    Attributes:
        result: the name.
        inspection: what came out so far: one view for each adapter that has answered.
        numbers: one for each view.
        special_tokens: the tokenizer's own tokens, which are no words.
        demo: whether the bundled model spoke.
        complete: whether every adapter that was asked has answered.
        generation: the number of the model's generation (see :class:`app.engine.model_slot.ModelGeneration`).
    """

    result: str
    inspection: Inspection
    numbers: tuple[ViewNumbers, ...]
    special_tokens: frozenset[str]
    demo: bool
    complete: bool = True
    generation: int = 0


class Kept(NamedTuple):
    """An inspection with all that is needed to put it back on show.

    Attributes:
        finished: the inspection.
        opened: the image with its choices.
        content: the file's bytes, when another window or slice can be read from it.
        own: folders by name of the visitor's own adapters that were there to choose from.
    """

    finished: Finished
    opened: OpenedImage
    content: bytes | None
    own: Mapping[str, Path] = MappingProxyType({})

    @property
    def size(self) -> int:
        """About how many bytes it holds."""
        maps = sum(view.maps.weights.nbytes for view in self.finished.inspection.views)
        return maps + self.opened.image.pixels.nbytes + len(self.content or b"")


class ResultStore:
    """Results by their names, and which visit they belong to."""

    def __init__(self) -> None:
        self._of_visit: dict[str, OrderedDict[str, Kept]] = {}
        self._guard = threading.RLock()

    def keep(self, visit: str, kept: Kept) -> None:
        """Keep a result as the visit's newest, in place of one of the same name; the oldest ones make room."""
        with self._guard:
            entries = self._of_visit.setdefault(visit, OrderedDict())
            entries[kept.finished.result] = kept
            entries.move_to_end(kept.finished.result)
            size = sum(entry.size for entry in entries.values())
            while len(entries) > 1 and (len(entries) > MOST_KEPT or size > MOST_BYTES):
                _, oldest = entries.popitem(last=False)
                size -= oldest.size

    def get(self, result: str) -> Kept:
        """The result of this name.

        Raises:
            RequestError: there is none, or it was removed.
        """
        with self._guard:
            for entries in self._of_visit.values():
                if result in entries:
                    return entries[result]
        raise RequestError(
            expected="a result that is still open",
            got="This result was removed from the server",
            remedy="Ask the question again",
        )

    def view(self, result: str, adapter: str) -> AdapterView:
        """One adapter's view of a result.

        Raises:
            RequestError: the result was removed, or that adapter was not asked.
        """
        for view in self.get(result).finished.inspection.views:
            if view.adapter == adapter:
                return view
        raise RequestError(
            expected="an adapter that was asked",
            got=f"The result has no adapter {adapter!r}",
            remedy="Ask the question with this adapter",
        )

    def of(self, visit: str) -> tuple[Kept, ...]:
        """The visit's results, newest first."""
        with self._guard:
            return tuple(reversed(self._of_visit.get(visit, OrderedDict()).values()))

    def forget(self, visit: str) -> None:
        """Drop all results of a visit."""
        with self._guard:
            self._of_visit.pop(visit, None)
