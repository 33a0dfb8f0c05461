"""Parts of the Tune tab that run in the browser: curves of a run, attention maps, regions to correct, a download."""

from __future__ import annotations

import gradio as gr

from a3tune.figures.colour_tables import COLOUR_MAPS, browser_tables
from app.common.widgets import Answer, widget_parts
from app.tune.runs.updates import charts
from app.tune.service import TuneService


def build_run_view(read_run: Answer, compare_runs: Answer) -> gr.HTML:
    """State, progress, curves, log and attention maps of a run; the value, a text of
    :func:`app.tune.runs.updates.follow_value`, says of which.

    It asks for news by itself, once a second while a run goes on, and draws in the browser: to bring a page up to date
    through events of the whole page costs the machine that trains a fifth of a core for each page that looks on. The
    event ``moved`` says that buttons and lists are out of date.

    Args:
        read_run: answers with what is new; see :func:`app.tune.runs.updates.run_news`.
        compare_runs: answers with what lays others over it; see :func:`app.tune.runs.comparison.run_comparison`.
    """
    # The inspector's first colour map, so that the same colour means the same on both tabs.
    colours = browser_tables()[COLOUR_MAPS[0]]
    parts = widget_parts("tune/static/run", charts=charts(), colours=colours)
    return gr.HTML(value="", **parts, server_functions=[read_run, compare_runs], elem_id="tune-progress")


def build_label_view(correct_labels: Answer) -> gr.HTML:
    """Regions of a few rows; the value is a text of :func:`app.tune.data.regions.labels_value`.

    Args:
        correct_labels: answers a change of a row's regions.
    """
    return gr.HTML(
        value="", **widget_parts("tune/static/labels"), server_functions=[correct_labels], elem_id="tune-labels"
    )


def build_download(download_adapter: Answer) -> gr.HTML:
    """A button that fetches an adapter; the value is a JSON text with "visitor", "run" and "ready".

    Args:
        download_adapter: answers with the archive in base64 and its name.
    """
    return gr.HTML(
        value="", **widget_parts("tune/static/download"), server_functions=[download_adapter], elem_id="tune-download"
    )


class Panel:
    """A part of the tab: its widgets and their wiring.

    Args:
        service: the tab's services.
        visitor: the visitor's secret.
    """

    def __init__(self, service: TuneService, visitor: gr.BrowserState) -> None:
        self._service, self._visitor = service, visitor
