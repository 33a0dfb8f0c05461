"""Runs laid over each other: curves in one order, and the settings that differ, no others."""

import json

import pytest

from app.jobs.jobs import Job
from app.tune.runs.comparison import MOST_OTHERS, differing, run_comparison
from app.tune.runs.event_reader import Events
from app.tune.runs.view import RunView

CONFIG = {"method": "a3", "ratio": 0.06, "batch_size": 4}


@pytest.fixture
def view(tmp_path):
    """(name, record of the run, events) -> a finished run; without a record one that waits."""

    def make(name, record=None, *told):
        folder = tmp_path / name
        (folder / "run").mkdir(parents=True)
        if record is not None:
            (folder / "run" / "run.json").write_text(json.dumps(record))
        events = Events()
        for event in told:
            events.add(event)
        job = Job(folder, {"title": f"run {name}", "created": 5.0}, "ended", "cpu")
        return RunView(job, "finished" if record else "queued", "", events, "")

    return make


def record(source="demo", print_of_data="aa", **settings):
    data = {"path": "data.csv", "fingerprint": print_of_data, "questions": 8}
    return {"model": {"source": source, "fingerprint": "ff"}, "data": data, "config": {**CONFIG, **settings}}


def test_curves_of_all_runs_stand_in_the_runs_order(view):
    one = view("one", record(), {"event": "step", "step": 1, "steps": 9, "loss": 2.0})
    base = {"event": "base_validation", "loss": 3.0, "accuracy": 0.25}
    validation = {"event": "validation", "step": 4, "loss": 1.0, "accuracy": 0.5}
    two = view("two", record(ratio=0.2), {"event": "step", "step": 1, "steps": 7, "loss": 1.5}, base, validation)
    three = view("three", record())
    found = run_comparison(one, [three, two, one], ["two", "gone"])
    assert [run["id"] for run in found["choices"]] == ["three", "two"]
    assert [(run["id"], run["title"], run["steps"]) for run in found["runs"]] == [
        ("one", "run one", 9),
        ("two", "run two", 7),
    ]
    charts = {chart["title"]: chart for chart in found["charts"]}
    assert charts["Training loss"]["points"] == [[[1, 2.0]], [[1, 1.5]]]
    assert charts["Training loss"]["base"] == [None, None]
    accuracy = charts["Validation: answers exactly right"]
    assert (accuracy["points"], accuracy["base"], accuracy["percent"]) == ([[], [[4, 0.5]]], [None, 0.25], True)
    assert found["settings"] == {"ratio": [0.06, 0.2]}


def test_other_data_under_the_same_name_and_another_model_differ_too(view):
    found = run_comparison(view("one", record()), [view("two", record("house/other", "bb"))], ["two"])
    assert found["settings"] == {"model": ["demo", "house/other"], "data's fingerprint": ["aa", "bb"]}


def test_a_run_that_has_not_begun_has_no_settings_yet(view):
    settings = run_comparison(view("one", record()), [view("two")], ["two"])["settings"]
    assert settings["ratio"] == [0.06, None]
    assert {values[1] for values in settings.values()} == {None}


def test_no_more_runs_than_there_are_colours(view):
    others = [view(f"other{number}", record()) for number in range(MOST_OTHERS + 2)]
    found = run_comparison(view("one", record()), others, [other.job.id for other in others])
    assert len(found["runs"]) == MOST_OTHERS + 1
    assert found["settings"] == {}


def test_one_and_true_are_told_apart_and_long_values_are_compared_whole_and_cut():
    assert differing([{"a": 1, "b": [1]}, {"a": True, "b": [1]}]) == {"a": [1, True]}
    long = "x" * 5000
    (values,) = differing([{"text": f"{long}1"}, {"text": f"{long}2"}]).values()
    assert all(len(value) < 300 for value in values)
