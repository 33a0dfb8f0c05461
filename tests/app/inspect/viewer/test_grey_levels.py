"""Grey levels for the eye: dragged as on a reading station, told in the file's units."""

from __future__ import annotations

import math

MODULE = "inspect/viewer/grey_levels.js"
AS_OPENED = {"centre": 127.5, "width": 255}


def test_dragging_right_widens_and_up_brightens(call_module):
    levels = call_module(MODULE, "draggedLevels", AS_OPENED, 0.1, -0.2)
    assert levels == {"width": 255 * math.exp(0.3), "centre": 127.5 - 51}
    assert call_module(MODULE, "draggedLevels", AS_OPENED, -9, 9) == {"width": 4, "centre": 382}


def test_levels_are_told_in_the_units_of_the_window(call_module):
    assert call_module(MODULE, "levelWords", AS_OPENED, [40, 400]) == ""
    changed = {"centre": 255, "width": 127.5}
    assert call_module(MODULE, "levelWords", changed, [40, 400]) == "display C 240  W 200"
    assert call_module(MODULE, "levelWords", changed, None) == "display C 255  W 128"
