"""Pictures of maps and masks as RGB arrays, for the page and for files."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from a3tune.errors import RequestError
from a3tune.figures.colour_tables import DIFFERENCE_MAP, colour_map, limits, scaled
from a3tune.figures.regions import REGION_COLOURS

STRONG = 8.0
"""A map whose highest weight is a lower multiple of an even map's is drawn faintly where it fades."""


def overlay(
    image: np.ndarray,
    values: np.ndarray,
    opacity: float = 0.5,
    name: str = "inferno",
    lower: float | None = None,
    upper: float | None = None,
    fade: bool = False,
    dim: float = 0.0,
) -> np.ndarray:
    """A map laid over its image.

    Args:
        image: uint8 [height, width, 3], RGB.
        values: float [height, width] in the same frame; pixels with NaN show the image alone.
        opacity: 0 (image only) to 1 (map only).
        name, lower, upper: as in :func:`colour_map`.
        fade: let the opacity of each pixel rise from 0 to ``opacity``, so that parts without a weight leave the image
            clear: with the logarithm of its value, which is then a multiple of what an even map would give, from 1 to
            ``upper`` or ``STRONG``, whichever is more; for ``DIFFERENCE_MAP`` with the root of its distance from the
            middle.
        dim: 0 to 1: how much of its brightness the image loses behind the map.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        RequestError: the sizes differ, the opacity is out of range, or an argument of :func:`colour_map` is.
    """
    check_same_frame(image, values)
    if not 0 <= opacity <= 1:
        raise RequestError(
            expected="an opacity from 0 to 1", got=f"The opacity is {opacity}", remedy="Choose a number in this range"
        )
    colours = colour_map(values, name, lower, upper).astype(np.float32)
    share = np.full(values.shape, opacity, np.float32)
    if fade:
        level = scaled(values, lower, upper)
        if name == DIFFERENCE_MAP:
            share *= np.sqrt(np.abs(2 * level - 1))
        else:
            most = limits(values, lower, upper)[1]
            share *= np.log(np.clip(np.nan_to_num(values), 1, max(1, most))) / np.log(max(STRONG, most))
    share = np.where(np.isfinite(values), share, 0)[..., None]
    return np.rint((1 - dim) * image * (1 - share) + colours * share).astype(np.uint8)


def outline(
    image: np.ndarray,
    masks: Sequence[np.ndarray],
    colours: Sequence[tuple[int, int, int]] = REGION_COLOURS,
    thickness: int | None = None,
) -> np.ndarray:
    """The borders of masks drawn on an image, just inside each mask; earlier masks lie on top.

    Args:
        image: uint8 [height, width, 3], RGB.
        masks: bool [height, width] each, in the same frame; empty ones draw nothing.
        colours: RGB, 0 to 255, taken in turn.
        thickness: in pixels, at least 1; about 1/200 of the shorter edge when None.

    Returns:
        uint8 [height, width, 3], RGB, a new array.

    Raises:
        RequestError: a mask has another size than the image, no colour is given, or the thickness is below 1.
    """
    if thickness is None:
        thickness = max(1, round(min(image.shape[:2]) / 200))
    if thickness < 1 or len(colours) == 0:
        raise RequestError(
            expected="a thickness of at least 1 and at least one colour",
            got=f"The thickness is {thickness} with {len(colours)} colours",
            remedy="Leave both out for the defaults",
        )
    result = image.copy()
    for index in reversed(range(len(masks))):
        mask = np.asarray(masks[index], dtype=bool)
        check_same_frame(image, mask)
        # Beyond the image counts as outside, so that a mask at the image's border is closed there too.
        inner = cv2.erode(
            mask.astype(np.uint8),
            np.ones((3, 3), np.uint8),
            iterations=thickness,
            borderType=cv2.BORDER_CONSTANT,
            borderValue=0,
        )
        result[mask & (inner == 0)] = colours[index % len(colours)]
    return result


def dashed_outline(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The border of a mask as a dashed white line on a dark one, which is no region's colour.

    Args:
        image: uint8 [height, width, 3], RGB.
        mask: bool [height, width] in the same frame; an empty one draws nothing.

    Returns:
        uint8 [height, width, 3], RGB, a new array.

    Raises:
        RequestError: the mask has another size than the image.
    """
    check_same_frame(image, mask)
    result = np.ascontiguousarray(image).copy()
    width = max(1, round(min(image.shape[:2]) / 400))
    lines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(result, lines, -1, (0, 0, 0), 2 * width + 1)
    dash, period = 6 * width, 10 * width
    for line in lines:
        pieces = [line[start : start + dash] for start in range(0, len(line), period)]
        cv2.polylines(result, pieces, False, (255, 255, 255), width)
    return result


def difference_limit(differences: Sequence[np.ndarray]) -> float:
    """The one symmetric limit of a colour scale for all these differences; above 0."""
    lower, upper = limits(np.concatenate([np.ravel(values) for values in differences]), None, None)
    # Without any difference every limit draws the same white; 1 keeps the scale valid.
    return max(abs(lower), abs(upper)) or 1.0


def check_same_frame(image: np.ndarray, values: np.ndarray) -> None:
    """Refuse an image that is not RGB, uint8 [height, width, 3], and a map of another size.

    Raises:
        RequestError: either.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise RequestError(
            expected="an RGB image, uint8 [height, width, 3]",
            got=f"The image is {image.dtype.name} {image.shape}",
            remedy="Convert it first",
        )
    if values.shape != image.shape[:2]:
        raise RequestError(
            expected=f"a map of the image's size, {image.shape[1]} x {image.shape[0]} pixels",
            got=f"The map has shape {values.shape}",
            remedy="Bring the map to the source frame first",
        )
