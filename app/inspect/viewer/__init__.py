"""The image viewer that runs in the browser: one canvas with the image and the attention map, words and heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import gradio as gr

from a3tune.figures.colour_tables import DIFFERENCE_MAP, browser_tables
from a3tune.images import WINDOW_PRESETS
from app.common.widgets import GLOSSARY, widget_parts

WANTED = """(visitor) => [visitor, studioModule("common/static/address.js").wantedInspection()]"""
"""What a new page asks for, see :meth:`app.inspect.service.InspectService.restore`: script of an event."""


def build_viewer(answers: Sequence[Callable[[dict], dict]], *, elem_id: str, identity: bool) -> gr.HTML:
    """The viewer as a Gradio component; its value is a string made by :func:`app.inspect.values.viewer_value` or
    :func:`app.inspect.values.adopted_value`. Until one comes, it shows the page's opening value (see
    :mod:`app.common.initial_page`).

    Its event ``reopen`` carries ``result``, the name of an earlier result that should come back on show.

    Args:
        answers: the functions that the browser calls by name, each with a dict, and each answers with a dict that may
            hold ``{"error": text}`` (see :mod:`app.inspect.handlers`).
        elem_id: id of the component's element on the page.
        identity: whether patient and study may go into files where a visitor asks for it.
    """
    colours = browser_tables()
    difference = colours.pop(DIFFERENCE_MAP)
    presets = {name: list(window) for name, window in WINDOW_PRESETS.items()}
    settings = {"colours": colours, "difference": difference, "glossary": GLOSSARY, "presets": presets}
    parts = widget_parts("inspect/viewer/viewer", **settings, identity=identity)
    return gr.HTML(value="", **parts, server_functions=list(answers), elem_id=elem_id)
