"""Checks of a map that take a while: started, followed and stopped by visitors, one at a time on the shared model."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from a3tune.errors import RequestError
from a3tune.types import Head
from app.engine import library
from app.engine.background import Step, Task
from app.engine.ids import CheckId, ResultId
from app.engine.model_lock import turn
from app.engine.model_slot import ModelSlot
from app.engine.private_adapters import PrivateAdapters
from app.inspect.asking import zero_gpu
from app.inspect.sessions.results import ResultStore

if TYPE_CHECKING:
    from a3tune.inspection.deletion_curves import FaithfulnessCurves, RandomisedWeights
    from a3tune.inspection.views import AdapterView

KINDS = ("curves", "control")
# A check that nobody follows for this long is stopped: its page was closed. In seconds.
_PATIENCE = 20.0
# How many checks may run or wait: each has a thread, and they have the model one after the other.
_MOST = 16


class _Check(Task["FaithfulnessCurves | RandomisedWeights"]):
    """A check of one map, stopped too when nobody follows it."""

    followed: float
    about: tuple[ResultId, str]

    def should_stop(self) -> bool:
        return super().should_stop() or time.monotonic() - self.followed > _PATIENCE


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
        self._checks: dict[CheckId, _Check] = {}

    def start(self, result: ResultId, adapter: str, kind: str, heads: Any, rows: Sequence[int]) -> CheckId:
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
        asked = self._results.get(result)
        view = asked.view(adapter)
        if kind not in KINDS:
            raise RequestError(expected=f"one of {', '.join(KINDS)}", got=f"{kind!r}", remedy="Choose one of these")
        generation = self._slot.generation
        if asked.generation is not generation:
            raise RequestError(
                expected=f"a result of the model in memory, {generation.what}",
                got=f"This one is of {asked.inspection.model}, which was replaced since",
                remedy="Ask the question again, or choose that model on the Models page",
            )
        chosen = chosen_heads(view, heads)

        def work(check: _Check) -> FaithfulnessCurves | RandomisedWeights:
            with turn(check, self._slot, "Waiting for the model", "Waiting for the model") as model:
                if zero_gpu.is_held():
                    check.progress("Checking on a lent GPU", 0.0)
                    return zero_gpu.check(kind, asked.inspection, adapter, chosen, list(rows), dict(asked.own))
                return (library.measure_curves if kind == "curves" else library.measure_randomised)(
                    model,
                    asked.inspection,
                    adapter,
                    chosen,
                    list(rows),
                    adapter_set=self._private_adapters.set_of(adapter, asked.own),
                    on_progress=check.progress,
                    should_stop=check.should_stop,
                )

        # Checks whose page was closed are nobody's any more.
        self._checks = {known: check for known, check in self._checks.items() if not check.should_stop()}
        for known in self._checks.values():
            if known.about == (result, kind):
                known.cancel.set()  # this one takes its place
        if sum(not (known.over or known.cancel.is_set()) for known in self._checks.values()) >= _MOST:
            raise RequestError(
                expected=f"at most {_MOST} checks of all visitors at once",
                got="As many run or wait already",
                remedy="Try again in a minute",
            )
        check = _Check(work, generation=generation, kind="check")
        check.about = (result, kind)
        check.step, check.followed = Step("Waiting for the model", 0.0), time.monotonic()
        name = CheckId(secrets.token_urlsafe(18))
        self._checks[name] = check
        check.start()
        return name

    def follow(self, name: CheckId) -> tuple[Step, FaithfulnessCurves | RandomisedWeights | None]:
        """What is being done, and what came of it, once it is done; a finished check is then forgotten.

        Raises:
            Cancelled: the check was stopped.
            Exception: what ended the check.
        """
        check = self._checks.get(name)
        if check is None:
            raise RequestError(
                expected="a check that is running", got="There is no such check", remedy="Start it again"
            )
        check.followed = time.monotonic()
        if not check.over:
            return check.step, None
        self._checks.pop(name, None)
        if check.error is not None:
            raise check.error
        return check.step, check.result

    def forget(self, results: Iterable[ResultId]) -> None:
        """End the checks of results that go, and drop what came of them."""
        gone = set(results)
        for name, check in list(self._checks.items()):
            if check.about[0] in gone:
                self.stop(name)

    def stop(self, name: CheckId) -> None:
        """Stop a check and forget it; unknown names do nothing."""
        check = self._checks.pop(name, None)
        if check is not None:
            check.cancel.set()


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
