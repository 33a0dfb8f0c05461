"""Letters at the picture's edges stand beside the picture, each at its own edge, also of an enlarged picture."""

from __future__ import annotations

import pytest

MODULE = "inspect/viewer/edge_letters.js"
EDGES = {"left": "R", "right": "L", "top": "A", "bottom": "P"}
IMAGE = {"width": 200, "height": 100}


def letters(call_module, place):
    frame = {"x": 17, "y": 17, "width": 400, "height": 300}
    return {letter: (x, y) for letter, x, y in call_module(MODULE, "lettersAt", EDGES, frame, IMAGE, place, 17)}


def test_beside_the_picture(call_module):
    assert letters(call_module, {"x": 17, "y": 67, "scale": 2}) == {
        "R": (8.5, 167),
        "L": (425.5, 167),
        "A": (217, 58.5),
        "P": (217, 275.5),
    }


def test_beside_the_frame_of_an_enlarged_picture_at_the_middle_of_what_is_seen(call_module):
    assert letters(call_module, {"x": -583, "y": 117, "scale": 4}) == {
        "R": (8.5, 217),
        "L": (225.5, 217),
        "A": (117, 108.5),
        "P": (117, 325.5),
    }


@pytest.mark.parametrize(("image", "room"), [({"edges": EDGES}, 17), ({"edges": None}, 0), (None, 0)])
def test_room_is_kept_only_for_letters(call_module, image, room):
    assert call_module(MODULE, "roomFor", image) == room
