import cv2
import numpy as np

from a3tune.figures.regions import outlines, widest_place
from a3tune.labels.segmenters.segmentation import region_from_mask


def ring(shape=(40, 50)):
    mask = np.zeros(shape, bool)
    mask[5:35, 0:30] = True
    mask[12:28, 8:22] = False
    return mask


def test_outlines_follow_the_border_and_the_hole_in_source_pixels():
    mask = ring()
    drawn = np.zeros(mask.shape, np.uint8)
    lines = outlines(region_from_mask(mask))
    assert len(lines) == 2
    cv2.drawContours(drawn, [line[:, None] for line in lines], -1, 1, cv2.FILLED)
    assert np.count_nonzero(drawn.astype(bool) != mask) <= 2 * (14 + 16), "off by the hole's own border at most"
    assert min(line.min() for line in lines) == 0


def test_a_number_stands_where_the_region_is_widest():
    x, y = widest_place(ring())
    assert ring()[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4].all()
    square = np.zeros((30, 60), bool)
    square[10:21, 40:51] = True
    assert widest_place(square) == (45, 15)


def test_the_same_pixels_have_the_same_key():
    mask = ring()
    assert region_from_mask(mask).key == region_from_mask(mask.copy()).key
    other = mask.copy()
    other[5, 0] = False
    moved = np.roll(mask, 1, axis=1)
    assert len({region_from_mask(one).key for one in (mask, other, moved)}) == 3
