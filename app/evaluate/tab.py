"""The Evaluate tab: what is asked of what, the evaluations, and what they found."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from a3tune.evaluation.presentation import CELL_COLOURS, METRIC_TITLES, PLAIN_METRICS, SYSTEM_COLOURS
from a3tune.evaluation.right_reason import THRESHOLD
from a3tune.figures.colour_tables import COLOUR_MAPS, browser_tables
from app.access.identity import audit
from app.access.visits import is_secret
from app.common.comparison import AdapterComparison
from app.common.delete_button import DeleteButton
from app.common.identity import owner_of
from app.common.status import error_status, status
from app.common.widgets import (
    EVENT_OPTIONS,
    Update,
    build_stop,
    errors_in,
    follow_work,
    json_text,
    open_wanted,
    server_function,
    widget_parts,
)
from app.engine.ids import AdapterName, JobId, OwnerId
from app.evaluate.choice import (
    ALL_HEADS,
    BASE,
    CONTROLS,
    DECODINGS,
    MASKS,
    PHANTOM,
    SPLITS,
    EvaluationChoice,
    estimate_html,
    read_choice,
)
from app.evaluate.results import FILES, ItemFilter, download
from app.evaluate.service import EvaluateService
from app.evaluate.view import STATES
from app.jobs.events import JobEvents
from app.jobs.hardware import machine_notice


class EvaluateTab:
    """Builds the tab inside the running ``gr.Blocks`` context and wires it.

    Args:
        service: the tab's services.
        visitor: the visitor's secret (see :mod:`app.common.identity`).
        tab: the tab, whose opening shows what is the visitor's.
        pages: all tabs.
        inspect: where single questions are looked into.
    """

    def __init__(
        self,
        service: EvaluateService,
        visitor: gr.BrowserState,
        tab: gr.Tab,
        pages: gr.Tabs,
        inspect: AdapterComparison,
    ) -> None:
        self._service, self._visitor, self._pages = service, visitor, pages
        with gr.Row(elem_id="evaluate", equal_height=False):
            with gr.Column(scale=0, min_width=340, elem_id="evaluate-inputs"):
                self._build_choice()
            with gr.Column(scale=1, min_width=560):
                self._build_runs()
        self._wire(tab, inspect)

    def _build_choice(self) -> None:
        gr.HTML("<h2>1 · What is asked</h2>", apply_default_css=False)
        self._data = gr.Dropdown(
            [("Phantom benchmark (bundled)", PHANTOM)],
            value=PHANTOM,
            label="Data",
            interactive=True,
            allow_custom_value=True,
            elem_id="evaluate-data",
        )
        self._split = gr.Dropdown(list(SPLITS), value="", label="Split", elem_id="evaluate-split")
        self._masks = gr.Dropdown(list(MASKS), value="", label="Attention against", elem_id="evaluate-masks")
        self._limit = gr.Number(0, label="Most questions (0: all)", precision=0, minimum=0, elem_id="evaluate-limit")
        gr.HTML("<h2>2 · Of what</h2>", apply_default_css=False)
        self._adapters = gr.CheckboxGroup([BASE], value=[], label="Model and adapters", elem_id="evaluate-adapters")
        with gr.Accordion("Decoding, controls and heads", open=False, elem_id="evaluate-more"):
            self._decodings = gr.CheckboxGroup(
                list(DECODINGS),
                label="Ways of decoding beside greedy, on the first adapter",
                elem_id="evaluate-decoding",
            )
            self._controls = gr.CheckboxGroup(
                list(CONTROLS), label="Also without the image", elem_id="evaluate-controls"
            )
            self._heads = gr.CheckboxGroup(
                [("All heads", ALL_HEADS)], label="Attention also read in", elem_id="evaluate-heads"
            )
            self._count = gr.Number(
                0,
                label="And in this many critical heads (0: the usual alone)",
                precision=0,
                minimum=0,
                elem_id="evaluate-head-count",
            )
            self._title = gr.Textbox(label="Name of the evaluation", max_length=60, elem_id="evaluate-title")
        with gr.Row():
            self._measure = gr.Button("Cost and time", elem_id="evaluate-measure")
            self._stop_measure = build_stop("evaluate-measure-stop")
            self._start = gr.Button("Start", variant="primary", elem_id="evaluate-start")
        words = machine_notice() or "“Cost and time” asks one batch, and says what all of it takes."
        self.status = gr.HTML(status(words), elem_id="evaluate-status", apply_default_css=False)

    def _build_runs(self) -> None:
        with gr.Row(equal_height=True, elem_id="evaluate-run-controls"):
            self._choice = gr.Dropdown(
                [], label="Evaluation", allow_custom_value=True, interactive=True, scale=3, elem_id="evaluate-run"
            )
            small = {"interactive": False, "min_width": 90, "size": "sm"}
            self._stop = gr.Button("Stop and keep", elem_id="evaluate-stop", **small)
            self._resume = gr.Button("Resume", elem_id="evaluate-resume", **small)
            self._cancel = gr.Button("Cancel", elem_id="evaluate-cancel", **small)
            self._deletion = DeleteButton("Delete", "evaluate-delete")
            self._deletion.build_button(interactive=False, min_width=80)
        self._deletion.build_question()
        self._run_status = gr.HTML("", elem_id="evaluate-run-status", apply_default_css=False)
        self._events = JobEvents(self._service.jobs, self.show, self._known, self._run_status)
        colours = browser_tables()[COLOUR_MAPS[0]]
        presentation = {"titles": METRIC_TITLES, "plain": PLAIN_METRICS, "colours": SYSTEM_COLOURS}
        parts = widget_parts(
            "evaluate/static/evaluation",
            colours=colours,
            cells=CELL_COLOURS,
            files=list(FILES),
            presentation=presentation,
            usualThreshold=THRESHOLD,
        )
        answers = [self.read_evaluation, self.read_questions, self.read_file, self.compare_evaluations]
        self._results = gr.HTML(
            value="",
            **parts,
            server_functions=[server_function(answer) for answer in answers],
            elem_id="evaluate-results",
        )

    # ---- wiring ------------------------------------------------------------------------------

    def _wire(self, tab: gr.Tab, inspect: AdapterComparison) -> None:
        me, options = self._visitor, {"queue": False, **EVENT_OPTIONS}
        inputs = [self._data, self._split, self._adapters, self._masks, self._decodings, self._controls, self._limit]
        inputs += [self._heads, self._count]
        chosen = [me, self._choice]
        entering = [*chosen, self._data, self._adapters, self._heads]
        wanted = open_wanted("evaluate", "data", "adapters", "heads")
        tab.select(self._enter, entering, self.entered, js=wanted, **options)
        self._measure.click(
            self._estimate,
            [me, *inputs],
            [self.status, self._stop_measure],
            concurrency_id="evaluate-measure",
            concurrency_limit=1,
            **EVENT_OPTIONS,
        )
        self._stop_measure.click(lambda visitor: self._service.stop_estimate(owner_of(visitor)), [me], None, **options)
        self._start.click(
            self._begin,
            [me, self._title, *inputs],
            [self.status, *self.outputs],
            concurrency_id="evaluate-start",
            concurrency_limit=1,
            **EVENT_OPTIONS,
        )
        buttons = (self._stop, self._resume, self._cancel)
        self._events.wire(me, self._choice, self._results, self.outputs, buttons, self._deletion)
        self._results.inspect(
            self._open_in_inspect(inspect),
            [inspect.question, *chosen],
            [self._pages, self._run_status, *inspect.own_outputs],
            js=inspect.written,
            concurrency_id="model",
            concurrency_limit=1,
            **EVENT_OPTIONS,
        )

    def take_over(self, button: gr.Button, adapter: gr.Dropdown, words: gr.HTML) -> None:
        """Let another tab's button choose one of its visitor's adapters here, with the data that its run held out.

        Args:
            button, adapter, words: the button, the adapter's name, and where a refusal is told.
        """
        outputs = [self._pages, words, *self.entered]

        def press(visitor: str, name: str, run: JobId | None, heads: list[str] | None) -> Update:
            try:
                data = self._service.data_of_adapter(owner_of(visitor), AdapterName(name))
                return {
                    self._pages: gr.Tabs(selected="evaluate"),
                    words: "",
                    **self._enter(visitor, run, data, [BASE, name], heads),
                }
            except Exception as error:
                return {words: error_status(error)}

        inputs = [self._visitor, adapter, self._choice, self._heads]
        button.click(press, inputs, outputs, queue=False, **EVENT_OPTIONS)

    @property
    def entered(self) -> list[gr.blocks.Block]:
        """What the tab's opening changes."""
        return [self._data, self._adapters, self._heads, self.status, self._run_status, *self.outputs]

    @property
    def outputs(self) -> list[gr.blocks.Block]:
        """What `show` changes."""
        return [self._choice, self._results, self._stop, self._resume, self._cancel, self._deletion.button]

    def show(self, visitor: str, name: JobId | None) -> Update:
        """Show one of the visitor's evaluations; the newest when it is not named or gone."""
        views = self._service.views(owner_of(visitor)) if is_secret(visitor) else ()
        view = next((view for view in views if view.job.id == name), views[0] if views else None)
        buttons = {self._stop: False, self._resume: False, self._cancel: False, self._deletion.button: False}
        value = ""
        if view is not None:
            value = json_text({"visitor": visitor, "run": view.job.id, "stamp": view.stamp, "turn": time.time_ns()})
            stops = view.live and view.status != "stopping"
            buttons |= {self._stop: stops, self._cancel: view.live, self._resume: view.can_resume}
            buttons[self._deletion.button] = not view.live
        choices = [(f"{one.job.title} · {STATES[one.status][0].lower()}", one.job.id) for one in views]
        return {
            self._choice: gr.update(choices=choices, value=None if view is None else view.job.id),
            self._results: value,
            **{button: gr.update(interactive=on) for button, on in buttons.items()},
        }

    # ---- events ------------------------------------------------------------------------------

    def _enter(
        self,
        visitor: str,
        run: JobId | None,
        data: str | None,
        adapters: list[str] | None,
        heads: list[str] | None,
    ) -> Update:
        """Show what is the visitor's, and keep what they chose as far as it is there."""
        try:
            owner = owner_of(visitor)
            offered, there = self._service.data_choices(owner), self._service.adapter_choices(owner)
            known = [name for name in adapters or () if name in there]
            sets = self._service.head_choices(owner)
            kept = [key for _, key in sets if key in (heads or ())]
            return {
                self._data: gr.update(choices=offered, value=data if data in {key for _, key in offered} else PHANTOM),
                self._adapters: gr.update(choices=there, value=known or self._service.first_choice()),
                self._heads: gr.update(choices=sets, value=kept),
                **self._events.show_named(visitor, run),
            }
        except Exception as error:
            return {self.status: error_status(error)}

    def _estimate(self, visitor: str, *values: Any) -> Iterator[Update]:
        yield from follow_work(
            lambda: self._service.estimate(owner_of(visitor), read_choice(*values)),
            self.status,
            self._stop_measure,
            lambda found: {self.status: estimate_html(found)},
        )

    @errors_in("status")
    def _begin(self, visitor: str, title: str, *values: Any) -> Iterator[Update]:
        yield {self.status: status("Starting …")}
        choice: EvaluationChoice = read_choice(*values)
        job = self._service.start(owner_of(visitor), choice, title or "")
        handed = status("Handed over: it goes on when you leave this page.")
        yield {self.status: handed, **self.show(visitor, job.id)}

    def _known(self, owner: OwnerId) -> list[JobId]:
        return [view.job.id for view in self._service.views(owner)]

    def _open_in_inspect(self, inspect: AdapterComparison) -> Callable[..., Iterator[Update]]:
        """The event of a question that is opened in Inspect."""

        def press(
            written: str, visitor: str, name: JobId | None, event: gr.EventData, request: gr.Request
        ) -> Iterator[Update]:
            try:
                number: Any = getattr(event, "number", None)
                asked = self._service.question(owner_of(visitor), JobId(str(name)), int(number))
                there = self._service.adapter_choices(owner_of(visitor))
                wanted = [adapter for adapter in asked.adapters if adapter in there] or [BASE]
            except Exception as error:
                yield {self._run_status: error_status(error)}
                return
            trouble = status(asked.trouble) if asked.trouble else ""
            yield {self._pages: gr.Tabs(selected="inspect"), self._run_status: trouble}
            yield from inspect.compare_own(visitor, wanted, asked.question, written, request)

        return press

    # ---- what the part in the browser asks ---------------------------------------------------

    def read_evaluation(self, request: dict[str, Any]) -> dict[str, Any]:
        """Where an evaluation stands, and what it found."""
        owner, name = _named(request)
        return self._service.news(owner, name, request.get("known") is True)

    def read_questions(self, request: dict[str, Any]) -> dict[str, Any]:
        """A page of the questions that a filter keeps."""
        given: Any = request.get("filter")
        fields = {name: given[name] for name in ItemFilter._fields if name in given}
        chosen = ItemFilter(**{**fields, "threshold": float(given.get("threshold", 2.0))})
        return self._service.page(*_named(request), chosen, int(request.get("offset") or 0))

    def read_file(self, request: dict[str, Any]) -> dict[str, Any]:
        """A download, in base64."""
        owner, run = _named(request)
        name = str(request.get("name"))
        found = self._service.finished(owner, run)
        content = download(found, name)
        audit("result-export", form=name.rpartition(".")[2], run=run)
        return {"content": content}

    def compare_evaluations(self, request: dict[str, Any]) -> dict[str, Any]:
        """Another evaluation beside the one on show."""
        owner, name = _named(request)
        return self._service.compare(owner, JobId(str(request.get("other"))), name)


def _named(request: dict[str, Any]) -> tuple[OwnerId, JobId]:
    return owner_of(request.get("visitor")), JobId(str(request.get("run")))
