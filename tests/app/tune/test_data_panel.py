"""What the data's widgets are told when there is nothing to do."""

from __future__ import annotations

from types import SimpleNamespace

import gradio as gr

from app.access.visits import new_secret
from app.tune.data_panel import DataPanel

VISITOR = new_secret()


def test_where_no_data_set_is_chosen_none_can_be_deleted_and_nothing_else_changes(service):
    asked = []
    part = DataPanel(service, visitor=None)
    part._deletion = SimpleNamespace(button="delete")
    part._plan = SimpleNamespace(show_obstacle=lambda owner, name: asked.append(name) or {"start": "off"})
    assert list(part.check(VISITOR, None)) == [{"delete": gr.update(visible=False), "start": "off"}]
    assert asked == [None]


def test_an_archive_that_is_taken_away_changes_nothing_on_the_page(service):
    assert list(DataPanel(service, visitor=None)._add_archive(None, VISITOR)) == [gr.skip()]
