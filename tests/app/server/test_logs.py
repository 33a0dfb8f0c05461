"""What a line of the log holds, and what it never does."""

from __future__ import annotations

import json
import logging
import sys

import gradio
from gradio import queueing, routes

from app.server.logs import JsonLines, begin_log


def line(name: str, message: str, **more) -> dict:
    error = more.pop("error", None)
    record = logging.LogRecord(name, logging.WARNING, "/srv/module.py", 7, message, (), error)
    vars(record).update(more)
    return json.loads(JsonLines().format(record))


def test_our_own_words_and_facts_are_kept():
    told = line("a3tune.app", "Work ended", facts={"kind": "answer", "seconds": 0.5})
    assert (told["message"], told["kind"], told["seconds"], told["level"]) == ("Work ended", "answer", 0.5, "warning")
    assert told["time"].endswith("Z")


def test_of_others_only_the_place_is_kept():
    try:
        raise ValueError("patient Doe")
    except ValueError:
        told = line("pydicom", "patient Doe", error=sys.exc_info())
    assert {**told, "time": ""} == {
        "time": "", "level": "warning", "logger": "pydicom", "module": "module", "line": 7, "error": "ValueError",
    }  # fmt: skip


def test_a_value_that_gradio_refuses_is_not_printed(capfd, caplog):
    begin_log("text")
    choices = gradio.Dropdown(["a", "b"])
    try:
        choices.preprocess("patient Doe")
    except gradio.Error:
        queueing.traceback.print_exc()
        routes.traceback.print_exc()
    assert [record.getMessage() for record in caplog.records] == ["Unexpected Error"] * 2
    assert any("dropdown.py" in frame for frame in caplog.records[0].facts["frames"])
    assert "Doe" not in "".join([*capfd.readouterr(), caplog.text])
    assert queueing.traceback.format_exc() == "NoneType: None\n"
