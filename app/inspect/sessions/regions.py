"""The regions of the images on show: found, ranked for a prompt, drawn by hand, chosen as the target.

Nothing here knows of visitors or of Gradio.
"""

from __future__ import annotations

import io
import secrets
import tempfile
import threading
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from a3tune.errors import RequestError
from a3tune.geometry.patch_grid import to_patches
from a3tune.labels.filters import FilterRules
from a3tune.types import MedicalImage, Region, WeakLabels
from app.access.identity import check_visit, visit_of_asker
from app.engine import library
from app.engine.background import Task, run
from app.engine.ids import RegionSessionId, ResultId
from app.engine.model_lock import turn
from app.engine.region_slot import RegionSlot
from app.inspect.sessions.measures import TargetNumbers, ViewMeasure, measure_inside, measure_view, union_of
from app.inspect.sessions.shown_regions import ShownRegion, shown_regions

if TYPE_CHECKING:
    from a3tune.inspection.inspect import Inspection
    from a3tune.labels.pipeline import LabelMaker

Value = TypeVar("Value")

ANY_SIDE = FilterRules(minimum_side=0)
# More text than any encoder reads, and more boxes than anybody draws.
LONGEST_PROMPT = 2000
MOST_DRAWN = 24


@dataclass(frozen=True, eq=False)
class RankedRegions:
    """The regions of one image for one prompt, best first.

    Attributes:
        labels: every region that was ranked, and how it came about.
        settings: what they were made with.
        shown: the best ones, the best small ones where those are kept, and those drawn by hand.
        numbers: those of :meth:`RegionService.choose` for the regions that are chosen at first.
    """

    labels: WeakLabels
    settings: Mapping[str, Any]
    shown: tuple[ShownRegion, ...]
    numbers: TargetNumbers | None = None


@dataclass(frozen=True, eq=False)
class Target:
    """Regions that a visitor chose as the place that a model should attend to.

    Attributes:
        image: the image they belong to.
        labels: the chosen regions only, best first, with the ranks that they have among all.
        mask: bool [height, width], their union in source pixels, read-only.
    """

    image: MedicalImage
    labels: WeakLabels
    mask: np.ndarray


@dataclass(eq=False)
class _RegionSession:
    image: MedicalImage
    visit: str
    inspections: dict[ResultId, Inspection] = field(default_factory=dict)
    drawn: dict[str, Region] = field(default_factory=dict)
    prompts: set[str] = field(default_factory=set)
    ranked: RankedRegions | None = None
    cancel: threading.Event = field(default_factory=threading.Event)


