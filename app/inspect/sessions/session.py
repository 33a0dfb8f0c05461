"""What one visitor's page has open, and the question that it has asked."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from app.engine.background import INTERVAL
from app.engine.ids import RegionSessionId
from app.inspect.sessions.frame_prefetch import FramesAhead
from app.inspect.sessions.opened_image import OpenedImage
from app.inspect.sessions.regions import Target

if TYPE_CHECKING:
    from a3tune.prefixes.cache import PrefixCache


@dataclass(eq=False)
class Asked:
    """A question, until it has its answer.

    Attributes:
        question: the question.
        adapters: "base" and names of adapters.
        own: the visitor's own adapters, folders by name.
        by_visitor: whether the visitor asked it; an example's own comes with the example.
        state: "pressed" until its turn with the model comes, "waits" for an image that is on its way, "runs".
        after: how many images and views had been asked for before it.
    """

    question: str
    adapters: tuple[str, ...] = ()
    own: Mapping[str, Path] = field(default_factory=dict)
    by_visitor: bool = True
    state: Literal["pressed", "waits", "runs"] = "pressed"
    after: int = 0


@dataclass(eq=False)
class Session:
    """What one visitor has open.

    Attributes:
        opened: the image on show.
        target: the regions that the visitor kept last.
        pair: the adapters that the page compares, by name.
        cancel: set when the question that runs or waits is of no use any more.
        asked: that question.
        left: a question about what was on show before that got no answer, since another image or view came.
        requests: how many images or views were asked for: an older view that comes late is dropped.
        last_image: which of these requests was the last for an image.
        images, views: how many images, and how many views of the one on show, are on their way.
        sent, arrived: the number of the files that the page began to send last, and of those that came or failed last.
        given_up: of the last ones that something else was chosen after, before they came.
        gave_way: whether that is still to be told.
        touched: when the visitor asked for something last.
        prefixes: what the model has read of the session's images, so that the next question need not read it again.
        ahead: frames near the one on show.
        earlier: what named the regions of the last images on show, the latest last.
    """

    opened: OpenedImage | None = None
    target: Target | None = None
    pair: tuple[str, ...] = ()
    cancel: threading.Event = field(default_factory=threading.Event)
    asked: Asked | None = None
    left: str = ""
    requests: int = 0
    last_image: int = 0
    images: int = 0
    views: int = 0
    sent: int = 0
    arrived: int = 0
    given_up: int = 0
    gave_way: bool = False
    touched: float = field(default_factory=time.monotonic)
    prefixes: PrefixCache | None = None
    ahead: FramesAhead = field(default_factory=FramesAhead)
    earlier: deque[RegionSessionId] = field(default_factory=lambda: deque(maxlen=64))
    _changed: threading.Condition = field(default_factory=threading.Condition, repr=False)

    @contextmanager
    def coming(self, what: Literal["images", "views"]) -> Iterator[int]:
        """While an image, or a view of the one on show, is on its way; gives the number of the request."""
        with self._changed:
            self.requests += 1
            request = self.requests
            if what == "images":
                self.last_image = request
            self._count(what, 1)
        try:
            yield request
        finally:
            with self._changed:
                self._count(what, -1)
                self._changed.notify_all()

    def send(self, number: int) -> None:
        """The page sends files: an image is on its way. It counts them from 1."""
        with self._changed:
            self.sent = max(self.sent, number)

    def arrive(self, number: int) -> None:
        """The files of this number are there, or will not come."""
        with self._changed:
            self.arrived = max(self.arrived, number)

    def give_up_files(self, number: int) -> None:
        """Something else was chosen after the files of this number: those of them that are not there yet are not
        wanted any more."""
        with self._changed:
            self.gave_way = self.gave_way or self.arrived < min(number, self.sent)
            self.arrived = max(self.arrived, number)
            self.given_up = max(self.given_up, number)

    def gave_up(self, number: int) -> bool:
        """Whether the files of this number are not wanted any more; those that no page counts (0) always are."""
        return 0 < number <= self.given_up

    @property
    def image_comes(self) -> bool:
        """Whether an image is on its way: is being sent, or opened."""
        return bool(self.images) or self.arrived < self.sent

    def _count(self, what: Literal["images", "views"], by: int) -> None:
        if what == "images":
            self.images += by
        else:
            self.views += by

    def reserve(self, asked: Asked) -> bool:
        """Announce a question, in place of the one before; gives whether it waits for an image that is on its way."""
        with self._changed:
            self.cancel.set()
            self.cancel, self.asked, self.left = threading.Event(), asked, ""
            asked.after = self.requests
            if asked.state == "pressed" and self.image_comes:
                asked.state = "waits"
            return asked.state == "waits"

    def begin(self) -> Asked | None:
        """The question that was pressed, for whoever asks it now, once the view that was chosen before is on show; None
        where it waits for an image, or is of no use any more."""
        with self._changed:
            while self.views and not self.cancel.is_set():
                self._changed.wait(INTERVAL)
            return self._run("pressed")

    def take(self) -> Asked | None:
        """The question that waited for the image that has come on show, for whoever opened that to ask it; None where
        there is none, or another image is on its way."""
        with self._changed:
            return None if self.image_comes else self._run("waits")

    def _run(self, state: str) -> Asked | None:
        asked = self.asked
        if asked is None or asked.state != state:
            return None
        asked.state = "runs"
        return asked

    @property
    def waits(self) -> bool:
        """Whether a question waits for an image that is on its way, or that has just come."""
        return self.asked is not None and self.asked.state == "waits"

    def drop(self) -> bool:
        """Give up the question that waits for an image, unless another one is on its way; gives whether there was."""
        with self._changed:
            dropped = self.waits and not self.image_comes
            if dropped:
                self.cancel.set()
                self.asked = None
            return dropped

    def leave_question(self, request: int) -> None:
        """An image or view comes on show: the answer to a question that was asked before that was wanted is of no use
        any more."""
        with self._changed:
            asked = self.asked
            if asked is not None and (self.waits or asked.after >= request):
                return
            if asked is not None and asked.by_visitor and not self.cancel.is_set():
                self.left = asked.question
            self.cancel.set()
            self.asked = None
