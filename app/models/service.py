"""Choosing what is in memory: what is on offer, fetching it, and putting it in place of what is there now.

Nothing here knows of Gradio.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from a3tune.errors import RequestError
from app.access.deployment import LOCAL, Deployment
from app.engine import library
from app.engine.background import Task
from app.engine.model_slot import ModelChoice, ModelSlot, ModelStatus
from app.engine.region_slot import RegionSlot

if TYPE_CHECKING:
    from a3tune.catalogue import Entry, Kind, Machine

Stage = Literal["fetching", "loading"]

# Over how many seconds the speed of a download is taken.
_WINDOW = 20.0
# Over how many seconds changes are counted.
_RATE_SECONDS = 600.0
_LONGEST_NAME = 300
# What settings call what a run chooses by itself, and the data's own masks.
_OWN_PARTS = ("auto", "data")


class Work(Task[None]):
    """What is being fetched or loaded, or was last.

    Attributes:
        kind, source: what.
        stage: what is done with it; a download can be cancelled, loading cannot.
        loaded: whether it ended with the thing in memory.
    """

    def __init__(self, kind: Kind, source: str, work: Callable[[Work], None]) -> None:
        super().__init__(work)
        self.kind, self.source = kind, source
        self.stage: Stage = "fetching"
        self.loaded = False
        self._seen: deque[tuple[float, float]] = deque()

    def should_stop(self) -> bool:
        """Whether it has to stop."""
        return self.stage == "fetching" and super().should_stop()

    def progress(self, what: str, share: float) -> None:
        """Take note of progress.

        Raises:
            Cancelled: it is to end.
        """
        if what.partition(":")[0] != self.step.what.partition(":")[0]:
            self._seen.clear()
        super().progress(what, share)
        now = time.monotonic()
        self._seen.append((now, share))
        while now - self._seen[0][0] > _WINDOW:
            self._seen.popleft()

    @property
    def seconds_left(self) -> float | None:
        """How long a download will go on at the speed of the last seconds; None before that is known."""
        if self.stage != "fetching" or len(self._seen) < 2:
            return None
        (began, before), (now, share) = self._seen[0], self._seen[-1]
        return (1 - share) * (now - began) / (share - before) if share > before and now > began else None


class Catalogue(NamedTuple):
    """What the page shows.

    Attributes:
        machine: what this machine offers.
        entries: what can be chosen.
        model: where the model in memory stands.
        choice: what was chosen for it.
        in_memory: kind and source of what is in memory.
        work: what is being done, or was done last.
        answering: how many visitors' questions are being answered or wait for it.
        any_model: whether names of one's own are permitted.
    """

    machine: Machine
    entries: tuple[Entry, ...]
    model: ModelStatus
    choice: ModelChoice
    in_memory: set[tuple[Kind, str]]
    work: Work | None
    answering: int
    any_model: bool


class Offer(NamedTuple):
    """One thing that can be chosen, against what this machine offers.

    Attributes:
        machine: what this machine offers.
        entry: what can be chosen.
        current: whether it is what is in memory.
    """

    machine: Machine
    entry: Entry
    current: bool


class ModelService:
    """Fetches and loads, one thing at a time, for all visitors: the model and the parts are shared.

    Args:
        slot: the model.
        region_slot: the parts that find and rank regions.
        offered: what people may choose: keys, hub ids and folders of models, keys and places of parts; all that is
            known by name when None. What the application was started with is always among it.
        any_model: whether they may also name a folder or hub id of their own.
        on_loaded: called when another model is ready.
        deployment: how often what all share may be changed.
    """

    def __init__(
        self,
        slot: ModelSlot,
        region_slot: RegionSlot,
        *,
        offered: Sequence[str] | None = None,
        any_model: bool = False,
        on_loaded: Callable[[], None] = lambda: None,
        deployment: Deployment = LOCAL,
    ) -> None:
        self._slot, self._regions = slot, region_slot
        self._offered = None if offered is None else tuple(dict.fromkeys(offered))
        self._any_model = any_model
        self._on_loaded = on_loaded
        self._first = (slot.profile, *region_slot.names)
        self._deployment = deployment
        self._changes: deque[float] = deque()
        self._guard = threading.Lock()
        self._work: Work | None = None

    # ---- asking ------------------------------------------------------------------------------

    def show(self) -> Catalogue:
        """Everything that the page shows; waits for torch when that is still being loaded."""
        return Catalogue(
            library.machine(self._slot.device),
            self._entries(),
            self._slot.status,
            self._slot.choice,
            self._in_memory(),
            self._work,
            self._slot.generation.busy,
            self._any_model,
        )

    def describe(self, kind: Kind, name: str) -> Offer:
        """What a name of somebody's own stands for: where its files are, how large it is.

        Raises:
            RequestError: it is not permitted.
        """
        source = self._permitted(kind, name)
        found = library.entry(kind, source)
        return Offer(library.machine(self._slot.device), found, (kind, source) in self._in_memory())

    def _in_memory(self) -> set[tuple[Kind, str]]:
        """Kind and source of what answers, finds regions and ranks them now."""
        segmenter, scorer = self._regions.names
        loaded: set[tuple[Kind, str]] = {("segmenter", segmenter), ("scorer", scorer)}
        return loaded | {("model", self._slot.choice.source)} if self._slot.status.state == "ready" else loaded

    def _entries(self) -> tuple[Entry, ...]:
        """What is on offer, and what is in memory where that is something else."""
        found = list(library.entries(self._offered))
        known_parts: tuple[tuple[Kind, str], ...] = (
            *(("model", source) for source in (self._first[0], self._slot.profile)),
            *(("segmenter", source) for source in (self._first[1], self._regions.names[0])),
            *(("scorer", source) for source in (self._first[2], self._regions.names[1])),
        )
        for kind, source in known_parts:
            if not any(known.kind == kind and source in (known.key, known.source) for known in found):
                found.append(library.entry(kind, source))
        return tuple(found)

    # ---- doing -------------------------------------------------------------------------------

    def download(self, kind: Kind, name: str) -> Work:
        """Begin to fetch something; returns at once. What came before a cancel is kept for the next time.

        Raises:
            RequestError: it is not permitted, or something else is being fetched or loaded.
        """
        return self._begin(kind, name, None)

    def load(self, kind: Kind, name: str, precision: str = "auto", offload: bool = False) -> Work:
        """Begin to put something in place of what is in memory, fetching it first where needed; returns at once.

        What is in memory stays until the new one is known to be there, of the right kind and small enough, and until
        the questions that it was asked are answered; those that come meanwhile wait for the new one.

        Args:
            kind: "model", "segmenter" or "scorer".
            name: its key, or a source.
            precision, offload: of a model; see :class:`app.engine.model_slot.ModelChoice`.

        Raises:
            RequestError: it is not permitted, this machine does not do that precision, or something else is being
                fetched or loaded.
        """
        if kind == "model":
            library.check_precision(precision, offload, device=self._slot.device)
        return self._begin(kind, name, (precision, offload))

    def cancel(self) -> None:
        """Stop a download; what has come is kept. Loading goes on to its end."""
        work = self._work
        if work is not None:
            work.cancel.set()

    def _begin(self, kind: Kind, name: str, how: tuple[str, bool] | None) -> Work:
        source = self._permitted(kind, name)
        with self._guard:
            if self._work is not None and not self._work.over:
                raise RequestError(
                    expected="one thing at a time",
                    got=f"Something else is going on ({self._work.step.what or self._work.source})",
                    remedy="Wait until it has ended, or cancel it",
                )
            self._check_rate()
            self._work = work = Work(kind, source, lambda work: self._run(work, how))
        work.start()
        return work

    def _check_rate(self) -> None:
        """Raises:
        RequestError: what all share was changed often enough lately.
        """
        now = time.monotonic()
        while self._changes and now - self._changes[0] > _RATE_SECONDS:
            self._changes.popleft()
        count = len(self._changes)
        self._deployment.check("model_changes", count + 1, f"There were {count}", "Wait a few minutes")
        self._changes.append(now)

    def check_part(self, kind: Kind, name: str) -> None:
        """Check a name in the settings of a run against what may be loaded here.

        Raises:
            RequestError: it is not permitted.
        """
        if name not in _OWN_PARTS and name not in self._regions.names:
            self._permitted(kind, name)

    def check_hub(self, what: Literal["adapter", "data set"], name: str) -> None:
        """Check the hub id of an adapter or a data set: at home any, elsewhere what is offered.

        Raises:
            RequestError: it is not permitted.
        """
        if self._deployment.name == "local" or self._any_model or name in (self._offered or ()):
            return
        raise RequestError(
            expected=f"{'an' if what == 'adapter' else 'a'} {what} that is offered here",
            got=f"a hub id of your own, {name[:_LONGEST_NAME]!r}",
            remedy="Give it as a ZIP archive, or ask whoever runs this page to allow it (--models or --any-model)",
        )

    def _permitted(self, kind: Kind, name: str) -> str:
        if kind not in ("model", "segmenter", "scorer") or not isinstance(name, str) or len(name) > _LONGEST_NAME:
            raise RequestError(expected="a name from the list", got="something else", remedy="Choose one of the list")
        offered = [entry.key for entry in self._entries() if entry.kind == kind]
        return library.permitted(kind, name, any_model=self._any_model, offered=offered)

    def _run(self, work: Work, how: tuple[str, bool] | None) -> None:
        work.progress("looking for the files", 0.0)
        library.fetch(work.kind, work.source, work.progress)
        if how is None:
            return
        if work.kind == "model":
            self._slot.wait_over()
            library.check_choice(work.source, *how, device=self._slot.device, freed=self._slot.size)
        work.progress("loading", 0.0)
        work.stage = "loading"
        self._put_in_place(work, how)
        work.loaded = True

    def _put_in_place(self, work: Work, how: tuple[str, bool]) -> None:
        if work.kind == "model":
            self._slot.switch(ModelChoice(work.source, *how), work.progress)
            self._on_loaded()
            return
        segmenter, scorer = self._regions.names
        names = (work.source, scorer) if work.kind == "segmenter" else (segmenter, work.source)
        self._regions.switch(*names)
