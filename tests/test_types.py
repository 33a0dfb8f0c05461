"""The box of a region that is given none."""

from __future__ import annotations

import numpy as np
import pytest

from a3tune.types import Region


@pytest.mark.parametrize("size", [None, (12, 20)])
def test_the_box_is_the_tightest_around_the_mask(size):
    mask = np.zeros((6, 10), dtype=bool)
    mask[2, 3] = mask[4, 7] = True
    region = Region(mask, size=size)
    assert region.place == (3, 2, 5, 3)
    assert region.box == ((3, 2, 5, 3) if size is None else (6, 4, 10, 6))
    np.testing.assert_array_equal(region.mask_on(mask.shape), mask)


def test_an_empty_mask_has_an_empty_box():
    region = Region(np.zeros((6, 10), dtype=bool))
    assert (region.box, region.area) == ((0, 0, 0, 0), 0)
    assert not region.mask.any()
