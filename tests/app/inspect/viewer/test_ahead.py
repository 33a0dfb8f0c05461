"""Which frames are fetched ahead, and which are given up; how long a frame stays."""

from __future__ import annotations

import pytest

MODULE = "inspect/viewer/ahead.js"
NEXT = """async ([held, heading, reach, batch]) => {
    const { nextFrames } = await import("/inspect/viewer/ahead.js");
    return nextFrames(new Set(held), heading, reach, batch);
}"""


def heading(frame, direction=1, *, count=300, loops=False):
    return {"frame": frame, "count": count, "direction": direction, "loops": loops}


@pytest.mark.parametrize(
    ("held", "where", "reach", "wanted"),
    [
        ([], heading(100), 12, [101, 102, 103, 99, 104, 105]),
        ([], heading(100, -1), 12, [99, 98, 97, 101, 96, 95]),
        ([101, 102, 99], heading(100), 5, [103, 104, 105]),
        ([], heading(0), 2, [1, 2]),
        ([], heading(299), 12, [298, 297, 296, 295]),
        ([], heading(8, count=10, loops=True), 4, [9, 0, 1, 7, 2]),
        ([9, 0], heading(8, count=10, loops=True), 30, [1, 7, 2, 3, 4, 6]),
        ([1], heading(0, count=2), 12, []),
        ([], {**heading(100), "coming": False}, 12, [100, 101, 102, 103, 99, 104]),
        ([100], {**heading(100), "coming": False}, 12, [101, 102, 103, 99, 104, 105]),
    ],
)
def test_frames_in_the_direction_of_travel_come_first_and_some_behind(module_page, held, where, reach, wanted):
    assert module_page.evaluate(NEXT, [held, where, reach, 6]) == wanted


def test_a_single_frame_is_asked_for_when_it_is_near(call_module):
    at_the_end = heading(9, count=10, loops=True)
    for frames, where, due in (
        ([], heading(100), False),
        ([112], heading(100), False),
        ([112], heading(106), True),
        ([110, 111, 112], heading(100), True),
        ([1], at_the_end, True),
        ([1], {**at_the_end, "loops": False}, False),
    ):
        assert call_module(MODULE, "isDue", frames, where) == due


def test_the_furthest_are_given_up_and_in_a_loop_those_last_to_come(call_module):
    held = [4, 5, 6, 7, 8]
    assert call_module(MODULE, "framesToDrop", held, heading(6), 3) == [4, 5]
    assert call_module(MODULE, "framesToDrop", held, heading(6), 5) == []
    assert set(call_module(MODULE, "framesToDrop", held, heading(7, count=9, loops=True), 3)) == {5, 6}


def test_pixels_in_the_browser_are_bounded(call_module):
    assert call_module(MODULE, "capacity", {"width": 512, "height": 512}) == 256
    assert call_module(MODULE, "capacity", {"width": 9000, "height": 9000}) == 3


@pytest.mark.parametrize(
    ("time", "rate", "stays"), [(40, "file", 40), (None, "file", 100), (40, "25", 40), (40, "5", 200), (None, "2", 500)]
)
def test_a_frame_stays_as_long_as_the_file_says_or_the_rate_that_was_chosen(call_module, time, rate, stays):
    assert call_module("inspect/viewer/cine.js", "stay", {"frameTime": time}, rate) == stays


@pytest.mark.parametrize(("due", "now", "after"), [(1000, 1000, 1040), (1000, 1030, 1040), (1000, 1041, 1081)])
def test_late_frames_are_not_made_up_for(call_module, due, now, after):
    assert call_module("inspect/viewer/cine.js", "dueAfter", due, now, 40) == after


def test_the_rate_of_the_file_is_told(call_module):
    assert call_module("inspect/viewer/cine.js", "rateWords", 40) == "as in the file: 25/s"
    assert call_module("inspect/viewer/cine.js", "rateWords", 66.67) == "as in the file: 15/s"
