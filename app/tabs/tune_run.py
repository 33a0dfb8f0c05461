"""The Tune tab's runs: how they go, and what can be done with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from app.jobs import owner_of
from app.present import error_status, status
from app.runs import RunView
from app.tabs.tune_use import UsePart
from app.tabs.tune_widgets import build_attention_view, build_run_view
from app.tune_present import attention_value, run_choices, run_value
from app.tuning import TuneDesk

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
# How often the page looks, in seconds.
INTERVAL = 1.0


class RunPart:
    """Widgets and wiring of the runs.

    Args:
        desk: the tab's services.
        visitor: the visitor's secret.
    """

    def __init__(self, desk: TuneDesk, visitor: gr.BrowserState) -> None:
        self._desk, self._visitor = desk, visitor

    def place(self) -> None:
        """The widgets."""
        with gr.Row(equal_height=True, elem_id="tune-run-controls"):
            self.choice = gr.Dropdown(
                [], label="Run", allow_custom_value=True, interactive=True, scale=3, elem_id="tune-run"
            )
            self._stop = gr.Button("Stop and keep", interactive=False, min_width=110, size="sm", elem_id="tune-stop")
            self._resume = gr.Button("Resume", interactive=False, min_width=90, size="sm", elem_id="tune-resume")
            self._cancel = gr.Button("Cancel", interactive=False, min_width=80, size="sm", elem_id="tune-cancel")
            self._delete = gr.Button("Delete", interactive=False, min_width=80, size="sm", elem_id="tune-delete")
            self.inspect = gr.Button(
                "Before and after",
                variant="primary",
                interactive=False,
                min_width=120,
                size="sm",
                elem_id="tune-run-inspect",
            )
        self.status = gr.HTML("", elem_id="tune-run-status", apply_default_css=False)
        self._progress = build_run_view()
        self._attention = build_attention_view()
        # What the page shows by now: only what changed is sent.
        self._stamp = gr.State(None)
        self._timer = gr.Timer(INTERVAL, active=False)

    def wire(self, use: UsePart) -> None:
        """Connect the widgets.

        Args:
            use: where the adapter of the run on show is chosen.
        """
        self._use = use
        tick = [self._visitor, self.choice, self._stamp]
        self._timer.tick(self._refresh, tick, self.outputs, **_QUIET)
        self.choice.input(self._choose, [self._visitor, self.choice], self.outputs, **_QUIET)
        for button, act in (
            (self._stop, self._desk.jobs.stop),
            (self._resume, self._desk.jobs.resume),
            (self._cancel, self._desk.jobs.cancel),
            (self._delete, self._desk.jobs.delete),
        ):
            button.click(self._act(act), [self._visitor, self.choice], [*self.outputs, self.status], **_QUIET)

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What `show` fills."""
        buttons = [self._stop, self._resume, self._cancel, self._delete, self.inspect]
        return [
            *(self.choice, self._progress, self._attention),
            *(*buttons, self._stamp, self._timer),
            *self._use.outputs,
        ]

    def show(self, visitor: str, name: str | None) -> list[Any]:
        """Values of `outputs` for one of the visitor's runs; for the newest when it is not named or gone."""
        owner = owner_of(visitor)
        views = self._desk.views(owner)
        view = next((view for view in views if view.name == name), views[0] if views else None)
        return self._values(visitor, owner, view, views)

    # ---- events ------------------------------------------------------------------------------

    def _choose(self, visitor: str, name: str | None) -> list[Any]:
        try:
            return self.show(visitor, name)
        except Exception:
            return [gr.skip()] * len(self.outputs)

    def _refresh(self, visitor: str, name: str | None, stamp: Any) -> list[Any]:
        """What changed since ``stamp``; the page asks once a second."""
        unchanged = [gr.skip()] * len(self.outputs)
        try:
            owner = owner_of(visitor)
            view = self._desk.view(owner, str(name))
        except Exception:
            return unchanged
        before = stamp or (None, None)
        now = _stamp(view)
        if before[0] != now[0]:
            return self._values(visitor, owner, view, self._desk.views(owner))
        values = unchanged.copy()
        values[1] = run_value(view)
        if before[1] != now[1]:
            values[2] = self._attention_of(owner, view)
            values[8] = now
        return values

    def _act(self, act):
        """The event of a button that does something to the run on show."""

        def press(visitor: str, name: str | None) -> list[Any]:
            try:
                act(owner_of(visitor), str(name))
                return [*self.show(visitor, name), ""]
            except Exception as error:
                return [*[gr.skip()] * len(self.outputs), error_status(error)]

        return press

    def _values(self, visitor: str, owner: str, view: RunView | None, views: tuple[RunView, ...]) -> list[Any]:
        if view is None:
            buttons = [gr.update(interactive=False)] * 5
            used = self._use.values(visitor)
            return [gr.update(choices=[], value=None), "", "", *buttons, None, gr.Timer(active=False), *used]
        name = self._desk.adapters.name_of(owner, view.name)
        return [
            gr.update(choices=run_choices(views), value=view.name),
            run_value(view),
            self._attention_of(owner, view),
            gr.update(interactive=view.live and view.status not in ("stopping", "stopped")),
            gr.update(interactive=view.can_resume),
            gr.update(interactive=view.live and view.status != "stopped"),
            gr.update(interactive=True),
            gr.update(interactive=bool(name)),
            _stamp(view),
            gr.Timer(active=view.live),
            *self._use.values(visitor, name),
        ]

    def _attention_of(self, owner: str, view: RunView) -> str:
        count = len(view.events.watched)
        pictures = [self._desk.picture(owner, view.name, number) for number in range(count)]
        return attention_value(view, pictures) if all(pictures) else ""


def _stamp(view: RunView) -> list[Any]:
    """What tells whether parts of the page are out of date."""
    # The status says how a run ended a moment before its process is gone and it can go on.
    return [[view.name, view.status, view.live, view.has_adapter], len(view.events.looks)]


def take_run(desk: TuneDesk, visitor: str, path: str) -> tuple[str, str]:
    """(name, status) of a run folder that was made on another machine and uploaded."""
    job = desk.take_run(owner_of(visitor), Path(path), Path(path).stem)
    return job.name, status("Opened.")
