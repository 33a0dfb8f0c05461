"""The Inspect tab: an image, a question, the answer, and where every head looked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from a3tune.errors import Cancelled, RequestError
from a3tune.images import AXES, WINDOW_PRESETS
from a3tune.types import Window
from app.common.status import error_status, status, step_status
from app.engine.background import Step
from app.inspect.examples import Example, build_examples, build_suggestions
from app.inspect.handlers import viewer_answers
from app.inspect.results import Finished, Kept
from app.inspect.service import InspectService
from app.inspect.sessions import OpenedImage, read_image
from app.inspect.values import adopted_value, finished_status, thumbnail, viewer_value
from app.inspect.viewer import build_viewer

FILE_WINDOW = "as in the file"
OWN_WINDOW = "own centre and width"
GENERAL_QUESTIONS = ("What does this image show?", "Is there an abnormality?", "Describe the findings.")

_READING = Step("Reading the file", 0.0)


class OwnAdapters(NamedTuple):
    """The adapters of the visitor alone.

    Attributes:
        visitor: the visitor's secret (see :mod:`app.common.identity`).
        of: secret -> folders in PEFT's format by name.
    """

    visitor: gr.BrowserState
    of: Callable[[Any], dict[str, Path]]


class InspectTab:
    """Builds the tab inside the running ``gr.Blocks`` context and wires it to the studio.

    Args:
        studio: the application's state.
        examples: the examples on offer; the first one is on show when a page is opened.
        page: the whole page.
        tab: the tab, whose opening offers what came meanwhile.
        own: the adapters of the visitor alone.
    """

    def __init__(
        self, studio: InspectService, examples: tuple[Example, ...], page: gr.Blocks, tab: gr.Tab, own: OwnAdapters
    ) -> None:
        self._studio, self._mine = studio, own
        self._examples = {example.key: example for example in examples}
        self._opening: tuple[Kept | None, str] | None = None
        self._place()
        self._wire(page, tab)

    # ---- widgets -----------------------------------------------------------------------------

    def _place(self) -> None:
        with gr.Row(elem_id="inspect", equal_height=False):
            with gr.Column(scale=0, min_width=300, elem_id="inputs"):
                gr.HTML("<h2>1 · Image</h2>", apply_default_css=False)
                # The first example is on show from the start, see `opening_value`.
                first = next(iter(self._examples.values()))
                self._strip = build_examples([_item(example) for example in self._examples.values()], first.key)
                self._file = gr.File(
                    label="Own file: PNG, JPEG, TIFF, DICOM, NIfTI …, or the slices of a series",
                    file_count="multiple",
                    height=84,
                    elem_id="upload",
                )
                with gr.Group(visible=False, elem_id="display") as self._display:
                    with gr.Row():
                        self._window = gr.Dropdown(
                            [FILE_WINDOW, *WINDOW_PRESETS, OWN_WINDOW],
                            value=FILE_WINDOW,
                            label="Window",
                            min_width=120,
                            elem_id="window",
                        )
                        self._axis = gr.Dropdown(
                            [(name, axis) for axis, name in enumerate(AXES)],
                            value=2,
                            label="Plane",
                            min_width=120,
                            visible=False,
                            elem_id="axis",
                        )
                    with gr.Row(visible=False) as self._own:
                        self._centre = gr.Number(40, label="Centre", min_width=80, elem_id="centre")
                        self._width = gr.Number(400, label="Width", minimum=1, min_width=80, elem_id="width")
                    self._frame = gr.Slider(1, 2, value=1, step=1, label="Slice", visible=False, elem_id="frame")
                    self._volume = gr.Slider(1, 2, value=1, step=1, label="Volume", visible=False, elem_id="volume")
                gr.HTML("<h2>2 · Question</h2>", apply_default_css=False)
                self._question = gr.Textbox(
                    label="Question",
                    value=first.questions[0],
                    show_label=False,
                    placeholder="Ask about the image …",
                    lines=1,
                    max_lines=4,
                    max_length=1000,
                    elem_id="question",
                )
                self._suggestions = build_suggestions(first.questions)
                self._adapters = gr.CheckboxGroup(**self._adapter_choices(), label="Answer with", elem_id="adapters")
                with gr.Row(elem_id="actions"):
                    self._ask = gr.Button("Ask", variant="primary", scale=3, min_width=120, elem_id="ask")
                    self._cancel = gr.Button("Cancel", interactive=False, scale=1, min_width=80, elem_id="cancel")
                # Nothing can be asked before the visit has begun, see `initial_page.js`.
                self._status = gr.HTML(status("Opening the page …"), elem_id="status", apply_default_css=False)
            with gr.Column(scale=1, min_width=560):
                self._viewer = build_viewer(viewer_answers(self._studio), elem_id="viewer")

    def opening_value(self) -> str:
        """The viewer's value that a page brings with it: the first example, with its answers once there are any."""
        kept = self._studio.opening
        if self._opening is None or self._opening[0] is not kept:
            example = next(iter(self._examples.values()))
            opened = OpenedImage(read_image(example.path), None) if kept is None else kept.opened
            value = viewer_value(opened, None if kept is None else kept.finished)
            self._opening = kept, value
        return self._opening[1]

    def _adapter_choices(self, secret: Any = None) -> dict[str, Any]:
        """What all visitors share is chosen at first; the visitor's own adapters wait to be chosen."""
        names, own = list(self._studio.slot.adapters), list(self._mine.of(secret))
        return {"choices": [*names, *own], "value": names, "visible": len(names) + len(own) > 1}

    # ---- wiring ------------------------------------------------------------------------------

    def _wire(self, page: gr.Blocks, tab: gr.Tab) -> None:
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        choices = [self._display, self._window, self._own, self._axis, self._frame, self._volume]
        opened = [self._viewer, self._status, self._strip, self._suggestions, self._question, *choices]
        answered = [*opened, self._cancel]
        self.own_outputs = [self._adapters, *answered]
        visitor = self._mine.visitor
        tab.select(self._offer, [visitor, self._adapters], [self._adapters], queue=False, **quiet)
        # "multiple": another example may be chosen while the model still answers about the last one.
        self._strip.pick(self._open_example, [self._adapters, visitor], answered, trigger_mode="multiple", **quiet)
        self._file.upload(self._open_upload, [self._file], [self._file, *opened], **quiet)
        self._viewer.reopen(self._reopen, None, opened, trigger_mode="multiple", **quiet)
        page.load(self._begin, [visitor], self.own_outputs, **quiet)

        looks = [self._window, self._centre, self._width, self._axis, self._frame, self._volume]
        changed = [self._viewer, self._status, self._own, self._frame]
        for event in (
            self._window.input,
            self._centre.submit,
            self._width.submit,
            self._frame.input,
            self._volume.input,
        ):
            event(self._change_view, looks, changed, trigger_mode="always_last", **quiet)
        self._axis.input(self._change_axis, looks, changed, trigger_mode="always_last", **quiet)

        waiting = [self._status, self._cancel]
        fill = self._suggestions.pick(self._take_suggestion, None, [self._question], queue=False, **quiet)
        for event in (fill.then, self._ask.click, self._question.submit):
            reserved = event(self._reserve, None, waiting, queue=False, **quiet)
            # One question at a time over all visitors: the model is one, and its answers come in seconds.
            reserved.then(
                self._answer,
                [self._question, self._adapters, visitor],
                [self._viewer, *waiting],
                concurrency_id="model",
                concurrency_limit=1,
                **quiet,
            )
        self._cancel.click(self._stop, None, [self._status], queue=False, **quiet)

    def follow(self, header: gr.HTML) -> None:
        """Offer the adapters of the model in memory when the page's head notices that it was replaced."""
        header.switched(
            lambda secret: gr.update(**self._adapter_choices(secret)),
            [self._mine.visitor],
            [self._adapters],
            show_progress="hidden",
            api_visibility="private",
            queue=False,
        )

    # ---- images ------------------------------------------------------------------------------

    def _begin(self, visitor: Any, request: gr.Request) -> Iterator[list[Any]]:
        """A new page: the first example with its result, which the page has already where there was one."""
        adapters = self._adapter_choices(visitor)
        example = next(iter(self._examples.values()))
        visit = _visit(request)
        kept = self._studio.welcome(visit)
        if kept is not None or self._studio.visits.opened(visit) is not None:
            begun = [gr.skip()] * 2
            if kept is not None:
                begun = [adopted_value(kept, self._studio.results.of(visit)), status(example.about)]
            yield [gr.update(**adapters), *begun, *[gr.skip()] * 10]
            return
        first = True
        for values in self._show_example(example, adapters["value"], visit, {}):
            yield [gr.update(**adapters) if first else gr.skip(), *values]
            first = False

    def _open_example(
        self, adapters: list[str], visitor: Any, event: gr.EventData, request: gr.Request
    ) -> Iterator[list[Any]]:
        example = self._examples.get(str(getattr(event, "key", "")))
        if example is None:
            error = RequestError(
                expected="one of the examples on the page", got="There is no such example", remedy="Reload the page"
            )
            yield [*self._failed(error), gr.skip()]
            return
        yield from self._show_example(example, adapters, _visit(request), self._mine.of(visitor))

    def _show_example(
        self, example: Example, adapters: list[str], visit: str, own: dict[str, Path]
    ) -> Iterator[list[Any]]:
        """The example at once, with its answers as soon as they are there."""
        try:
            opened = self._studio.visits.open_file(visit, example.path, remove=False, key=example.key)
        except Exception as error:
            yield [*self._failed(error), gr.skip()]
            return
        question = example.questions[0]
        self._studio.reserve(visit)
        value = viewer_value(opened, history=self._studio.results.of(visit))
        if self._studio.is_prepared(visit, question, adapters):
            finished = next(self._studio.ask(visit, question, adapters))
            value = viewer_value(opened, finished, self._studio.results.of(visit))
        yield [
            value,
            status(example.about),
            example.key,
            json.dumps(example.questions),
            question,
            *_choices(opened),
            gr.update(interactive=not self._studio.is_prepared(visit, question, adapters)),
        ]
        if not self._studio.is_prepared(visit, question, adapters):
            for values in self._answers(question, adapters, visit, own):
                yield [*values[:2], *[gr.skip()] * 9, values[2]]

    def _open_upload(self, paths: list[str] | None, request: gr.Request) -> Iterator[list[Any]]:
        if not paths:
            yield [gr.skip()] * 12
            return
        yield [gr.skip(), gr.skip(), step_status(_READING), *[gr.skip()] * 9]
        try:
            visits, (first, *more) = self._studio.visits, map(Path, paths)
            if more:
                opened = visits.open_files(_visit(request), (first, *more), remove=True)
            else:
                opened = visits.open_file(_visit(request), first, remove=True)
        except Exception as error:
            yield [None, *self._failed(error)]
            return
        yield [
            None,
            viewer_value(opened, history=self._studio.results.of(_visit(request))),
            status("Opened. The upload was deleted from the server's disk; the image is forgotten with this visit."),
            "",
            json.dumps(GENERAL_QUESTIONS),
            gr.skip(),
            *_choices(opened),
        ]

    def _reopen(self, event: gr.EventData, request: gr.Request) -> list[Any]:
        visit = _visit(request)
        try:
            kept = self._studio.reopen(visit, str(getattr(event, "result", "")))
        except Exception as error:
            return self._failed(error)
        example = next((item for item in self._examples.values() if item.key == kept.opened.key), None)
        return [
            viewer_value(kept.opened, kept.finished, self._studio.results.of(visit)),
            status("Opened again."),
            "" if example is None else example.key,
            json.dumps(GENERAL_QUESTIONS if example is None else example.questions),
            kept.finished.inspection.question,
            *_choices(kept.opened),
        ]

    def _failed(self, error: Exception) -> list[Any]:
        """Outputs that leave all as it is and say what went wrong; nothing where a newer choice took its place."""
        told = gr.skip() if isinstance(error, Cancelled) else error_status(error)
        return [gr.skip(), told, *[gr.skip()] * 9]

    def _change_view(
        self,
        window: str,
        centre: float | None,
        width: float | None,
        axis: int,
        frame: int | None,
        volume: int,
        request: gr.Request,
    ) -> list[Any]:
        own = gr.update(visible=window == OWN_WINDOW)
        try:
            if window == OWN_WINDOW and (centre is None or width is None):
                raise RequestError(
                    expected="a centre and a width",
                    got="The window is not complete",
                    remedy="Fill in both numbers, for example 40 and 400",
                )
            chosen = {FILE_WINDOW: None, OWN_WINDOW: Window(centre, width)}.get(window, window)
            index = None if frame is None else int(frame) - 1
            opened = self._studio.visits.change_view(
                _visit(request), window=chosen, frame=index, axis=axis, volume=int(volume) - 1
            )
        except Cancelled:  # a newer choice took its place
            return [gr.skip(), gr.skip(), own, gr.skip()]
        except Exception as error:
            return [gr.skip(), error_status(error), own, gr.skip()]
        value = viewer_value(opened, history=self._studio.results.of(_visit(request)))
        return [value, status("Ask to see the attention in this picture."), own, _frame_update(opened)]

    def _change_axis(
        self,
        window: str,
        centre: float | None,
        width: float | None,
        axis: int,
        frame: int | None,
        volume: int,
        request: gr.Request,
    ) -> list[Any]:
        # Slices of another plane are counted anew: begin in the middle.
        return self._change_view(window, centre, width, axis, None, volume, request)

    # ---- questions ---------------------------------------------------------------------------

    def _take_suggestion(self, event: gr.EventData) -> str:
        return str(getattr(event, "question", ""))[:1000]

    def _reserve(self, request: gr.Request) -> list[Any]:
        self._studio.reserve(_visit(request))
        return [status("Waiting for the model …"), gr.update(interactive=True)]

    def _answer(self, question: str, adapters: list[str], visitor: Any, request: gr.Request) -> Iterator[list[Any]]:
        yield from self._answers(question, adapters, _visit(request), self._mine.of(visitor))

    def _answers(self, question: str, adapters: list[str], visit: str, own: dict[str, Path]) -> Iterator[list[Any]]:
        """Values for the viewer, the status and the cancel button, while the question is being answered."""
        opened = self._studio.visits.opened(visit)
        try:
            if not adapters:
                raise RequestError(
                    expected="the base model or an adapter",
                    got="Nothing was chosen to answer",
                    remedy='Choose under "Answer with"',
                )
            for report in self._studio.ask(visit, question, adapters, own):
                if isinstance(report, Finished):
                    value = viewer_value(opened, report, self._studio.results.of(visit))
                    yield [value, finished_status(report), gr.update(interactive=not report.complete)]
                else:
                    yield [gr.skip(), step_status(report), gr.skip()]
        except Exception as error:
            # The end of a question that a newer one or another image replaced is not worth a word, and the newer
            # question can be cancelled.
            newer = isinstance(error, Cancelled) and self._studio.superseded(visit)
            over = newer or (isinstance(error, Cancelled) and self._studio.visits.opened(visit) is not opened)
            told = gr.skip() if over else error_status(error)
            yield [gr.skip(), told, gr.skip() if newer else gr.update(interactive=False)]

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
        self, visitor: Any, name: str, picture: Path | None, question: str, request: gr.Request
    ) -> Iterator[list[Any]]:
        """Ask the base and one of the visitor's own adapters: about a picture, or where there is none about what is on
        show. Values of `own_outputs`."""
        visit, own = _visit(request), self._mine.of(visitor)
        adapters = [self._studio.slot.adapters[0], name]
        chosen = gr.update(**{**self._adapter_choices(visitor), "value": adapters})
        try:
            if picture is not None:
                opened = self._studio.visits.open_file(visit, picture, remove=False)
        except Exception as error:
            yield [chosen, *self._failed(error), gr.skip()]
            return
        self._studio.reserve(visit)
        shown = [gr.skip()] * 11
        if picture is not None:
            value = viewer_value(opened, history=self._studio.results.of(visit))
            words = status("A question that the run was not trained on.")
            suggestions = json.dumps([question, *GENERAL_QUESTIONS])
            shown = [value, words, "", suggestions, question, *_choices(opened)]
        yield [chosen, *shown, gr.update(interactive=True)]
        for values in self._answers(question, adapters, visit, own):
            yield [gr.skip(), *values[:2], *[gr.skip()] * 9, values[2]]

    def _stop(self, request: gr.Request) -> str:
        self._studio.cancel(_visit(request))
        return status("Cancelling …")


