"""Where a question is written, who answers is chosen, and what goes on is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from a3tune.errors import Cancelled, RequestError
from app.common.comparison import OwnAdapters
from app.common.status import error_status, explain, status, step_status, warning_status
from app.common.widgets import EVENT_OPTIONS, Update, page_session
from app.engine.background import Step
from app.engine.ids import SessionId
from app.inspect.asking.questions import Questions
from app.inspect.asking.suggestions import build_suggestions
from app.inspect.sessions.results import Result, ResultStore
from app.inspect.sessions.session import Asked
from app.inspect.sessions.sessions import Sessions
from app.inspect.viewer.values import AnswerValues, finished_status, viewer_value

# A question is about the slice that the page has on show, of which the server hears when a walk rests.
_AFTER_WALK = 'async (...asked) => (await studioModule("inspect/viewer/slices.js").walkEnd(), asked)'


class QuestionPanel:
    """Builds its widgets inside the running ``gr.Blocks`` context.

    Args:
        questions, sessions, results: what asks, what is asked about, and what came of it.
        own: the adapters of the visitor alone.
        suggested: the questions on offer at first, the first of which is filled in.

    Attributes:
        question, suggestions, adapters, cancel, status: the widgets that change with what is on show.
    """

    def __init__(
        self,
        questions: Questions,
        sessions: Sessions,
        results: ResultStore,
        own: OwnAdapters,
        suggested: Sequence[str],
    ) -> None:
        self._questions, self._sessions, self._results, self._own = questions, sessions, results, own
        gr.HTML("<h2>2 · Question</h2>", apply_default_css=False)
        self.question = gr.Textbox(
            label="Question",
            value=suggested[0],
            show_label=False,
            placeholder="Ask about the image …",
            lines=1,
            max_lines=4,
            max_length=1000,
            elem_id="question",
        )
        self.suggestions = build_suggestions(suggested)
        self.adapters = gr.CheckboxGroup(**self.choices(), label="Answer with", elem_id="adapters")
        with gr.Row(elem_id="actions"):
            self._ask = gr.Button("Ask", variant="primary", scale=3, min_width=120, elem_id="ask")
            self.cancel = gr.Button("Cancel", interactive=False, scale=1, min_width=80, elem_id="cancel")
        # Nothing can be asked before the session has begun, see `initial_page.js`.
        self.status = gr.HTML(status("Opening the page …"), elem_id="status", apply_default_css=False)

    def wire(self, viewer: gr.HTML) -> None:
        """Connect the widgets; answers come on show in the viewer."""
        self._viewer = viewer
        waiting = [self.status, self.cancel]
        fill = self.suggestions.pick(self._take_suggestion, None, [self.question], queue=False, **EVENT_OPTIONS)
        asked = [self.question, self.adapters, self._own.visitor]
        for event in (fill.then, self._ask.click, self.question.submit):
            reserved = event(self._reserve, asked, waiting, js=_AFTER_WALK, queue=False, **EVENT_OPTIONS)
            # One question at a time over all visitors: the model is one, and its answers come in seconds.
            reserved.then(
                self._answer, None, [viewer, *waiting], concurrency_id="model", concurrency_limit=1, **EVENT_OPTIONS
            )
        self.cancel.click(self._stop, None, waiting, queue=False, **EVENT_OPTIONS)

    # ---- who answers -------------------------------------------------------------------------

    def choices(self, secret: Any = None) -> dict[str, Any]:
        """What all visitors share is chosen at first; the visitor's own adapters wait to be chosen."""
        names, own = list(self._questions.slot.adapters), list(self._own.of(secret))
        return {"choices": [*names, *own], "value": names, "visible": len(names) + len(own) > 1}

    def offer(self, visitor: Any, chosen: list[str]) -> Any:
        """The adapters that there are by now, with those chosen that were and still are there."""
        offered = self.choices(visitor)
        value = offered.pop("value")
        kept = [name for name in chosen if name in offered["choices"]]
        # What is chosen is sent only where it has to change: a newer choice may be on its way from another tab.
        return gr.update(**offered) if chosen and kept == chosen else gr.update(**offered, value=kept or value)

    # ---- questions ---------------------------------------------------------------------------

    def _take_suggestion(self, event: gr.EventData) -> str:
        return str(getattr(event, "question", ""))[:1000]

    def _reserve(self, question: str, adapters: list[str], visitor: Any, request: gr.Request) -> Update:
        asked = Asked(question, tuple(adapters), self._own.of(visitor))
        waits = self._questions.reserve(page_session(request), asked)
        words = "The question waits for the image that is on its way …" if waits else "Waiting for the model …"
        return {self.status: status(words), self.cancel: gr.update(interactive=True)}

    def _answer(self, request: gr.Request) -> Iterator[Update]:
        name = page_session(request)
        session = self._sessions.get(name)
        asked = session.begin()
        if asked is not None:
            yield from self.answers(asked.question, list(asked.adapters), name, asked.own)
        elif session.asked is None:  # another image came, whose opening told of it
            yield {self.cancel: gr.update(interactive=False)}
        else:
            yield gr.skip()

    def is_waiting(self, session: SessionId) -> bool:
        """Whether a question waits for the image that is being opened."""
        return self._sessions.get(session).waits

    def waiting_answers(self, session: SessionId) -> Iterator[Update]:
        """After an image came on show: what changes while the question that waited for it, if any, is answered."""
        asked = self._sessions.get(session).take()
        if asked is not None:
            yield from self.answers(asked.question, list(asked.adapters), session, asked.own)

    def not_opened(self, session: SessionId, error: Exception) -> Update:
        """An image could not be opened, so that all stays as it is: what is told of it, and of the question that waited
        for it; nothing where a newer choice took its place."""
        unasked = self._sessions.get(session).drop()
        if not unasked:
            return {self.status: gr.skip() if isinstance(error, Cancelled) else error_status(error)}
        why = "No other image was opened." if isinstance(error, Cancelled) else explain(error)
        return {
            self.status: warning_status(f"{why} Your question waited for that image and was not asked."),
            self.cancel: gr.update(interactive=False),
        }

    def answers(
        self,
        question: str,
        adapters: list[str],
        session: SessionId,
        own: Mapping[str, Path],
        *,
        side_by_side: bool = False,
    ) -> Iterator[Update]:
        """What changes in the viewer, the status and the cancel button while the question is being answered."""
        opened, state = self._sessions.opened(session), self._sessions.get(session)
        asked = state.asked
        begun: Result | None = None
        values = AnswerValues(side_by_side=side_by_side)
        try:
            if not adapters:
                raise RequestError(
                    expected="base or adapters", got="Nothing was chosen to answer", remedy='Choose under "Answer with"'
                )
            for report in self._questions.ask(session, question, adapters, own):
                if isinstance(report, Step):
                    yield {self.status: step_status(report)}
                    continue
                value, begun = values.value(report, self._results.of(session)), report
                ends = {self.status: finished_status(report), self.cancel: gr.update(interactive=not report.complete)}
                yield {self._viewer: value, **({} if report.writing else ends)}
        except Exception as error:
            # The end of a question that a newer one or another image replaced is not worth a word, and the newer
            # question can be cancelled.
            cancelled = isinstance(error, Cancelled)
            newer = cancelled and self._questions.superseded(session)
            shown = self._sessions.opened(session)
            here = shown and opened and shown.regions == opened.regions
            over = newer or (cancelled and shown and opened and not here)
            # What there is stays, now with its heads' means, and waits for no further adapter.
            if begun is not None and not begun.complete and here and not newer:
                yield {self._viewer: viewer_value(begun.opened, begun, self._results.of(session))}
            yield {
                self.status: gr.skip() if over else error_status(error),
                self.cancel: gr.skip() if newer else gr.update(interactive=False),
            }
        finally:
            if state.asked is asked:
                state.asked = None

    def _stop(self, request: gr.Request) -> Update:
        if self._questions.cancel(page_session(request)):
            return {self.status: error_status(Cancelled()), self.cancel: gr.update(interactive=False)}
        return {self.status: status("Cancelling …")}
