"""What is measured on a picture: lengths and areas in millimetres, values in the file's unit, on the file's pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from a3tune.errors import RequestError
from a3tune.images.measures import Measure, measure_words
from a3tune.images.values import PixelValues
from a3tune.types import MedicalImage

STORED = np.random.default_rng(1).integers(-500, 3000, (10, 20)).astype(np.float64)
HOUNSFIELD = PixelValues(STORED, 2.0, -1024.0, "HU")


def image(spacing=None, plane="", shown=(10, 20)):
    return MedicalImage(np.zeros((*shown, 3), np.uint8), spacing=spacing, spacing_plane=plane, stored_size=(10, 20))


@pytest.mark.parametrize(
    ("spacing", "length", "unit"), [(None, 5, "px"), ((0.5, 0.5), 2.5, "mm"), ((0.5, 2), math.hypot(6, 2), "mm")]
)
def test_a_ruler_is_in_millimetres_where_pixels_have_a_size_whatever_their_shape(spacing, length, unit):
    told = Measure.parse("ruler:2,3,5,7").record(image(spacing), HOUNSFIELD)
    assert told["length"] == pytest.approx(length, abs=1e-4)
    assert (told["unit"], told["from"], told["to"]) == (unit, [2, 3], [5, 7])


def test_pixels_without_a_size_are_those_that_are_shown():
    told = Measure.parse("ruler:2,3,2,7").record(image(shown=(20, 20)), HOUNSFIELD)
    assert (told["length"], told["unit"]) == (8, "px")


@pytest.mark.parametrize("kind", ["rectangle", "ellipse"])
@pytest.mark.parametrize("points", ["2,1,17,8", "17.2,8.4,2.3,0.2", "0,0,20,10"])
def test_statistics_are_those_of_the_stored_pixels_whose_middles_lie_inside(kind, points):
    told = Measure.parse(f"{kind}:{points}").record(image((0.5, 2)), HOUNSFIELD)
    x0, y0, x1, y1 = map(float, points.split(","))
    rows, columns = np.indices((10, 20)) + 0.5
    (left, right), (top, bottom) = sorted((x0, x1)), sorted((y0, y1))
    inside = (columns >= left) & (columns < right) & (rows >= top) & (rows < bottom)
    if kind == "ellipse":
        across, down = (columns - (left + right) / 2) / (right - left), (rows - (top + bottom) / 2) / (bottom - top)
        inside &= across**2 + down**2 <= 0.25
    values = STORED[inside] * 2 - 1024
    wanted = {"mean": values.mean(), "sd": values.std(ddof=1), "min": values.min(), "max": values.max()}
    assert told["values"] == [pytest.approx(wanted, rel=1e-6)]
    assert (told["pixels"], told["without_value"], told["values_unit"]) == (inside.sum(), 0, "HU")
    box = (right - left) * (bottom - top) * 0.5 * 2
    assert told["area"] == pytest.approx(box * (math.pi / 4 if kind == "ellipse" else 1), abs=1e-4)


def test_pixels_without_a_value_are_counted_and_left_out():
    stored = STORED.copy()
    stored[0, :3] = np.nan
    told = Measure.parse("rectangle:0,0,4,1").record(image(), PixelValues(stored))
    assert (told["pixels"], told["without_value"]) == (1, 3)
    assert told["values"] == [{"mean": stored[0, 3], "sd": None, "min": stored[0, 3], "max": stored[0, 3]}]
    assert "SD not defined" in measure_words(told)
    assert Measure.parse("ellipse:0,0,0.1,0.1").record(image(), HOUNSFIELD)["values"] == []


def test_words_have_units_and_planes_and_lose_no_small_values():
    ruler = Measure.parse("ruler:0,0,10,0").record(image((0.143, 0.143), "detector"), HOUNSFIELD)
    assert measure_words(ruler) == "Ruler: 1.43 mm at the detector"
    small = Measure.parse("rectangle:0,0,2,1").record(image(), PixelValues(np.full((10, 20), 0.00083), unit="mm²/s"))
    assert measure_words(small).startswith("Rectangle: mean 0.00083 · SD 0 · min 0.00083 · max 0.00083 mm²/s · area 2")
    colours = Measure.parse("rectangle:0,0,2,1").record(image(), PixelValues(np.ones((10, 20, 3), np.uint8)))
    assert "mean 1 / 1 / 1 · " in measure_words(colours)
    assert "(R / G / B)" in measure_words(colours)


@pytest.mark.parametrize("text", ["line:1,2,3,4", "ruler:1,2,3", "ruler", "ruler:1,2,3,nan", "ellipse:1,2,3,x"])
def test_what_is_no_measure_is_refused_by_name(text):
    with pytest.raises(RequestError, match="The measure is"):
        Measure.parse(text)


@pytest.mark.parametrize("text", ["ruler:1,2,1,2", "rectangle:1,2,5,2", "ruler:0,0,20.1,3", "ellipse:-1,0,3,3"])
def test_what_has_no_size_or_lies_beside_the_picture_is_refused(text):
    with pytest.raises(RequestError, match="20 x 10 stored pixels"):
        Measure.parse(text).record(image(), HOUNSFIELD)


def test_a_measure_is_read_back_from_its_text():
    measure = Measure("ellipse", (1.23456, 2), (20, 7.5))
    assert measure.text() == "ellipse:1.235,2,20,7.5"
    assert Measure.parse(measure.text()) == measure
