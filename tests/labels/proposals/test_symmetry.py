import cv2
import numpy as np
import pytest

from a3tune.labels.proposals.candidates import Collector
from a3tune.labels.proposals.symmetry import covered_candidates, find_axis, mirrored, one_sided_candidates
from a3tune.labels.segmenters.segmentation import mask_iou


def ellipse(centre, axes):
    layer = np.zeros((256, 256), dtype=np.uint8)
    cv2.ellipse(layer, centre, axes, 0, 0, 360, 1, cv2.FILLED)
    return layer > 0


def blurred(grey):
    return cv2.GaussianBlur(grey.astype(np.uint8), (0, 0), 1.0)


def full_masks(collector):
    for candidate in collector.candidates:
        x0, y0, x1, y1 = candidate.box
        mask = np.zeros((256, 256), dtype=bool)
        mask[y0:y1, x0:x1] = candidate.inside
        yield mask


@pytest.fixture
def thorax():
    """Two dark fields around x = 136 on bright tissue."""
    grey = np.where(ellipse((136, 128), (110, 120)), 180, 10)
    return np.where(ellipse((86, 120), (34, 70)) | ellipse((186, 120), (34, 70)), 50, grey)


def test_the_axis_lies_in_the_middle_of_the_body(thorax):
    assert find_axis(blurred(thorax)) == pytest.approx(136.5, abs=2.5)


def test_mirroring_twice_gives_the_picture_back(thorax):
    picture = blurred(thorax)
    once = mirrored(picture, 128.0)
    assert (once == picture[:, ::-1]).all()
    assert (mirrored(once, 128.0) == picture).all()


def test_a_shadow_on_one_side(thorax):
    shadow = ellipse((186, 100), (20, 24))
    picture = blurred(np.where(shadow, 90, thorax))
    collector = Collector(picture, 0.0015, 0.6)
    one_sided_candidates(picture, find_axis(picture), collector)
    assert max(mask_iou(mask, shadow) for mask in full_masks(collector)) > 0.6


def test_fluid_that_covers_the_base_of_one_field(thorax):
    covered = ellipse((86, 120), (34, 70)) & (np.arange(256)[:, None] > 140)
    picture = blurred(np.where(covered, 180, thorax))
    collector = Collector(picture, 0.0015, 0.6)
    covered_candidates(picture, find_axis(picture), collector)
    assert max(mask_iou(mask, covered) for mask in full_masks(collector)) > 0.6


def test_nothing_is_covered_where_there_is_no_pair():
    picture = blurred(np.where(ellipse((128, 128), (110, 120)), 180, 10))
    collector = Collector(picture, 0.0015, 0.6)
    covered_candidates(picture, 128.0, collector)
    assert collector.candidates == []
