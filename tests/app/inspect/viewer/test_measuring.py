"""Lengths, areas and statistics of what is measured: on the file's pixels, in the file's units, nothing made up."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from a3tune.images import image_from_array
from a3tune.images.measures import KINDS, Measure
from a3tune.images.values import PixelValues

MODULE = "inspect/viewer/measuring.js"
WORDS = "inspect/viewer/measures.js"
RUN = """async ([measure, image, values]) => {
    const { statisticsOf } = await import("/inspect/viewer/measuring.js");
    const data = Float64Array.from(values.data, (value) => value === null ? NaN : value);
    return statisticsOf(measure, image, { ...values, data });
}"""


def image(width=20, height=10, pixel=None, plane=""):
    return {"width": width, "height": height, "pixel": pixel, "plane": plane}


def measure(kind, start, end):
    return {"kind": kind, "from": start, "to": end}


def statistics(module_page, shape, picture, stored, slope=1, intercept=0):
    height, width = stored.shape[:2]
    data = [None if math.isnan(value) else float(value) for value in stored.ravel()]
    facts = {"width": width, "height": height, "channels": stored.size // (height * width)}
    values = {"data": data, **facts, "slope": slope, "intercept": intercept}
    return module_page.evaluate(RUN, [shape, picture, values])


@pytest.mark.parametrize(
    ("pixel", "length", "unit"), [(None, 5, "px"), ([0.5, 0.5], 2.5, "mm"), ([2, 0.5], math.hypot(6, 2), "mm")]
)
def test_a_length_is_in_millimetres_where_pixels_have_a_size_whatever_their_shape(call_module, pixel, length, unit):
    found = call_module(MODULE, "lengthOf", measure("ruler", [2, 3], [5, 7]), image(pixel=pixel))
    assert found == {"length": pytest.approx(length), "unit": unit}


def test_an_area_is_that_of_the_drawn_shape(call_module):
    corners = [8, 7], [2, 3]
    told = image(pixel=[0.5, 2])
    assert call_module(MODULE, "areaOf", measure("rectangle", *corners), told) == {"area": 24, "unit": "mm²"}
    ellipse = call_module(MODULE, "areaOf", measure("ellipse", *corners), image())
    assert ellipse == {"area": pytest.approx(math.pi * 3 * 2), "unit": "px²"}


@pytest.mark.parametrize("kind", ["ellipse", "rectangle"])
@pytest.mark.parametrize(("start", "end"), [([2, 1], [17, 8]), ([17.2, 8.4], [2.3, 0.2]), ([-3, -3], [30, 30])])
@pytest.mark.parametrize("stored_size", [(10, 20), (5, 20), (10, 7)])
def test_statistics_are_those_of_the_stored_pixels_whose_middles_lie_inside(module_page, kind, start, end, stored_size):
    stored = np.random.default_rng(1).integers(-500, 3000, stored_size).astype(float)
    found = statistics(module_page, measure(kind, start, end), image(), stored, slope=2, intercept=-1024)
    rows, columns = np.indices(stored_size) + 0.5
    x, y = columns * 20 / stored_size[1], rows * 10 / stored_size[0]
    (left, right), (top, bottom) = sorted((start[0], end[0])), sorted((start[1], end[1]))
    inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)
    if kind == "ellipse":
        u, v = (x - (left + right) / 2) / (right - left) * 2, (y - (top + bottom) / 2) / (bottom - top) * 2
        inside = u**2 + v**2 <= 1
    values = stored[inside] * 2 - 1024
    (channel,) = found["channels"]
    assert (found["pixels"], found["without"]) == (len(values), 0)
    assert channel == pytest.approx(
        {"mean": values.mean(), "deviation": values.std(ddof=1), "least": values.min(), "most": values.max()}
    )


@pytest.mark.parametrize("spacing", [None, (0.5, 2.0)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_page_measures_what_the_command_does(call_module, module_page, kind, spacing):
    stored = np.random.default_rng(3).integers(-500, 3000, (10, 20)).astype(float)
    stored[3, 4] = np.nan
    shown = image_from_array(np.zeros((10, 20, 3), np.uint8))
    start, end = [2.5, 1.0], [17.0, 8.25]
    values = PixelValues(stored, 2.0, -1024.0, "HU")
    told = Measure(kind, tuple(start), tuple(end)).record(replace(shown, spacing=spacing), values)
    drawn, picture = measure(kind, start, end), image(pixel=spacing and spacing[::-1])
    if kind == "ruler":
        found = call_module(MODULE, "lengthOf", drawn, picture)
        assert (found["length"], found["unit"]) == (pytest.approx(told["length"], abs=1e-4), told["unit"])
        return
    found = call_module(MODULE, "areaOf", drawn, picture)
    assert (found["area"], found["unit"]) == (pytest.approx(told["area"], abs=1e-4), f"{told['unit']}²")
    found = statistics(module_page, drawn, picture, stored, slope=2, intercept=-1024)
    assert (found["pixels"], found["without"]) == (told["pixels"], told["without_value"])
    (page,), (command,) = found["channels"], told["values"]
    assert [page[name] for name in ("mean", "deviation", "least", "most")] == pytest.approx(
        [command[name] for name in ("mean", "sd", "min", "max")], rel=1e-6
    )


def test_pixels_without_a_value_are_left_out_and_counted(module_page):
    stored = np.array([[np.nan, 4.0], [6.0, np.nan]])
    found = statistics(module_page, measure("rectangle", [0, 0], [20, 10]), image(), stored)
    assert (found["pixels"], found["without"]) == (2, 2)
    assert found["channels"][0]["mean"] == 5
    none = statistics(module_page, measure("rectangle", [0, 0], [10, 5]), image(), stored)
    assert (none["pixels"], none["without"], none["channels"]) == (0, 1, [])


def test_large_values_keep_their_small_differences(module_page):
    stored = 1e9 + np.arange(200.0).reshape(10, 20)
    found = statistics(module_page, measure("rectangle", [0, 0], [20, 10]), image(), stored)
    assert found["channels"][0]["deviation"] == pytest.approx(stored.std(ddof=1))


def test_colours_have_statistics_of_each_channel(module_page):
    stored = np.random.default_rng(2).integers(0, 255, (10, 20, 3)).astype(float)
    found = statistics(module_page, measure("rectangle", [0, 0], [20, 10]), image(), stored)
    assert [one["mean"] for one in found["channels"]] == pytest.approx(stored.mean(axis=(0, 1)).tolist())


ONE = {"pixels": 12, "without": 0, "channels": [{"mean": -45.26, "deviation": 3.4567, "least": -60, "most": 12.5}]}


def test_a_ruler_says_by_what_it_measured(call_module):
    ruler = measure("ruler", [0, 0], [3, 4])
    assert call_module(WORDS, "shortWords", ruler, image()) == ["5.00 px"]
    assert call_module(WORDS, "shortWords", ruler, image(pixel=[1, 1], plane="detector")) == ["5.00 mm at the detector"]
    assert "does not tell their size" in call_module(WORDS, "longWords", ruler, image())
    assert "spacing" in call_module(WORDS, "longWords", ruler, image(pixel=[1, 1]))


def test_a_region_says_its_unit_or_that_there_is_none(call_module):
    region = measure("rectangle", [0, 0], [3, 4])
    told = image(pixel=[1, 1])
    assert call_module(WORDS, "shortWords", region, told, ONE, "HU") == ["mean −45.3 ± 3.46 HU", "12.0 mm²"]
    words = call_module(WORDS, "longWords", region, told, ONE, "HU", "")
    assert words == ("Rectangle: mean −45.3 · SD 3.46 · min −60 · max 12.5 HU · area 12.0 mm² (12 pixels)")
    assert "(no unit in the file)" in call_module(WORDS, "longWords", region, told, ONE, "", "")
    few = {**ONE, "without": 3}
    assert "12 pixels, 3 without a value left out" in call_module(WORDS, "longWords", region, told, few, "HU", "")
    assert "too many" in call_module(WORDS, "longWords", region, told, None, "", "too many")
    nothing = {"pixels": 0, "without": 3, "channels": []}
    assert "no pixel" in call_module(WORDS, "longWords", region, told, nothing, "HU", "")


@pytest.mark.parametrize(
    ("box", "others", "wanted"),
    [
        ([20, 20, 40, 40], [], [65, 55]),  # beside it
        ([60, 20, 30, 40], [], [60, 65]),  # under it: there is no room beside it
        ([20, 20, 40, 40], [[62, 40, 30, 30]], [20, 65]),  # under it: beside it they would cross another outline
    ],
)
def test_words_stand_where_they_cross_no_outline(call_module, box, others, wanted):
    around = {"frame": {"x": 0, "y": 0, "width": 110, "height": 100}, "taken": [], "boxes": [box, *others], "gap": 5}
    left, top, wide, high = call_module(WORDS, "placeOfWords", box, 40, 10, around)
    assert ([left, top], [wide, high]) == (wanted, [40, 10])


def test_words_never_stand_on_other_words(call_module):
    frame = {"x": 0, "y": 0, "width": 60, "height": 200}
    taken = []
    for _ in range(6):
        around = {"frame": frame, "taken": taken, "boxes": [[5, 5, 50, 50]], "gap": 5}
        taken.append(call_module(WORDS, "placeOfWords", [5, 5, 50, 50], 50, 20, around))
    tops = sorted(top for _, top, _, _ in taken)
    assert all(lower - upper >= 20 for upper, lower in itertools.pairwise(tops))
