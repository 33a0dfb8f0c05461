"""Values under the pointer, and a window over them: those of the file, whatever the picture shows."""

from __future__ import annotations

import numpy as np
import pytest

from a3tune.images.grey import GreyFrame, show
from a3tune.images.values import PixelValues
from a3tune.types import Window
from app.inspect.viewer.image_value import pixel_values

MODULE = "inspect/viewer/pixel_values.js"
AT = """async ([sent, image, points]) => {
    const { unpackValues, valuesAt, valueWords } = await import("/inspect/viewer/pixel_values.js");
    const values = await unpackValues(sent);
    return points.map(([x, y]) => {
        const found = valuesAt(values, image, x, y);
        return found && valueWords(values, found);
    });
}"""
WINDOWED = """async ([sent, centre, width]) => {
    const { unpackValues, windowed } = await import("/inspect/viewer/pixel_values.js");
    const sheet = windowed(await unpackValues(sent), centre, width);
    return sheet && [...sheet.getContext("2d").getImageData(0, 0, sheet.width, sheet.height).data];
}"""


def test_a_value_is_that_of_the_stored_pixel_under_the_point(module_page):
    stored = np.array([[0, 1024, 979], [2000, 3071, 5]], np.uint16)
    sent = pixel_values(PixelValues(stored, 1.0, -1024.0, "HU"))
    # Shown twice as high as stored, since its pixels are.
    points = [(0, 0), (1.9, 1.9), (2, 0), (0, 2), (1.5, 3.99), (3, 0), (0, -0.1)]
    words = module_page.evaluate(AT, [sent, {"width": 3, "height": 4}, points])
    assert words == ["−1024 HU", "0 HU", "−45 HU", "976 HU", "2047 HU", None, None]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (PixelValues(np.array([[0.123456]], np.float64)), "value 0.1235"),
        (PixelValues(np.array([[np.nan]], np.float32), unit="HU"), "no value"),
        (PixelValues(np.array([[7]], np.int32), 0.5, 0.0, "Gy"), "3.5 Gy"),
        (PixelValues(np.array([[12345678]], np.uint32)), "value 1.23e+7"),
        (PixelValues(np.array([[[1, 2, 3]]], np.uint8)), "R 1, G 2, B 3"),
        (PixelValues(np.array([[200]], np.uint8)), "value 200"),
    ],
)
def test_what_is_said_of_a_value(module_page, values, words):
    assert module_page.evaluate(AT, [pixel_values(values), {"width": 1, "height": 1}, [[0.5, 0.5]]]) == [words]


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("window", [(40, 400), (-600.5, 1500), (1000, 3)])
def test_a_window_over_the_values_is_that_of_the_library(module_page, window, inverted):
    stored = np.linspace(0, 4000, 400).round().astype(np.int16).reshape(20, 20)
    sent = pixel_values(PixelValues(stored, 1.0, -1024.0, "HU", inverted))
    grey = np.array(module_page.evaluate(WINDOWED, [sent, *window])).reshape(20, 20, 4)
    frame = GreyFrame(stored, 1.0, -1024.0, inverted, hounsfield=True)
    expected = show(frame, Window(*window))[0].astype(int)
    assert np.abs(grey[..., :3] - expected[..., None]).max() <= 1
    assert (grey[..., 3] == 255).all()


def test_colours_have_no_window(module_page):
    sent = pixel_values(PixelValues(np.zeros((2, 2, 3), np.uint8)))
    assert module_page.evaluate(WINDOWED, [sent, 40, 400]) is None
