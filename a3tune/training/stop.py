"""Stopping a run so that nothing is lost: by signal, by a file in the run folder, or by the caller."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from a3tune.training.run_folder import RunFolder

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSwitch:
    """Collects every way of asking a run to stop, usable as a context manager.

    Inside the block the first SIGINT or SIGTERM only asks; a second one acts as it always does. Signals can be
    caught in the main thread only; elsewhere the other ways remain.

    Args:
        run: its folder may hold the stop request of another process.
        asked: the caller's own question.
    """

    def __init__(self, run: RunFolder, asked: Callable[[], bool] | None = None) -> None:
        self._run, self._asked = run, asked
        self._signalled = False
        self._former: dict[int, Any] = {}

    def __call__(self) -> bool:
        return self._signalled or self._run.stop_requested or (self._asked is not None and self._asked())

    def __enter__(self) -> StopSwitch:
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signalled = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}


class StopRequested(TrainerCallback):
    """Ends the run after the current step, with a checkpoint, when somebody asks for it.

    Args:
        asked: whether to stop now; the answer of any process counts for all.
    """

    def __init__(self, asked: Callable[[], bool]) -> None:
        self.asked, self.stopped = asked, False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        asked = self.asked()
        if args.world_size > 1:
            flag = torch.tensor(float(asked), device=args.device)
            torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
            asked = bool(flag)
        if asked and state.global_step < state.max_steps:
            self.stopped = True
            control.should_save = control.should_training_stop = True
        return control
