"""The visits: which pages belong to which browser, what it uploaded, and when all of that ends.

A visit is named by a secret that its browser keeps as a cookie, which no script can read. A page's name is drawn by the
page and stands in addresses: it belongs to the browser that used it first, and is of no use to any other.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from a3tune.errors import RequestError
from app.access.deployment import Deployment
from app.access.uploads import UploadFolder
from app.engine.ids import OwnerId, SessionId

PAGE_NAME = re.compile(r"[\w-]{4,64}")
"""The form of the name that a page draws for itself."""
_SECRET = re.compile(r"[\w-]{43}", re.ASCII)

# A page that was closed may come back after a broken connection; one that never said that it is open may be a program.
_CLOSED_SECONDS, _SILENT_SECONDS = 60.0, 600.0
# How often it is seen what has ended, in seconds.
_INTERVAL = 5.0


class Denied(RequestError):
    """A request for what belongs to another visit."""


def new_secret() -> str:
    """A secret for a browser to keep."""
    return secrets.token_urlsafe(32)


def is_secret(value: object) -> bool:
    """Whether a value has the form of what `new_secret` makes."""
    return isinstance(value, str) and _SECRET.fullmatch(value) is not None


def visit_name(secret: str) -> str:
    """The name of the visit of a browser with this secret, which cannot be told from it; "" for a program on this
    machine that keeps none."""
    return hashlib.sha256(f"visit {secret}".encode()).hexdigest()[:40] if secret else ""


def login_visit(session: str) -> str:
    """The name of the visit of a login, which all pages that are opened with it belong to."""
    return visit_name(f"login {session}")


@dataclass(eq=False)
class _Page:
    open: int = 0
    ever_open: bool = False
    touched: float = field(default_factory=time.monotonic)


@dataclass(eq=False)
class Visit:
    """What one browser has here.

    Attributes:
        name: see :func:`visit_name`.
        pages: its pages by their names.
        uploads: the folders of what was uploaded and not taken in yet, with their bytes.
        owners: under which names its data sets, runs and adapters are kept.
        touched: when it was last asked for something, or its last page closed.
    """

    name: str
    pages: dict[SessionId, _Page] = field(default_factory=dict)
    uploads: dict[Path, int] = field(default_factory=dict)
    owners: set[OwnerId] = field(default_factory=set)
    touched: float = field(default_factory=time.monotonic)


class Visits:
    """All visits.

    Args:
        deployment: how many there may be, and when they end.
        uploads: where uploads lie.
        page_ended: told of each page that is over.
        visit_ended: told under which names a visit kept things that have to go with it.
        forgotten: told before under which of them all has to go for good.
        comes: told under which name a visit keeps things, each time before these are asked for.
        at_work: whether something is being done under a name, so that its visit is not idle.
    """

    def __init__(
        self,
        deployment: Deployment,
        uploads: UploadFolder,
        page_ended: Callable[[SessionId], None] = lambda page: None,
        visit_ended: Callable[[OwnerId], None] = lambda owner: None,
        at_work: Callable[[OwnerId], bool] = lambda owner: False,
        forgotten: Callable[[OwnerId], None] = lambda owner: None,
        comes: Callable[[OwnerId], None] = lambda owner: None,
    ) -> None:
        self.deployment, self.uploads = deployment, uploads
        self._page_ended, self._visit_ended, self._at_work = page_ended, visit_ended, at_work
        self._forgotten, self._comes = forgotten, comes
        self._visits: dict[str, Visit] = {}
        self._of_page: dict[SessionId, Visit] = {}
        self._guard = threading.RLock()

    # ---- requests ----------------------------------------------------------------------------

    def enter(self, name: str, page: SessionId) -> Visit:
        """The visit that a page belongs to; a page that is not known becomes part of this one.

        Raises:
            Denied: it belongs to another visit.
            RequestError: the page's name is none, or there are too many pages.
        """
        if not PAGE_NAME.fullmatch(page):
            raise RequestError(expected="a page's name", got="something else", remedy="Reload the page")
        with self._guard:
            owner = self._of_page.get(page)
            if owner is None:
                self._check_room(name)
                owner = self._visits.setdefault(name, Visit(name))
                owner.pages[page] = _Page()
                self._of_page[page] = owner
            if owner.name != name:
                raise Denied(
                    expected="a page of this browser's",
                    got="This one belongs to another visit",
                    remedy="Reload the page",
                )
            owner.touched = owner.pages[page].touched = time.monotonic()
            return owner

    def _check_room(self, name: str) -> None:
        known = self._visits.get(name)
        remedy = "Close a page of yours that you no longer need"
        # Programs on this machine that keep no cookie are one visit together.
        if known is not None and name:
            mine = len(known.pages) + 1
            self.deployment.check("pages_each", mine, f"You have {mine - 1} open", remedy)
        if self.deployment.pages is not None and len(self._of_page) >= self.deployment.pages:
            self._end_pages(closed=0.0)
        self.deployment.check("pages", len(self._of_page) + 1, f"{len(self._of_page)} are open", "Come back later")

    def opened(self, page: SessionId) -> None:
        """A page says that it is open, until :meth:`closed`."""
        with self._guard:
            if page in self._of_page:
                known = self._of_page[page].pages[page]
                known.open += 1
                known.ever_open = True

    def closed(self, page: SessionId) -> None:
        """A connection by which a page said that it is open has ended."""
        with self._guard:
            if page in self._of_page:
                visit = self._of_page[page]
                visit.pages[page].open -= 1
                visit.touched = visit.pages[page].touched = time.monotonic()

    def keeps_under(self, name: str, owner: OwnerId) -> None:
        """Take note under which name a visit keeps its data sets, runs and adapters."""
        with self._guard:
            known = name in self._visits
            if known:
                self._visits[name].owners.add(owner)
        if known:
            self._comes(owner)

    def is_here(self, owner: OwnerId) -> bool:
        """Whether a visit keeps things under a name."""
        with self._guard:
            return any(owner in visit.owners for visit in self._visits.values())

    # ---- uploads -----------------------------------------------------------------------------

    def begin_upload(self, name: str) -> Path:
        """A folder with an unguessable name for what a visit uploads in one request."""
        with self._guard:
            visit = self._visits.setdefault(name, Visit(name))
            visit.touched = time.monotonic()
            folder = self.uploads.new()
            visit.uploads[folder] = 0
            return folder

    def grow_upload(self, name: str, folder: Path, size: int) -> None:
        """Take note how many bytes of an upload have come.

        Raises:
            RequestError: they are too many.
        """
        with self._guard:
            visit = self._visits.get(name)
            if visit is None or folder not in visit.uploads:
                raise Denied(expected="an open page", got="It was closed", remedy="Reload the page")
            visit.uploads[folder], visit.touched = size, time.monotonic()
            mine = sum(visit.uploads.values()) / 1e6
            every = sum(sum(known.uploads.values()) for known in self._visits.values()) / 1e6
        remedy = "Wait until what you uploaded before was opened"
        self.deployment.check("upload_each_mb", mine, f"{mine:,.0f} MB of yours wait", remedy)
        self.deployment.check("upload_all_mb", every, f"{every:,.0f} MB wait", "Try again in a minute")

    def end_upload(self, name: str, folder: Path, files: Iterable[tuple[Path, str]] = ()) -> list[Path]:
        """What came lies in a folder of its own for each file from now on; what is not named is removed.

        Args:
            files: where each file lies in the upload's folder, and its name.
        """
        placed = []
        with self._guard:
            visit = self._visits.get(name)
            for path, file_name in files:
                if visit is None or folder not in visit.uploads:
                    break
                place = self.uploads.new()
                path.rename(place / file_name)
                visit.uploads[place] = (place / file_name).stat().st_size
                placed.append(place / file_name)
            if visit is not None:
                visit.uploads.pop(folder, None)
        self.uploads.remove(folder)
        return placed

    def check_files(self, visit: Visit, paths: Iterable[str]) -> None:
        """Raises:
        Denied: a path is no upload of this visit's.
        """
        with self._guard:
            for path in paths:
                if self.uploads.folder_of(path) not in visit.uploads:
                    raise Denied(
                        expected="a file that you uploaded", got="This is none of yours", remedy="Upload the file again"
                    )

    def _forget_taken(self) -> None:
        """Whatever was opened is gone from the disk, and counts no more."""
        for visit in self._visits.values():
            for folder in [folder for folder in visit.uploads if not folder.exists()]:
                del visit.uploads[folder]

    # ---- the end -----------------------------------------------------------------------------

    def forget(self, name: str) -> None:
        """End a visit with all that it brought."""
        with self._guard:
            visit = self._visits.get(name)
        if visit is not None:
            self._end(visit, everything=True, on_request=True)

    def leave(self, name: str) -> None:
        """Close a visit's pages at once, with their images and answers, since somebody signed out; what it keeps on the
        disk ends as that of any visit whose pages are closed."""
        with self._guard:
            visit = self._visits.get(name)
            if visit is None:
                return
            pages, uploads = list(visit.pages), list(visit.uploads)
            for page in pages:
                self._of_page.pop(page, None)
            visit.pages.clear()
            visit.uploads.clear()
            visit.touched = time.monotonic()
        for page in pages:
            self._page_ended(page)
        for folder in uploads:
            self.uploads.remove(folder)

    def sweep(self) -> None:
        """End what is over: pages that were closed, and visits whose last page was closed long enough ago."""
        self._end_pages(_CLOSED_SECONDS)
        idle = self.deployment.idle_minutes
        now = time.monotonic()
        with self._guard:
            closed = [visit for visit in self._visits.values() if not any(page.open for page in visit.pages.values())]
            # Where nothing ends by itself there is still nothing to be known of a browser that has nothing here.
            over = [
                visit for visit in closed if idle is None and not visit.pages and now - visit.touched > _SILENT_SECONDS
            ]
            if idle is not None:
                over = [visit for visit in closed if now - visit.touched > 60 * idle]
        for visit in over:
            if not any(self._at_work(owner) for owner in visit.owners):
                self._end(visit, everything=idle is not None)
        self._forget_taken()
        self.uploads.sweep()

    def keep_tidy(self) -> None:
        """`sweep` every few seconds, in a thread of its own, as long as the process lives."""

        def tidy() -> None:
            while not never.wait(_INTERVAL):
                self.sweep()

        never = threading.Event()
        threading.Thread(target=tidy, name="visits", daemon=True).start()

    def _end_pages(self, closed: float) -> None:
        """End the pages that were closed so many seconds ago, and those that never said that they are open."""
        now = time.monotonic()
        with self._guard:
            over = [
                name
                for name, visit in self._of_page.items()
                for page in (visit.pages[name],)
                if not page.open and now - page.touched >= (closed if page.ever_open else _SILENT_SECONDS)
            ]
            for name in over:
                del self._of_page.pop(name).pages[name]
        for name in over:
            self._page_ended(name)

    def _end(self, visit: Visit, *, everything: bool, on_request: bool = False) -> None:
        with self._guard:
            self._visits.pop(visit.name, None)
            pages, uploads = list(visit.pages), list(visit.uploads)
            for page in pages:
                self._of_page.pop(page, None)
            # What another browser of the same person's has open stays.
            others = set().union(*(known.owners for known in self._visits.values()))
            owners = [owner for owner in visit.owners if everything and (on_request or owner not in others)]
            visit.pages.clear()
            visit.uploads.clear()
        for page in pages:
            self._page_ended(page)
        for folder in uploads:
            self.uploads.remove(folder)
        for owner in owners:
            if on_request:
                self._forgotten(owner)
            self._visit_ended(owner)
