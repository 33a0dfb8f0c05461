"""Everything the pages ask of the library: visits, images, the one shared model, inspections.

With :mod:`app.slots` and :mod:`app.regions`, which it builds on, the only module of the application that calls a3tune.
It knows nothing of Gradio.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from a3tune.attention.sinks import find_sinks
from a3tune.errors import Cancelled, RequestError
from a3tune.images import ImageDescription, describe_image, load_image
from a3tune.types import MedicalImage, Window
from app.regions import KeptTarget, RegionDesk
from app.slots import ModelSlot, RegionSlot

if TYPE_CHECKING:
    from a3tune.inspection import Inspection

# A visit that nobody touches for this long is forgotten with all its data, in seconds.
VISIT_LIFETIME = 3600.0


class Step(NamedTuple):
    """One report of a running inspection: what is being done and the share done, 0 to 1."""

    what: str
    share: float


class OpenedImage(NamedTuple):
    """An image on show, what can be chosen about it, and the name of its board at the region desk."""

    image: MedicalImage
    choices: ImageDescription
    board: str = ""


class Finished(NamedTuple):
    """A finished inspection, and the unguessable name under which its maps can be fetched.

    ``sinks`` are the patches that draw attention whatever the word (see a3tune.attention.sinks).
    """

    result: str
    inspection: Inspection
    sinks: tuple[int, ...]
    special_tokens: frozenset[str]
    demo: bool


@dataclass
class _Visit:
    # The open file's bytes, in memory only, when another window or slice can be read from it.
    content: bytes | None = None
    opened: OpenedImage | None = None
    result: str | None = None
    target: KeptTarget | None = None
    ticket: threading.Event = field(default_factory=threading.Event)
    touched: float = field(default_factory=time.monotonic)


class Studio:
    """The application's state: the model slot, the region desk, and what each visitor has open.

    A visit is named by its page's session and begins with the first request; nothing of one visit can be reached
    from another.

    Args:
        slot: the model.
        region_slot: what finds and ranks regions; the bundled parts when None.
    """

    def __init__(self, slot: ModelSlot, region_slot: RegionSlot | None = None) -> None:
        self.slot = slot
        self.regions = RegionDesk(region_slot or RegionSlot())
        self._visits: dict[str, _Visit] = {}
        self._results: dict[str, Inspection] = {}
        self._guard = threading.RLock()

    # ---- visits ------------------------------------------------------------------------------

    def end_visit(self, visit: str) -> None:
        """Forget a visit: its file, image and result; a running question is stopped. Unknown names do nothing."""
        with self._guard:
            gone = self._visits.pop(visit, None)
            if gone is not None:
                gone.ticket.set()
                self._results.pop(gone.result or "", None)
                if gone.opened is not None:
                    self.regions.close(gone.opened.board)

    def forget_idle_visits(self) -> None:
        """End the visits that nobody touched for an hour."""
        with self._guard:
            oldest = time.monotonic() - VISIT_LIFETIME
            for name in [name for name, visit in self._visits.items() if visit.touched < oldest]:
                self.end_visit(name)

    def keep_tidy(self, interval: float = 300.0) -> None:
        """Look for idle visits every ``interval`` seconds, in a thread of its own, as long as the process lives."""

        def tidy() -> None:
            while not never.wait(interval):
                self.forget_idle_visits()

        never = threading.Event()
        threading.Thread(target=tidy, name="tidy", daemon=True).start()

    def _visit(self, name: str) -> _Visit:
        with self._guard:
            visit = self._visits.setdefault(name, _Visit())
            visit.touched = time.monotonic()
            return visit

    # ---- images ------------------------------------------------------------------------------

    def open_file(self, visit: str, path: Path, *, remove: bool) -> OpenedImage:
        """Open a file as the visit's image.

        Args:
            visit: the visit's name.
            path: the file.
            remove: delete the file once it is in memory (uploads: nothing of them stays on the disk).

        Raises:
            ImageError: the file is not an image that can be shown.
        """
        try:
            content = path.read_bytes()
        finally:
            if remove:
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # not empty: something else lies there
                    path.parent.rmdir()
        opened = _read(content)
        return self._show(visit, opened, content if _has_choices(opened) else None)

    def change_view(
        self,
        visit: str,
        *,
        window: str | Window | None = None,
        frame: int | None = None,
        axis: int = 2,
        volume: int = 0,
    ) -> OpenedImage:
        """Show the visit's file with another window, frame or slice.

        Args:
            visit: the visit's name.
            window: None for the file's own, a preset's name, or centre and width in the file's units.
            frame: index of the frame or slice, from 0; None for the file's default.
            axis: the axis that slices are taken along, 0 to 2; volumes only.
            volume: which volume of a file that holds several, from 0.

        Raises:
            ImageError, RequestError: the choice does not fit the file, or no such file is open.
        """
        content = self._visit(visit).content
        if content is None:
            raise RequestError(
                expected="an open DICOM or NIfTI file",
                got="The image on show has one window and one frame only",
                remedy="Open a DICOM or NIfTI file first",
            )
        return self._show(visit, _read(content, window=window, frame=frame, axis=axis, volume=volume), content)

    def _show(self, name: str, opened: OpenedImage, content: bytes | None) -> OpenedImage:
        visit = self._visit(name)
        with self._guard:
            visit.ticket.set()  # an answer about another picture is of no use any more
            if visit.opened is not None:
                self.regions.close(visit.opened.board)
            opened = opened._replace(board=self.regions.open(opened.image))
            visit.content, visit.opened = content, opened
        return opened

    def opened(self, visit: str) -> OpenedImage | None:
        """What the visit has on show."""
        return self._visit(visit).opened

    # ---- questions ---------------------------------------------------------------------------

    def cancel(self, visit: str) -> None:
        """Stop the visit's running or waiting question; the result on show stays."""
        record = self._visit(visit)
        record.ticket.set()
        if record.opened is not None:
            self.regions.stop(record.opened.board)

    def reserve(self, visit: str) -> None:
        """Announce a question: a cancel from now on stops it, even while it waits for its turn."""
        record = self._visit(visit)
        record.ticket.set()
        record.ticket = threading.Event()

    def ask(self, visit: str, question: str) -> Iterator[Step | Finished]:
        """Ask the question about the visit's image: steps while it runs, the finished inspection last.

        Closing the iterator stops the work.

        Raises:
            RequestError: no image, no question, or an unusable one.
            ModelError: the model could not be loaded, or cannot do this.
            Cancelled: :meth:`cancel` was called.
        """
        record = self._visit(visit)
        ticket, opened = record.ticket, record.opened
        if opened is None:
            raise RequestError(
                expected="an image to ask about",
                got="No image is open",
                remedy="Choose an example or open a file of your own",
            )
        if not question.strip():
            raise RequestError(
                expected="a question about the image",
                got="The question is empty",
                remedy="Write a question or choose a suggestion",
            )
        reports: queue.SimpleQueue[Step | Inspection | BaseException] = queue.SimpleQueue()

        def work() -> None:
            try:
                reports.put(
                    self._inspect(opened.image, question.strip(), ticket, lambda *step: reports.put(Step(*step)))
                )
            except BaseException as error:  # handed on to the iterator, which raises it in the visitor's request
                reports.put(error)

        threading.Thread(target=work, name="inspection", daemon=True).start()
        try:
            while isinstance(report := reports.get(), Step):
                yield report
        except GeneratorExit:
            ticket.set()
            raise
        if isinstance(report, BaseException):
            raise report
        model = self.slot.wait(0)
        sinks = tuple(int(patch) for patch in np.flatnonzero(find_sinks(report.views[0].maps)))
        name = secrets.token_urlsafe(18)
        with self._guard:
            if ticket.is_set() or self._visits.get(visit) is not record:
                raise Cancelled
            self._results.pop(record.result or "", None)
            record.result = name
            self._results[name] = report
            self.regions.attach(opened.board, report)
        yield Finished(name, report, sinks, frozenset(model.tokenizer.all_special_tokens), self.slot.demo)

    def _inspect(
        self, image: MedicalImage, question: str, ticket: threading.Event, report: Callable[[str, float], None]
    ) -> Inspection:
        while self.slot.wait(0) is None:
            report("Loading the model", 0.0)
            if ticket.wait(0.25):
                raise Cancelled
        while not self.slot.in_use.acquire(timeout=0.25):
            report("Waiting for another visitor's question", 0.0)
            if ticket.is_set():
                raise Cancelled
        try:
            return self.slot.inspect(image, question, on_progress=report, should_stop=ticket.is_set)
        finally:
            self.slot.in_use.release()

    def head_map(self, result: str, layer: int, head: int) -> np.ndarray:
        """Attention of one head from every text token to every patch, float32 [text tokens, patches].

        Args:
            result: the name that :class:`Finished` gave.
            layer, head: the head, from 0.

        Raises:
            RequestError: the result was removed, or the model has no such head.
        """
        with self._guard:
            inspection = self._results.get(result)
        if inspection is None:
            raise RequestError(
                expected="a result that is still open",
                got="This result was removed from the server",
                remedy="Ask the question again",
            )
        maps = inspection.views[0].maps
        if not (
            isinstance(layer, int) and isinstance(head, int) and 0 <= layer < maps.layers and 0 <= head < maps.heads
        ):
            raise RequestError(
                expected=f"layers 0 to {maps.layers - 1} and heads 0 to {maps.heads - 1}",
                got=f"Layer {layer}, head {head} does not exist",
                remedy="Choose a head of this model",
            )
        return maps.weights[layer, head]

    # ---- targets -----------------------------------------------------------------------------

    def keep_target(self, board: str, keys: list[str]) -> tuple[KeptTarget, bytes]:
        """Keep regions of the image on show as the visit's target; see :meth:`app.regions.RegionDesk.keep`."""
        target, files = self.regions.keep(board, keys)
        with self._guard:
            for visit in self._visits.values():
                if visit.opened is not None and visit.opened.board == board:
                    visit.target = target
        return target, files

    def target(self, visit: str) -> KeptTarget | None:
        """The target that the visit kept last."""
        return self._visit(visit).target


def read_image(path: Path) -> MedicalImage:
    """An image file as it is shown first.

    Raises:
        ImageError: the file is not an image that can be shown.
    """
    return load_image(path)


def _has_choices(opened: OpenedImage) -> bool:
    return opened.choices.windowable or opened.image.frame_count > 1 or opened.choices.volumes > 1


def _read(content: bytes, **choice: Any) -> OpenedImage:
    # The readers need a path; the folder is readable by this user only and gone before the image is shown. The
    # file's own name, which may be a patient's, is not used.
    with tempfile.TemporaryDirectory(prefix="a3tune-") as folder:
        path = Path(folder) / "image"
        path.write_bytes(content)
        return OpenedImage(load_image(path, **choice), describe_image(path))
