"""The Inspect tab: an image, a question, the answer, and where every head looked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from a3tune.errors import RequestError
from a3tune.images import AXES, WINDOW_PRESETS
from a3tune.types import Window
from app.examples import Example
from app.present import (
    error_status,
    finished_status,
    status,
    step_status,
    thumbnail,
    viewer_value,
)
from app.services import Finished, OpenedImage, Studio, read_image
from app.tabs.answers import viewer_answers
from app.viewer import build_viewer
from app.widgets import build_examples, build_suggestions

FILE_WINDOW = "as in the file"
OWN_WINDOW = "own centre and width"
GENERAL_QUESTIONS = ("What does this image show?", "Is there an abnormality?", "Describe the findings.")

READY = "Choose an example or open a file, then ask."


class InspectTab:
    """Builds the tab inside the running ``gr.Blocks`` context and wires it to the studio.

    Args:
        studio: the application's state.
        examples: the examples on offer.
    """

    def __init__(self, studio: Studio, examples: tuple[Example, ...]) -> None:
        self._studio = studio
        self._examples = {example.key: example for example in examples}
        self._place()
        self._wire()

    # ---- widgets -----------------------------------------------------------------------------

    def _place(self) -> None:
        with gr.Row(elem_id="inspect", equal_height=False):
            with gr.Column(scale=0, min_width=300, elem_id="inputs"):
                gr.HTML("<h2>1 · Image</h2>", apply_default_css=False)
                self._strip = build_examples([_item(example) for example in self._examples.values()])
                self._file = gr.File(
                    label="Own file: PNG, JPEG, TIFF, DICOM, NIfTI …",
                    file_count="single",
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
                    show_label=False,
                    placeholder="Ask about the image …",
                    lines=1,
                    max_lines=4,
                    max_length=1000,
                    elem_id="question",
                )
                self._suggestions = build_suggestions()
                with gr.Row(elem_id="actions"):
                    self._ask = gr.Button("Ask", variant="primary", scale=3, min_width=120, elem_id="ask")
                    self._cancel = gr.Button("Cancel", interactive=False, scale=1, min_width=80, elem_id="cancel")
                self._status = gr.HTML(status(READY), elem_id="status", apply_default_css=False)
            with gr.Column(scale=1, min_width=560):
                self._viewer = build_viewer(viewer_answers(self._studio), elem_id="viewer")

    # ---- wiring ------------------------------------------------------------------------------

    def _wire(self) -> None:
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        choices = [self._display, self._window, self._own, self._axis, self._frame, self._volume]
        opened = [self._viewer, self._status, self._strip, self._suggestions, self._question, *choices]
        self._strip.pick(self._open_example, None, opened, **quiet)
        self._file.upload(self._open_upload, [self._file], [self._file, *opened], **quiet)

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
                [self._question],
                [self._viewer, *waiting],
                concurrency_id="model",
                concurrency_limit=1,
                **quiet,
            )
        self._cancel.click(self._stop, None, [self._status], queue=False, **quiet)

    # ---- images ------------------------------------------------------------------------------

    def _open_example(self, event: gr.EventData, request: gr.Request) -> list[Any]:
        example = self._examples.get(str(getattr(event, "key", "")))
        if example is None:
            return self._failed(
                RequestError(
                    expected="one of the examples on the page",
                    got="There is no such example",
                    remedy="Reload the page",
                )
            )
        try:
            opened = self._studio.open_file(_visit(request), example.path, remove=False)
        except Exception as error:
            return self._failed(error)
        return [
            viewer_value(opened),
            status(example.about),
            example.key,
            json.dumps(example.questions),
            example.questions[0],
            *_choices(opened),
        ]

    def _open_upload(self, path: str | None, request: gr.Request) -> list[Any]:
        if path is None:
            return [gr.skip()] * 12
        try:
            opened = self._studio.open_file(_visit(request), Path(path), remove=True)
        except Exception as error:
            return [None, *self._failed(error)]
        return [
            None,
            viewer_value(opened),
            status("Opened. The upload was deleted from the server's disk; the image is forgotten with this visit."),
            "",
            json.dumps(GENERAL_QUESTIONS),
            gr.skip(),
            *_choices(opened),
        ]

    def _failed(self, error: Exception) -> list[Any]:
        """Outputs that leave all as it is and say what went wrong."""
        return [gr.skip(), error_status(error), *[gr.skip()] * 9]

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
            opened = self._studio.change_view(
                _visit(request), window=chosen, frame=index, axis=axis, volume=int(volume) - 1
            )
        except Exception as error:
            return [gr.skip(), error_status(error), own, gr.skip()]
        return [viewer_value(opened), status("Ask to see the attention in this picture."), own, _frame_update(opened)]

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
        return self._change_view(_visit(request), window, centre, width, axis, None, volume)

    # ---- questions ---------------------------------------------------------------------------

    def _take_suggestion(self, event: gr.EventData) -> str:
        return str(getattr(event, "question", ""))[:1000]

    def _reserve(self, request: gr.Request) -> list[Any]:
        self._studio.reserve(_visit(request))
        return [status("Waiting for the model …"), gr.update(interactive=True)]

    def _answer(self, question: str, request: gr.Request) -> Iterator[list[Any]]:
        try:
            opened = self._studio.opened(_visit(request))
            for report in self._studio.ask(_visit(request), question):
                if isinstance(report, Finished):
                    yield [viewer_value(opened, report), finished_status(report), gr.update(interactive=False)]
                else:
                    yield [gr.skip(), step_status(report), gr.skip()]
        except Exception as error:
            yield [gr.skip(), error_status(error), gr.update(interactive=False)]

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
