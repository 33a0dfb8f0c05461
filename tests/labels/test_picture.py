"""Regions drawn on their image: outlined, numbered, at any size."""

import numpy as np
import pytest

from a3tune.labels.picture import numbered_outlines
from a3tune.types import Region, ScoredRegion


def square(rank, shape, rows, columns):
    mask = np.zeros(shape, bool)
    mask[rows, columns] = True
    box = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
    return ScoredRegion(Region(mask, box), 1.0, rank, 0.5, "x")


def test_numbers_stand_inside_their_regions_and_apart():
    shape = (100, 200)
    regions = [
        square(1, shape, slice(10, 90), slice(10, 90)),
        square(2, shape, slice(30, 70), slice(30, 70)),
        square(3, shape, slice(10, 90), slice(110, 190)),
    ]
    drawn = numbered_outlines(np.full((*shape, 3), 128, np.uint8), regions)
    assert drawn.shape == (600, 1200, 3)
    changed = (drawn != 128).any(axis=2)
    assert not changed[:, 560:640].any()
    # Away from the outlines, each region holds a number of its own: the nested one, the ring around it, the other.
    nested = changed[200:400, 200:400]
    ring = changed[80:520, 80:520].copy()
    ring[150:450, 150:450] = False
    assert nested.any()
    assert ring.any()
    assert changed[80:520, 680:1120].any()


@pytest.mark.parametrize(
    ("shape", "expected"), [((1, 1), (512, 512)), ((9, 3000), (6, 2048)), ((600, 700), (600, 700))]
)
def test_pictures_of_any_size_can_be_drawn(shape, expected):
    region = square(1, shape, slice(0, shape[0]), slice(0, shape[1]))
    assert numbered_outlines(np.zeros((*shape, 3), np.uint8), [region]).shape[:2] == expected
