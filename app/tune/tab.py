"""The Tune tab: data, plan, runs, and what comes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from app.common.comparison import AdapterComparison
from app.common.identity import owner_of
from app.common.pictures import PictureQuestion
from app.common.status import error_status, status, warning_status
from app.common.widgets import EVENT_OPTIONS, Update, on_files, open_wanted
from app.engine.ids import AdapterName, DataSetId, JobId, OwnerId
from app.tune.adapters_panel import AdapterPanel
from app.tune.data_panel import DataPanel
from app.tune.plan_panel import PlanPanel
from app.tune.runs_panel import RunPanel
from app.tune.service import TuneService


class TuneTab:
    """Builds the tab inside the running ``gr.Blocks`` context and wires it.

    Args:
        service: the tab's services.
        visitor: the visitor's secret (see :mod:`app.common.identity`).
        tab: the tab, whose opening shows what is the visitor's.
        pages: all tabs.
        inspect: where adapters are looked into.

    Attributes:
        use: the part with the visitor's adapters.
    """

    def __init__(
        self, service: TuneService, visitor: gr.BrowserState, tab: gr.Tab, pages: gr.Tabs, inspect: AdapterComparison
    ) -> None:
        self._service, self._visitor = service, visitor
        self._data = DataPanel(service, visitor)
        self._plan = PlanPanel(service, visitor)
        self._run = RunPanel(service, visitor)
        self.use = AdapterPanel(service, visitor)
        self._build()
        self._wire(tab)
        self._wire_inspect(pages, inspect)

    def _build(self) -> None:
        with gr.Row(elem_id="tune", equal_height=False):
            with gr.Column(scale=0, min_width=340, elem_id="tune-inputs"):
                self._data.build_inputs()
                self._plan.build()
            with gr.Column(scale=1, min_width=560), gr.Tabs(selected="data", elem_id="tune-views") as self._views:
                with gr.Tab("Data", id="data"):
                    self._data.build_report()
                with gr.Tab("Regions", id="labels"):
                    self._data.build_labels()
                with gr.Tab("Runs", id="run", render_children=True):
                    self._run.build()
                with gr.Tab("Use", id="use", render_children=True):
                    self.use.build_use()
                with gr.Tab("Scale", id="scale"):
                    self.use.build_scale()

    def _wire(self, tab: gr.Tab) -> None:
        me, data, plan = self._visitor, self._data, self._plan
        data.wire(plan)
        plan.wire(data.choice)
        self._run.wire(self.use)
        self.use.wire(plan)
        entered = tab.select(
            self._enter,
            [me, self._run.choice],
            [*data.outputs, *self._run.outputs, self._run.status],
            js=open_wanted("tune"),
            queue=False,
            **EVENT_OPTIONS,
        )
        entered.then(data.check, [me, data.choice], data.outputs, **EVENT_OPTIONS)
        started = [plan.status, plan.reason, self._views, *self._run.outputs]
        plan.start.click(
            self._start,
            [me, data.choice, plan.title, *plan.inputs],
            started,
            concurrency_id="tune-start",
            concurrency_limit=1,
            **EVENT_OPTIONS,
        )
        on_files(self.use.folder, self._open_run, [me], started, **EVENT_OPTIONS)

    def _wire_inspect(self, pages: gr.Tabs, inspect: AdapterComparison) -> None:
        """The buttons that show an adapter beside the base in Inspect."""

        def compare(words: gr.HTML, adapter_of: Callable[[OwnerId, Any], AdapterName]) -> Callable[..., Any]:
            def press(written: str, question: str, visitor: str, chosen: str, request: gr.Request) -> Iterator[Update]:
                try:
                    owner = owner_of(visitor)
                    found = self._service.adapters.before_after(owner, adapter_of(owner, chosen))
                except Exception as error:
                    yield {words: error_status(error)}
                    return
                yield {pages: gr.Tabs(selected="inspect"), words: ""}
                asked = found.asked or PictureQuestion(question)
                yield from inspect.compare_own(visitor, [found.name], asked, written, request)

            return press

        for button, chosen, words, adapter_of in (
            (self._run.inspect, self._run.choice, self._run.status, self._service.adapters.name_of),
            (self.use.inspect, self.use.choice, self.use.status, lambda owner, name: name),
        ):
            button.click(
                compare(words, adapter_of),
                [inspect.question, inspect.question, self._visitor, chosen],
                [pages, words, *inspect.own_outputs],
                js=inspect.written,
                concurrency_id="model",
                concurrency_limit=1,
                **EVENT_OPTIONS,
            )

    # ---- events ------------------------------------------------------------------------------

    def _enter(self, visitor: str, run: JobId | None) -> Update:
        """Show what is the visitor's."""
        try:
            return {**self._data.enter(owner_of(visitor)), **self._run.show_named(visitor, run)}
        except Exception as error:
            return {self._data.status: error_status(error)}

    def _start(self, visitor: str, data: DataSetId | None, title: str, *plan: Any) -> Iterator[Update]:
        try:
            reason = self._service.obstacle(owner_of(visitor), data)
            if reason:
                # Louder, in the place where it stands: twice below each other would say no more.
                yield {self._plan.reason: warning_status(reason), self._plan.status: ""}
                return
            yield {self._plan.status: status("Starting …")}
            job = self._service.start(owner_of(visitor), data, self._plan.read(*plan), title or "")
            shown = self._run.show(visitor, job.id)
        except Exception as error:
            yield {self._plan.status: error_status(error)}
            return
        handed = status("Handed over: it is under Runs, and goes on when you leave this page.")
        yield {self._plan.status: handed, self._views: gr.Tabs(selected="run"), **shown}

    def _open_run(self, path: str | None, visitor: str) -> Update:
        if path is None:
            return gr.skip()
        try:
            job = self._service.add_run(owner_of(visitor), Path(path), Path(path).stem)
            shown = {self._views: gr.Tabs(selected="run"), **self._run.show(visitor, job.id)}
        except Exception as error:
            return {self._plan.status: error_status(error)}
        return {self._plan.status: status("Opened."), **shown}
