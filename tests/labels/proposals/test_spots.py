import cv2
import numpy as np
import pytest

from a3tune.labels.proposals.candidates import Collector, choose, without_holes
from a3tune.labels.proposals.spots import shadow_candidates, spot_candidates
from a3tune.labels.segmenters.segmentation import mask_iou


def disc(x, y, radius):
    layer = np.zeros((200, 200), dtype=np.uint8)
    cv2.circle(layer, (x, y), radius, 1, cv2.FILLED)
    return layer > 0


def best(collector, wanted):
    def full(candidate):
        mask = np.zeros(wanted.shape, dtype=bool)
        x0, y0, x1, y1 = candidate.box
        mask[y0:y1, x0:x1] = candidate.inside
        return mask

    return max(mask_iou(full(candidate), wanted) for candidate in collector.candidates)


def collector_for(grey):
    return Collector(grey, 0.0015, 0.6)


@pytest.mark.parametrize(("radius", "level"), [(6, 130), (6, 70), (14, 115)])
def test_spots_of_any_size_and_sign(radius, level):
    spot = disc(120, 80, radius)
    noise = np.random.default_rng(0).normal(0, 3, spot.shape)
    grey = (np.where(spot, level, 100) + noise).clip(0, 255).astype(np.uint8)
    collector = collector_for(grey)
    spot_candidates(grey, collector)
    assert best(collector, spot) > 0.6


def test_a_faint_shadow_on_a_slope():
    shadow = disc(90, 110, 26)
    slope = 60 + 0.5 * np.arange(200)[None] + np.where(shadow, 18, 0)
    grey = cv2.GaussianBlur(slope.astype(np.float32), (0, 0), 4).astype(np.uint8)
    collector = collector_for(grey)
    shadow_candidates(grey, collector)
    assert best(collector, shadow) > 0.5


def test_a_ring_counts_as_a_whole_too():
    ring = disc(100, 100, 30) & ~disc(100, 100, 20)
    grey = np.where(ring, 200, 50).astype(np.uint8)
    collector = collector_for(grey)
    collector.add_components(ring.astype(np.uint8))
    collector.add_filled()
    assert len(collector.candidates) == 2
    assert best(collector, disc(100, 100, 30)) == 1.0
    assert (without_holes(ring) == disc(100, 100, 30)).all()


def test_even_compact_areas_are_preferred():
    solid, ragged = disc(60, 60, 20), np.zeros((200, 200), dtype=bool)
    ragged[120:180, 100:190:6] = True
    ragged[150:152, 100:190] = True
    grey = np.where(solid, 180, 60).astype(np.uint8)
    collector = collector_for(grey)
    collector.add_mask(ragged)
    collector.add_mask(solid)
    first, second = (candidate.merit for candidate in collector.candidates)
    assert second > first
    twice = choose([*collector.candidates, *collector.candidates], grey.shape, 10, 0.55)
    assert len(twice) == 2


def test_blank_images_have_no_spots():
    grey = np.full((100, 100), 90, dtype=np.uint8)
    collector = collector_for(grey)
    spot_candidates(grey, collector)
    assert collector.candidates == []
