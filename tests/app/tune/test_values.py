"""What a page is told of a run: everything once, and then what is new."""

import json

from app.tune.runs.runs import MOST_POINTS, Events, RunView
from app.tune.values import charts, follow_value, run_news

STAMP = ["abc", "training", True, False]


def view(events: Events, log: str = "", words: str = "Step.") -> RunView:
    return RunView("abc", "mine", "training", words, True, False, False, events, {}, log, 12.0)


def step(number: int, **facts) -> dict:
    return {"event": "step", "step": number, "steps": 1000, "loss": float(number), "seconds_left": 60.0, **facts}


def look(number: int) -> dict:
    return {"event": "attention", "step": number, "maps": ["AA=="], "mass": [0.1], "right": [True]}


def told(*many: dict) -> Events:
    events = Events()
    for event in many:
        events.add(event)
    return events


QUESTION = {"question": "Where?", "answer": "left", "width": 8, "height": 8, "tiles": [], "target": None, "split": "x"}
WATCHED = {"event": "watched", "step": 0, "questions": [QUESTION]}


def test_a_page_that_knows_nothing_gets_all_and_later_what_is_new():
    events = told({"event": "training", "step": 0, "steps": 1000}, WATCHED, look(0), step(1), step(2, alignment=0.5))
    first = run_news(view(events, "hello"), STAMP, {}, lambda: [b"png"])
    assert first["whole"]
    assert first["head"]["step"] == 2
    assert (first["head"]["stamp"], first["log"], first["seconds"]) == (STAMP, "hello", 12.0)
    assert first["points"] == {"training.loss": [[1, 1.0], [2, 2.0]], "training.alignment": [[2, 0.5]]}
    assert [entry["step"] for entry in first["looks"]] == [0]
    assert first["watched"]["pictures"] == ["data:image/png;base64,cG5n"]

    nothing = run_news(view(events, "hello"), STAMP, first["at"], lambda: [b"png"])
    assert (nothing["whole"], nothing.keys()) == (False, {"at", "whole", "seconds"})

    for event in (step(3), {"event": "validation", "step": 3, "loss": 0.25, "accuracy": 0.5}, look(3)):
        events.add(event)
    second = run_news(view(events, "hello"), STAMP, nothing["at"], lambda: [b"png"])
    assert second.keys() == {"at", "whole", "seconds", "head", "points", "looks"}
    assert second["points"] == {
        "training.loss": [[3, 3.0]],
        "validation.loss": [[3, 0.25]],
        "validation.accuracy": [[3, 0.5]],
    }
    assert [entry["step"] for entry in second["looks"]] == [3]
    # What is told is plain JSON, and comes back from the browser as it went.
    assert json.loads(json.dumps(second["at"])) == second["at"]


def test_a_file_that_was_written_anew_is_told_from_its_start():
    known = run_news(view(told(step(1), step(2))), STAMP, {}, list)["at"]
    anew = run_news(view(told(step(1))), STAMP, known, list)
    assert anew["whole"]
    assert anew["points"] == {"training.loss": [[1, 1.0]]}


def test_long_curves_come_thinned_and_maps_wait_for_their_pictures():
    events = told(WATCHED, look(0), *(step(number) for number in range(1, 1001)))
    first = run_news(view(events), STAMP, {}, lambda: [b""])
    assert len(first["points"]["training.loss"]) <= MOST_POINTS
    assert "watched" not in first
    later = run_news(view(events), STAMP, first["at"], lambda: [b"png"])
    assert "points" not in later
    assert later["watched"]["questions"][0].keys() == {"question", "answer", "width", "height", "tiles", "target"}


def test_whatever_a_browser_sends_as_known_does_no_harm():
    events = told(step(1))
    generation = run_news(view(events), STAMP, {}, list)["at"]["generation"]
    for at in (
        {"generation": generation, "training": "x"},
        {"generation": [1]},
        {"generation": generation, "look": None},
    ):
        news = run_news(view(events), STAMP, at, list)
        assert news["points"] == {"training.loss": [[1, 1.0]]}


def test_every_curve_has_a_chart_and_a_run_is_named_for_the_browser():
    curves = {one["curve"] for chart in charts() for one in chart["series"]}
    events = Events()
    assert curves == {f"training.{name}" for name in events.curves} | {
        f"validation.{name}" for name in events.validation
    }
    assert json.loads(follow_value(view(events), "secret", STAMP, 7)) == {
        "visitor": "secret",
        "run": "abc",
        "stamp": STAMP,
        "turn": 7,
    }
    assert follow_value(None, "secret", [], 8) == ""
