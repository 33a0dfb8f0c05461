"""Learning by trial where an image processor puts each source pixel.

Any Hugging Face image processor resizes, crops, pads and tiles in its own way. Instead of repeating each one's
arithmetic, this module runs the processor on images whose pixels carry their own coordinates and reads from the
output, for every tile, the axis-aligned affine map from processor pixels to source pixels:

* Two images carry the x coordinate as a ramp in red, rising in one and falling in the other, the y coordinate likewise
  in green, and blue light in one and dark in the other. The difference of the two outputs in blue is each processor
  pixel's coverage: 1 inside the image, 0 in padding, between where padding was blended in by resampling. That in red
  over the coverage tells the mean x coordinate, free of offset, contrast and the bias of rounding.
* Ramps have 8 bits, images up to thousands of pixels. Both images therefore carry the same noise of a few levels,
  which cancels in the difference but spreads the rounding of pixels before and after resampling evenly, and the map
  is fitted by least squares over the whole tile.
* An axis of few pixels shows no ramp after enlargement, so there the borders between pixels are looked up one by one;
  an image that lies wholly inside its padding is located by the sum and the centroid of the coverage.

The fit is checked against every pixel: an output that is not an axis-aligned affine image of the input (rotated,
mirrored, cropped by content) is refused, never approximated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from a3tune.errors import ModelError
from a3tune.geometry.axis_fit import DARK, FEW_PIXELS, LIGHT, AxisMap, Span, explains, fit_axis
from a3tune.geometry.processor_output import ProcessorOutput, refusal, run_processor, type_name

_CALIBRATION_EDGE = 256
# From such a ratio of the edges on, what cannot be followed may be due to the shape.
_THIN = 16
# Added before the cut to whole levels, hence the half.
_NOISE = np.random.default_rng(0).uniform(-6, 6, (251, 251)).astype(np.float32) + 0.5


@dataclass(frozen=True)
class ProcessorTile:
    """One rectangle of processor pixels.

    Attributes:
        height, width: size in processor pixels.
        y, x: where it lies in the source image; None for both when it shows padding only, or is not told.
        fault: why its place cannot be told; to be raised when the place is needed.
    """

    height: int
    width: int
    y: AxisMap | None
    x: AxisMap | None
    fault: ModelError | None = None


@dataclass(frozen=True)
class Probe:
    """What a processor does with an image of one size.

    Attributes:
        tiles: the tiles it makes, in the order of its output.
        merged: for flattened patches, for each tile the rows and columns of the vision tower's patches before merging
            and the processor's merge size, which is 0 when it names none; else None.
        any_resolution: True when the output has a tile axis and ``image_sizes``, as LLaVA-NeXT's family does, whose
            models drop the padding's tokens.
    """

    tiles: tuple[ProcessorTile, ...]
    merged: tuple[tuple[int, int, int], ...] | None
    any_resolution: bool


def probe(image_processor: Any, height: int, width: int, options: Mapping[str, Any]) -> Probe:
    """Run a processor on coordinate images and fit where its tiles lie.

    Args:
        image_processor: any Hugging Face image processor.
        height, width: size of the source image in pixels.
        options: keyword arguments for the processor's call, as the model's own processor passes them.

    Returns:
        The tiles it makes of an image of this size.

    Raises:
        ModelError: the processor fails on such an image, or its output has an unknown form. That a tile is no
            axis-aligned affine image of the input is its ``fault``.
    """
    calibration = (_CALIBRATION_EDGE, _CALIBRATION_EDGE, 3)
    unit = run_processor(image_processor, np.full(calibration, LIGHT, np.uint8), options).pixels
    unit = unit - run_processor(image_processor, np.full(calibration, DARK, np.uint8), options).pixels
    unit = unit.max(axis=(0, 2, 3))
    if not (np.isfinite(unit).all() and (unit > 0).all()):
        raise refusal(image_processor, "does not tell a light image from a dark one")

    x_span, y_span = Span(0, max(width - 1, 1)), Span(0, max(height - 1, 1))
    form, coverages, ramps = _coordinates(image_processor, height, width, (x_span, y_span), unit, options)
    closer = _visible(coverages, ramps[0], x_span), _visible(coverages, ramps[1], y_span)
    if closer != (x_span, y_span):
        x_span, y_span = closer
        form, coverages, ramps = _coordinates(image_processor, height, width, closer, unit, options)

    steps: dict[int, np.ndarray] = {}

    def steps_along(axis: int) -> np.ndarray:
        if axis not in steps:
            steps[axis] = _step_responses(image_processor, height, width, axis, unit, options)
        return steps[axis]

    def steps_in(axis: int, tile: int) -> np.ndarray:
        high, wide = form.size(tile)
        responses = steps_along(axis)[:, tile, :high, :wide]
        return responses if axis else responses.swapaxes(1, 2)

    tiles = []
    for index in np.flatnonzero(form.shown).tolist():
        tile_height, tile_width = form.size(index)
        coverage = coverages[index, :tile_height, :tile_width]
        ramp_x, ramp_y = ramps[:, index, :tile_height, :tile_width]
        if coverage.max() < 0.02:
            tiles.append(ProcessorTile(tile_height, tile_width, None, None))
            continue
        x = fit_axis(coverage, ramp_x, width, x_span, partial(steps_in, 1, index))
        y = fit_axis(coverage.T, ramp_y.T, height, y_span, partial(steps_in, 0, index))
        fault = None
        if x is None or y is None:
            fault = _too_thin(image_processor, height, width)
        elif not (explains(x, coverage, ramp_x, width, x_span) and explains(y, coverage.T, ramp_y.T, height, y_span)):
            thin = max(height, width) > _THIN * min(height, width)
            bent = "turns, mirrors or bends the image"
            fault = _too_thin(image_processor, height, width) if thin else refusal(image_processor, bent)
        tiles.append(ProcessorTile(tile_height, tile_width, None if fault else y, None if fault else x, fault))
    return Probe(tuple(tiles), form.merged, form.any_resolution)


def _coordinates(
    image_processor: Any,
    height: int,
    width: int,
    spans: tuple[Span, Span],
    unit: np.ndarray,
    options: Mapping[str, Any],
) -> tuple[ProcessorOutput, np.ndarray, np.ndarray]:
    """The output's form, the coverage [tiles, h, w] and the x and y ramps times coverage [2, tiles, h, w]."""
    rising = run_processor(image_processor, _code_image(height, width, spans, DARK, LIGHT), options)
    falling = run_processor(image_processor, _code_image(height, width, spans, LIGHT, DARK), options)
    if rising.pixels.shape != falling.pixels.shape:
        raise refusal(image_processor, "makes outputs of different shape for images of the same size")
    response = (rising.pixels - falling.pixels) / unit[None, :, None, None]
    coverage = response[:, 2]
    return rising, coverage, np.stack([response[:, 0] + coverage, response[:, 1] + coverage]) / 2


