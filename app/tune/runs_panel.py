"""The Tune tab's runs: how they go, and what can be done with them."""

from __future__ import annotations

import time
from typing import Any

import gradio as gr

from app.common.delete_button import DeleteButton
from app.common.identity import owner_of
from app.common.widgets import Update, server_function
from app.engine.ids import JobId, OwnerId
from app.jobs.events import JobEvents
from app.tune.adapters_panel import AdapterPanel
from app.tune.runs.updates import follow_value, run_choices
from app.tune.widgets import Panel, build_run_view


class RunPanel(Panel):
    """Widgets and wiring of the runs."""

    def build(self) -> None:
        """The widgets."""
        with gr.Row(equal_height=True, elem_id="tune-run-controls"):
            self.choice = gr.Dropdown(
                [], label="Run", allow_custom_value=True, interactive=True, scale=3, elem_id="tune-run"
            )
            self._stop = gr.Button("Stop and keep", interactive=False, min_width=110, size="sm", elem_id="tune-stop")
            self._resume = gr.Button("Resume", interactive=False, min_width=90, size="sm", elem_id="tune-resume")
            self._cancel = gr.Button("Cancel", interactive=False, min_width=80, size="sm", elem_id="tune-cancel")
            self.inspect = gr.Button(
                "Before and after",
                variant="primary",
                interactive=False,
                min_width=120,
                size="sm",
                elem_id="tune-run-inspect",
            )
            # Far from Cancel.
            self._deletion = DeleteButton("Delete", "tune-delete")
            self._deletion.build_button(interactive=False, min_width=80)
        self._deletion.build_question()
        self.status = gr.HTML("", elem_id="tune-run-status", apply_default_css=False)
        self._events = JobEvents(self._service.jobs, self.show, self._known, self.status)
        self._progress = build_run_view(server_function(self.read_run), server_function(self.compare_runs))

    def wire(self, use: AdapterPanel) -> None:
        """Connect the widgets.

        Args:
            use: where the adapter of the run on show is chosen.
        """
        self._use = use
        buttons = (self._stop, self._resume, self._cancel)
        self._events.wire(self._visitor, self.choice, self._progress, self.outputs, buttons, self._deletion)

    @property
    def outputs(self) -> list[gr.blocks.Block]:
        """What `show` changes."""
        buttons = [self._stop, self._resume, self._cancel, self._deletion.button, self.inspect]
        return [self.choice, self._progress, *buttons, *self._use.outputs]

    def show(self, visitor: str, name: JobId | None) -> Update:
        """Show one of the visitor's runs; the newest when it is not named or gone."""
        owner = owner_of(visitor)
        views = self._service.views(owner)
        view = next((view for view in views if view.job.id == name), views[0] if views else None)
        if view is None:
            buttons = (self._stop, self._resume, self._cancel, self._deletion.button, self.inspect)
            nothing = {self.choice: gr.update(choices=[], value=None), self._progress: "", **self._use.show(visitor)}
            return {**nothing, **dict.fromkeys(buttons, gr.update(interactive=False))}
        adapter = self._service.adapters.name_of(owner, view.job.id)
        return {
            self.choice: gr.update(choices=run_choices(views), value=view.job.id),
            self._progress: follow_value(view, visitor, time.time_ns() // 1_000_000),
            self._stop: gr.update(interactive=view.live and view.status not in ("stopping", "stopped")),
            self._resume: gr.update(interactive=view.can_resume),
            self._cancel: gr.update(interactive=view.live and view.status != "stopped"),
            self._deletion.button: gr.update(interactive=not view.live),
            self.inspect: gr.update(interactive=bool(adapter)),
            **self._use.show(visitor, adapter),
        }

    def show_named(self, visitor: str, name: JobId | None) -> Update:
        """`show`, which says so where there is no run of that name."""
        return self._events.show_named(visitor, name)

    def _known(self, owner: OwnerId) -> list[JobId]:
        return [view.job.id for view in self._service.views(owner)]

    # ---- what the part in the browser asks ---------------------------------------------------

    def read_run(self, request: dict[str, Any]) -> dict[str, Any]:
        """What the part in the browser does not know yet of the run that it follows."""
        seen = request.get("seen")
        owner, name = owner_of(request.get("visitor")), JobId(str(request.get("run")))
        return self._service.news(owner, name, seen if isinstance(seen, dict) else {})

    def compare_runs(self, request: dict[str, Any]) -> dict[str, Any]:
        """The run on show and others of the visitor's beside it."""
        owner, name = owner_of(request.get("visitor")), JobId(str(request.get("run")))
        return self._service.comparison(owner, name, [str(other) for other in request.get("others") or ()])
