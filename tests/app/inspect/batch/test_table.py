"""The table of many images in the browser: its order, and what it says of the work."""

from __future__ import annotations

import pytest

FILE, ANSWER, INSIDE = ({"kind": kind, "adapter": "a3"} for kind in ("file", "answer", "number"))
ROWS = [
    {"number": 0, "name": "scan 10.png", "answers": {"a3": "left"}, "inside": {"a3": 0.2}},
    {"number": 1, "name": "broken.png", "answers": {}, "inside": {}},
    {"number": 2, "name": "scan 9.png", "answers": {"a3": "left"}, "inside": {"a3": 0.0}},
    {"number": 3, "name": "Abdomen.png", "answers": {"a3": "Right"}, "inside": {}},
    {"number": 4, "name": "scan 11.png", "answers": {"a3": ""}, "inside": {"a3": 0.9}},
]


@pytest.mark.parametrize(
    ("column", "descending", "order"),
    [
        (None, False, [0, 1, 2, 3, 4]),
        (FILE, False, [3, 1, 2, 0, 4]),
        (FILE, True, [4, 0, 2, 1, 3]),
        (ANSWER, False, [4, 0, 2, 3, 1]),
        (INSIDE, False, [2, 0, 4, 1, 3]),
        (INSIDE, True, [4, 0, 2, 1, 3]),
    ],
)
def test_any_column_sorts_and_what_is_missing_comes_last(call_module, column, descending, order):
    rows = call_module("inspect/batch/static/table.js", "sortedRows", ROWS[::-1], column, descending)
    assert [row["number"] for row in rows] == order


@pytest.mark.parametrize(
    ("news", "words"),
    [
        ({"done": 0, "left": 0, "step": "Loading the model"}, "0 of 12, Loading the model"),
        ({"done": 3, "left": 70}, "3 of 12, about 1 min left"),
        ({"done": 3, "left": 20}, "3 of 12, less than 1 min left"),
        ({"done": 12, "live": False, "ended": ""}, "12 images"),
        ({"done": 12, "live": False, "ended": "", "broken": 2}, "12 images, 2 of them could not be asked about"),
        ({"done": 4, "live": False, "ended": "Cancelled. 8 images were not asked about."}, "Cancelled. 8 images"),
    ],
)
def test_progress_is_told_in_words(call_module, news, words):
    told = call_module("inspect/batch/static/batch.js", "progressWords", {"total": 12, "live": True, **news})
    assert "".join(told).startswith(words)
