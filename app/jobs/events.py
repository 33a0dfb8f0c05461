"""The events of a list of runs: one is chosen, named by an address, stopped, resumed, cancelled or deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import gradio as gr

from app.common.delete_button import DeleteButton
from app.common.identity import owner_of
from app.common.status import address_status
from app.common.widgets import EVENT_OPTIONS, Update, errors_in
from app.engine.ids import JobId, OwnerId
from app.jobs.jobs import JobQueue


class JobEvents:
    """What a list of runs does, whatever kind they are of.

    Args:
        jobs: the runs.
        show: updates that show one of a visitor's runs; the newest where it is not named or gone.
        known: the names of a visitor's runs.
        status: where it is told what cannot be done.
    """

    def __init__(
        self,
        jobs: JobQueue,
        show: Callable[[str, JobId | None], Update],
        known: Callable[[OwnerId], Iterable[JobId]],
        status: gr.HTML,
    ) -> None:
        self._jobs, self._show, self._known, self._status = jobs, show, known, status

    def wire(
        self,
        visitor: gr.BrowserState,
        choice: gr.Dropdown,
        view: gr.HTML,
        outputs: list[gr.blocks.Block],
        buttons: tuple[gr.Button, gr.Button, gr.Button],
        deletion: DeleteButton,
    ) -> None:
        """Connect the widgets.

        Args:
            visitor: the visitor's secret.
            choice: the list.
            view: the run on show, with the events ``open`` and ``moved``.
            outputs: what showing a run changes.
            buttons: those that stop and keep, resume, and cancel.
            deletion: that which deletes.
        """
        chosen, options = [visitor, choice], {"queue": False, **EVENT_OPTIONS}
        view.open(self._open, [visitor], [*outputs, self._status], **options)
        view.moved(self._choose, chosen, outputs, **options)
        choice.input(self._choose, chosen, outputs, **options)
        for button, act in zip(buttons, (self._jobs.stop, self._jobs.resume, self._jobs.cancel), strict=True):
            button.click(self._act(act), chosen, [*outputs, self._status], **options)
        deletion.wire(chosen, outputs, self._jobs.describe, self._jobs.delete, self._jobs.restore, self._show)

    def show_named(self, visitor: str, name: JobId | None) -> Update:
        """Show a run, and say so where there is none of that name."""
        known = self._known(owner_of(visitor))
        return {**self._show(visitor, name), self._status: address_status(name, known)}

    def _choose(self, visitor: str, name: JobId | None) -> Update:
        try:
            return self._show(visitor, name)
        except Exception:
            return gr.skip()

    @errors_in("_status")
    def _open(self, visitor: str, event: gr.EventData) -> Update:
        return self.show_named(visitor, JobId(str(getattr(event, "run", ""))))

    def _act(self, act: Callable[[OwnerId, JobId], Any]) -> Callable[[str, JobId | None], Update]:
        @errors_in("_status")
        def press(events: JobEvents, visitor: str, name: JobId | None) -> Update:
            act(owner_of(visitor), JobId(str(name)))
            return {**events._show(visitor, name), events._status: ""}

        return lambda visitor, name: press(self, visitor, name)
