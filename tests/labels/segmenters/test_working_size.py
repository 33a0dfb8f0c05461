import numpy as np
import pytest

from a3tune.labels.segmenters.segmentation import pack_regions, region_from_mask, unpack_regions
from a3tune.labels.segmenters.working_size import region_at, working_image, working_note, working_size
from a3tune.types import MedicalImage, Region


def full_mask(mask, size):
    """The mask on another grid, each pixel looked up by its centre."""
    places = [
        np.floor((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(size, mask.shape, strict=True)
    ]
    return mask[np.ix_(*places)]


@pytest.mark.parametrize("seed", range(30))
def test_a_mask_on_a_coarser_grid_covers_the_same_area(seed):
    rng = np.random.default_rng(seed)
    size = tuple(int(value) for value in rng.integers(5, 60, 2))
    grid = tuple(int(rng.integers(2, value + 1)) for value in size)
    mask = rng.random(grid) < 0.3
    mask[0, 0] = True
    region = region_from_mask(mask, size=size)
    expected = full_mask(mask, size)
    rows, columns = np.nonzero(expected)
    assert np.array_equal(region.mask, expected)
    assert region.area == expected.sum()
    assert region.box == (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
    assert np.array_equal(region.mask_on(grid), mask)


def test_coarse_regions_are_packed_without_their_whole_masks():
    image = MedicalImage(np.zeros((600, 400, 3), np.uint8))
    mask = np.zeros((60, 40), bool)
    mask[10:20, 5:9] = True
    regions = [region_from_mask(mask, size=(600, 400), predicted_iou=0.5), region_from_mask(~mask, size=(600, 400))]
    arrays = pack_regions(regions, 600, 400)
    assert sum(value.nbytes for value in arrays.values()) < 1000
    again = unpack_regions(arrays, image)
    assert [one.key for one in again] == [one.key for one in regions]
    assert [one.predicted_iou for one in again] == [0.5, None]
    assert np.array_equal(again[0].mask, regions[0].mask)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda arrays: arrays["bits"].fill(0),
        lambda arrays: arrays["places"].__setitem__((0, 0), 37),
        lambda arrays: arrays["places"].__setitem__((0, 5), 4000),
        lambda arrays: arrays.update(bits=arrays["bits"][:1]),
    ],
)
def test_a_damaged_entry_is_refused(spoil):
    mask = np.zeros((60, 40), bool)
    mask[10:20, 5:9] = True
    arrays = pack_regions([region_from_mask(mask, size=(600, 400))], 600, 400)
    spoil(arrays)
    with pytest.raises(ValueError, match=r"mask|box"):
        unpack_regions(arrays, MedicalImage(np.zeros((600, 400, 3), np.uint8)))


def test_images_within_the_size_are_used_as_they_are():
    image = MedicalImage(np.zeros((40, 30, 3), np.uint8))
    assert working_image(image, 40) is image
    assert working_note(image, 40) == ()
    assert working_size(4000, 1, 100) == (100, 1)
    assert working_size(4000, 3000, 1000) == (1000, 750)
    (note,) = working_note(image, 20)
    assert "15 x 20" in note
    assert "30 x 40" in note


def test_a_region_keeps_its_place_at_another_size_and_never_vanishes():
    image = MedicalImage(np.zeros((400, 300, 3), np.uint8))
    small = working_image(image, 100)
    mask = np.zeros((400, 300), bool)
    mask[200:240, 100:160] = True
    assert region_at(region_from_mask(mask), image, small).box == (25, 50, 15, 10)
    speck = np.zeros((400, 300), bool)
    speck[201, 101] = True
    assert region_at(region_from_mask(speck), image, small).area == 1
    other = Region(np.ones((4, 4), bool), (0, 0, 4, 4))
    assert region_at(other, image, small) is other
