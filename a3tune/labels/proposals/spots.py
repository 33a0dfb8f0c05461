"""Round spots of any contrast, and shadows against their surroundings: scale-space views of an image.

Spots are peaks of the scale-normalised Laplacian of Gaussian (Lindeberg, "Feature detection with automatic scale
selection", IJCV 1998); faint shadows are levels of a difference of Gaussians, which takes the background away.
"""

from __future__ import annotations

import cv2
import numpy as np

from a3tune.labels.proposals.candidates import CROSS, Collector, without_holes

_SCALES = (3.0, 4.2, 6.0, 8.4, 11.8)
_FAINTEST = 6.0
_MOST = 60


def spot_candidates(grey: np.ndarray, collector: Collector) -> None:
    """For each spot in uint8 [h, w] what lies on the spot's side of the grey value halfway to its rim."""
    values = cv2.GaussianBlur(grey, (0, 0), 0.8).astype(np.float32)
    responses = np.stack(
        [scale**2 * cv2.Laplacian(cv2.GaussianBlur(values, (0, 0), scale), cv2.CV_32F) for scale in _SCALES]
    )
    for sign in (-1, 1):
        for scale, y, x in _peaks(sign * responses):
            _add_spot(values, _SCALES[scale] * np.sqrt(2), y, x, collector)


def _peaks(responses: np.ndarray) -> list[tuple[int, int, int]]:
    """(scale, y, x) of the strongest local maxima of float32 [scales, h, w], over space and neighbouring scales."""
    highest = np.stack([cv2.dilate(response, np.ones((7, 7), np.uint8)) for response in responses])
    around = highest.copy()
    around[1:] = np.maximum(around[1:], highest[:-1])
    around[:-1] = np.maximum(around[:-1], highest[1:])
    places = np.argwhere((responses >= around) & (responses > _FAINTEST))
    order = np.argsort(-responses[tuple(places.T)], kind="stable")[:_MOST]
    return [(int(scale), int(y), int(x)) for scale, y, x in places[order]]


def _add_spot(values: np.ndarray, radius: float, y: int, x: int, collector: Collector) -> None:
    pad = int(2 * radius) + 2
    top, left = max(y - pad, 0), max(x - pad, 0)
    window = values[top : y + pad + 1, left : x + pad + 1]
    rows, columns = np.ogrid[: window.shape[0], : window.shape[1]]
    distance = np.hypot(rows - (y - top), columns - (x - left))
    rim = (distance > 1.25 * radius) & (distance < 1.9 * radius)
    if not rim.any():
        return
    middle, outside = np.median(window[distance <= 0.6 * radius]), np.median(window[rim])
    halfway = (middle + outside) / 2
    near = ((window > halfway) if middle > outside else (window < halfway)) & (distance <= 1.6 * radius)
    _, parts = cv2.connectedComponents(cv2.morphologyEx(near.astype(np.uint8), cv2.MORPH_OPEN, CROSS), connectivity=4)
    own = parts[y - top, x - left]
    if own:
        collector.add_mask(without_holes(parts == own), left, top)


def shadow_candidates(grey: np.ndarray, collector: Collector, levels: int = 12) -> None:
    """Levels of uint8 [h, w] less its wide surroundings, above and below each cut."""
    values = grey.astype(np.float32)
    wide = cv2.GaussianBlur(values, (0, 0), 16.0)
    view = (128 + 2 * (cv2.GaussianBlur(values, (0, 0), 3.0) - wide)).clip(0, 255).astype(np.uint8)
    low, high = np.percentile(view, (8, 98))
    for cut in np.linspace(low, high, levels + 2)[1:-1]:
        above = (view > cut).astype(np.uint8)
        collector.add_components(above, fill=True)
        collector.add_components(1 - above, fill=True)
