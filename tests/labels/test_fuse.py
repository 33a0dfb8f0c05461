from pathlib import Path

import numpy as np
import pytest

from a3tune.errors import LabelError, RequestError
from a3tune.labels.fuse import patch_targets, remove_overlap, sampled_target, soft_target, top_k, union
from a3tune.labels.segmenters.segmentation import mask_iou
from a3tune.types import PatchGrid, PatchTile, ScoredRegion, WeakLabels


@pytest.fixture
def scored(make_region):
    masks = np.zeros((3, 16, 16), dtype=bool)
    masks[0, 2:8, 2:8] = masks[1, 5:12, 5:12] = masks[2, 3:7, 3:7] = True
    return tuple(
        ScoredRegion(make_region(mask), score, rank, weight, "liver")
        for mask, score, rank, weight in zip(masks, (9.0, 8.0, 7.0), (1, 2, 3), (0.6, 0.3, 0.1), strict=True)
    )


@pytest.fixture
def grid():
    boxes = np.array([[x, y, x + 8, y + 8] for y in (0, 8) for x in (0, 8)], dtype=np.float64)
    return PatchGrid(boxes, (PatchTile(0, 2, 2, (0, 0, 16, 16)),), 16, 16)


def test_top_k_takes_the_best(scored):
    labels = WeakLabels(scored, "liver", "s", "c")
    assert top_k(labels, 2) == scored[:2]
    assert top_k(labels, 9) == scored
    with pytest.raises(RequestError, match="k is 0"):
        top_k(labels, 0)


def test_union_holds_every_pixel_of_any_region(scored):
    expected = scored[0].region.mask | scored[1].region.mask | scored[2].region.mask
    assert (union(scored) == expected).all()
    assert (union([scored[1].region]) == scored[1].region.mask).all()
    with pytest.raises(LabelError, match="No region"):
        union([])


def test_regions_of_two_images_do_not_mix(scored, make_region):
    with pytest.raises(LabelError, match="different sizes"):
        union([scored[0], make_region(np.ones((4, 4), dtype=bool))])


def test_overlap_goes_to_the_better_region(scored):
    kept = remove_overlap(scored)
    assert [entry.rank for entry in kept] == [1, 2]
    assert not (kept[0].region.mask & kept[1].region.mask).any()
    assert kept[1].region.area == 49 - 9
    assert kept[1].region.box == (5, 5, 7, 7)
    assert (union(kept) == union(scored)).all()


def test_whole_regions_go_when_they_nearly_coincide(scored):
    assert [entry.rank for entry in remove_overlap(scored, mode="regions", iou=0.4)] == [1, 2]
    assert [entry.rank for entry in remove_overlap(scored, mode="regions", iou=0.5)] == [1, 2, 3]


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


def test_patch_targets_average_over_each_patch(scored, grid):
    values = patch_targets(scored[0].region.mask, grid)
    np.testing.assert_allclose(values, [36 / 64, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(patch_targets(union(scored), grid, normalize=True).sum(), 1.0, rtol=1e-6)
    with pytest.raises(LabelError, match="empty"):
        patch_targets(np.zeros((16, 16), dtype=bool), grid, normalize=True)


def test_sampled_targets_equal_the_published_ones():
    golden = np.load(Path(__file__).parents[1] / "files" / "golden_mask_transform.npz")
    names = [key.removesuffix("__mask") for key in golden.files if key.endswith("__mask")]
    assert names
    for name in names:
        mask = np.unpackbits(golden[f"{name}__mask"]).reshape(256, 256).astype(bool)
        for side, key in ((16, "v1_16"), (24, "v15_24")):
            assert (sampled_target(mask, side) == golden[f"{name}__{key}"]).all(), (name, side)
