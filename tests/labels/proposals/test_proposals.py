import numpy as np
import pytest

from a3tune.errors import RequestError
from a3tune.labels.proposals.proposals import Proposals, propose_regions
from a3tune.labels.segmenters.segmentation import mask_iou


def best_iou(proposals, box):
    def iou(other):
        across = max(0, min(box[2], other[2]) - max(box[0], other[0]))
        down = max(0, min(box[3], other[3]) - max(box[1], other[1]))
        areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
        return across * down / (sum(areas) - across * down)

    return max(iou(proposal.box) for proposal in proposals)


def test_every_organ_has_a_box(organs):
    image, masks = organs
    proposals = propose_regions(image.pixels)
    assert 3 <= len(proposals) <= Proposals().maximum
    for name, mask in masks.items():
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        assert best_iou(proposals, box) > 0.7, name


def test_candidates_are_distinct_and_inside(organs):
    image, _ = organs
    settings = Proposals(maximum=20)
    proposals = propose_regions(image.pixels, settings)
    assert len(proposals) <= 20
    for index, proposal in enumerate(proposals):
        x0, y0, x1, y1 = proposal.box
        assert 0 <= x0 < x1 <= image.width + 1e-6
        assert 0 <= y0 < y1 <= image.height + 1e-6
        share = proposal.mask.mean()
        assert settings.smallest * 0.99 <= share <= settings.largest * 1.01
        assert all(mask_iou(proposal.mask, other.mask) < 0.8 for other in proposals[:index])


def test_the_same_image_gives_the_same_candidates(organs):
    first, second = (propose_regions(organs[0].pixels) for _ in range(2))
    assert [proposal.box for proposal in first] == [proposal.box for proposal in second]


def test_the_gap_between_a_pair():
    pixels = np.full((200, 200, 3), 160, dtype=np.uint8)
    pixels[40:160, 20:70] = pixels[40:160, 130:180] = 20
    gap = np.zeros((256, 256), dtype=bool)
    gap[52:204, 92:164] = True
    assert max(mask_iou(gap, proposal.mask) for proposal in propose_regions(pixels)) > 0.7


@pytest.mark.parametrize("shape", [(1, 1), (2, 700), (9, 9)])
def test_strange_shapes_do_not_crash(shape):
    pixels = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    assert isinstance(propose_regions(pixels), tuple)


def test_blank_image_has_no_candidates():
    assert propose_regions(np.full((50, 50, 3), 80, dtype=np.uint8)) == ()


@pytest.mark.parametrize("wrong", [{"maximum": 0}, {"levels": 1}, {"smallest": 0.7}, {"largest": 2}, {"side": 8}])
def test_settings_are_checked(wrong):
    with pytest.raises(RequestError, match=next(iter(wrong))):
        Proposals(**wrong)
