"""Parts of the page that Gradio has no widget for: how they are read from their folder, and the page's head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from app.common.modules import mount_script

_APP = Path(__file__).resolve().parents[1]


def build_header(model_status: Callable[[], dict[str, str]], notice: str) -> gr.HTML:
    """The page's head: title, which model speaks and whether it is ready, the notice.

    Args:
        model_status: answers with ``state``, ``name`` and ``text``; asked until the state is not "loading".
        notice: what every visitor must know.
    """
    parts = widget_parts("common/static/header", notice=notice)
    return gr.HTML(**parts, server_functions=[model_status], elem_id="header")


def widget_parts(path: str, **settings: Any) -> dict[str, str | bool]:
    """The options of ``gr.HTML`` for a widget of our own.

    Args:
        path: of its ``.html``, ``.css`` and ``.js`` in ``app/``, without the ending.
        settings: what its module needs, see :func:`app.common.modules.mount_script`.
    """
    html, css = ((_APP / f"{path}.{kind}").read_text(encoding="utf-8") for kind in ("html", "css"))
    script = mount_script(f"{path}.js", **settings)
    return {"html_template": html, "css_template": css, "js_on_load": script, "apply_default_css": False}
