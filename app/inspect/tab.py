"""The Inspect tab: an image, a question, the answer, and where every head looked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from app.common.comparison import OwnAdapters
from app.common.pictures import PictureQuestion
from app.common.status import status
from app.common.widgets import EVENT_OPTIONS, Update, page_session
from app.inspect.asking.panel import QuestionPanel
from app.inspect.batch.panel import BatchPanel
from app.inspect.handlers import viewer_answers
from app.inspect.opening.examples import GENERAL_QUESTIONS, Example
from app.inspect.opening.panel import STAYS, ImagePanel
from app.inspect.service import InspectService
from app.inspect.sessions.opened_image import OpenedImage, Reference, open_example
from app.inspect.sessions.results import Result
from app.inspect.viewer import WANTED, build_viewer
from app.inspect.viewer.values import adopted_value, viewer_value

_GONE = (
    "The inspection that this page names is not there, or not yours: it is forgotten with its visit, and when the "
    "server starts anew."
)


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
        self._service, self._own, self._first = service, own, examples[0]
        self._opening: tuple[Result | None, str] | None = None
        self._batch = BatchPanel(service.batches)
        parts = service.sessions, service.results, service.reopening, service.questions, service.archive
        with gr.Row(elem_id="inspect", equal_height=False):
            with gr.Column(scale=0, min_width=300, elem_id="inputs"):
                self._images = ImagePanel(*parts, examples, own)
                self._asking = QuestionPanel(
                    service.questions, service.sessions, service.results, own, self._first.questions
                )
                self._batch.build_inputs()
            with gr.Column(scale=1, min_width=560):
                self._batch.build_table()
                self._viewer = build_viewer(viewer_answers(service), service.keeps_source, service.archive)
        self._wire(page, tab)

    def opening_value(self) -> str:
        """The viewer's value that a page brings with it: the first example, with its answers once there are any."""
        result = self._service.prepared.opening
        if self._opening is None or self._opening[0] is not result:
            opened = open_example(self._first.path, self._first.key) if result is None else result.opened
            self._opening = result, viewer_value(opened, result, side_by_side=True)
        return self._opening[1]

    def _wire(self, page: gr.Blocks, tab: gr.Tab) -> None:
        adapters, visitor = self._asking.adapters, self._own.visitor
        answered = self._images.wire(self._viewer, self._asking)
        self.own_outputs = [adapters, *answered]
        tab.select(self._asking.offer, [visitor, adapters], [adapters], queue=False, **EVENT_OPTIONS)
        page.load(self._begin, [visitor, gr.JSON(visible=False)], self.own_outputs, js=WANTED, **EVENT_OPTIONS)
        self._asking.wire(self._viewer)
        asked = [self.question, adapters]
        self._batch.wire(page, self._own, asked, self._images.open_found, answered, self.written)

    def follow(self, header: gr.HTML) -> None:
        """Where the page's head notices another model, offer its adapters and show the picture that it is given."""
        replaced = [self._asking.adapters, self._viewer]
        header.switched(self._follow_model, [self._own.visitor], replaced, queue=False, **EVENT_OPTIONS)

    def _follow_model(self, secret: Any, request: gr.Request) -> Update:
        changes: Update = {self._asking.adapters: gr.update(**self._asking.choices(secret))}
        fitting = self._service.read_for_model(page_session(request))
        results = self._service.results.of(page_session(request))
        # A result on show stays with the picture that its model was given.
        if fitting is not None and not any(result.opened.regions == fitting.regions for result in results):
            changes[self._viewer] = viewer_value(fitting, history=results)
        return changes

    def _begin(self, visitor: Any, wanted: Any, request: gr.Request) -> Iterator[Update]:
        """A new page: what it asks for, else the first example with its result, which it may have brought."""
        adapters, session = self._asking.choices(visitor), page_session(request)
        begun: Update = {self._asking.adapters: gr.update(**adapters)}
        restored = self._service.reopening.restore(session, wanted)
        gone = _GONE if _is_gone(wanted, restored) else ""
        told = {self._asking.status: status(f"{gone} {self._first.about}".strip())}
        if restored:
            yield {**begun, **self._images.shown_again(session, *restored, first=gone)}
        elif result := self._service.reopening.welcome(session):
            yield {**begun, **told, self._viewer: adopted_value(result, self._service.results.of(session))}
        elif self._service.sessions.opened(session) is not None:
            yield begun
        else:
            for changes in self._images.show_example(self._first, adapters["value"], session, {}):
                yield {**begun, **changes}
                begun = {}
            if gone:
                yield told

    # ---- the visitor's own adapters ----------------------------------------------------------

    @property
    def question(self) -> gr.Textbox:
        """The question in words."""
        return self._asking.question

    @property
    def written(self) -> str:
        """The script of an event whose first input is the question: it sends that where the visitor wrote it."""
        return self._images.written

    def compare_own(
        self,
        visitor: Any,
        names: Sequence[str],
        asked: PictureQuestion,
        written: str,
        request: gr.Request,
    ) -> Iterator[Update]:
        """Ask the base and other adapters, the visitor's own among them. ``written`` is what the visitor wrote as
        another question: it stays in the question's field where it was not asked. New values by components, which are
        among `own_outputs`."""
        session, own, asking = page_session(request), self._own.of(visitor), self._asking
        adapters = list(dict.fromkeys((self._service.slot.adapters[0], *names)))
        changes: Update = {asking.adapters: gr.update(**{**asking.choices(visitor), "value": adapters})}
        question = asked.question
        if asked.picture is not None:
            try:
                known = Reference(question, asked.mask, asked.answer)
                opened = self._service.sessions.open_file(session, asked.picture, remove=False, reference=known)
            except Exception as error:
                yield {**changes, **asking.not_opened(session, error)}
                return
            words, stays = "Asked as on the other tab.", self._images.is_unanswered(session, written)
            stays = stays and written.strip() != question
            told = f"{words} {STAYS}" if stays else words
            changes |= self._images.shown(session, opened, None, told, [question, *GENERAL_QUESTIONS])
            changes[asking.question] = gr.skip() if stays else question
        self._service.questions.reserve(session)
        yield {**changes, asking.cancel: gr.update(interactive=True)}
        yield from asking.answers(question, adapters, session, own, side_by_side=True)


def _is_gone(wanted: Any, restored: tuple[OpenedImage, Result | None] | None) -> bool:
    """Whether a page names an inspection, or what it had on show last, that is not what came back."""
    if not isinstance(wanted, list):
        return False
    named = wanted[0] if wanted else ""
    if restored is None:
        return any(wanted)
    return bool(named) and (restored[1] is None or restored[1].id != named)
