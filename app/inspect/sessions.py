"""The visits: what each visitor has open, in memory only.

It knows nothing of Gradio.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from a3tune.bundle import ASSETS, EXAMPLES
from a3tune.errors import Cancelled, RequestError
from a3tune.images import ImageDescription, describe_image, load_image
from a3tune.types import MedicalImage, Window
from app.inspect.regions import KeptTarget, RegionService

# A visit that nobody touches for this long is forgotten with all its data, in seconds.
VISIT_LIFETIME = 3600.0


class OpenedImage(NamedTuple):
    """An image on show, what can be chosen about it, and the name of its board at the region desk; for an example its
    key and its file; of a volume the axis and the number that were chosen (see :func:`a3tune.images.load_image`)."""

    image: MedicalImage
    choices: ImageDescription
    board: str = ""
    key: str = ""
    source: str = ""
    axis: int = 2
    volume: int = 0


@dataclass(eq=False)
class Session:
    """What one visitor has open.

    Attributes:
        content: the open file's bytes, when another window or slice can be read from it.
        opened: the image on show.
        target: the regions that the visitor kept last.
        ticket: set when the question that runs or waits is of no use any more.
        looks: how many images or views were asked for: an older view that comes late is dropped.
        touched: when the visitor asked for something last.
    """

    content: bytes | None = None
    opened: OpenedImage | None = None
    target: KeptTarget | None = None
    ticket: threading.Event = field(default_factory=threading.Event)
    looks: int = 0
    touched: float = field(default_factory=time.monotonic)


class Sessions:
    """All visits and the images they have open.

    A visit is named by its page's session and begins with the first request; nothing of one visit can be reached
    from another.

    Args:
        regions: where each image gets its board.
        on_end: called with the name of a visit that ends, so that others can forget it too.
    """

    def __init__(self, regions: RegionService, on_end: Callable[[str], None] | None = None) -> None:
        self._regions = regions
        self._on_end = on_end or (lambda name: None)
        self._visits: dict[str, Session] = {}
        self._guard = threading.RLock()

    def get(self, name: str) -> Session:
        """The visit of this name, begun now where there is none."""
        with self._guard:
            visit = self._visits.setdefault(name, Session())
            visit.touched = time.monotonic()
            return visit

    def holds(self, name: str, visit: Session) -> bool:
        """Whether the visit still goes on."""
        with self._guard:
            return self._visits.get(name) is visit

    def with_board(self, board: str) -> Session | None:
        """The visit that has the image of this board on show."""
        with self._guard:
            shown = (visit for visit in self._visits.values() if visit.opened is not None)
            return next((visit for visit in shown if visit.opened.board == board), None)

    def end(self, name: str) -> None:
        """Forget a visit: its file, image and results; a running question is stopped. Unknown names do nothing."""
        with self._guard:
            gone = self._visits.pop(name, None)
        if gone is not None:
            gone.ticket.set()
            if gone.opened is not None:
                self._regions.close(gone.opened.board)
            self._on_end(name)

    def forget_idle(self) -> None:
        """End the visits that nobody touched for an hour."""
        oldest = time.monotonic() - VISIT_LIFETIME
        with self._guard:
            idle = [name for name, visit in self._visits.items() if visit.touched < oldest]
        for name in idle:
            self.end(name)

    def keep_tidy(self, interval: float = 300.0) -> None:
        """Look for idle visits every ``interval`` seconds, in a thread of its own, as long as the process lives."""

        def tidy() -> None:
            while not never.wait(interval):
                self.forget_idle()

        never = threading.Event()
        threading.Thread(target=tidy, name="tidy", daemon=True).start()

    # ---- images ------------------------------------------------------------------------------

    def open_file(self, name: str, path: Path, *, remove: bool, key: str = "") -> OpenedImage:
        """Open a file as the visit's image.

        Args:
            name: the visit's name.
            path: the file.
            remove: delete the file once it is in memory (uploads: nothing of them stays on the disk).
            key: the name of the example that it is.

        Raises:
            ImageError: the file is not an image that can be shown.
            Cancelled: another image or view was asked for meanwhile.
        """
        look = self._begin_look(name)
        try:
            content = path.read_bytes()
        finally:
            if remove:
                _remove(path)
        opened = _read(content)._replace(key=key, source=_example_path(path) if key else "")
        return self._show(name, look, opened, content if _has_choices(opened) else None)

    def open_files(self, name: str, paths: Sequence[Path], *, remove: bool) -> OpenedImage:
        """Open several files, the slices of a DICOM series, as the visit's image; they are kept as one archive.

        Args, Raises: as ``open_file``.
        """
        with tempfile.TemporaryDirectory(prefix="a3tune-") as folder:
            archive = Path(folder) / "series"
            with zipfile.ZipFile(archive, "w") as packed:
                for number, path in enumerate(paths):
                    # A file's own name may be a patient's.
                    packed.write(path, str(number))
                    if remove:
                        _remove(path)
            return self.open_file(name, archive, remove=False)

    def change_view(
        self,
        name: str,
        *,
        window: str | Window | None = None,
        frame: int | None = None,
        axis: int = 2,
        volume: int = 0,
    ) -> OpenedImage:
        """Show the visit's file with another window, frame or slice.

        Args:
            name: the visit's name.
            window: None for the file's own, a preset's name, or centre and width in the file's units.
            frame: index of the frame or slice, from 0; None for the file's default.
            axis: the axis that slices are taken along, 0 to 2; volumes only.
            volume: which volume of a file that holds several, from 0.

        Raises:
            ImageError, RequestError: the choice does not fit the file, or no such file is open.
            Cancelled: another image or view was asked for meanwhile.
        """
        look = self._begin_look(name)
        content = self.get(name).content
        if content is None:
            raise RequestError(
                expected="an open DICOM or NIfTI file",
                got="The image on show has one window and one frame only",
                remedy="Open a DICOM or NIfTI file first",
            )
        before = self.opened(name)
        choices = None if before is None else before.choices
        opened = _read(content, choices, window=window, frame=frame, axis=axis, volume=volume)
        if before is not None:
            opened = opened._replace(key=before.key, source=before.source)
        return self._show(name, look, opened, content)

    def show_again(self, name: str, opened: OpenedImage, content: bytes | None) -> OpenedImage:
        """Put an image that the visit had open before back on show, with a new board."""
        return self._show(name, self._begin_look(name), opened, content)

    def opened(self, name: str) -> OpenedImage | None:
        """What the visit has on show."""
        return self.get(name).opened

    def _begin_look(self, name: str) -> int:
        visit = self.get(name)
        with self._guard:
            visit.looks += 1
            return visit.looks

    def _show(self, name: str, look: int, opened: OpenedImage, content: bytes | None) -> OpenedImage:
        visit = self.get(name)
        with self._guard:
            # Views are read side by side: one that was asked for earlier may come later.
            if visit.looks != look:
                raise Cancelled
            visit.ticket.set()  # an answer about another picture is of no use any more
            if visit.opened is not None:
                self._regions.close(visit.opened.board)
            opened = opened._replace(board=self._regions.open(opened.image))
            visit.content, visit.opened = content, opened
        return opened


def read_image(path: Path) -> MedicalImage:
    """An image file as it is shown first.

    Raises:
        ImageError: the file is not an image that can be shown.
    """
    return load_image(path)


def open_example(path: Path, key: str) -> OpenedImage:
    """An example as it is shown first; no visit has it open yet.

    Raises:
        ImageError: the file is not an image that can be shown.
    """
    return _read(path.read_bytes())._replace(key=key, source=_example_path(path))


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty: something else lies there
        path.parent.rmdir()


def _example_path(path: Path) -> str:
    return (EXAMPLES.relative_to(ASSETS.parent) / path.name).as_posix()


def _has_choices(opened: OpenedImage) -> bool:
    return opened.choices.windowable or opened.image.frame_count > 1 or opened.choices.volumes > 1


def _read(content: bytes, choices: ImageDescription | None = None, **choice: Any) -> OpenedImage:
    # The readers need a path; the folder is readable by this user only and gone before the image is shown. The
    # file's own name, which may be a patient's, is not used.
    with tempfile.TemporaryDirectory(prefix="a3tune-") as folder:
        path = Path(folder) / "image"
        path.write_bytes(content)
        picked = {name: choice[name] for name in ("axis", "volume") if name in choice}
        choices = choices or describe_image(path)
        return OpenedImage(load_image(path, series=choices.series, **choice), choices, **picked)
