"""Checks of a map that take a while: started, followed and stopped by visitors, one at a time on the shared model."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from a3tune.errors import Cancelled, RequestError
from a3tune.types import Head
from app.engine.model_slot import ModelGeneration, ModelSlot
from app.engine.private_adapters import PrivateAdapters
from app.inspect.results import ResultStore

if TYPE_CHECKING:
    from a3tune.inspection.faithfulness import FaithfulnessCurves, RandomisedWeights
    from a3tune.inspection.inspect import AdapterView

KINDS = ("curves", "control")
# A check that nobody follows for this long is stopped: its page was closed. In seconds.
_PATIENCE = 20.0


@dataclass(eq=False)
class _Job:
    what: str = "Waiting for the model"
    share: float = 0.0
    outcome: FaithfulnessCurves | RandomisedWeights | None = None
    error: BaseException | None = None
    followed: float = field(default_factory=time.monotonic)
    ticket: threading.Event = field(default_factory=threading.Event)
    generation: ModelGeneration = field(default_factory=lambda: ModelGeneration("The model"))

    def is_over(self) -> bool:
        return self.ticket.is_set() or self.generation.left.is_set() or time.monotonic() - self.followed > _PATIENCE


class FaithfulnessService:
    """Running checks by their unguessable names.

    Args:
        slot: the model.
        results: where the maps are.
        private_adapters: the adapters of single visitors.
    """

    def __init__(self, slot: ModelSlot, results: ResultStore, private_adapters: PrivateAdapters) -> None:
        self._slot = slot
        self._private_adapters = private_adapters
        self._results = results
        self._jobs: dict[str, _Job] = {}

    def start(self, result: str, adapter: str, kind: str, heads: Any, rows: Sequence[int]) -> str:
        """Begin a check of one map.

        Args:
            result, adapter: whose map.
            kind: "curves" (deletion and insertion) or "control" (randomised weights).
            heads: "critical", "mean" (all heads), or a layer and a head.
            rows: places of the words on the row axis.

        Returns:
            the name of the check.

        Raises:
            RequestError: there is no such result, adapter, kind or head.
        """
        view = self._results.view(result, adapter)
        kept = self._results.get(result)
        inspection = kept.finished.inspection
        if kind not in KINDS:
            raise RequestError(expected=f"one of {', '.join(KINDS)}", got=f"{kind!r}", remedy="Choose one of these")
        generation = self._slot.generation
        if self._results.get(result).finished.generation != generation.number:
            raise RequestError(
                expected=f"a result of the model in memory, {generation.what}",
                got=f"This one is of {inspection.model}, which was replaced since",
                remedy="Ask the question again, or choose that model on the Models page",
            )
        chosen = chosen_heads(view, heads)
        # Checks whose page was closed are nobody's any more.
        self._jobs = {known: job for known, job in self._jobs.items() if not job.is_over()}
        job = _Job(generation=generation)
        name = secrets.token_urlsafe(18)
        self._jobs[name] = job

        def work(measure: Callable[..., Any]) -> Any:
            return measure(
                self._slot.wait(0),
                inspection,
                adapter,
                chosen,
                list(rows),
                adapter_set=self._private_adapters.set_of(adapter, kept.own),
                on_progress=lambda what, share: self._report(job, what, share),
                should_stop=job.is_over,
            )

        threading.Thread(target=self._run, args=(job, kind, work), name="faithfulness", daemon=True).start()
        return name

    def follow(self, name: str) -> tuple[str, float, FaithfulnessCurves | RandomisedWeights | None]:
        """What is being done, the share done, and what came of it, once it is done; a finished check is then forgotten.

        Raises:
            Cancelled: the check was stopped.
            Exception: what ended the check.
        """
        job = self._jobs.get(name)
        if job is None:
            raise RequestError(
                expected="a check that is running", got="There is no such check", remedy="Start it again"
            )
        job.followed = time.monotonic()
        if job.error is not None or job.outcome is not None:
            del self._jobs[name]
        if job.error is not None:
            raise job.error
        return job.what, job.share, job.outcome

    def stop(self, name: str) -> None:
        """Stop a check and forget it; unknown names do nothing."""
        job = self._jobs.pop(name, None)
        if job is not None:
            job.ticket.set()

    def _run(self, job: _Job, kind: str, work: Callable[[Callable[..., Any]], Any]) -> None:
        # Imported here: it loads torch, which the result to be checked has loaded before.
        from a3tune.inspection.faithfulness import measure_curves, measure_randomised

        try:
            while not self._slot.in_use.acquire(timeout=0.25):
                if job.is_over():
                    raise Cancelled
            try:
                job.outcome = work(measure_curves if kind == "curves" else measure_randomised)
            finally:
                self._slot.in_use.release()
        except BaseException as error:  # handed on to whoever follows the check
            told = isinstance(error, Cancelled) and not job.ticket.is_set() and job.generation.fault()
            job.error = told or error

    @staticmethod
    def _report(job: _Job, what: str, share: float) -> None:
        job.what, job.share = what, share


def chosen_heads(view: AdapterView, heads: Any) -> tuple[Head, ...]:
    """The heads that a page's choice stands for: "critical", "mean" (all of them), or a layer and a head.

    Raises:
        RequestError: it is none of these.
    """
    if heads == "critical":
        return view.critical_heads
    if heads == "mean":
        return tuple(Head(layer, head) for layer in range(view.maps.layers) for head in range(view.maps.heads))
    if isinstance(heads, (list, tuple)) and len(heads) == 2 and all(isinstance(number, int) for number in heads):
        return (Head(*heads),)
    raise RequestError(
        expected='"critical", "mean", or a layer and a head', got=f"The heads are {heads!r}", remedy="Choose again"
    )
