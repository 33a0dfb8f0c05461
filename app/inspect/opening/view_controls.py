"""What can be chosen about the image on show: series, window, plane, slice and volume."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import gradio as gr

from a3tune.errors import RequestError
from a3tune.images import AXES, WINDOW_PRESETS
from a3tune.types import Window
from app.common.widgets import EVENT_OPTIONS, Update
from app.inspect.sessions.opened_image import OpenedImage

FILE_WINDOW = "as in the file"
AUTOMATIC = "automatic"
"""By the picture's own values, where the file says nothing."""
OWN_WINDOW = "own centre and width"


class ViewControls:
    """Builds the controls inside the running ``gr.Blocks`` context.

    Attributes:
        outputs: the components that `opened` changes.
        changed: those that `windowed` and `framed` change.
        choices: window, centre, width, plane and volume.
    """

    def __init__(self) -> None:
        with gr.Group(visible=False, elem_id="display") as self._display:
            self._series = gr.Dropdown([], label="Series", visible=False, elem_id="series")
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
            with gr.Row(visible=False) as self._own_window:
                self._centre = gr.Number(40, label="Centre", min_width=80, elem_id="centre")
                self._width = gr.Number(400, label="Width", minimum=1, min_width=80, elem_id="width")
            self._frame = gr.Slider(1, 2, value=1, step=1, label="Slice", visible=False, elem_id="frame")
            self._volume = gr.Slider(1, 2, value=1, step=1, label="Volume", visible=False, elem_id="volume")
        self.outputs = [
            self._display,
            self._series,
            self._window,
            self._own_window,
            self._axis,
            self._frame,
            self._volume,
        ]
        self.changed = [self._own_window, self._frame]
        self.choices = [self._window, self._centre, self._width, self._axis, self._volume]

    def wire(
        self,
        change_view: Callable[..., Update],
        changed: list[gr.blocks.Block],
        change_series: Callable[..., Iterator[Update]],
        opened: list[gr.blocks.Block],
    ) -> None:
        """Connect the controls.

        Args:
            change_view: takes window, centre, width, plane, volume and slice; the slice is left out for another plane,
                where slices are counted anew.
            changed: what it changes.
            change_series: takes the number of a series, from 1.
            opened: what it changes.
        """
        view = self.choices
        options = {"trigger_mode": "always_last", **EVENT_OPTIONS}
        for event in (
            self._window.input,
            self._centre.submit,
            self._width.submit,
            self._frame.input,
            self._volume.input,
        ):
            event(change_view, [*view, self._frame], changed, **options)
        self._axis.input(change_view, view, changed, **options)
        # An answer that waited for the series keeps nobody from choosing another one.
        self._series.input(change_series, [self._series], opened, **{**options, "trigger_mode": "multiple"})

    def opened(self, opened: OpenedImage) -> Update:
        """The controls for an image that came on show."""
        choices, count, series = opened.choices, opened.image.frame_count, opened.series
        presets = [] if choices.hounsfield is False else list(WINDOW_PRESETS)
        unchosen = FILE_WINDOW if choices.own_window else AUTOMATIC
        listed = [(f"{place} · {name}", place) for place, name in enumerate(series, start=1)]
        chosen = series.index(choices.series) + 1 if choices.series in series else None
        return {
            self._display: gr.update(visible=choices.windowable or count > 1 or choices.volumes > 1 or len(series) > 1),
            self._series: gr.update(choices=listed, value=chosen, visible=len(series) > 1),
            self._window: gr.update(
                choices=[unchosen, *presets, OWN_WINDOW], value=unchosen, visible=choices.windowable
            ),
            **self.windowed(unchosen),
            self._axis: gr.update(value=2, visible=choices.axes is not None),
            **self.framed(opened),
            self._volume: gr.update(visible=choices.volumes > 1, maximum=max(2, choices.volumes), value=1),
        }

    def windowed(self, window: str) -> Update:
        """Centre and width are there for a window of one's own."""
        return {self._own_window: gr.update(visible=window == OWN_WINDOW)}

    def framed(self, opened: OpenedImage) -> Update:
        """The slice on show, among those that there are."""
        image = opened.image
        if image.frame_count < 2:
            return {self._frame: gr.update(visible=False, value=1)}
        label = "Slice" if opened.choices.axes is not None else "Frame"
        return {self._frame: gr.update(visible=True, maximum=image.frame_count, value=image.frame + 1, label=label)}


def chosen_window(window: str, centre: float | None, width: float | None) -> str | Window | None:
    """What the controls say: a preset, a window of one's own, or None for the file's or an automatic one.

    Raises:
        RequestError: a window of one's own without centre or width.
    """
    if window != OWN_WINDOW:
        return None if window in (FILE_WINDOW, AUTOMATIC) else window
    if centre is None or width is None:
        raise RequestError(
            expected="a centre and a width",
            got="The window is not complete",
            remedy="Fill in both numbers, for example 40 and 400",
        )
    return Window(centre, width)
