"""The image viewer that runs in the browser: one canvas with the image and the attention map, words and heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import gradio as gr

from a3tune.figures.colour_tables import DIFFERENCE_MAP, browser_tables
from a3tune.images import WINDOW_PRESETS
from app.common.widgets import GLOSSARY, widget_parts

if TYPE_CHECKING:
    from a3tune.dicomweb.client import DicomWeb

WANTED = """(visitor) => [visitor, studioModule("common/static/address.js").wantedInspection()]"""
"""What a new page asks for, see :meth:`app.inspect.opening.reopening.Reopening.restore`: script of an event."""


def build_viewer(answers: Sequence[Callable[[dict], dict]], identity: bool, archive: DicomWeb | None) -> gr.HTML:
    """The viewer as a Gradio component; its value is a string made by :func:`app.inspect.viewer.values.viewer_value` or
    :func:`app.inspect.viewer.values.adopted_value`. Until one comes, it shows the page's opening value (see
    :mod:`app.common.initial_page`).

    Its event ``reopen`` carries ``result``, the name of an earlier result that should come back on show.

    Args:
        answers: the functions that the browser calls by name, each with a dict, and each answers with a dict that may
            hold ``{"error": text}`` (see :mod:`app.inspect.handlers`).
        identity: whether patient and study may go into files where a visitor asks for it.
        archive: where these may be stored, if anywhere.
    """
    colours = browser_tables()
    difference = colours.pop(DIFFERENCE_MAP)
    presets = {name: list(window) for name, window in WINDOW_PRESETS.items()}
    settings = {"colours": colours, "difference": difference, "glossary": GLOSSARY, "presets": presets}
    name = archive.server.name if archive is not None and archive.server.store else ""
    parts = widget_parts("inspect/viewer/viewer", **settings, identity=identity, archive=name)
    return gr.HTML(value="", **parts, server_functions=list(answers), elem_id="viewer")
