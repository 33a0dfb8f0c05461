"""What a run's files add up to: progress, curves, and every way in which it can have ended, in words."""

from __future__ import annotations

import json

import pytest

from a3tune.training.run_folder import RunFolder
from app.jobs.jobs import Job
from app.tune.runs.event_reader import EventReader, thinned
from app.tune.runs.updates import run_news
from app.tune.runs.view import view_run


@pytest.fixture
def job(tmp_path):
    """facts -> a job whose files the test writes."""
    (tmp_path / "run").mkdir()

    def make(state="ended", exit=None, **record):
        return Job(tmp_path, {"title": "mine", **record}, state, "cpu", 1, exit or {})

    return make


def write(job, status, events=(), log="", steps=(), **facts):
    (job.run / "run.json").write_text(json.dumps({"status": status, "updated": 10.0, **facts}))
    with (job.run / "events.jsonl").open("a") as stream:
        stream.writelines(json.dumps(event) + "\n" for event in events)
    job.log.write_text(log)
    for step in steps:
        (job.run / "checkpoints" / f"checkpoint-{step}").mkdir(parents=True)


def step(number, **facts):
    return {"event": "step", "step": number, "steps": 10, "loss": 1 / number, "seconds_left": 3.0, **facts}


def test_progress_and_curves_follow_the_events(job):
    reader, running = EventReader(), job("running")
    write(running, "preparing", [{"event": "progress", "text": "Loading the model"}])
    assert view_run(running, reader).words == "Loading the model …"
    write(running, "preparing", [{"event": "labels", "done": 3, "count": 12}])
    view = view_run(running, reader)
    assert (view.status, view.words, view.share) == ("preparing", "Finding regions: 3 of 12 questions.", 0.25)
    start = {"event": "training", "step": 0, "steps": 10, "resumed": False}
    check = {"event": "validation", "step": 2, "loss": 0.5, "accuracy": 0.75, "best": True}
    write(running, "training", [start, step(1, attention_mass=0.1), step(2, attention_mass=0.2), check])
    view = view_run(running, reader)
    assert (view.status, view.words, view.share, view.live) == ("training", "Step 2 of 10.", 0.2, True)
    work = {"event": "work", "step": 2, "what": "Validating", "done": 4, "count": 12}
    write(running, "training", [work])
    assert view_run(running, reader).words == "Step 2 of 10. Validating: 4 of 12."
    write(running, "training", [{**work, "what": "Saving a checkpoint", "done": 0, "count": 0}])
    assert view_run(running, reader).words == "Step 2 of 10. Saving a checkpoint …"
    write(running, "training", [check])
    view = view_run(running, reader)
    assert view.words == "Step 2 of 10."
    assert view.events.curves["loss"] == {1: 1.0, 2: 0.5}
    assert view.events.validation["accuracy"] == {2: 0.75}
    assert (view.events.best_step, view.events.seconds_left) == (2, 3.0)


def test_a_line_is_read_once_it_is_whole_and_a_file_written_anew_from_its_start(job):
    reader, running = EventReader(), job("running")
    write(running, "training", [step(1)])
    path = running.run / "events.jsonl"
    with path.open("a") as stream:
        stream.write('{"event": "step", "step": 2')
    assert view_run(running, reader).events.step == 1
    with path.open("a") as stream:
        stream.write(', "steps": 10}\nno json\n[1]\n')
    assert view_run(running, reader).events.step == 2
    (running.run / "anew").write_text(json.dumps(step(1)) + "\n")
    (running.run / "anew").replace(path)
    assert view_run(running, reader).events.curves["loss"] == {1: 1.0}


