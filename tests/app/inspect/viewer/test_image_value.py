"""Images on their way to the browser: facts, and values that are those of the file once unpacked."""

from __future__ import annotations

import base64
import io
import zlib

import numpy as np
import pytest
from PIL import Image

from a3tune.bundle import EXAMPLES
from a3tune.errors import RequestError
from a3tune.images.values import PixelValues
from app.inspect.sessions.opened_image import open_example
from app.inspect.viewer import image_value as module
from app.inspect.viewer.image_value import image_value, pixel_values


def unpacked(told):
    data = zlib.decompress(base64.b64decode(told["data"]))
    shape = (told["height"], told["width"]) if told["channels"] == 1 else (told["height"], told["width"], 3)
    return np.frombuffer(data, np.dtype(told["kind"]).newbyteorder("<")).reshape(shape)


@pytest.mark.parametrize("kind", [np.int16, np.uint8, ">i4", np.float32, np.float64, bool, np.int64])
def test_values_arrive_as_they_are(kind):
    stored = np.array([[1, 0, 3], [7, 5, 1]]).astype(kind)
    told = pixel_values(PixelValues(stored.T, 2.0, -1024.0, "HU", True))
    assert np.array_equal(unpacked(told), stored.T)
    assert [told[name] for name in ("slope", "intercept", "unit", "inverted")] == [2.0, -1024.0, "HU", True]


def test_too_many_values_are_refused(monkeypatch):
    monkeypatch.setattr(module, "MOST_VALUES", 5)
    with pytest.raises(RequestError, match="not read on the page"):
        pixel_values(PixelValues(np.zeros((2, 3), np.uint8)))


def test_facts_and_pixels_of_a_picture():
    opened = open_example(EXAMPLES / "real_mr.nii.gz", "mr")
    told = image_value(opened)
    image = opened.image
    drawn = Image.open(io.BytesIO(base64.b64decode(told["src"].partition(",")[2])))
    assert drawn.mode == "L"
    assert np.array_equal(np.asarray(drawn.convert("RGB")), image.pixels)
    assert told["edges"] == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    assert told["pixel"] == pytest.approx(
        [image.spacing[1] * image.stored_size[1] / image.width, image.spacing[0] * image.stored_size[0] / image.height]
    )
    assert (told["frame"], told["frames"], told["frameTime"]) == (image.frame, image.frame_count, None)
    assert told["stack"].startswith(told["place"])


def test_a_picture_without_facts_has_none():
    told = image_value(open_example(next(EXAMPLES.glob("*.png")), ""))
    assert (told["edges"], told["pixel"], told["plane"], told["hounsfield"]) == (None, None, "", False)