class RegionService:
    """Regions of all images on show; each image has a session of its own with an unguessable name.

    Args:
        slot: the parts that find and rank.
    """

    def __init__(self, slot: RegionSlot) -> None:
        self.slot = slot
        self._sessions: dict[RegionSessionId, _RegionSession] = {}
        self._guard = threading.RLock()

    # ---- sessions ----------------------------------------------------------------------------

    def open(self, image: MedicalImage) -> RegionSessionId:
        """A session for an image that comes on show; nothing is computed yet."""
        name = RegionSessionId(secrets.token_urlsafe(18))
        with self._guard:
            self._sessions[name] = _RegionSession(image, visit_of_asker())
        return name

    def close(self, name: RegionSessionId) -> None:
        """Forget a session; what runs for it is stopped. Unknown names do nothing."""
        with self._guard:
            session = self._sessions.pop(name, None)
            shown = session is not None and any(
                known.image.sha256 == session.image.sha256 for known in self._sessions.values()
            )
        if session is not None:
            session.cancel.set()
            self.slot.forget(() if shown else (session.image.sha256,), session.prompts)

    def attach(self, name: RegionSessionId, result: ResultId, inspection: Inspection) -> None:
        """Measure in the maps of this inspection, known by its result's name, from now on."""
        with self._guard:
            if name in self._sessions:
                self._sessions[name].inspections = {result: inspection}

    def check(self, name: RegionSessionId) -> None:
        """Raise a RequestError where the session is over, or of another visit."""
        self._session(name)

    def stop(self, name: RegionSessionId) -> None:
        """Stop what is being found or ranked; what is on show stays."""
        with self._guard:
            if name in self._sessions:
                self._sessions[name].cancel.set()

    # ---- requests ----------------------------------------------------------------------------

    def find(self, name: RegionSessionId, prompt: str, *, small: bool = False) -> RankedRegions:
        """Find the image's regions, where that was not done yet, and rank them for a prompt.

        A newer request for the same image stops an older one. ``small`` keeps small structures: regions of any size
        are ranked, and the best of those that the published filter drops for their size are shown too.

        Raises:
            LabelError: no region, a prompt that cannot be used, or a part that is missing or damaged.
            RequestError: the session is over, or the prompt is no text.
            Cancelled: :meth:`stop` was called, or a newer request came.
        """
        session = self._session(name)
        _check_prompt(prompt)
        return self._run(
            session, lambda maker, cancel: self._rank(session, maker, prompt, dict(session.drawn), cancel, small)
        )

    def draw(
        self, name: RegionSessionId, box: Sequence[Any], prompt: str, *, small: bool = False
    ) -> tuple[RankedRegions, str]:
        """Make a region from a drawn box and rank it with the others.

        Args:
            name: the session.
            box: (x, y, width, height) in source pixels.
            prompt, small: as for :meth:`find`.

        Returns:
            the new ranking, and the key of the region.

        Raises:
            LabelError: the box is empty, outside, or holds nothing that stands out; else as :meth:`find`.
        """
        session = self._session(name)
        _check_prompt(prompt)
        if len(session.drawn) >= MOST_DRAWN:
            raise RequestError(
                expected=f"at most {MOST_DRAWN} drawn regions",
                got="There are as many already",
                remedy="Open the image again to begin anew",
            )

        def work(maker: LabelMaker, cancel: threading.Event) -> tuple[RankedRegions, str]:
            region = maker.segmenter.segment_box(session.image, cast("tuple[int, int, int, int]", box))
            key = region.key
            return self._rank(session, maker, prompt, {**session.drawn, key: region}, cancel, small), key

        return self._run(session, work)

    def choose(
        self, name: RegionSessionId, keys: Sequence[str], others: Mapping[ResultId, Inspection] | None = None
    ) -> TargetNumbers | None:
        """How much of the attention the chosen regions hold, over the words of the answer, in every view.

        Args:
            name: the session.
            keys: the chosen regions.
            others: further inspections of the same image by their results' names, for comparisons. One of another
                question than the regions are ranked for is measured in the best regions of its own question.

        Returns:
            the numbers; without views before a question was answered; None when no region is chosen.

        Raises:
            RequestError: the session is over, there is no such region, or another inspection is of another image.
        """
        session = self._session(name)
        for other in (others or {}).values():
            if other.image.sha256 != session.image.sha256:
                raise RequestError(
                    expected="inspections of the image on show",
                    got="One is of another image",
                    remedy="Compare questions about the same image",
                )
        chosen = [item.scored for item in _pick(session, keys)]
        prompt = "" if session.ranked is None else session.ranked.labels.prompt
        apart = {
            result: inspection
            for result, inspection in (others or {}).items()
            if result not in session.inspections and inspection.question.strip() != prompt.strip()
        }
        beside = {result: item for result, item in (others or {}).items() if result not in apart}
        numbers = measure_inside(chosen, {**session.inspections, **beside})
        if numbers is None:
            return None
        measured = [one for item in apart.items() for one in self._measure_apart(session, *item)]
        return numbers._replace(views=(*numbers.views, *measured))

    def _measure_apart(self, session: _RegionSession, result: ResultId, inspection: Inspection) -> list[ViewMeasure]:
        """The views of an inspection in the best regions of its own question."""

        def rank(maker: LabelMaker, cancel: threading.Event) -> WeakLabels:
            prompts = maker.prompts([inspection.question])
            session.prompts.update(prompts)
            return maker.make(session.image, prompts, ())

        best = [item.scored for item in shown_regions(self._run(session, rank), ()) if item.chosen]
        ranks = f"regions of ranks 1 to {best[-1].rank}" if len(best) > 1 else "region of rank 1"
        coverage, inside = to_patches(union_of(best), inspection.grid), f"the {ranks} for “{inspection.question}”"
        return [measure_view(result, view, coverage)._replace(inside=inside) for view in inspection.views]

    def labels(self, name: RegionSessionId, keys: Sequence[str]) -> WeakLabels | None:
        """The chosen regions alone, with the ranks that they have among all; None when none is chosen.

        Raises:
            RequestError: the session is over, or there is no such region.
        """
        session = self._session(name)
        chosen = tuple(item.scored for item in _pick(session, keys))
        return replace(cast(RankedRegions, session.ranked).labels, regions=chosen) if chosen else None

    def keep(self, name: RegionSessionId, keys: Sequence[str]) -> tuple[Target, bytes]:
        """The chosen regions as a target, and the same as files.

        Returns:
            the target, and a ZIP archive with what ``python -m a3tune labels`` writes for these regions.

        Raises:
            RequestError: no region is chosen, the session is over, or there is no such region.
        """
        session = self._session(name)
        chosen = [item.scored for item in _pick(session, keys)]
        if not chosen:
            raise RequestError(
                expected="at least one region", got="No region is switched on", remedy="Switch one on, or draw a box"
            )
        mask = union_of(chosen)
        mask.flags.writeable = False
        ranked = cast(RankedRegions, session.ranked)
        labels = replace(ranked.labels, regions=tuple(chosen), checked=True)
        return Target(session.image, labels, mask), _archive(session.image, labels, ranked.settings)

    # ---- the work ----------------------------------------------------------------------------

    def _session(self, name: RegionSessionId) -> _RegionSession:
        with self._guard:
            session = self._sessions.get(name)
            if session is not None and not check_visit(session.visit):
                session = None
        if session is None:
            raise RequestError(
                expected="an image that is still open",
                got="This image was removed from the server",
                remedy="Open it again",
            )
        return session

    def _run(self, session: _RegionSession, work: Callable[[LabelMaker, threading.Event], Value]) -> Value:
        """The result of ``work``; a newer request or a cancel ends it, and need not wait for the segmenter."""
        with self._guard:
            session.cancel.set()
            session.cancel = cancel = threading.Event()

        def in_turn(task: Task[Value]) -> Value:
            with turn(
                task, self.slot, "Loading what finds regions", "Waiting for the regions of another image"
            ) as maker:
                return work(maker, cancel)

        *_, value = run(in_turn, cancel, self.slot.generation, kind="regions")
        return value

    def _rank(
        self,
        session: _RegionSession,
        maker: LabelMaker,
        prompt: str,
        drawn: dict[str, Region],
        cancel: threading.Event,
        small: bool,
    ) -> RankedRegions:
        if small:
            maker = maker.with_rules(ANY_SIDE)
        prompts = maker.prompts([prompt])
        session.prompts.update(prompts)
        labels = maker.make(session.image, prompts, tuple(drawn.values()))
        shown = shown_regions(labels, drawn)
        numbers = measure_inside([item.scored for item in shown if item.chosen], session.inspections)
        ranked = RankedRegions(labels, {**maker.settings, "top_k": None}, shown, numbers)
        with self._guard:
            if not cancel.is_set():
                session.ranked, session.drawn = ranked, drawn
        return ranked


def _archive(image: MedicalImage, labels: WeakLabels, settings: Mapping[str, Any]) -> bytes:
    packed = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="a3tune-") as folder:
        files = library.write_labels(labels, image, Path(folder) / "labels", [labels.prompt], settings)
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in files:
                archive.write(path, path.name)
    return packed.getvalue()


def _check_prompt(prompt: object) -> None:
    if not isinstance(prompt, str) or len(prompt) > LONGEST_PROMPT:
        raise RequestError(
            expected=f"a prompt of at most {LONGEST_PROMPT} characters",
            got="The prompt is too long" if isinstance(prompt, str) else "The prompt is no text",
            remedy="Shorten it to what should be found",
        )


def _pick(session: _RegionSession, keys: Sequence[str]) -> list[ShownRegion]:
    shown = () if session.ranked is None else session.ranked.shown
    known = {item.key for item in shown}
    if not isinstance(keys, (list, tuple)) or not all(isinstance(key, str) and key in known for key in keys):
        raise RequestError(
            expected="regions of the list", got="There is no such region", remedy="Rank the regions again"
        )
    return [item for item in shown if item.key in keys]