@pytest.mark.parametrize(
    ("status", "exit", "log", "facts", "words"),
    [
        ("training", {"signal": 9}, "", {}, "ended by the signal SIGKILL. Somebody, or the system, ended it"),
        ("training", {"signal": 11}, "", {}, "ended by the signal SIGSEGV. It crashed"),
        ("training", {"signal": 9, "out_of_memory": True}, "", {}, "the machine ran out of memory. Set a smaller"),
        ("training", {"code": 1}, "torch.OutOfMemoryError: CUDA out of memory.", {}, "device ran out of memory"),
        ("training", {"code": 1}, "OSError: [Errno 28] No space left on device", {}, "The disk is full"),
        ("training", {"code": 1}, "Traceback\n  a\nKeyError: 'x'\n", {}, "with an error: KeyError: 'x'"),
        ("failed", {"code": 2}, "", {"error": "The loss of step 3 is nan."}, "The loss of step 3 is nan."),
        ("training", {}, "", {}, "gone without a trace"),
        ("training", {"code": 4}, "", {}, "status 4 and said nothing"),
    ],
)
def test_why_it_ended_early_and_how_to_go_on(job, status, exit, log, facts, words):
    ended = job(exit=exit)
    write(ended, status, [step(3)], log, steps=(2, 10), **facts)
    view = view_run(ended, EventReader())
    assert view.status == "failed"
    assert words in view.words
    assert view.words.endswith("Resume goes on at step 10.")
    assert (view.live, view.can_resume) == (False, True)


def test_ends_that_were_wanted(job):
    done = job()
    write(done, "finished", [step(10)])
    assert view_run(done, EventReader()).words == "Finished. The adapter is ready."
    assert not view_run(done, EventReader()).can_resume
    stopped = job()
    write(stopped, "stopped", step=4)
    assert view_run(stopped, EventReader()).words == "Stopped before the first step. Resume starts it again."
    (stopped.run / "adapter").mkdir()
    assert view_run(stopped, EventReader()).words.startswith("Stopped at step 4. The adapter is ready.")
    assert view_run(job(cancelled=True), EventReader()).status == "cancelled"
    assert view_run(job("queued"), EventReader()).words.startswith("Place 1 in the queue")
    assert view_run(job(elsewhere=True), EventReader()).status == "elsewhere"


def test_what_an_earlier_start_wrote_is_not_taken_for_this_one(job):
    write(job(), "stopped", [step(4)], step=4)
    assert view_run(job("running", begun=20.0), EventReader()).status == "preparing"
    assert view_run(job("running", begun=5.0), EventReader()).status == "stopped"


def test_long_curves_are_thinned_to_means():
    points = thinned({number: float(number) for number in range(1, 1001)}, most=100)
    assert len(points) == 100
    assert points[0] == [10, 5.5]
    assert points[-1][0] == 1000
    assert thinned({}) == []


def test_a_run_that_goes_on_is_not_taken_for_training_before_it_says_so(job):
    reader, running = EventReader(), job("running", begun=20.0)
    write(running, "training", [{"event": "training", "step": 0, "steps": 10}, step(1), step(2)])
    assert view_run(running, reader).words == "Starting …"
    write(running, "training", [{"event": "training", "step": 2, "steps": 10, "resumed": True}], updated=21.0)
    assert view_run(running, reader).words == "Step 2 of 10."


def test_a_stopped_run_can_go_on_once_its_process_is_gone(job):
    reader = EventReader()
    write(job("running"), "stopped", [step(2)], steps=(2,))
    leaving, gone = view_run(job("running"), reader), view_run(job("ended"), reader)
    assert (leaving.status, leaving.live, leaving.can_resume) == ("stopped", True, False)
    assert (gone.status, gone.live, gone.can_resume) == ("stopped", False, True)


ODD = (10**400, -1, "3", [1], {"a": 1}, None, True)


