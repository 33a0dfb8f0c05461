"""The time that one model, or one pair of region parts, is in memory."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from a3tune.errors import RequestError
from a3tune.progress import Progress, no_progress
from a3tune.wording import counted

# How often it is told what is waited for, in seconds.
_INTERVAL = 1.0


@dataclass(eq=False)
class ModelGeneration:
    """The time that one model, or one pair of region parts, is in memory.

    Attributes:
        what: what is in memory, in words.
        source: of a model "demo", a checkpoint folder or a hub id.
        number: counts them from the start.
        left: set when it has to go: whoever works with it ends and is told.
        successor: what comes after it, once it has to go.
        special_tokens: a model's own tokens, which are no words; known once it is loaded.
        folders: the folders of a model's adapters that do not come with the demo, by name.
        busy: how many visitors' questions it has to answer right now.
        closed: whether it takes no more of them, since another one is to take its place.
    """

    what: str
    source: str = ""
    number: int = 0
    left: threading.Event = field(default_factory=threading.Event)
    successor: str = ""
    special_tokens: frozenset[str] = frozenset()
    folders: Mapping[str, Path] = field(default_factory=dict)
    busy: int = 0
    closed: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def answering(self) -> Iterator[bool]:
        """Counts as a question that it has to answer for the length of a ``with`` block, where it still takes any;
        gives whether it does."""
        with self.changed:
            taken = not self.closed
            self.busy += taken
        try:
            yield taken
        finally:
            with self.changed:
                self.busy -= taken
                self.changed.notify_all()

    def close(self, on_progress: Progress = no_progress) -> None:
        """Take no more questions, and wait until those that it has are answered."""
        with self.changed:
            self.closed = True
            while not self.changed.wait_for(lambda: self.busy == 0, _INTERVAL):
                on_progress(f"waiting for {counted(self.busy, 'answer')} that are being written", 0.0)

    def fault(self) -> RequestError | None:
        """What whoever works with it is told once it has to go; None before."""
        if not self.left.is_set():
            return None
        return RequestError(
            expected="the same to stay until the work is done",
            got=f"{self.what} was replaced by {self.successor} before this was finished",
            remedy="Ask again; what was finished before stays as it is",
        )

    def check(self) -> None:
        """Tell whoever works with what has to go.

        Raises:
            RequestError: it has to go.
        """
        fault = self.fault()
        if fault is not None:
            raise fault

    def end(self, successor: str) -> None:
        """It has to go."""
        self.successor = successor
        self.left.set()


def without_locals(error: BaseException) -> BaseException:
    """The error with its places but without what its frames hold: half a model would stay in memory with them."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    return error
