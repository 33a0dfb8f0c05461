"""Fields where files are chosen, which the browser empties itself (see ``common/static/file_field.js``)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gradio as gr

from app.common.widgets import EVENT_OPTIONS

_SCRIPT = 'studioModule("common/static/file_field.js")'


def on_files(
    event: Callable[..., gr.events.Dependency],
    field: gr.File,
    handle: Callable[..., Any],
    inputs: list[gr.components.Component],
    outputs: list[gr.blocks.Block],
    taken: str = "",
    **options: Any,
) -> gr.events.Dependency:
    """Take a field's files.

    Args:
        event: what takes them: the field's ``upload``, or a button's ``click``.
        field: the field, with an ``elem_id``.
        handle: gets their paths, those of a field for a single file the one or None, and then the values of ``inputs``.
        inputs, outputs, options: of the event.
        taken: the script that takes ``files`` and gives all that the handler gets, where it is not that.
    """
    files = f"{_SCRIPT}.takeFiles(files)" + ("[0] ?? null" if field.file_count == "single" else "")
    script = f"(files, ...more) => {taken or f'[{files}, ...more]'}"
    took = event(handle, [field, *inputs], outputs, js=script, **options)
    _after(event, field, [field], "leftFiles(id, files)")
    return took


def keep_untaken(field: gr.File) -> None:
    """Where a button takes the files of a field: those that were taken already leave it when others come."""
    _after(field.upload, field, [field], "arrivedFiles(id, files)")


def on_untaken_files(
    event: Callable[..., gr.events.Dependency],
    field: gr.File,
    handle: Callable[..., Any],
    inputs: list[gr.components.Component],
    outputs: list[gr.blocks.Block],
    **options: Any,
) -> gr.events.Dependency:
    """As `on_files`, where files may be refused and then stay in their field: ``outputs`` ends with a hidden
    ``gr.JSON`` in which the handler tells those that it took, as ``{"path": ...}``."""
    script = f"(files, ...more) => [{_SCRIPT}.freshFiles(files), ...more]"
    asked = event(handle, [field, *inputs], outputs, js=script, **options)
    _after(asked.then, field, [field, outputs[-1]], "settleFiles(id, files, taken)")
    return asked


def _after(event: Callable[..., Any], field: gr.File, inputs: list[Any], call: str) -> None:
    named = f"const script = {_SCRIPT}, id = {json.dumps(field.elem_id)};"
    script = f"(files, taken) => {{ {named} return script.{call}; }}"
    event(None, inputs, [field], js=script, queue=False, trigger_mode="multiple", **EVENT_OPTIONS)
