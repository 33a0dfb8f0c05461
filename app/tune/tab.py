"""The Tune tab: data, plan, runs, and what comes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from app.common.comparison import AdapterComparison
from app.common.identity import owner_of
from app.common.status import error_status, status
from app.tune.adapters_panel import AdapterPanel
from app.tune.data_panel import DataPanel, chosen_data
from app.tune.plan_panel import PlanPanel
from app.tune.runs_panel import RunPanel, take_run
from app.tune.service import TuneService

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


class TuneTab:
    """Builds the tab inside the running ``gr.Blocks`` context and wires it.

    Args:
        desk: the tab's services.
        visitor: the visitor's secret (see :mod:`app.common.identity`).
        tab: the tab, whose opening shows what is the visitor's.
        pages: all tabs.
        inspect: where adapters are looked into.
    """

    def __init__(
        self, desk: TuneService, visitor: gr.BrowserState, tab: gr.Tab, pages: gr.Tabs, inspect: AdapterComparison
    ) -> None:
        self._desk, self.visitor = desk, visitor
        self._data = DataPanel(desk, visitor)
        self._plan = PlanPanel(desk, visitor)
        self._run = RunPanel(desk, visitor)
        self._use = AdapterPanel(desk, visitor)
        self._place()
        self._wire(tab)
        self._wire_inspect(pages, inspect)

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
        self._run.wire(self._use)
        self._use.wire(self._data.choice, plan.inputs, plan.read)
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

    def _wire_inspect(self, pages: gr.Tabs, inspect: AdapterComparison) -> None:
        """The buttons that show an adapter beside the base in Inspect."""

        def compare(adapter_of: Callable[[str, str], str]) -> Callable[..., Iterator[list[Any]]]:
            def press(visitor: str, chosen: str | None, question: str, request: gr.Request) -> Iterator[list[Any]]:
                same = [gr.skip()] * len(inspect.own_outputs)
                try:
                    owner = owner_of(visitor)
                    found = self._desk.adapters.before_after(owner, adapter_of(owner, str(chosen)))
                except Exception as error:
                    yield [gr.skip(), error_status(error), *same]
                    return
                yield [gr.Tabs(selected="inspect"), "", *same]
                wanted = found.question if found.picture else question
                for values in inspect.compare_own(visitor, found.name, found.picture, wanted, request):
                    yield [gr.skip(), gr.skip(), *values]

            return press

        for button, chosen, words, adapter_of in (
            (self._run.inspect, self._run.choice, self._run.status, self._desk.adapters.name_of),
            (self._use.inspect, self._use.choice, self._use.status, lambda owner, name: name),
        ):
            button.click(
                compare(adapter_of),
                [self.visitor, chosen, inspect.question],
                [pages, words, *inspect.own_outputs],
                concurrency_id="model",
                concurrency_limit=1,
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
        handed = status("Handed over: it is under Runs, and goes on when you leave this page.")
        yield [handed, gr.Tabs(selected="run"), *shown]

    def _open_run(self, visitor: str, path: str | None) -> list[Any]:
        if path is None:
            return [gr.skip()] * (3 + len(self._run.outputs))
        try:
            name, words = take_run(self._desk, visitor, path)
            shown = self._run.show(visitor, name)
        except Exception as error:
            return [None, error_status(error), *[gr.skip()] * (1 + len(self._run.outputs))]
        return [None, words, gr.Tabs(selected="run"), *shown]
