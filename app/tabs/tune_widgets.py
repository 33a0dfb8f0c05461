"""Parts of the Tune tab that run in the browser: curves of a run, attention maps, regions to correct, a download."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import matplotlib
import numpy as np

_FOLDER = Path(__file__).resolve().parent.parent / "static"
# The inspector's first colour map, so that the same colour means the same on both tabs.
_COLOURS = "inferno"

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def build_run_view() -> gr.HTML:
    """State, progress, curves and log of a run; the value is a text of :func:`app.tune_present.run_value`."""
    return gr.HTML(value="", **_parts("run"), elem_id="tune-progress")


def build_attention_view() -> gr.HTML:
    """Maps of the watched questions; the value is a text of :func:`app.tune_present.attention_value`."""
    colours = matplotlib.colormaps[_COLOURS](np.arange(256), bytes=True)[:, :3]
    table = base64.b64encode(np.ascontiguousarray(colours).tobytes()).decode("ascii")
    parts = _parts("attention")
    # Stands in the script: other properties are not there yet when a value comes before the tab was opened.
    parts["js_on_load"] = f'const COLOURS = "{table}";\n{parts["js_on_load"]}'
    return gr.HTML(value="", **parts, elem_id="tune-attention")


def build_label_view(correct_labels: Answer) -> gr.HTML:
    """Regions of a few rows; the value is a text of :func:`app.tune_present.labels_value`.

    Args:
        correct_labels: answers a change of a row's regions.
    """
    return gr.HTML(value="", **_parts("labels"), server_functions=[correct_labels], elem_id="tune-labels")


def build_download(download_adapter: Answer) -> gr.HTML:
    """A button that fetches an adapter; the value is a JSON text with "visitor", "run" and "ready".

    Args:
        download_adapter: answers with the archive in base64 and its name.
    """
    return gr.HTML(value="", **_parts("download"), server_functions=[download_adapter], elem_id="tune-download")


def _parts(name: str) -> dict[str, str | bool]:
    read = {kind: (_FOLDER / f"{name}.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")}
    return {
        "html_template": read["html"],
        "css_template": read["css"],
        "js_on_load": read["js"],
        "apply_default_css": False,
    }