def _visit(request: gr.Request) -> str:
    """The visit's name: the session that the page drew for itself when it was loaded."""
    return str(request.session_hash)


def _item(example: Example) -> dict[str, str]:
    return {
        "key": example.key,
        "title": example.title,
        "about": example.about,
        "thumbnail": thumbnail(read_image(example.path)),
    }


def _choices(opened: OpenedImage) -> list[Any]:
    """Updates of the display controls for a freshly opened image."""
    choices = opened.choices
    presets = [] if choices.hounsfield is False else list(WINDOW_PRESETS)
    return [
        gr.update(visible=choices.windowable or opened.image.frame_count > 1 or choices.volumes > 1),
        gr.update(choices=[FILE_WINDOW, *presets, OWN_WINDOW], value=FILE_WINDOW, visible=choices.windowable),
        gr.update(visible=False),
        gr.update(value=2, visible=choices.axes is not None),
        _frame_update(opened),
        gr.update(visible=choices.volumes > 1, maximum=max(2, choices.volumes), value=1),
    ]


def _frame_update(opened: OpenedImage) -> Any:
    image = opened.image
    if image.frame_count < 2:
        return gr.update(visible=False, value=1)
    label = "Slice" if opened.choices.axes is not None else "Frame"
    return gr.update(visible=True, maximum=image.frame_count, value=image.frame + 1, label=label)
