"""Parts of the page that Gradio has no widget for: how they are read from their folder, and the page's head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gradio as gr


def build_header(model_status: Callable[[], dict[str, str]], notice: str) -> gr.HTML:
    """The page's head: title, which model speaks and whether it is ready, the notice.

    Args:
        model_status: answers with ``state``, ``name`` and ``text``; asked until the state is not "loading".
        notice: what every visitor must know.
    """
    parts = widget_parts(Path(__file__).parent / "static", "header")
    return gr.HTML(**parts, server_functions=[model_status], notice=notice, elem_id="header")


def widget_parts(folder: Path, name: str) -> dict[str, str | bool]:
    """The options of ``gr.HTML`` for a widget of our own: ``name.html``, ``name.css`` and ``name.js`` of a folder."""
    html, css, js = ((folder / f"{name}.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    return {"html_template": html, "css_template": css, "js_on_load": js, "apply_default_css": False}
