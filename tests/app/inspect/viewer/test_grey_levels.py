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


def test_a_preset_is_a_window_of_the_file_and_waits_for_its_values(call_module):
    lung = {"preset": {"name": "lung", "centre": -600, "width": 1500}}
    assert call_module(MODULE, "inGrey", AS_OPENED, [40, 400], None) == AS_OPENED
    waiting = call_module(MODULE, "inGrey", lung, [40, 400], None)
    assert waiting == {**AS_OPENED, "waits": "lung"}
    assert "reading values" in call_module(MODULE, "levelWords", waiting, [40, 400])
    levels = call_module(MODULE, "inGrey", lung, [40, 400], {})
    assert levels == {"centre": 127.5 - 408, "width": 956.25, "name": "lung"}
    assert call_module(MODULE, "levelWords", levels, [40, 400]) == "lung C -600  W 1500"
    # Dragging goes on from there.
    assert call_module(MODULE, "draggedLevels", levels, 0, 0) == {"centre": levels["centre"], "width": levels["width"]}
