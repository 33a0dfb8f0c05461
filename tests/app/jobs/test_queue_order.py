"""Whose run comes next, and when one has to make room or end."""

from __future__ import annotations

from pathlib import Path

from app.jobs.queue_order import Standing, has_to_stop, in_turn, seconds_at_work


def run(owner, name, **record):
    return Standing(Path("studio") / owner / "runs" / name, {"kind": "cpu", **record})


def names(folders):
    return [folder.name for folder in folders]


def test_visitors_take_turns_and_their_own_runs_keep_their_order():
    runs = [run("ann", f"a{place}", queued=place) for place in (1, 2, 3)] + [run("bob", "b1", queued=9)]
    assert names(in_turn(reversed(runs))) == ["a1", "b1", "a2", "a3"]
    # Ann was served last: Bob is next, though he came later.
    assert names(in_turn([*runs[1:], run("ann", "a1", begun=20.0)])) == ["b1", "a2", "a3"]
    # One that made room is behind whoever waits.
    assert names(in_turn([run("ann", "a1", queued=30, served=20.0), run("bob", "b1", queued=31, begun=None)])) == [
        "b1",
        "a1",
    ]


def test_a_damaged_record_does_not_disturb_the_order():
    runs = [run("ann", "a1", queued="soon", begun=[]), run("bob", "b1", queued=3)]
    assert sorted(names(in_turn(runs))) == ["a1", "b1"]


def test_the_time_at_work_counts_over_all_starts():
    assert seconds_at_work({"begun": 100.0, "spent": 50}, 160.0) == 110.0
    assert seconds_at_work({"begun": None, "spent": 50}, 160.0) == 50.0


def test_a_run_ends_at_its_longest_time_and_makes_room_when_others_wait():
    mine = run("ann", "a1", begun=1000.0, spent=600.0)
    waiting = run("bob", "b1", queued=5)
    assert has_to_stop(mine, [mine], 1599.0, 20, 5) == ""
    assert has_to_stop(mine, [mine], 1601.0, 20, 5) == "over_time"
    assert has_to_stop(mine, [mine], 9e9, None, 5) == "", "nobody waits"
    assert has_to_stop(mine, [mine, waiting], 1301.0, 20, 5) == "makes_room"
    assert has_to_stop(mine, [mine, waiting], 1299.0, 20, 5) == ""
    assert has_to_stop(mine, [mine, waiting], 9e9, None, None) == ""
    assert has_to_stop(mine, [mine, run("ann", "a2", queued=5)], 1301.0, None, 5) == "", "only others' runs count"
    assert has_to_stop(mine, [mine, run("bob", "b1", queued=5, kind="cuda")], 1301.0, None, 5) == ""
