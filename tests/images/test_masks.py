"""Masks from picture files."""

import numpy as np
import pytest
from PIL import Image

from a3tune.errors import ImageError
from a3tune.images.masks import mask_labels

MARKED = np.array([[0, 0, 3], [7, 0, 0]], np.uint8)


@pytest.mark.parametrize("mode", ["L", "P", "I", "I;16", "F", "RGB", "LA", "RGBA"])
def test_values_are_those_of_the_file_whatever_its_mode(tmp_path, mode):
    picture = Image.fromarray(MARKED)
    if mode == "P":
        picture.putpalette([0, 0, 0] * 256)
        picture = picture if picture.mode == "P" else picture.convert("P")
    elif mode == "I;16":
        picture = Image.fromarray(MARKED.astype(np.uint16))
    else:
        picture = picture.convert(mode)
    path = tmp_path / ("mask.tif" if mode in ("F", "I") else "mask.png")
    picture.save(path)
    assert np.array_equal(mask_labels(path), MARKED)


def test_colours_are_numbers_and_transparency_says_nothing(tmp_path):
    colours = np.zeros((1, 3, 4), np.uint8)
    colours[0, 1] = (1, 2, 3, 0)
    colours[0, 2, 3] = 255
    Image.fromarray(colours).save(tmp_path / "mask.png")
    assert mask_labels(tmp_path / "mask.png").tolist() == [[0, 65536 + 512 + 3, 0]]


def test_fractions_are_marks_and_what_is_no_number_is_none(tmp_path):
    values = np.array([[0.0, 0.25, np.nan, 1.0]], np.float32)
    Image.fromarray(values).save(tmp_path / "mask.tif")
    assert mask_labels(tmp_path / "mask.tif").tolist() == [[0, 1, 0, 1]]


def test_what_is_no_picture_is_refused(tmp_path):
    (tmp_path / "mask.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match="damaged"):
        mask_labels(tmp_path / "mask.png")
