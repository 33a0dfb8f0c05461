"""What the data's widgets are told when there is nothing to do."""

from __future__ import annotations

import gradio as gr

from app.tune.data_panel import DataPanel


def test_looking_at_no_data_changes_nothing_on_the_page(service):
    part = DataPanel(service, visitor=None)
    assert list(part.check("", None)) == [gr.skip()]
    assert list(part._add_archive("", None)) == [gr.skip()]
