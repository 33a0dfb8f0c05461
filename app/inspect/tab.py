"""The Inspect tab: an image, a question, the answer, and where every head looked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from a3tune.errors import Cancelled, RequestError
from a3tune.images.burnt_in import LOOK
from app.access.identity import audit
from app.common.comparison import OwnAdapters
from app.common.status import error_status, status, step_status
from app.common.widgets import EVENT_OPTIONS, Update
from app.engine.background import Step
from app.engine.ids import ResultId, SessionId
from app.inspect import zero_gpu
from app.inspect.archive.panel import ArchivePanel
from app.inspect.batch.panel import BatchPanel
from app.inspect.examples import GENERAL_QUESTIONS, Example, build_examples, build_suggestions, keep_question
from app.inspect.handlers import viewer_answers
from app.inspect.service import InspectService
from app.inspect.sessions.opened_image import OpenedImage, open_example
from app.inspect.sessions.results import Result
from app.inspect.values import adopted_value, answer_value, finished_status, viewer_value
from app.inspect.view_controls import ViewControls, chosen_window
from app.inspect.viewer import WANTED, build_viewer


class InspectTab:
    """Builds the tab inside the running ``gr.Blocks`` context and wires it to the service.

    Args:
        service: the sessions, the model and the results.
        examples: the examples on offer; the first one is on show when a page is opened.
        page: the whole page.
        tab: the tab, whose opening offers what came meanwhile.
        own: the adapters of the visitor alone.
    """

    def __init__(
        self, service: InspectService, examples: tuple[Example, ...], page: gr.Blocks, tab: gr.Tab, own: OwnAdapters
    ) -> None:
        self._service, self._own = service, own
        self._batch = BatchPanel(service.batches)
        self._examples = {example.key: example for example in examples}
        self._opening: tuple[Result | None, str] | None = None
        self._place(service)
        self._wire(page, tab)

    # ---- widgets -----------------------------------------------------------------------------

    def _place(self, service: InspectService) -> None:
        with gr.Row(elem_id="inspect", equal_height=False):
            with gr.Column(scale=0, min_width=300, elem_id="inputs"):
                gr.HTML("<h2>1 · Image</h2>", apply_default_css=False)
                first = next(iter(self._examples.values()))  # on show from the start, see `opening_value`
                self._strip = build_examples(tuple(self._examples.values()), first.key)
                self._file = gr.File(
                    label="Own file: PNG, JPEG, TIFF, DICOM, NIfTI …, or the slices of a series",
                    file_count="multiple", height=84, elem_id="upload",
                )  # fmt: skip
                self._archive = ArchivePanel(service.archive)
                self._view = ViewControls()
                gr.HTML("<h2>2 · Question</h2>", apply_default_css=False)
                self._question = gr.Textbox(
                    label="Question", value=first.questions[0], show_label=False, placeholder="Ask about the image …",
                    lines=1, max_lines=4, max_length=1000, elem_id="question",
                )  # fmt: skip
                self._suggestions = build_suggestions(first.questions)
                self._adapters = gr.CheckboxGroup(**self._adapter_choices(), label="Answer with", elem_id="adapters")
                with gr.Row(elem_id="actions"):
                    self._ask = gr.Button("Ask", variant="primary", scale=3, min_width=120, elem_id="ask")
                    self._cancel = gr.Button("Cancel", interactive=False, scale=1, min_width=80, elem_id="cancel")
                # Nothing can be asked before the session has begun, see `initial_page.js`.
                self._status = gr.HTML(status("Opening the page …"), elem_id="status", apply_default_css=False)
                self._batch.build_inputs()
            with gr.Column(scale=1, min_width=560):
                self._batch.build_table()
                self._viewer = build_viewer(viewer_answers(service), service.keeps_source, service.archive)

    def opening_value(self) -> str:
        """The viewer's value that a page brings with it: the first example, with its answers once there are any."""
        result = self._service.opening
        if self._opening is None or self._opening[0] is not result:
            example = next(iter(self._examples.values()))
            opened = open_example(example.path, example.key) if result is None else result.opened
            self._opening = result, viewer_value(opened, result, side_by_side=True)
        return self._opening[1]

    def _adapter_choices(self, secret: Any = None) -> dict[str, Any]:
        """What all visitors share is chosen at first; the visitor's own adapters wait to be chosen."""
        names, own = list(self._service.slot.adapters), list(self._own.of(secret))
        return {"choices": [*names, *own], "value": names, "visible": len(names) + len(own) > 1}

    # ---- wiring ------------------------------------------------------------------------------

    def _wire(self, page: gr.Blocks, tab: gr.Tab) -> None:
        opened = [self._viewer, self._status, self._strip, self._suggestions, self._question, *self._view.outputs]
        answered = [*opened, self._cancel]
        self.own_outputs = [self._adapters, *answered]
        visitor = self._own.visitor
        tab.select(self._offer, [visitor, self._adapters], [self._adapters], queue=False, **EVENT_OPTIONS)
        # "multiple": another example may be chosen while the model still answers about the last one.
        self._strip.pick(
            self._open_example, [self._adapters, visitor], answered, trigger_mode="multiple", **EVENT_OPTIONS
        )
        uploaded = self._file.upload(self._open_upload, [self._file], [self._file, *opened], **EVENT_OPTIONS)
        for came in (uploaded, *self._archive.wire(self._status, self._open_upload, [self._file, *opened])):
            keep_question(came, self._question, self._strip, self._examples)
        self._viewer.reopen(self._reopen, None, opened, trigger_mode="multiple", **EVENT_OPTIONS)
        page.load(self._begin, [visitor, gr.JSON(visible=False)], self.own_outputs, js=WANTED, **EVENT_OPTIONS)

        changed = [self._viewer, self._status, *self._view.changed]
        self._viewer.walk(self._walk, self._view.choices, changed, trigger_mode="multiple", **EVENT_OPTIONS)
        self._view.wire(self._change_view, changed, self._change_series, opened)

        waiting = [self._status, self._cancel]
        fill = self._suggestions.pick(self._take_suggestion, None, [self._question], queue=False, **EVENT_OPTIONS)
        for event in (fill.then, self._ask.click, self._question.submit):
            reserved = event(self._reserve, None, waiting, queue=False, **EVENT_OPTIONS)
            # One question at a time over all visitors: the model is one, and its answers come in seconds.
            reserved.then(
                self._answer, [self._question, self._adapters, visitor], [self._viewer, *waiting],
                concurrency_id="model", concurrency_limit=1, **EVENT_OPTIONS,
            )  # fmt: skip
        self._cancel.click(self._stop, None, [self._status], queue=False, **EVENT_OPTIONS)
        self._batch.wire(page, self._own, [self._question, self._adapters], self._open_found, answered)

    def follow(self, header: gr.HTML) -> None:
        """Where the page's head notices another model, offer its adapters and show the picture that it is given."""
        replaced = [self._adapters, self._viewer]
        header.switched(self._follow_model, [self._own.visitor], replaced, queue=False, **EVENT_OPTIONS)

    def _follow_model(self, secret: Any, request: gr.Request) -> Update:
        changes: Update = {self._adapters: gr.update(**self._adapter_choices(secret))}
        fitting = self._service.read_for_model(_session(request))
        results = self._service.results.of(_session(request))
        # A result on show stays with the picture that its model was given.
        if fitting is not None and not any(result.opened.regions == fitting.regions for result in results):
            changes[self._viewer] = viewer_value(fitting, history=results)
        return changes

    # ---- images ------------------------------------------------------------------------------

    def _begin(self, visitor: Any, wanted: Any, request: gr.Request) -> Iterator[Update]:
        """A new page: what it asks for, else the first example with its result, which it may have brought."""
        adapters, session = self._adapter_choices(visitor), _session(request)
        example = next(iter(self._examples.values()))
        begun: Update = {self._adapters: gr.update(**adapters)}
        if restored := self._service.restore(session, wanted):
            yield {**begun, **self._shown_again(session, *restored)}
            return
        if result := self._service.welcome(session):
            value = adopted_value(result, self._service.results.of(session))
            yield {**begun, self._viewer: value, self._status: status(example.about)}
        elif self._service.sessions.opened(session) is not None:
            yield begun
        else:
            for changes in self._show_example(example, adapters["value"], session, {}):
                yield {**begun, **changes}
                begun = {}

    def _open_example(
        self, adapters: list[str], visitor: Any, event: gr.EventData, request: gr.Request
    ) -> Iterator[Update]:
        example = self._examples.get(str(getattr(event, "key", "")))
        if example is None:
            error = RequestError(
                expected="one of the examples on the page", got="There is no such example", remedy="Reload the page"
            )
            yield self._failed(error)
            return
        yield from self._show_example(example, adapters, _session(request), self._own.of(visitor))

    def _show_example(
        self, example: Example, adapters: list[str], session: SessionId, own: Mapping[str, Path]
    ) -> Iterator[Update]:
        """The example at once, with its answers as soon as they are there."""
        try:
            opened = self._service.sessions.open_file(session, example.path, remove=False, key=example.key)
        except Exception as error:
            yield self._failed(error)
            return
        question = example.questions[0]
        self._service.reserve(session)
        prepared = self._service.is_prepared(session, question, adapters)
        done = prepared or zero_gpu.is_held()  # the time of a lent GPU is the visitor's to spend
        result = next(self._service.ask(session, question, adapters)) if prepared else None
        result = None if isinstance(result, Step) else result
        yield {
            **self._opened(session, opened, result, example.about, example.questions, example.key),
            self._question: question,
            self._cancel: gr.update(interactive=not done),
        }
        if not done:
            yield from self._answers(question, adapters, session, own, side_by_side=True)

    def _open_upload(self, paths: list[str] | None, request: gr.Request) -> Iterator[Update]:
        if not paths:
            yield gr.skip()
            return
        session = _session(request)
        yield {self._status: step_status(Step("Reading the file", 0.0))}
        try:
            audit("image-open", files=len(paths))
            opened = self._service.sessions.open_files(session, [Path(path) for path in paths], remove=True)
        except Exception as error:
            yield {self._file: None, **self._failed(error)}
            return
        words = "Opened. Its file was deleted from the server's disk; the image is forgotten with this visit."
        if len(opened.series) > 1:
            words = f"The first of {len(opened.series)} series is on show; another one can be chosen. {words}"
        words = " ".join([words, *(f"{note}." for note in opened.image.notes if LOOK in note)])
        yield {self._file: None, **self._opened(session, opened, None, words, GENERAL_QUESTIONS)}

    def _reopen(self, event: gr.EventData, request: gr.Request) -> Update:
        session = _session(request)
        try:
            result = self._service.reopen(session, ResultId(str(getattr(event, "result", ""))))
        except Exception as error:
            return self._failed(error)
        return self._shown_again(session, result.opened, result)

    def _shown_again(self, session: SessionId, opened: OpenedImage, result: Result | None) -> Update:
        example = self._examples.get(opened.key)
        questions, key = (GENERAL_QUESTIONS, "") if example is None else (example.questions, example.key)
        question = questions[0] if result is None else result.inspection.question
        # What is told of an example's answers is told of its first question.
        words = example.about if example is not None and question == questions[0] else "Opened again."
        changes = self._opened(session, opened, result, words, questions, key)
        return changes if result is None else {**changes, self._question: question}

    def _open_found(
        self, found: OpenedImage | ResultId, question: str, adapters: list[str], visitor: Any, session: SessionId
    ) -> Iterator[Update]:
        """An image of the table: its result, or where that is not kept any more, the image asked anew."""
        if not isinstance(found, OpenedImage):
            result = self._service.reopen(session, found)
            yield self._shown_again(session, result.opened, result)
            return
        self._service.reserve(session)
        yield {
            **self._shown_again(session, found, None),
            self._question: question,
            self._cancel: gr.update(interactive=True),
        }
        yield from self._answers(question, adapters, session, self._own.of(visitor))

    def _opened(
        self, session: SessionId, opened: OpenedImage, result: Result | None, words: str, questions: Sequence[str],
        example: str = "",
    ) -> Update:  # fmt: skip
        """An image that came on show: with a result where there is one, words for the status, questions to ask."""
        return {
            self._viewer: viewer_value(opened, result, self._service.results.of(session), side_by_side=bool(example)),
            self._status: status(words),
            self._strip: example,
            self._suggestions: json.dumps(questions),
            **self._view.opened(opened),
        }

    def _failed(self, error: Exception) -> Update:
        """All stays as it is, and the status says what went wrong; nothing where a newer choice took its place."""
        return {self._status: gr.skip() if isinstance(error, Cancelled) else error_status(error)}

    def _change_view(
        self, window: str, centre: float | None, width: float | None, axis: int, volume: int, request: gr.Request,
        frame: int | None = None,
    ) -> Update:  # fmt: skip
        own, session = self._view.windowed(window), _session(request)
        try:
            chosen = chosen_window(window, centre, width)
            index = None if frame is None else int(frame) - 1
            opened = self._service.sessions.change_view(
                session, window=chosen, frame=index, axis=axis, volume=int(volume) - 1
            )
        except Exception as error:
            return {**own, **self._failed(error)}
        return {
            **own,
            **self._view.framed(opened),
            self._viewer: viewer_value(opened, history=self._service.results.of(session)),
            self._status: status("Ask to see the attention in this picture."),
        }

    def _walk(
        self, window: str, centre: Any, width: Any, axis: int, volume: int, event: gr.EventData, request: gr.Request
    ) -> Update:
        return self._change_view(window, centre, width, axis, volume, request, 1 + int(getattr(event, "frame", 0)))

    def _change_series(self, number: int, request: gr.Request) -> Update:
        session = _session(request)
        try:
            opened = self._service.sessions.change_series(session, int(number))
        except Exception as error:
            return self._failed(error)
        return self._opened(session, opened, None, "Ask to see the attention in this series.", GENERAL_QUESTIONS)

    # ---- questions ---------------------------------------------------------------------------

    def _take_suggestion(self, event: gr.EventData) -> str:
        return str(getattr(event, "question", ""))[:1000]

    def _reserve(self, request: gr.Request) -> Update:
        self._service.reserve(_session(request))
        return {self._status: status("Waiting for the model …"), self._cancel: gr.update(interactive=True)}

    def _answer(self, question: str, adapters: list[str], visitor: Any, request: gr.Request) -> Iterator[Update]:
        yield from self._answers(question, adapters, _session(request), self._own.of(visitor))

    def _answers(
        self,
        question: str,
        adapters: list[str],
        session: SessionId,
        own: Mapping[str, Path],
        *,
        side_by_side: bool = False,
    ) -> Iterator[Update]:
        """What changes in the viewer, the status and the cancel button while the question is being answered."""
        opened = self._service.sessions.opened(session)
        begun: Result | None = None
        try:
            if not adapters:
                raise RequestError(
                    expected="base or adapters", got="Nothing was chosen to answer", remedy='Choose under "Answer with"'
                )
            for report in self._service.ask(session, question, adapters, own):
                if isinstance(report, Step):
                    yield {self._status: step_status(report)}
                    continue
                value = answer_value(report, self._service.results.of(session), begun, side_by_side=side_by_side)
                begun = report
                ends = {self._status: finished_status(report), self._cancel: gr.update(interactive=not report.complete)}
                yield {self._viewer: value, **({} if report.writing else ends)}
        except Exception as error:
            # The end of a question that a newer one or another image replaced is not worth a word, and the newer
            # question can be cancelled.
            cancelled = isinstance(error, Cancelled)
            newer = cancelled and self._service.superseded(session)
            shown = self._service.sessions.opened(session)
            here = shown and opened and shown.regions == opened.regions
            over = newer or (cancelled and shown and opened and not here)
            if begun is not None and begun.writing and here and not newer:  # it stays, now with its heads' means
                yield {self._viewer: viewer_value(begun.opened, begun, self._service.results.of(session))}
            yield {
                self._status: gr.skip() if over else error_status(error),
                self._cancel: gr.skip() if newer else gr.update(interactive=False),
            }

    # ---- the visitor's own adapters ----------------------------------------------------------

    @property
    def question(self) -> gr.Textbox:
        """The question in words."""
        return self._question

    def _offer(self, visitor: Any, chosen: list[str]) -> Any:
        """The adapters that there are by now, with those chosen that were and still are there."""
        offered = self._adapter_choices(visitor)
        value = offered.pop("value")
        kept = [name for name in chosen if name in offered["choices"]]
        # What is chosen is sent only where it has to change: a newer choice may be on its way from another tab.
        return gr.update(**offered) if chosen and kept == chosen else gr.update(**offered, value=kept or value)

    def compare_own(
        self, visitor: Any, names: Sequence[str], picture: Path | None, question: str, request: gr.Request
    ) -> Iterator[Update]:
        """Ask the base and other adapters, the visitor's own among them: about a picture, or where there is none about
        what is on show. New values by components, which are among `own_outputs`."""
        session, own = _session(request), self._own.of(visitor)
        adapters = list(dict.fromkeys((self._service.slot.adapters[0], *names)))
        changes: Update = {self._adapters: gr.update(**{**self._adapter_choices(visitor), "value": adapters})}
        if picture is not None:
            try:
                opened = self._service.sessions.open_file(session, picture, remove=False)
            except Exception as error:
                yield {**changes, **self._failed(error)}
                return
            asked = [question, *GENERAL_QUESTIONS]
            changes |= self._opened(session, opened, None, "Asked as on the other tab.", asked)
            changes[self._question] = question
        self._service.reserve(session)
        yield {**changes, self._cancel: gr.update(interactive=True)}
        yield from self._answers(question, adapters, session, own, side_by_side=True)

    def _stop(self, request: gr.Request) -> str:
        self._service.cancel(_session(request))
        return status("Cancelling …")


def _session(request: gr.Request) -> SessionId:
    """The session that the page drew for itself when it was loaded."""
    return SessionId(str(request.session_hash))
