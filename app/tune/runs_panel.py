"""The Tune tab's runs: how they go, and what can be done with them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gradio as gr

from app.common.identity import owner_of
from app.common.status import error_status, explain, status
from app.tune.adapters_panel import AdapterPanel
from app.tune.runs.runs import RunView
from app.tune.service import TuneService
from app.tune.values import follow_value, run_choices, run_news
from app.tune.widgets import build_run_view

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}


class RunPanel:
    """Widgets and wiring of the runs.

    Args:
        desk: the tab's services.
        visitor: the visitor's secret.
    """

    def __init__(self, desk: TuneService, visitor: gr.BrowserState) -> None:
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
        desk = self._desk

        # A plain function: Gradio marks server functions with an attribute, which a bound method cannot take.
        def read_run(request: dict[str, Any]) -> dict[str, Any]:
            try:
                owner, name, seen = owner_of(request.get("visitor")), str(request.get("run")), request.get("seen")

                def read(view: RunView) -> dict[str, Any]:
                    def pictures() -> list[bytes]:
                        return [desk.picture(owner, name, number) for number in range(len(view.events.watched))]

                    return run_news(view, _stamp(view), seen if isinstance(seen, dict) else {}, pictures)

                return desk.look(owner, name, read)
            except Exception as error:
                return {"error": explain(error)}

        self._progress = build_run_view(read_run)

    def wire(self, use: AdapterPanel) -> None:
        """Connect the widgets.

        Args:
            use: where the adapter of the run on show is chosen.
        """
        self._use = use
        self._progress.moved(self._choose, [self._visitor, self.choice], self.outputs, **_QUIET)
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
        return [self.choice, self._progress, *buttons, *self._use.outputs]

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
            return [gr.update(choices=[], value=None), "", *buttons, *used]
        name = self._desk.adapters.name_of(owner, view.name)
        return [
            gr.update(choices=run_choices(views), value=view.name),
            follow_value(view, visitor, _stamp(view), time.time_ns() // 1_000_000),
            gr.update(interactive=view.live and view.status not in ("stopping", "stopped")),
            gr.update(interactive=view.can_resume),
            gr.update(interactive=view.live and view.status != "stopped"),
            gr.update(interactive=True),
            gr.update(interactive=bool(name)),
            *self._use.values(visitor, name),
        ]


def _stamp(view: RunView) -> list[Any]:
    """What tells whether the page's buttons and lists are out of date."""
    # The status says how a run ended a moment before its process is gone and it can go on.
    return [view.name, view.status, view.live, view.has_adapter]


def take_run(desk: TuneService, visitor: str, path: str) -> tuple[str, str]:
    """(name, status) of a run folder that was made on another machine and uploaded."""
    job = desk.take_run(owner_of(visitor), Path(path), Path(path).stem)
    return job.name, status("Opened.")