def _visible(coverages: np.ndarray, ramps: np.ndarray, span: Span) -> Span:
    """The part of a coarsely measured axis that shows in any tile, when a ramp over that part would be much steeper."""
    if span.last - span.first < FEW_PIXELS:
        return span
    inside = coverages > 0.5 * coverages.max()
    low, high = np.quantile(ramps[inside] / coverages[inside], [0.001, 0.999])
    # Room for the error of the coarse measurement, a few of its levels, and for the filter beyond the tile.
    room = 4 / (LIGHT - DARK)
    first, last = span.first + (span.last - span.first) * np.array([low - room, high + room])
    first, last = max(span.first, int(first) - 4), min(span.last, int(last) + 4)
    return Span(first, last) if last - first < 0.5 * (span.last - span.first) else span


def _code_image(height: int, width: int, spans: tuple[Span, Span], start: int, stop: int) -> np.ndarray:
    """uint8 [height, width, 3]: ramp along x, ramp along y, constant; all from or to ``start`` and ``stop``."""
    edge = _NOISE.shape[0]
    noise = np.tile(_NOISE, (-(-height // edge), -(-width // edge)))[:height, :width]
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0] = noise + (start + (stop - start) * spans[0].share(np.arange(width, dtype=np.float32)))[None, :]
    image[..., 1] = noise + (start + (stop - start) * spans[1].share(np.arange(height, dtype=np.float32)))[:, None]
    image[..., 2] = stop
    return image


def _step_responses(
    image_processor: Any, height: int, width: int, axis: int, unit: np.ndarray, options: Mapping[str, Any]
) -> np.ndarray:
    """float32 [size - 1, tiles, height, width]: response to images light from pixel k = 1 ... size - 1 on."""
    size = (height, width)[axis]
    plain = np.full((height, width, 3), DARK, np.uint8)
    dark = run_processor(image_processor, plain, options).pixels
    responses = np.empty((size - 1, dark.shape[0], *dark.shape[2:]), np.float32)
    for first in range(1, size, 3):
        borders = range(first, min(first + 3, size))
        image = plain.copy()
        for channel, border in enumerate(borders):
            np.moveaxis(image, axis, 0)[border:, :, channel] = LIGHT
        response = (run_processor(image_processor, image, options).pixels - dark) / unit[None, :, None, None]
        for channel, border in enumerate(borders):
            responses[border - 1] = response[:, channel]
    return responses


def _too_thin(image_processor: Any, height: int, width: int) -> ModelError:
    return ModelError(
        expected="an image whose place in every tile can be measured",
        got=f"The image of {width} x {height} pixels is too thin for {type_name(image_processor)}",
        remedy="Pad or crop the image to a less extreme shape",
    )