@pytest.mark.parametrize(
    "kind", ["step", "training", "validation", "base_validation", "labels", "work", "watched", "attention"]
)
@pytest.mark.parametrize("odd", ODD)
def test_events_of_a_run_from_elsewhere_that_hold_odd_values_are_shown_or_left_out(job, kind, odd):
    names = ("step", "steps", "loss", "seconds_left", "done", "count", "questions", "attention_mass", "resumed", "what")
    facts = {"event": kind, "step": 1, "steps": 4, "done": 1, "count": 2, "loss": 0.5, "questions": [{"question": "a"}]}
    done = job(elsewhere=True)
    for name in names:
        write(done, "finished", [{**facts, name: odd}, {**facts, "questions": [odd]}])
    view = view_run(done, EventReader())
    json.dumps(run_news(view, {}), allow_nan=False)
    assert 0 <= view.share <= 1


@pytest.mark.parametrize("text", [b"NaN", b"Infinity", b"1e999", b"[" * 200_000, b"\xff\xfe"])
def test_lines_that_are_no_json_of_a_browser_are_left_out(job, text):
    done = job()
    write(done, "finished")
    with (done.run / "events.jsonl").open("ab") as stream:
        stream.write(b'{"event": "note", "text": "kept"}\n{"event": "step", "step": 1, "loss": ' + text + b"}\n")
    events = EventReader().read(done.run / "events.jsonl")
    assert (events.notes, events.step, events.curves["loss"]) == (["kept"], 0, {})
    assert next(event.get("text") for event in RunFolder(done.run).event_log.read()) == "kept"


def test_what_a_run_from_elsewhere_tells_takes_no_more_memory_than_ours_do(job):
    done = job(elsewhere=True)
    many, nested = [{"event": "note", "text": f"{number}{'x' * 5000}"} for number in range(300)], [[]] * 25_000
    look = {"event": "attention", "maps": ["AAAA"], "mass": [0.5], "right": [True], "more": [nested]}
    looks = [{**look, "step": number} for number in range(1, 101)]
    large = [{**look, "step": 200, "maps": ["A" * 300_000]}, {**look, "step": 201, "mass": nested}]
    told = {"event": "batch", "questions": [{"image": "a", "pieces": [], "regions": nested}] * 9}
    long = {"event": "note", "text": "a" * (1 << 20)}
    write(done, "finished", [*many, long, *looks, *large, told, {"event": "watched", "questions": [{"tiles": nested}]}])
    write(done, "finished", [step(number) for number in range(1, 6001)])
    events = view_run(done, EventReader()).events
    assert (len(events.notes), max(map(len, events.notes)), events.notes[-1][:3]) == (100, 2000, "299")
    assert [*events.attention] == [*range(38, 101), 201]
    assert events.attention[100] == {"step": 100, "maps": ["AAAA"], "mass": [0.5], "right": [True]}
    assert "mass" not in events.attention[201]
    assert events.batch["questions"] == [{"image": "a", "known": None, "regions": None, "pieces": []}] * 8
    assert events.watched_questions[0]["tiles"] is None
    assert len(events.curves["loss"]) <= 4000
    assert next(reversed(events.curves["loss"])) == 6000


def test_a_line_that_is_too_long_is_passed_over_and_read_once(job):
    reader, running = EventReader(), job("running")
    write(running, "training")
    path = running.run / "events.jsonl"
    with path.open("ab") as stream:
        stream.write(b'{"event": "note", "text": "' + b"a" * (3 << 20))
    assert reader.read(path).notes == []
    with path.open("ab") as stream:
        stream.write(b'"}\n{"event": "note", "text": "after"}\n')
    assert reader.read(path).notes == ["after"]
    assert [event["text"] for event in RunFolder(running.run).event_log.read()] == ["after"]


@pytest.mark.parametrize("odd", ODD)
def test_records_of_a_run_that_hold_odd_values_are_shown(job, odd):
    for name in ("status", "updated", "verdict", "error", "step"):
        write(job(), **{"status": "finished", name: odd})
        for elsewhere in (False, True):
            assert view_run(job(elsewhere=elsewhere, begun=1.0), EventReader()).words
