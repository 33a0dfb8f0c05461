"""Suggested questions, each asked by one press."""

from __future__ import annotations

import json
from collections.abc import Sequence

import gradio as gr

from app.common.widgets import widget_parts


def build_suggestions(questions: Sequence[str]) -> gr.HTML:
    """Questions as buttons; the event ``pick`` carries ``question``, the value is a JSON list of texts."""
    return gr.HTML(
        value=json.dumps(list(questions)), **widget_parts("inspect/static/suggestions"), elem_id="suggestions"
    )
