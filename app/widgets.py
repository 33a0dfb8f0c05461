"""Small parts of the page that Gradio has no widget for: the head, the strip of examples, suggested questions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import gradio as gr

_FOLDER = Path(__file__).parent / "static"


def build_header(model_status: Callable[[], dict[str, str]], notice: str) -> gr.HTML:
    """The page's head: title, which model speaks and whether it is ready, the notice.

    Args:
        model_status: answers with ``state``, ``name`` and ``text``; asked until the state is not "loading".
        notice: what every visitor must know.
    """
    return gr.HTML(**_parts("header"), server_functions=[model_status], notice=notice, elem_id="header")


def build_examples(items: Sequence[dict[str, str]], first: str) -> gr.HTML:
    """Example images as buttons; the event ``pick`` carries ``key``, the value is the key of the one on show.

    Args:
        items: ``key``, ``title``, ``about`` and ``thumbnail`` (a data URL) of each.
        first: the key of the one on show at first.
    """
    return gr.HTML(value=first, **_parts("examples"), items=json.dumps(list(items)), elem_id="examples")


def build_suggestions(questions: Sequence[str]) -> gr.HTML:
    """Questions as buttons; the event ``pick`` carries ``question``, the value is a JSON list of texts."""
    return gr.HTML(value=json.dumps(list(questions)), **_parts("suggestions"), elem_id="suggestions")


def _parts(name: str) -> dict[str, str | bool]:
    read = {kind: (_FOLDER / f"{name}.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")}
    return {
        "html_template": read["html"],
        "css_template": read["css"],
        "js_on_load": read["js"],
        "apply_default_css": False,
    }
