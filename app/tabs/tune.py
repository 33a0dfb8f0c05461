"""The Tune tab: data, plan, runs, and what comes of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from app.jobs import owner_of
from app.present import error_status, status
from app.tabs.tune_data import DataPart, chosen_data
from app.tabs.tune_plan import PlanPart
from app.tabs.tune_run import RunPart, take_run
from app.tabs.tune_use import UsePart
from app.tuning import TuneDesk

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


class TuneTab:
    """Builds the tab inside the running ``gr.Blocks`` context and wires it.

    Args:
        desk: the tab's services.
        visitor: the visitor's secret (see :mod:`app.tabs.visitor`).
        tab: the tab, whose opening shows what is the visitor's.
    """

    def __init__(self, desk: TuneDesk, visitor: gr.BrowserState, tab: gr.Tab) -> None:
        self._desk, self.visitor = desk, visitor
        self._data = DataPart(desk, visitor)
        self._plan = PlanPart(desk, visitor)
        self._run = RunPart(desk, visitor)
        self._use = UsePart(desk, visitor)
        self._place()
        self._wire(tab)

    def _place(self) -> None:
        with gr.Row(elem_id="tune", equal_height=False):
            with gr.Column(scale=0, min_width=340, elem_id="tune-inputs"):
                self._data.place_inputs()
                self._plan.place()
            with gr.Column(scale=1, min_width=560), gr.Tabs(selected="data", elem_id="tune-views") as self._views:
                with gr.Tab("Data", id="data"):
                    self._data.place_report()
                with gr.Tab("Regions", id="labels"):
                    self._data.place_labels()
                with gr.Tab("Runs", id="run", render_children=True):
                    self._run.place()
                with gr.Tab("Use", id="use", render_children=True):
                    self._use.place_use()
                with gr.Tab("Scale", id="scale"):
                    self._use.place_scale()

    def _wire(self, tab: gr.Tab) -> None:
        plan = self._plan
        self._data.wire(plan.inputs, plan.read)
        self._plan.wire(self._data.choice)
        self._run.wire(self._use.download)
        self._use.wire(self._run.choice, plan.inputs, plan.read)
        entered = tab.select(
            self._enter,
            [self.visitor, self._run.choice],
            [*self._data.outputs, *self._run.outputs],
            queue=False,
            **_QUIET,
        )
        entered.then(self._data.look, [self.visitor, self._data.choice], self._data.outputs, **_QUIET)
        plan.start.click(
            self._start,
            [self.visitor, self._data.choice, plan.title, *plan.inputs],
            [plan.status, self._views, *self._run.outputs],
            concurrency_id="tune-start",
            concurrency_limit=1,
            **_QUIET,
        )
        self._use.folder.upload(
            self._open_run,
            [self.visitor, self._use.folder],
            [self._use.folder, plan.status, self._views, *self._run.outputs],
            **_QUIET,
        )

    # ---- events ------------------------------------------------------------------------------

    def _enter(self, visitor: Any, run: str | None) -> list[Any]:
        """Show what is the visitor's."""
        try:
            return [*self._data.enter(owner_of(visitor)), *self._run.show(visitor, run)]
        except Exception as error:
            failed = self._data.failed(error)
            return [*failed, *[gr.skip()] * len(self._run.outputs)]

    def _start(self, visitor: str, data: str | None, title: str, *plan: Any) -> Iterator[list[Any]]:
        nothing = [gr.skip()] * (1 + len(self._run.outputs))
        yield [status("Starting …"), *nothing]
        try:
            job = self._desk.start(owner_of(visitor), chosen_data(data), self._plan.read(*plan), title or "")
            shown = self._run.show(visitor, job.name)
        except Exception as error:
            yield [error_status(error), *nothing]
            return
        yield [status("In the queue. It goes on when you leave this page."), gr.Tabs(selected="run"), *shown]

    def _open_run(self, visitor: str, path: str | None) -> list[Any]:
        if path is None:
            return [gr.skip()] * (3 + len(self._run.outputs))
        try:
            name, words = take_run(self._desk, visitor, path)
            shown = self._run.show(visitor, name)
        except Exception as error:
            return [None, error_status(error), *[gr.skip()] * (1 + len(self._run.outputs))]
        return [None, words, gr.Tabs(selected="run"), *shown]
