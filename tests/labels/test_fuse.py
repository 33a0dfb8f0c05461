import numpy as np
import pytest

from a3tune.errors import LabelError
from a3tune.labels.fuse import soft_target, union_mask
from a3tune.labels.segmenters.segmentation import mask_iou
from a3tune.types import ScoredRegion


@pytest.fixture
def scored(make_region):
    masks = np.zeros((3, 16, 16), dtype=bool)
    masks[0, 2:8, 2:8] = masks[1, 5:12, 5:12] = masks[2, 3:7, 3:7] = True
    return tuple(
        ScoredRegion(make_region(mask), score, rank, weight, "liver")
        for mask, score, rank, weight in zip(masks, (9.0, 8.0, 7.0), (1, 2, 3), (0.6, 0.3, 0.1), strict=True)
    )


def test_union_holds_every_pixel_of_any_region(scored):
    expected = scored[0].region.mask | scored[1].region.mask | scored[2].region.mask
    assert (union_mask(scored) == expected).all()
    assert (union_mask([scored[1].region]) == scored[1].region.mask).all()
    with pytest.raises(LabelError, match="No region"):
        union_mask([])


def test_regions_of_two_images_do_not_mix(scored, make_region):
    with pytest.raises(LabelError, match="different sizes"):
        union_mask([scored[0], make_region(np.ones((4, 4), dtype=bool))])


def test_iou():
    first, second = np.zeros((4, 4), dtype=bool), np.zeros((4, 4), dtype=bool)
    assert mask_iou(first, second) == 0.0
    first[:2], second[1:3] = True, True
    assert mask_iou(first, second) == pytest.approx(4 / 12)


def test_soft_target_weighs_regions_by_their_share(scored):
    target = soft_target(scored, 16, 16)
    assert target.dtype == np.float32
    assert target[2, 2] == pytest.approx(0.6)
    assert target[4, 4] == pytest.approx(0.7)
    assert target[6, 6] == pytest.approx(1.0)
    assert target[10, 10] == pytest.approx(0.3)
    assert target[15, 15] == 0.0
    assert (soft_target(scored[:1], 16, 16) == scored[0].region.mask).all()
    assert not soft_target((), 16, 16).any()
