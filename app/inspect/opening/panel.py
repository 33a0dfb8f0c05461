"""Where an image is chosen, and how it is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from a3tune.errors import Cancelled, RequestError
from a3tune.images.burnt_in import LOOK
from app.access.identity import audit
from app.common.comparison import OwnAdapters
from app.common.status import error_status, status, step_status
from app.common.widgets import EVENT_OPTIONS, Update, page_session
from app.engine.background import Step
from app.engine.ids import ResultId, SessionId
from app.inspect.archive.panel import ArchivePanel
from app.inspect.asking import zero_gpu
from app.inspect.asking.panel import QuestionPanel
from app.inspect.asking.questions import Questions
from app.inspect.opening.examples import GENERAL_QUESTIONS, Example, build_examples, keep_question
from app.inspect.opening.reopening import Reopening
from app.inspect.opening.view_controls import ViewControls, chosen_window
from app.inspect.sessions.opened_image import OpenedImage
from app.inspect.sessions.results import Result, ResultStore
from app.inspect.sessions.sessions import Sessions
from app.inspect.viewer.values import viewer_value

if TYPE_CHECKING:
    from a3tune.dicomweb.client import DicomWeb


class ImagePanel:
    """Builds its widgets inside the running ``gr.Blocks`` context.

    Args:
        sessions, results, reopening, questions: what is on show, what came of it, what brings that back, what asks.
        archive: whom to ask for a series, if anyone.
        examples: the examples on offer; the first one is on show when a page is opened.
        own: the adapters of the visitor alone.
    """

    def __init__(
        self,
        sessions: Sessions,
        results: ResultStore,
        reopening: Reopening,
        questions: Questions,
        archive: DicomWeb | None,
        examples: tuple[Example, ...],
        own: OwnAdapters,
    ) -> None:
        self._sessions, self._results, self._reopening, self._questions = sessions, results, reopening, questions
        self._examples, self._own = {example.key: example for example in examples}, own
        gr.HTML("<h2>1 · Image</h2>", apply_default_css=False)
        self._strip = build_examples(examples, examples[0].key)  # on show from the start
        self._file = gr.File(
            label="Own file: PNG, JPEG, TIFF, DICOM, NIfTI …, or the slices of a series",
            file_count="multiple",
            height=84,
            elem_id="upload",
        )
        self._archive = ArchivePanel(archive)
        self._view = ViewControls()

    def wire(self, viewer: gr.HTML, asking: QuestionPanel) -> list[gr.components.Component]:
        """Connect the widgets; gives all that changes where an image comes on show and is asked about.

        Args:
            viewer: what shows images.
            asking: where questions are asked.
        """
        self._viewer, self._asking, self._status = viewer, asking, asking.status
        opened = [viewer, self._status, self._strip, asking.suggestions, asking.question, *self._view.outputs]
        answered = [*opened, asking.cancel]
        # "multiple": another example may be chosen while the model still answers about the last one.
        self._strip.pick(
            self._open_example,
            [asking.adapters, self._own.visitor],
            answered,
            trigger_mode="multiple",
            **EVENT_OPTIONS,
        )
        uploaded = self._file.upload(self._open_upload, [self._file], [self._file, *opened], **EVENT_OPTIONS)
        for came in (uploaded, *self._archive.wire(self._status, self._open_upload, [self._file, *opened])):
            keep_question(came, asking.question, self._strip, self._examples)
        viewer.reopen(self._reopen, None, opened, trigger_mode="multiple", **EVENT_OPTIONS)

        changed = [viewer, self._status, *self._view.changed]
        viewer.walk(self._walk, self._view.choices, changed, trigger_mode="multiple", **EVENT_OPTIONS)
        self._view.wire(self._change_view, changed, self._change_series, opened)
        return answered

    # ---- files and examples ------------------------------------------------------------------

    def _open_example(
        self, adapters: list[str], visitor: Any, event: gr.EventData, request: gr.Request
    ) -> Iterator[Update]:
        example = self._examples.get(str(getattr(event, "key", "")))
        if example is None:
            error = RequestError(
                expected="one of the examples on the page", got="There is no such example", remedy="Reload the page"
            )
            yield self.failed(error)
            return
        yield from self.show_example(example, adapters, page_session(request), self._own.of(visitor))

    def show_example(
        self, example: Example, adapters: list[str], session: SessionId, own: Mapping[str, Path]
    ) -> Iterator[Update]:
        """The example at once, with its answers as soon as they are there."""
        try:
            opened = self._sessions.open_file(session, example.path, remove=False, key=example.key)
        except Exception as error:
            yield self.failed(error)
            return
        question = example.questions[0]
        self._questions.reserve(session)
        prepared = self._questions.is_prepared(session, question, adapters)
        done = prepared or zero_gpu.is_held()  # the time of a lent GPU is the visitor's to spend
        result = next(self._questions.ask(session, question, adapters)) if prepared else None
        result = None if isinstance(result, Step) else result
        yield {
            **self.shown(session, opened, result, example.about, example.questions, example.key),
            self._asking.question: question,
            self._asking.cancel: gr.update(interactive=not done),
        }
        if not done:
            yield from self._asking.answers(question, adapters, session, own, side_by_side=True)

    def _open_upload(self, paths: list[str] | None, request: gr.Request) -> Iterator[Update]:
        if not paths:
            yield gr.skip()
            return
        session = page_session(request)
        yield {self._status: step_status(Step("Reading the file", 0.0))}
        try:
            audit("image-open", files=len(paths))
            opened = self._sessions.open_files(session, [Path(path) for path in paths], remove=True)
        except Exception as error:
            yield {self._file: None, **self.failed(error)}
            return
        words = "Opened. Its file was deleted from the server's disk; the image is forgotten with this visit."
        if len(opened.series) > 1:
            words = f"The first of {len(opened.series)} series is on show; another one can be chosen. {words}"
        words = " ".join([words, *(f"{note}." for note in opened.image.notes if LOOK in note)])
        yield {self._file: None, **self.shown(session, opened, None, words, GENERAL_QUESTIONS)}

    # ---- what was on show before -------------------------------------------------------------

    def _reopen(self, event: gr.EventData, request: gr.Request) -> Update:
        session = page_session(request)
        try:
            result = self._reopening.reopen(session, ResultId(str(getattr(event, "result", ""))))
        except Exception as error:
            return self.failed(error)
        return self.shown_again(session, result.opened, result)

    def shown_again(self, session: SessionId, opened: OpenedImage, result: Result | None) -> Update:
        """An image that comes back on show, with its result and its question where there is one."""
        example = self._examples.get(opened.key)
        questions, key = (GENERAL_QUESTIONS, "") if example is None else (example.questions, example.key)
        question = questions[0] if result is None else result.inspection.question
        # What is told of an example's answers is told of its first question.
        words = example.about if example is not None and question == questions[0] else "Opened again."
        changes = self.shown(session, opened, result, words, questions, key)
        return changes if result is None else {**changes, self._asking.question: question}

    def open_found(
        self, found: OpenedImage | ResultId, question: str, adapters: list[str], visitor: Any, session: SessionId
    ) -> Iterator[Update]:
        """An image of the table: its result, or where that is not kept any more, the image asked anew."""
        if not isinstance(found, OpenedImage):
            result = self._reopening.reopen(session, found)
            yield self.shown_again(session, result.opened, result)
            return
        self._questions.reserve(session)
        yield {
            **self.shown_again(session, found, None),
            self._asking.question: question,
            self._asking.cancel: gr.update(interactive=True),
        }
        yield from self._asking.answers(question, adapters, session, self._own.of(visitor))

    # ---- how it is shown ---------------------------------------------------------------------

    def shown(
        self,
        session: SessionId,
        opened: OpenedImage,
        result: Result | None,
        words: str,
        questions: Sequence[str],
        example: str = "",
    ) -> Update:
        """An image that came on show: with a result where there is one, words for the status, questions to ask."""
        return {
            self._viewer: viewer_value(opened, result, self._results.of(session), side_by_side=bool(example)),
            self._status: status(words),
            self._strip: example,
            self._asking.suggestions: json.dumps(questions),
            **self._view.opened(opened),
        }

    def failed(self, error: Exception) -> Update:
        """All stays as it is, and the status says what went wrong; nothing where a newer choice took its place."""
        return {self._status: gr.skip() if isinstance(error, Cancelled) else error_status(error)}

    def _change_view(
        self,
        window: str,
        centre: float | None,
        width: float | None,
        axis: int,
        volume: int,
        request: gr.Request,
        frame: int | None = None,
    ) -> Update:
        own, session = self._view.windowed(window), page_session(request)
        try:
            chosen = chosen_window(window, centre, width)
            index = None if frame is None else int(frame) - 1
            opened = self._sessions.change_view(session, window=chosen, frame=index, axis=axis, volume=int(volume) - 1)
        except Exception as error:
            return {**own, **self.failed(error)}
        return {
            **own,
            **self._view.framed(opened),
            self._viewer: viewer_value(opened, history=self._results.of(session)),
            self._status: status("Ask to see the attention in this picture."),
        }

    def _walk(
        self, window: str, centre: Any, width: Any, axis: int, volume: int, event: gr.EventData, request: gr.Request
    ) -> Update:
        return self._change_view(window, centre, width, axis, volume, request, 1 + int(getattr(event, "frame", 0)))

    def _change_series(self, number: int, request: gr.Request) -> Update:
        session = page_session(request)
        try:
            opened = self._sessions.change_series(session, int(number))
        except Exception as error:
            return self.failed(error)
        return self.shown(session, opened, None, "Ask to see the attention in this series.", GENERAL_QUESTIONS)
