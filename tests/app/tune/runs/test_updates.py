"""What a page is told of a run: everything once, and then what is new."""

import json

import pytest

from app.jobs.jobs import Job
from app.tune.runs.event_reader import MOST_POINTS, Events
from app.tune.runs.updates import charts, follow_value, run_news
from app.tune.runs.view import RunView

STAMP = ["abc", "training", True, False]


@pytest.fixture
def view(tmp_path):
    """(events) -> a run that told them; its watched picture is there."""
    (tmp_path / "abc/run/watch").mkdir(parents=True)
    (tmp_path / "abc/run/watch/0.png").write_bytes(b"png")

    def make(events: Events, log: str = "") -> RunView:
        return RunView(Job(tmp_path / "abc", {}, "running", "cpu"), "training", "Step.", events, log, 12.0)

    return make


def step(number: int, **facts) -> dict:
    return {"event": "step", "step": number, "steps": 1000, "loss": float(number), "seconds_left": 60.0, **facts}


def snapshot(number: int) -> dict:
    return {"event": "attention", "step": number, "maps": ["AA=="], "mass": [0.1], "right": [True]}


def told(*many: dict) -> Events:
    events = Events()
    for event in many:
        events.add(event)
    return events


QUESTION = {"question": "Where?", "answer": "left", "width": 8, "height": 8, "tiles": [], "target": None, "split": "x"}
WATCHED = {"event": "watched", "step": 0, "questions": [QUESTION]}


def test_a_page_that_knows_nothing_gets_all_and_later_what_is_new(view):
    events = told(
        {"event": "training", "step": 0, "steps": 1000}, WATCHED, snapshot(0), step(1), step(2, alignment=0.5)
    )
    first = run_news(view(events, "hello"), {})
    assert first["whole"]
    assert first["head"]["step"] == 2
    assert (first["head"]["stamp"], first["log"], first["spent"]) == (STAMP, "hello", "12 s so far")
    assert first["points"] == {"training.loss": [[1, 1.0], [2, 2.0]], "training.alignment": [[2, 0.5]]}
    assert [entry["step"] for entry in first["snapshots"]] == [0]
    assert first["watched"]["pictures"] == ["data:image/png;base64,cG5n"]

    nothing = run_news(view(events, "hello"), first["at"])
    assert (nothing["whole"], nothing.keys()) == (False, {"at", "whole", "spent"})

    for event in (step(3), {"event": "validation", "step": 3, "loss": 0.25, "accuracy": 0.5}, snapshot(3)):
        events.add(event)
    second = run_news(view(events, "hello"), nothing["at"])
    assert second.keys() == {"at", "whole", "spent", "head", "points", "snapshots"}
    assert second["points"] == {
        "training.loss": [[3, 3.0]],
        "validation.loss": [[3, 0.25]],
        "validation.accuracy": [[3, 0.5]],
    }
    assert [entry["step"] for entry in second["snapshots"]] == [3]
    # What is told is plain JSON, and comes back from the browser as it went.
    assert json.loads(json.dumps(second["at"])) == second["at"]


def test_a_file_that_was_written_anew_is_told_from_its_start(view):
    known = run_news(view(told(step(1), step(2))), {})["at"]
    anew = run_news(view(told(step(1))), known)
    assert anew["whole"]
    assert anew["points"] == {"training.loss": [[1, 1.0]]}


def test_long_curves_come_thinned_and_maps_wait_for_their_pictures(view, tmp_path):
    events = told(WATCHED, snapshot(0), *(step(number) for number in range(1, 1001)))
    picture = tmp_path / "abc/run/watch/0.png"
    picture.rename(tmp_path / "later.png")
    first = run_news(view(events), {})
    assert len(first["points"]["training.loss"]) <= MOST_POINTS
    assert "watched" not in first
    (tmp_path / "later.png").rename(picture)
    later = run_news(view(events), first["at"])
    assert "points" not in later
    assert later["watched"]["questions"][0].keys() == {"question", "answer", "width", "height", "tiles", "target"}


def test_whatever_a_browser_sends_as_known_does_no_harm(view):
    events = told(step(1))
    generation = run_news(view(events), {})["at"]["generation"]
    for at in (
        {"generation": generation, "training": "x"},
        {"generation": [1]},
        {"generation": generation, "attention": None},
    ):
        news = run_news(view(events), at)
        assert news["points"] == {"training.loss": [[1, 1.0]]}


def test_every_curve_has_a_chart_and_a_run_is_named_for_the_browser(view):
    curves = {one["curve"] for chart in charts() for one in chart["series"]}
    events = Events()
    assert curves == {f"training.{name}" for name in events.curves} | {
        f"validation.{name}" for name in events.validation
    }
    assert json.loads(follow_value(view(events), "secret", 7)) == {
        "visitor": "secret",
        "run": "abc",
        "stamp": STAMP,
        "turn": 7,
    }


def test_the_base_models_validation_is_told_as_a_line_and_not_as_a_point(view):
    events = told({"event": "base_validation", "step": 0, "loss": 2.0, "accuracy": 0.25, "questions": 8})
    news = run_news(view(events), {})
    assert news["head"]["base"] == {"validation.loss": 2.0, "validation.accuracy": 0.25}
    assert "points" not in news


def test_the_first_batch_is_told_once_with_its_pictures(view, tmp_path):
    folder = tmp_path / "abc/run/batch"
    folder.mkdir()
    (folder / "0.png").write_bytes(b"png")
    pieces = [{"kind": "learnt", "tokens": 2, "text": "yes"}]
    batch = {"event": "batch", "step": 0, "size": 4, "questions": [{"image": "a.png", "pieces": pieces, "more": 1}] * 9}
    asked = view(told(batch))
    first = run_news(asked, {})
    assert first["batch"]["size"] == 4
    assert len(first["batch"]["questions"]) == len(first["batch"]["pictures"]) == 8
    assert first["batch"]["questions"][0] == {"image": "a.png", "known": None, "regions": None, "pieces": pieces}
    assert first["batch"]["pictures"][:2] == ["data:image/png;base64,cG5n", ""]
    assert "batch" not in run_news(asked, first["at"])


def test_the_best_and_worst_answers_are_those_told_last_with_pictures_of_their_step(view, tmp_path):
    folder = tmp_path / "abc/run/examples"
    folder.mkdir()
    (folder / "20-0.png").write_bytes(b"png")
    (folder / "10-0.png").write_bytes(b"older")
    facts = {"kind": "best", "question": "Where?", "answer": "left", "prediction": "right", "right": False}
    events = [{"event": "examples", "step": step, "questions": [facts, "damaged"]} for step in (10, 20)]
    told_last = run_news(view(told(*events)), {})["examples"]
    assert (told_last["step"], told_last["pictures"]) == (20, ["data:image/png;base64,cG5n"])
    (question,) = told_last["questions"]
    assert {name: question[name] for name in facts} == facts
    assert question["mass"] is None
