"""Numbers as text, read back as the browser does."""

import base64

import numpy as np

from a3tune.encoding import base64_halves, base64_text, data_url, mask_of_text, mask_text
from a3tune.types import PatchGrid, PatchTile


def test_arrays_are_written_in_the_order_of_their_indices():
    values = np.arange(6, dtype=np.float64).reshape(3, 2).T
    read = np.frombuffer(base64.b64decode(base64_halves(values)), "<f2")
    np.testing.assert_array_equal(read, values.ravel())
    bytes_ = base64.b64decode(base64_text(values.astype(np.uint8)))
    assert list(bytes_) == [0, 2, 4, 1, 3, 5]
    assert base64_text(b"a3") == "YTM="
    assert data_url(b"a3", "png") == "data:image/png;base64,YTM="


def test_tiles_are_told_by_their_fields():
    grid = PatchGrid(np.zeros((6, 4)), (PatchTile(0, 2, 3, (0, 0, np.float64(9), 6), True),), 6, 9)
    assert grid.tiles_record() == [{"start": 0, "rows": 2, "columns": 3, "box": [0.0, 0.0, 9.0, 6.0], "overview": True}]


def test_a_mask_is_read_back_from_its_runs():
    mask = np.zeros((3, 4), bool)
    assert mask_text(mask) == ""
    mask[0, 3] = mask[1, :2] = mask[2, 3] = True
    assert mask_text(mask) == "3+3 11+1"
    for one in (mask, ~mask, np.zeros_like(mask)):
        np.testing.assert_array_equal(mask_of_text(mask_text(one), 3, 4), one)
