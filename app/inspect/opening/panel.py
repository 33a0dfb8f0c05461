"""Where an image is chosen, and how it is shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from a3tune.errors import RequestError
from a3tune.images.burnt_in import WHAT_TO_DO
from app.access.identity import audit
from app.common.comparison import OwnAdapters
from app.common.status import status, step_status
from app.common.widgets import EVENT_OPTIONS, Update, on_files, page_session
from app.engine.background import Step
from app.engine.ids import ResultId, SessionId
from app.inspect.asking import zero_gpu
from app.inspect.asking.panel import QuestionPanel
from app.inspect.asking.questions import Questions
from app.inspect.dicom_archive.panel import ArchivePanel
from app.inspect.opening.examples import (
    GENERAL_QUESTIONS,
    Example,
    build_examples,
    keep_question,
    own_image,
    written_question,
)
from app.inspect.opening.reopening import Reopening
from app.inspect.opening.view_controls import ViewControls, chosen_window
from app.inspect.sessions.opened_image import OpenedImage
from app.inspect.sessions.results import Result, ResultStore
from app.inspect.sessions.sessions import Sessions, remove_upload
from app.inspect.viewer.values import viewer_value

if TYPE_CHECKING:
    from a3tune.dicomweb.client import DicomWeb

_LEFT = "Your question about what was on show before was not answered: ask it again."

_GAVE_WAY = "The file that was being sent is not opened: this was chosen after it."

_SENT = 'studioModule("inspect/static/sending.js").sentFiles()'

STAYS = "Your question stays. Ask it about this image, or choose one of the image's own."


class ImagePanel:
    """Builds its widgets inside the running ``gr.Blocks`` context.

    Args:
        sessions, results, reopening, questions: what is on show, what came of it, what brings that back, what asks.
        archive: whom to ask for a series, if anyone.
        examples: the examples on offer; the first one is on show when a page is opened.
        own: the adapters of the visitor alone.

    Attributes:
        written: see `written_question`.
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
        self.written = written_question(self._examples)
        gr.HTML("<h2>1 · Image</h2>", apply_default_css=False)
        self._strip = build_examples(examples, examples[0].key)  # on show from the start
        self._file = gr.File(
            label="Own file: PNG, JPEG, TIFF, DICOM, NIfTI …, or the slices of a series",
            file_count="multiple",
            height=84,
            elem_id="upload",
        )
        self._number = gr.Number(0, precision=0, visible=False)
        self._archive = ArchivePanel(archive)
        self._view = ViewControls()

    def wire(self, viewer: gr.HTML, asking: QuestionPanel) -> list[gr.components.Component]:
        """Connect the widgets; gives all that changes where an image comes on show and is asked about.

        Args:
            viewer: what shows images.
            asking: where questions are asked.
        """
        self._viewer, self._asking, self._status = viewer, asking, asking.status
        shown = [viewer, self._status, self._strip, asking.suggestions, asking.question, asking.cancel]
        opened = [*shown, *self._view.outputs]
        # "multiple": another image may be chosen while the model still answers about the last one.
        options = {"trigger_mode": "multiple", **EVENT_OPTIONS}
        chosen = [asking.question, asking.adapters, self._own.visitor]
        self._strip.pick(self._open_example, chosen, opened, js=self.written, **options)
        uploaded = on_files(self._file, self._open_upload, [self._number], opened, _SENT, **options)
        self._strip.sending(self._await_files, None, None, queue=False, **options)
        told = [self._status, asking.cancel]
        self._strip.unsent(self._miss_files, None, told, queue=False, **options)
        uploaded.failure(self._miss_all, None, told, queue=False, **options)
        for came in (uploaded, *self._archive.wire(self._status, self._open_files, opened)):
            keep_question(came, asking.question, self._strip, viewer, self._examples)
        viewer.reopen(self._reopen, [asking.question], opened, js=self.written, **options)

        changed = [viewer, self._status, asking.cancel, *self._view.changed]
        viewer.walk(self._walk, self._view.choices, changed, **options)
        self._view.wire(self._change_view, changed, self._change_series, opened)
        return opened

    # ---- files and examples ------------------------------------------------------------------

    def _open_example(
        self, question: str, adapters: list[str], visitor: Any, event: gr.EventData, request: gr.Request
    ) -> Iterator[Update]:
        session = page_session(request)
        example = self._examples.get(str(getattr(event, "key", "")))
        if example is None:
            error = RequestError(
                expected="one of the examples on the page", got="There is no such example", remedy="Reload the page"
            )
            yield self._asking.not_opened(session, error)
            return
        self._leave_files(session, event)
        yield from self.show_example(example, adapters, session, self._own.of(visitor), question)

    def show_example(
        self, example: Example, adapters: list[str], session: SessionId, own: Mapping[str, Path], written: str = ""
    ) -> Iterator[Update]:
        """The example at once, with the answers to its question as soon as they are there.

        A question that the visitor wrote stays in its place, and is asked about the example where it was asked before.
        """
        written = written.strip()
        try:
            opened = self._sessions.open_file(session, example.path, remove=False, key=example.key)
        except Exception as error:
            yield self._asking.not_opened(session, error)
            return
        unasked = bool(written) and not self._questions.was_asked(session, written)
        if unasked or self._asking.is_waiting(session):
            yield self.shown(session, opened, None, STAYS, example.questions, example.key)
            yield from self._asking.waiting_answers(session)
            return
        question = written or example.questions[0]
        self._sessions.get(session).left = ""  # it goes on, or gives way to the example's
        self._questions.reserve(session)
        prepared = self._questions.is_prepared(session, question, adapters)
        done = prepared or zero_gpu.is_held()  # the time of a lent GPU is the visitor's to spend
        result = next(self._questions.ask(session, question, adapters)) if prepared else None
        result = None if isinstance(result, Step) else result
        words = example.about if question == example.questions[0] else STAYS
        yield {
            **self.shown(session, opened, result, words, example.questions, example.key),
            self._asking.question: gr.skip() if written else question,
            self._asking.cancel: gr.update(interactive=not done),
        }
        if not done:
            yield from self._asking.answers(question, adapters, session, own, side_by_side=True)

    def _leave_files(self, session: SessionId, event: gr.EventData) -> None:
        """What is chosen comes on show in place of files that were chosen before it and are not there yet."""
        self._sessions.get(session).give_up_files(int(getattr(event, "sent", 0)))

    def _await_files(self, event: gr.EventData, request: gr.Request) -> None:
        self._sessions.get(page_session(request)).send(int(getattr(event, "number", 0)))

    def _miss_files(self, event: gr.EventData, request: gr.Request) -> Update:
        return self._not_sent(page_session(request), int(getattr(event, "number", 0)))

    def _miss_all(self, request: gr.Request) -> Update:
        session = page_session(request)
        return self._not_sent(session, self._sessions.get(session).sent)

    def _not_sent(self, session: SessionId, number: int) -> Update:
        state = self._sessions.get(session)
        state.arrive(number)
        if state.gave_up(number):
            return {self._status: gr.skip()}
        error = RequestError(
            expected="a file that reaches the server",
            got="This one did not, or was not taken",
            remedy="Choose it again, or a smaller one",
        )
        return self._asking.not_opened(session, error)

    def _open_upload(self, paths: list[str] | None, number: int, request: gr.Request) -> Iterator[Update]:
        state, files = self._sessions.get(page_session(request)), [Path(path) for path in paths or ()]
        if state.gave_up(number):
            for file in files:
                remove_upload(file)
            files = []

        def fetch() -> list[Path]:
            state.arrive(number)  # from now on it is being opened
            return files

        yield from self._open_files("Reading the file", fetch, request, number) if files else [gr.skip()]

    def _open_files(
        self, what: str, fetch: Callable[[], Sequence[Path]], request: gr.Request, sent: int = 0
    ) -> Iterator[Update]:
        """Opens what ``fetch`` gives, files that this visit may remove; ``what`` says what that takes time for,
        ``sent`` by which number the page knows them."""
        session = page_session(request)
        yield {self._status: step_status(Step(what, 0.0))}
        try:
            with self._sessions.get(session).coming("images"):
                files = fetch()
                audit("image-open", files=len(files))
                opened = self._sessions.open_files(session, files, remove=True, sent=sent)
        except Exception as error:
            yield self._asking.not_opened(session, error)
            return
        words = "Opened. Its file was deleted from the server's disk; the image is forgotten with this visit."
        if len(opened.series) > 1:
            words = f"The first of {len(opened.series)} series is on show; another one can be chosen. {words}"
        words = " ".join([words, *(f"{note}." for note in opened.image.notes if WHAT_TO_DO in note)])
        yield self.shown(session, opened, None, words, GENERAL_QUESTIONS)
        yield from self._asking.waiting_answers(session)

    # ---- what was on show before -------------------------------------------------------------

    def _reopen(self, written: str, event: gr.EventData, request: gr.Request) -> Iterator[Update]:
        session = page_session(request)
        self._leave_files(session, event)
        yield from self._open_result(session, ResultId(str(getattr(event, "result", ""))), written)

    def _open_result(self, session: SessionId, name: ResultId, written: str) -> Iterator[Update]:
        try:
            result = self._reopening.reopen(session, name)
        except Exception as error:
            yield self._asking.not_opened(session, error)
            return
        yield self.shown_again(session, result.opened, result, written)
        yield from self._asking.waiting_answers(session)

    def shown_again(
        self, session: SessionId, opened: OpenedImage, result: Result | None, written: str = "", *, first: str = ""
    ) -> Update:
        """An image that comes back on show, with its result and its question where there is one. A question that the
        visitor wrote and that has no answer yet stays in its field; that of the result stands among its words. What is
        to be said `first` goes before them."""
        example = self._examples.get(opened.key)
        questions, key = (GENERAL_QUESTIONS, "") if example is None else (example.questions, example.key)
        question = questions[0] if result is None else result.inspection.question
        # What is told of an example's answers is told of its first question.
        words = example.about if example is not None and question == questions[0] else "Opened again."
        words = f"{first} {words}".strip()
        stays = self.is_unanswered(session, written)
        changes = self.shown(session, opened, result, f"{words} {STAYS}" if stays else words, questions, key)
        keeps = result is None or stays or self._asking.is_waiting(session)
        return changes if keeps else {**changes, self._asking.question: question}

    def is_unanswered(self, session: SessionId, written: str) -> bool:
        """Whether the visitor wrote a question that has no answer yet."""
        return bool(written.strip()) and not self._questions.has_answer(session, written.strip())

    def open_found(
        self,
        find: Callable[[], OpenedImage | ResultId],
        question: str,
        adapters: list[str],
        visitor: Any,
        session: SessionId,
        written: str,
    ) -> Iterator[Update]:
        """An image of the table: its result, or where that is not kept any more, the image asked anew. What the visitor
        wrote and did not ask stays."""
        try:
            found = find()
        except Exception as error:
            if self._asking.is_waiting(session):
                yield self._asking.not_opened(session, error)
            raise
        if not isinstance(found, OpenedImage):
            yield from self._open_result(session, found, written)
            return
        if self._asking.is_waiting(session):
            yield self.shown_again(session, found, None)
            yield from self._asking.waiting_answers(session)
            return
        self._questions.reserve(session)
        yield {
            **self.shown_again(session, found, None, written),
            self._asking.question: gr.skip() if self.is_unanswered(session, written) else question,
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
            self._status: self._opened_status(session, words),
            self._strip: example or own_image(opened),
            self._asking.suggestions: json.dumps(questions),
            **self._view.opened(opened),
        }

    def _opened_status(self, session: SessionId, words: str) -> str:
        """The words, and what became of a question about what was on show before."""
        state = self._sessions.get(session)
        told = [words, *([_GAVE_WAY] if state.gave_way else []), *([_LEFT] if state.left else [])]
        state.left, state.gave_way = "", False
        return status(" ".join(told))

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
            return {**own, **self._asking.not_opened(session, error)}
        return {
            **own,
            **self._view.framed(opened),
            self._viewer: viewer_value(opened, history=self._results.of(session)),
            self._status: self._opened_status(session, "Ask to see the attention in this picture."),
        }

    def _walk(
        self, window: str, centre: Any, width: Any, axis: int, volume: int, event: gr.EventData, request: gr.Request
    ) -> Update:
        return self._change_view(window, centre, width, axis, volume, request, 1 + int(getattr(event, "frame", 0)))

    def _change_series(self, number: int, request: gr.Request) -> Iterator[Update]:
        session = page_session(request)
        try:
            opened = self._sessions.change_series(session, int(number))
        except Exception as error:
            yield self._asking.not_opened(session, error)
            return
        yield self.shown(session, opened, None, "Ask to see the attention in this series.", GENERAL_QUESTIONS)
        yield from self._asking.waiting_answers(session)
