"""Where things stand on the stage: panes, the wipe, zoom, and the source pixel under a pointer."""

from __future__ import annotations

import functools

import pytest

IMAGE = {"width": 200, "height": 100}
STAGE = {"left": 30, "top": 10, "width": 400, "height": 300}
WHOLE = {"factor": 1, "x": 0, "y": 0}


def frame(x, width, height=300, y=0):
    return {"x": x, "y": y, "width": width, "height": height}


@pytest.fixture(scope="module")
def call(call_module):
    return functools.partial(call_module, "inspect/viewer/layout.js")


@pytest.mark.parametrize(("wipe", "edge"), [(0, 0), (0.25, 100), (0.5, 200), (1, 400)])
def test_a_wipe_shares_one_frame_at_its_edge(call, wipe, edge):
    a, b = call("panesOf", "wipe", 400, 300, wipe, 2)
    assert (a["side"], b["side"]) == ("a", "b")
    assert a["frame"] == b["frame"] == frame(0, 400)
    assert a["clip"] == frame(0, edge)
    assert b["clip"] == frame(edge, 400 - edge)


def test_side_by_side_each_has_its_half_with_a_gap(call):
    a, b = call("panesOf", "side", 401, 300, 0.5, 2)
    assert a == {"side": "a", "frame": frame(0, 198), "clip": frame(0, 198)}
    assert b == {"side": "b", "frame": frame(203, 198), "clip": frame(203, 198)}


def test_on_a_stage_taller_than_wide_one_stands_above_the_other(call):
    a, b = call("panesOf", "side", 300, 625, 0.5, 2)
    assert a == {"side": "a", "frame": frame(0, 300, 288), "clip": frame(0, 300, 288)}
    assert b == {"side": "b", "frame": frame(0, 300, 288, 337), "clip": frame(0, 300, 288, 337)}
    stage = {"left": 30, "top": 10, "width": 200, "height": 224}
    for y, side, top in ((100, "a", 10), (200, "b", 134)):
        assert call("sideAt", "side", stage, 40, y, 0.5) == side
        assert call("frameAt", "side", stage, 40, y) == frame(30, 200, 100, top)
    (whole,) = call("panesOf", "one", 300, 625, 0.5, 2)
    assert whole["frame"] == frame(0, 300, 625)


@pytest.mark.parametrize(("mode", "side"), [("one", "front"), ("difference", "b")])
def test_one_pane_has_the_whole_stage(call, mode, side):
    (pane,) = call("panesOf", mode, 400, 300, 0.5, 1)
    assert pane == {"side": side, "frame": frame(0, 400), "clip": frame(0, 400), "difference": mode == "difference"}


@pytest.mark.parametrize(
    ("mode", "share", "side"),
    [
        ("one", 0.9, "front"),
        ("difference", 0.9, None),
        ("side", 0.4, "a"),
        ("side", 0.6, "b"),
        ("wipe", 0.6, "a"),
        ("wipe", 0.8, "b"),
    ],
)
def test_a_pointer_is_over_the_side_that_is_drawn_there(call, mode, share, side):
    assert call("sideAt", mode, STAGE, STAGE["left"] + share * STAGE["width"], 20, 0.7) == side


@pytest.mark.parametrize(("x", "share"), [(30, 0), (130, 0.25), (430, 1), (0, 0), (900, 1)])
def test_the_wipe_follows_the_pointer_and_stays_on_the_stage(call, x, share):
    assert call("wipeShare", STAGE, x) == share


@pytest.mark.parametrize(
    ("mode", "x", "expected"), [("one", 400, (30, 400)), ("side", 229, (30, 200)), ("side", 231, (230, 200))]
)
def test_the_frame_under_a_pointer_is_that_of_its_pane(call, mode, x, expected):
    assert call("frameAt", mode, STAGE, x, 20) == frame(*expected, y=10)


@pytest.mark.parametrize("zoom", [WHOLE, {"factor": 3, "x": 0.2, "y": -0.4}])
def test_the_source_pixel_is_where_the_image_was_placed(call, zoom):
    place = call("placementIn", frame(30, 400, y=10), IMAGE, zoom)
    assert place["scale"] == 2 * zoom["factor"]
    for pixel in [(0, 0), (37.5, 88), (200, 100)]:
        x, y = (place["x"] + pixel[0] * place["scale"], place["y"] + pixel[1] * place["scale"])
        assert call("sourcePoint", frame(30, 400, y=10), IMAGE, zoom, x, y) == pytest.approx(pixel)


def test_the_whole_image_is_as_large_as_fits_and_in_the_middle(call):
    assert call("placementIn", frame(0, 400), IMAGE, WHOLE) == {"scale": 2, "x": 0, "y": 50}


@pytest.mark.parametrize("by", [1.25, 4, 1000])
def test_zooming_leaves_the_point_under_the_pointer(call, by):
    start = {"factor": 2, "x": 0.1, "y": 0.05}
    before = call("sourcePoint", frame(0, 400), IMAGE, start, 90, 200)
    zoomed = call("zoomedAt", start, by, frame(0, 400), 90, 200)
    assert zoomed["factor"] == min(16, 2 * by)
    assert call("sourcePoint", frame(0, 400), IMAGE, zoomed, 90, 200) == pytest.approx(before)


def test_zooming_out_ends_with_the_whole_image(call):
    assert call("zoomedAt", {"factor": 2, "x": 0.3, "y": 0}, 0.4, frame(0, 400), 90, 200) == WHOLE


@pytest.mark.parametrize(
    ("start", "end", "box"),
    [
        ([10.2, 20.9], [30.1, 40], [10, 20, 21, 20]),
        ([30.1, 40], [10.2, 20.9], [10, 20, 21, 20]),
        ([-5, -5], [500, 500], [0, 0, 200, 100]),
        ([300, 10], [400, 20], [200, 10, 0, 10]),
    ],
)
def test_a_box_has_whole_pixels_of_the_image(call, start, end, box):
    assert call("boxBetween", start, end, IMAGE) == box
