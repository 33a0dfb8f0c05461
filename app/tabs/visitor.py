"""Who visits: a secret that only the visitor's browser keeps, so that what is theirs is found again."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.jobs import is_secret, new_secret

# Gradio wants a key for what it stores and sends it to every browser: it protects nothing, the secret does.
STORAGE = "a3tune-visitor"
_KEY = "a3tune-studio-visitor"


def build_visitor(page: gr.Blocks) -> gr.BrowserState:
    """The visitor's secret, drawn when a browser comes for the first time.

    It has to stand outside of all tabs: what lies in a tab that was not opened yet is not there.
    """
    visitor = gr.BrowserState("", storage_key=STORAGE, secret=_KEY)
    page.load(_know, [visitor], [visitor], queue=False, show_progress="hidden", api_visibility="private")
    return visitor


def _know(secret: Any) -> Any:
    return gr.skip() if is_secret(secret) else new_secret()
