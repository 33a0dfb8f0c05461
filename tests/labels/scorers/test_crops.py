import numpy as np
import pytest

from a3tune.errors import LabelError
from a3tune.labels.scorers.crops import crop, crop_with_surroundings
from a3tune.types import MedicalImage, Region


def square_region(image, x, y, side):
    mask = np.zeros((image.height, image.width), dtype=bool)
    mask[y : y + side, x : x + side] = True
    return Region(mask, (x, y, side, side))


@pytest.fixture
def image():
    pixels = np.full((120, 160, 3), 40, dtype=np.uint8)
    pixels[30:62, 20:52] = 200
    return MedicalImage(pixels)


def test_the_plain_crop_is_the_region_on_black(organs, make_region):
    image, masks = organs
    region = make_region(masks["liver"])
    x, y, width, height = region.box
    cut = crop(image, region)
    assert cut.shape == (height, width, 3)
    inside = region.mask[y : y + height, x : x + width]
    assert (cut[~inside] == 0).all()
    assert (cut[inside] == image.pixels[region.mask]).all()


def test_three_views_of_a_region(image):
    views = crop_with_surroundings(image, square_region(image, 20, 30, 32))
    assert views.shape == (64, 64, 3)
    assert views.dtype == np.uint8
    assert (views[..., 0] == 200).all(), "the region fills its own box"
    # A square of 80 pixels around (36, 46): 4 columns of it lie left of the image.
    near = views[..., 1]
    assert near[32, 32] == 128 + 100
    assert near[2, 32] == 20
    assert (near[:, :3] == 0).all()
    share = (near >= 128).mean()
    assert share == pytest.approx(32**2 / 80**2, abs=0.02)
    whole = views[..., 2]
    assert (whole[:7] == 0).all(), "a wide image has black above it"
    rows, columns = np.nonzero(whole >= 128)
    assert rows.mean() == pytest.approx((46 + 20) * 0.4 - 0.5, abs=0.6)
    assert columns.mean() == pytest.approx(36 * 0.4 - 0.5, abs=0.6)


def test_a_black_region_still_shows_its_outline():
    image = MedicalImage(np.zeros((64, 64, 3), dtype=np.uint8))
    views = crop_with_surroundings(image, square_region(image, 10, 40, 8))
    assert views[..., 0].max() == 0
    assert (views[40:48, 10:18, 2] == 128).all()
    assert views[:40, :, 2].max() == 0


@pytest.mark.parametrize("place", [(0, 0), (159, 119), (0, 119)])
def test_one_pixel_in_a_corner(image, place):
    mask = np.zeros((120, 160), dtype=bool)
    mask[place[1], place[0]] = True
    views = crop_with_surroundings(image, Region(mask, (*place, 1, 1)))
    assert (views[..., 0] == 40).all()
    assert views[..., 1].max() >= 128


@pytest.mark.parametrize("style", [crop, crop_with_surroundings])
def test_unusable_regions(image, style):
    with pytest.raises(LabelError, match="region is empty"):
        style(image, Region(np.zeros((120, 160), dtype=bool), (0, 0, 0, 0)))
    with pytest.raises(LabelError, match="160 x 120"):
        style(image, Region(np.ones((4, 4), dtype=bool), (0, 0, 4, 4)))
