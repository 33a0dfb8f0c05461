"""The sessions: what each visitor's page has open, in memory only.

It knows nothing of Gradio.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from a3tune.errors import Cancelled, RequestError
from a3tune.images.values import PixelValues
from a3tune.types import Window
from app.engine.ids import RegionSessionId, SessionId
from app.inspect.sessions.frame_prefetch import MOST_AT_ONCE
from app.inspect.sessions.opened_image import (
    OpenedImage,
    Reference,
    open_content,
    open_example,
    read_again,
    read_frames,
    read_pixel_values,
)
from app.inspect.sessions.regions import RegionService
from app.inspect.sessions.session import Session


class Sessions:
    """All sessions and the images they have open.

    A session is named by its page and begins with the first request; nothing of one session can be reached
    from another.

    Args:
        regions: where each image gets its region session.
        on_end: called with the name of a session that ends, so that others can forget it too.
        convention: how the model in memory was trained to see computed tomography.
        keeps_source: see :func:`app.inspect.sessions.opened_image.open_content`.

    Attributes:
        ended: set when a session that had an image open ends.
    """

    def __init__(
        self,
        regions: RegionService,
        on_end: Callable[[SessionId], None] | None = None,
        convention: Callable[[], str | None] = lambda: None,
        keeps_source: bool = True,
    ) -> None:
        self._keeps_source = keeps_source
        self._regions = regions
        self._convention = convention
        self._on_end = on_end or (lambda name: None)
        self._sessions: dict[SessionId, Session] = {}
        self._guard = threading.RLock()
        self.ended = threading.Event()

    def get(self, name: SessionId) -> Session:
        """The session of this name, begun now where there is none."""
        with self._guard:
            session = self._sessions.setdefault(name, Session())
            session.touched = time.monotonic()
            return session

    def holds(self, name: SessionId, session: Session) -> bool:
        """Whether the session still goes on."""
        with self._guard:
            return self._sessions.get(name) is session

    def name_of(self, regions: RegionSessionId) -> SessionId | None:
        """The name of the session that has the image of these regions on show."""
        with self._guard:
            for name, session in self._sessions.items():
                if session.opened is not None and session.opened.regions == regions:
                    return name
            return None

    def showing(self, regions: RegionSessionId) -> Session | None:
        """The session that has the image of these regions on show."""
        with self._guard:
            name = self.name_of(regions)
            return None if name is None else self._sessions[name]

    def walking(self, regions: RegionSessionId) -> Session | None:
        """The session that has the image of these regions on show, or had it a moment ago: a page that walks through
        slices asks while the next one is on its way."""
        with self._guard:
            return next((session for session in self._sessions.values() if regions in session.earlier), None)

    def end(self, name: SessionId) -> None:
        """Forget a session: its file, image and results; a running question is stopped. Unknown names do nothing."""
        with self._guard:
            gone = self._sessions.pop(name, None)
        if gone is not None:
            gone.cancel.set()
            if gone.prefixes is not None:
                gone.prefixes.close()
            if gone.opened is not None:
                self._regions.close(gone.opened.regions)
                self.ended.set()
            self._on_end(name)

    def untouched_since(self, moment: float) -> list[SessionId]:
        """The sessions that nobody touched since a reading of :func:`time.monotonic`."""
        with self._guard:
            return [name for name, session in self._sessions.items() if session.touched < moment]

    def touch(self, name: SessionId) -> None:
        """The session is not idle: something that its page began goes on."""
        with self._guard:
            if name in self._sessions:
                self._sessions[name].touched = time.monotonic()

    # ---- images ------------------------------------------------------------------------------

    def open_file(
        self,
        name: SessionId,
        path: Path,
        *,
        remove: bool,
        key: str = "",
        reference: Reference | None = None,
        sent: int = 0,
    ) -> OpenedImage:
        """Open a file as the session's image.

        Args:
            name: the session's name.
            path: the file.
            remove: delete the file once it is in memory (uploads: nothing of them stays on the disk).
            key: the name of the example that it is.
            reference: of the picture that is shown first.
            sent: the number of the files that the page sent.

        Raises:
            ImageError: the file is not an image that can be shown.
            Cancelled: another image or view was asked for meanwhile.
        """
        with self.get(name).coming("images") as request:
            if key:
                return self._show(name, request, open_example(path, key, self._convention()))
            try:
                content = path.read_bytes()
            finally:
                if remove:
                    remove_upload(path)
            opened = self.read(content)
            if reference is not None:
                opened = opened._replace(reference=reference._replace(frame=opened.image.frame))
            return self._show(name, request, opened._replace(sent=sent))

    def read(self, content: bytes) -> OpenedImage:
        """A file as the model in memory is given it and as it is shown first; no session has it open yet.

        Raises:
            ImageError: the file is not an image that can be shown.
        """
        return open_content(content, self._convention(), keeps_source=self._keeps_source)

    def open_files(self, name: SessionId, paths: Sequence[Path], *, remove: bool, sent: int = 0) -> OpenedImage:
        """Open a file, or several, the slices of a DICOM series, as the session's image; these are kept as one archive.

        Args, Raises: as ``open_file``.
        """
        if len(paths) == 1:
            return self.open_file(name, paths[0], remove=remove, sent=sent)
        with tempfile.TemporaryDirectory(prefix="a3tune-") as folder:
            archive = Path(folder) / "series"
            with zipfile.ZipFile(archive, "w") as packed:
                for number, path in enumerate(paths):
                    # A file's own name may be a patient's.
                    packed.write(path, str(number))
                    if remove:
                        remove_upload(path)
            return self.open_file(name, archive, remove=False, sent=sent)

    def change_view(
        self,
        name: SessionId,
        *,
        window: str | Window | None = None,
        frame: int | None = None,
        axis: int = 2,
        volume: int = 0,
    ) -> OpenedImage:
        """Show the session's file with another window, frame or slice.

        Args:
            name: the session's name.
            window: None for the file's own, a preset's name, or centre and width in the file's units.
            frame: index of the frame or slice, from 0; None for the file's default.
            axis: the axis that slices are taken along, 0 to 2; volumes only.
            volume: which volume of a file that holds several, from 0.

        Raises:
            ImageError, RequestError: the choice does not fit the file, or no such file is open.
            Cancelled: another image or view was asked for meanwhile.
        """
        with self.get(name).coming("views") as request:
            before = self.opened(name)
            if before is None or before.content is None:
                raise RequestError(
                    expected="an open DICOM or NIfTI file",
                    got="The image on show has one window and one frame only",
                    remedy="Open a DICOM or NIfTI file first",
                )
            choice = {"window": window, "frame": frame, "axis": axis, "volume": volume}
            wanted = before._replace(window=window, axis=axis, volume=volume, convention=self._convention())
            image = self.get(name).ahead.get(wanted.stack, frame)
            if image is None:
                unpacked = before._replace(content=self.get(name).ahead.source(before))
                image = read_again(unpacked, wanted.convention, **choice)
            return self._show(name, request, wanted._replace(image=image), view_of=before)

    def frames_ahead(self, session: Session, frames: Sequence[int]) -> list[OpenedImage]:
        """Other frames of what the session has on show, as it is shown; they are kept for `change_view`.

        Args:
            session: the session.
            frames: their numbers from 0, at most ``MOST_AT_ONCE``, first the one that is nearest to where the page is.

        Raises:
            ImageError, RequestError: there are no such frames, or the file cannot be read.
        """
        opened = session.opened
        if opened is None or opened.content is None or not 0 < len(frames) <= MOST_AT_ONCE:
            raise RequestError(
                expected=f"1 to {MOST_AT_ONCE} frames of an open file",
                got="These cannot be asked for",
                remedy="Open a file with several frames",
            )
        found = {frame: session.ahead.get(opened.stack, frame) for frame in frames}
        missing = [frame for frame, image in found.items() if image is None]
        if missing:
            images = read_frames(opened, session.ahead.source(opened), missing)
            found |= {image.frame: image for image in images}
            with self._guard:
                if session.opened is not None and session.opened.stack == opened.stack:
                    session.ahead.put(opened.stack, images, frames[0])
        return [opened._replace(image=image) for image in found.values() if image is not None]

    def values(self, session: Session) -> tuple[OpenedImage, PixelValues]:
        """What the session has on show, with its values in the file's units.

        Raises:
            ImageError, RequestError: nothing is open, or the file cannot be read.
        """
        opened = session.opened
        if opened is None:
            raise RequestError(expected="an open image", got="No image is open", remedy="Open one")
        return opened, read_pixel_values(opened, session.ahead.source(opened))

    def change_series(self, name: SessionId, number: int) -> OpenedImage:
        """Show another series of the session's archive, as it is shown first.

        Args:
            name: the session's name.
            number: which of those in ``OpenedImage.series``, from 1.

        Raises:
            ImageError, RequestError: the series cannot be shown, or there is none of that number.
            Cancelled: another image or view was asked for meanwhile.
        """
        with self.get(name).coming("images") as request:
            before = self.opened(name)
            if before is None or before.content is None or not 1 <= number <= len(before.series):
                raise RequestError(
                    expected="one of the series of the archive on show",
                    got=f"There is no series {number}",
                    remedy="Choose one that is listed",
                )
            opened = open_content(before.content, self._convention(), before.series, number)
            return self._show(name, request, opened._replace(sent=before.sent))

    def read_for_model(self, name: SessionId, opened: OpenedImage, convention: str | None) -> OpenedImage:
        """An image as a model with this convention is given it; where the session has it on show, that stands there.

        An image that was opened for another model is read once more: what is shown of it stays as it is.
        """
        if opened.convention == convention or opened.content is None:
            return opened
        choice = {key: getattr(opened, key) for key in ("window", "axis", "volume")}
        read = read_again(opened, convention, frame=opened.image.frame, **choice)
        fitting = opened._replace(image=read, convention=convention)
        session = self.get(name)
        with self._guard:
            if session.opened is opened:
                session.opened = fitting
        return fitting

    def show_again(self, name: SessionId, opened: OpenedImage) -> OpenedImage:
        """Put an image that the session had open before back on show, with a region session of its own."""
        with self.get(name).coming("images") as request:
            return self._show(name, request, opened)

    def opened(self, name: SessionId) -> OpenedImage | None:
        """What the session has on show."""
        return self.get(name).opened

    def _show(
        self, name: SessionId, request: int, opened: OpenedImage, view_of: OpenedImage | None = None
    ) -> OpenedImage:
        session = self.get(name)
        with self._guard:
            # Images and views are read side by side: one that was asked for earlier may come later. A view of what is
            # on show does not take an image's place.
            late = not session.last_image <= request <= session.requests  # fewer of a session that was forgotten
            if view_of is not None:
                there = session.opened
                late = late or request != session.requests or there is None or there.file != view_of.file
            if late:
                raise Cancelled
            session.leave_question(request)
            if session.opened is not None:
                self._regions.close(session.opened.regions)
            session.opened = opened._replace(regions=self._regions.open(opened.image))
            session.earlier.append(session.opened.regions)
            session.ahead.put(opened.stack, [opened.image], opened.image.frame)
            return session.opened


def remove_upload(path: Path) -> None:
    """Delete an upload, and the folder that it has to itself."""
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty: something else lies there
        path.parent.rmdir()
