"""The image viewer that runs in the browser: one canvas with the image and the attention map, words and heads."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import gradio as gr

from a3tune.encoding import base64_text
from a3tune.figures.overlay import COLOUR_MAPS, DIFFERENCE_MAP, colour_table

_FOLDER = Path(__file__).parent

# One script to the browser, in this order: the viewer needs no build step and no loader.
_SCRIPTS = (
    "heat.js",
    "viewer.js",
    "words.js",
    "heads.js",
    "compare.js",
    "focus.js",
    "experts.js",
    "outlines.js",
    "regions.js",
    "gestures.js",
    "take.js",
    "faithfulness.js",
    "receive.js",
)


def build_viewer(answers: Sequence[Callable[[dict], dict]], *, elem_id: str) -> gr.HTML:
    """The viewer as a Gradio component; its value is a string made by :func:`app.inspect.values.viewer_value` or
    :func:`app.inspect.values.adopted_value`. Until one comes, it shows the page's ``openingValue`` (see
    :mod:`app.common.initial_page`).

    Its event ``reopen`` carries ``result``, the name of an earlier result that should come back on show.

    Args:
        answers: the functions that the browser calls by name, each with a dict, and each answers with a dict that may
            hold ``{"error": text}`` (see :mod:`app.inspect.handlers`).
        elem_id: id of the component's element on the page.
    """
    return gr.HTML(
        value="",
        html_template=_read("viewer.html"),
        css_template=_read("viewer.css"),
        js_on_load="\n".join(_read(name) for name in _SCRIPTS),
        apply_default_css=False,
        server_functions=list(answers),
        elem_id=elem_id,
        colour_maps=json.dumps({name: base64_text(colour_table(name)) for name in (*COLOUR_MAPS, DIFFERENCE_MAP)}),
    )


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
