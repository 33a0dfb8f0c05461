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

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from a3tune.errors import ModelError

# Grey levels that leave room on both sides, so that the overshoot of sharp resampling filters is not clipped.
_DARK, _LIGHT = 40, 215
_CALIBRATION_EDGE = 256
# The widest resampling filter (Lanczos) reaches 3 pixels; within that distance of a border ramps are bent.
_FILTER_REACH = 3
_FEW_PIXELS = 16
_LONGEST_FAULT = 200
# From such a ratio of the edges on, what cannot be followed may be due to the shape.
_THIN = 16
# Added before the cut to whole levels, hence the half.
_NOISE = np.random.default_rng(0).uniform(-6, 6, (251, 251)).astype(np.float32) + 0.5


@dataclass(frozen=True)
class AxisMap:
    """``source = offset + scale * processor`` along one axis, both counted from a pixel's leading edge."""

    offset: float
    scale: float


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


class _Span(NamedTuple):
    """The pixels along an axis over which the ramp rises; it is level on both sides."""

    first: int
    last: int

    def share(self, pixel: np.ndarray) -> np.ndarray:
        return np.clip((pixel - self.first) / (self.last - self.first), 0, 1)

    def source(self, share: np.ndarray) -> np.ndarray:
        """Source coordinate of a point whose ramp has this share; pixel i has its centre at i + 0.5."""
        return self.first + share * (self.last - self.first) + 0.5


@dataclass(frozen=True)
class _Output:
    pixels: np.ndarray  # float32 [tiles, 3, height, width]; smaller tiles are filled up with 0 at the right and bottom
    shown: np.ndarray  # bool [tiles], False for tiles that only fill up a batch
    merged: tuple[tuple[int, int, int], ...] | None = None
    any_resolution: bool = False

    def size(self, tile: int) -> tuple[int, int]:
        """Height and width of one tile's own pixels."""
        height, width = self.pixels.shape[2:]
        if self.merged is None:
            return height, width
        rows, columns, _ = self.merged[tile]
        most_rows, most_columns = (max(grid[axis] for grid in self.merged) for axis in (0, 1))
        return height // most_rows * rows, width // most_columns * columns


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
    unit = _run(image_processor, np.full(calibration, _LIGHT, np.uint8), options).pixels
    unit = unit - _run(image_processor, np.full(calibration, _DARK, np.uint8), options).pixels
    unit = unit.max(axis=(0, 2, 3))
    if not (np.isfinite(unit).all() and (unit > 0).all()):
        raise _refusal(image_processor, "does not tell a light image from a dark one")

    x_span, y_span = _Span(0, max(width - 1, 1)), _Span(0, max(height - 1, 1))
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
        x = _fit_axis(coverage, ramp_x, width, x_span, partial(steps_in, 1, index))
        y = _fit_axis(coverage.T, ramp_y.T, height, y_span, partial(steps_in, 0, index))
        fault = None
        if x is None or y is None:
            fault = _too_thin(image_processor, height, width)
        elif not (_explains(x, coverage, ramp_x, width, x_span) and _explains(y, coverage.T, ramp_y.T, height, y_span)):
            thin = max(height, width) > _THIN * min(height, width)
            bent = "turns, mirrors or bends the image"
            fault = _too_thin(image_processor, height, width) if thin else _refusal(image_processor, bent)
        tiles.append(ProcessorTile(tile_height, tile_width, None if fault else y, None if fault else x, fault))
    return Probe(tuple(tiles), form.merged, form.any_resolution)


def _coordinates(
    image_processor: Any,
    height: int,
    width: int,
    spans: tuple[_Span, _Span],
    unit: np.ndarray,
    options: Mapping[str, Any],
) -> tuple[_Output, np.ndarray, np.ndarray]:
    """The output's form, the coverage [tiles, h, w] and the x and y ramps times coverage [2, tiles, h, w]."""
    rising = _run(image_processor, _code_image(height, width, spans, _DARK, _LIGHT), options)
    falling = _run(image_processor, _code_image(height, width, spans, _LIGHT, _DARK), options)
    if rising.pixels.shape != falling.pixels.shape:
        raise _refusal(image_processor, "makes outputs of different shape for images of the same size")
    response = (rising.pixels - falling.pixels) / unit[None, :, None, None]
    coverage = response[:, 2]
    return rising, coverage, np.stack([response[:, 0] + coverage, response[:, 1] + coverage]) / 2


def _visible(coverages: np.ndarray, ramps: np.ndarray, span: _Span) -> _Span:
    """The part of a coarsely measured axis that shows in any tile, when a ramp over that part would be much steeper."""
    if span.last - span.first < _FEW_PIXELS:
        return span
    inside = coverages > 0.5 * coverages.max()
    low, high = np.quantile(ramps[inside] / coverages[inside], [0.001, 0.999])
    # Room for the error of the coarse measurement, a few of its levels, and for the filter beyond the tile.
    room = 4 / (_LIGHT - _DARK)
    first, last = span.first + (span.last - span.first) * np.array([low - room, high + room])
    first, last = max(span.first, int(first) - 4), min(span.last, int(last) + 4)
    return _Span(first, last) if last - first < 0.5 * (span.last - span.first) else span


def _code_image(height: int, width: int, spans: tuple[_Span, _Span], start: int, stop: int) -> np.ndarray:
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
    plain = np.full((height, width, 3), _DARK, np.uint8)
    dark = _run(image_processor, plain, options).pixels
    responses = np.empty((size - 1, dark.shape[0], *dark.shape[2:]), np.float32)
    for first in range(1, size, 3):
        borders = range(first, min(first + 3, size))
        image = plain.copy()
        for channel, border in enumerate(borders):
            np.moveaxis(image, axis, 0)[border:, :, channel] = _LIGHT
        response = (_run(image_processor, image, options).pixels - dark) / unit[None, :, None, None]
        for channel, border in enumerate(borders):
            responses[border - 1] = response[:, channel]
    return responses


def _fit_axis(
    coverage: np.ndarray, ramp: np.ndarray, size: int, span: _Span, steps: Callable[[], np.ndarray]
) -> AxisMap | None:
    """The map along the second axis of a tile, or None when the tile shows too little of the image.

    Args:
        coverage, ramp: float [m, n], responses to the light channel and to the ramp along the second axis.
        size: source pixels along the axis.
        span: where the ramp rises.
        steps: gives the responses to the steps along the axis, float [size - 1, m, n]; called for few pixels only.
    """
    count = coverage.shape[1]
    cover, others = coverage.sum(axis=0), coverage.sum(axis=1)
    inside = cover > 0.5 * cover.max()
    level = float(np.median(cover[inside]))
    if inside.sum() < 6:
        # A sliver may cover no pixel fully; how much a full one would have follows from the other axis.
        high = others > 0.5 * others.max()
        if high.sum() >= 6:
            level = float(others.sum() / np.median(others[high]))
    first, last = np.flatnonzero(inside)[[0, -1]]
    places = np.arange(count) + 0.5

    slack = 0.0
    if size > _FEW_PIXELS:
        # Rows that padding was blended into carry its rounding errors: they count only where there are no others.
        full = others > 0.5 * others.max()
        full &= np.abs(others / np.median(others[full]) - 1) < 0.005
        rows = full if full.sum() >= 3 else slice(None)
        with np.errstate(divide="ignore", invalid="ignore"):
            source = span.source(ramp[rows].sum(axis=0) / coverage[rows].sum(axis=0))
        if full.sum() < 3:
            slack = 1.5 * (span.last - span.first) / ((_LIGHT - _DARK) * float(coverage.max()))
        clean = np.abs(cover / level - 1) < 0.02
        run = np.flatnonzero(clean)
        if run.size:
            clean[: run[0] + _FILTER_REACH] = False
            clean[max(0, run[-1] + 1 - _FILTER_REACH) :] = False
        middle, reach = (span.first + span.last + 1) / 2, (span.last + 1 - span.first) / 2 - _FILTER_REACH
        clean &= np.nan_to_num(np.abs(source - middle), nan=np.inf) < reach
        if clean.sum() >= 6 and np.ptp(source[clean]) >= 4:
            return _line(places[clean], source[clean], count, size, slack)
    if cover[0] < 0.02 * level and cover[-1] < 0.02 * level:
        # Padded on both sides: all of the axis is in this tile, so its length is the sum of the coverage.
        scale = size / float(cover.sum() / level)
        return AxisMap(size / 2 - scale * float(places @ cover / cover.sum()), scale)
    if size <= _FEW_PIXELS:
        return _fit_steps(cover, steps(), first, last + 1, size)
    if inside.sum() >= 3:
        return _line(places[inside], source[inside], count, size, slack)
    return None


def _fit_steps(cover: np.ndarray, steps: np.ndarray, start: int, stop: int, size: int) -> AxisMap:
    """The map of an axis of few source pixels, from the places where the borders between them show.

    Where fewer than two borders show, the tile shows parts of at most two pixels along the axis, and the
    map is right to within one source pixel, which no mask or map in source pixels can tell from exact. Where all of
    the tile shows the same blend of several source pixels, it is as long as so many equal shares would be.
    """
    count = len(cover)
    shares = steps.sum(axis=1)[:, start:stop] / cover[start:stop] if size > 1 else np.empty((0, stop - start))
    borders, places = [], []
    for border, share in enumerate(shares, start=1):
        if share[0] < 0.5 <= share[-1]:
            after = int(np.argmax(share >= 0.5))
            before = after - 1
            fraction = (0.5 - share[before]) / (share[after] - share[before])
            borders.append(border)
            places.append(start + 0.5 + before + fraction)
    if len(borders) < 2 and start > 0:
        borders.insert(0, 0)
        places.insert(0, start)
    if len(borders) < 2 and stop < count:
        borders.append(size)
        places.append(stop)
    if len(borders) >= 2:
        return _line(np.array(places), np.array(borders, dtype=float), count, size)
    if len(borders) == 1:
        scale = 1 / max(places[0] - start, stop - places[0])
        return AxisMap(borders[0] - scale * places[0], scale)
    weights = np.clip(-np.diff(np.concatenate([[1.0], shares.mean(axis=1), [0.0]])), 0, None)
    weights /= weights.sum()
    length = min(1 / float(weights @ weights), float(size))
    if length < 1.5:
        first, length = float(weights.argmax()), 1.0
    else:
        length = float(size) if length > 0.85 * size else length
        first = float(np.clip(weights @ (np.arange(size) + 0.5) - length / 2, 0, size - length))
    scale = length / (stop - start)
    return AxisMap(first - scale * start, scale)


def _line(places: np.ndarray, source: np.ndarray, count: int, size: int, slack: float = 0.0) -> AxisMap:
    """The least-squares line; ``slack`` is the measuring error in source pixels where it is large."""
    centre = places.mean()
    slope = float((places - centre) @ (source - source.mean()) / ((places - centre) ** 2).sum())
    offset = float(source.mean() - slope * centre)
    # A tile that ends within the measuring error of the image's border ends at the border.
    end = offset + slope * count
    near = max(0.15 * abs(slope), slack)
    start_at, end_at = (0.0 if abs(offset) < near else offset), (float(size) if abs(end - size) < near else end)
    return AxisMap(start_at, (end_at - start_at) / count)


def _explains(axis_map: AxisMap, coverage: np.ndarray, ramp: np.ndarray, size: int, span: _Span) -> bool:
    """Whether the map predicts the ramp at (almost) every pixel that lies in the image."""
    if not (np.isfinite(axis_map.scale) and axis_map.scale > 0):
        return False
    if size == 1:
        return True
    expected = span.share(axis_map.offset + axis_map.scale * (np.arange(coverage.shape[1]) + 0.5) - 0.5)
    inside = coverage > 0.5 * coverage.max()
    errors = np.abs(ramp - expected * coverage)[inside] / coverage[inside]
    typical, most = 0.03, 0.08
    if size <= _FEW_PIXELS:
        # Between few pixels sharp filters ripple, and the map itself is right to one source pixel only.
        typical, most = max(0.08, 0.5 / (size - 1)), max(0.25, 1 / (size - 1))
    rounding = 1 / ((_LIGHT - _DARK) * coverage.max())
    # A pixel that is partly padding shows the mean of its part in the image: up to half a pixel beside its centre.
    half = 0.5 * axis_map.scale / (span.last - span.first)
    typical, most = max(typical, half / 2) + rounding, max(most, half) + 2 * rounding
    return bool(np.median(errors) < typical and np.quantile(errors, 0.95) < most)


def _run(image_processor: Any, image: np.ndarray, options: Mapping[str, Any]) -> _Output:
    height, width = image.shape[:2]
    try:
        features = image_processor(images=Image.fromarray(image), return_tensors="pt", **options)
    except (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError) as fault:
        raise ModelError(
            expected=f"an image size that {_name(image_processor)} takes",
            # Some print their whole configuration.
            got=f"It fails on {width} x {height} pixels ({' '.join(str(fault).split())[:_LONGEST_FAULT]})",
            remedy="Pad, crop or resize the image",
        ) from fault
    pixels = features.get("pixel_values")
    if pixels is None or not hasattr(pixels, "detach"):
        raise _refusal(image_processor, "gives no single tensor of pixel_values")
    pixels = pixels.detach().to("cpu").float().numpy()
    if "image_grid_thw" in features:
        return _unflattened(image_processor, pixels, features["image_grid_thw"])
    if "spatial_shapes" in features:  # SigLIP 2, as in LFM2-VL: a row of padded patches for each tile
        shapes = np.asarray(features["spatial_shapes"].detach().to("cpu")).reshape(-1, 2)
        return _padded_patches(image_processor, pixels, shapes, "downsample_factor")
    if "image_position_ids" in features:  # Gemma 4: the same, with the x and y of each patch, -1 in the padding
        places = np.asarray(features["image_position_ids"].detach().to("cpu"))
        return _padded_patches(image_processor, pixels, places.max(axis=1)[:, ::-1] + 1, "pooling_kernel_size")
    tiled = pixels.ndim == 5 and pixels.shape[0] == 1
    if tiled:
        pixels = pixels[0]
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        raise _refusal(image_processor, f"gives pixel_values of shape {list(pixels.shape)}")
    mask = features.get("pixel_attention_mask")
    shown: np.ndarray = np.ones(len(pixels), bool)
    if mask is not None:
        shown = np.asarray(mask.detach().to("cpu")).reshape(len(pixels), -1).max(axis=1).astype(bool)
    return _Output(pixels, shown, any_resolution=tiled and "image_sizes" in features)


def _unflattened(image_processor: Any, pixels: np.ndarray, grids: Any) -> _Output:
    """Undo the flattening of Qwen2-VL's family: [patches, 3 * frames * edge * edge], merge blocks together."""
    grids = np.asarray(grids.detach().to("cpu")).reshape(-1, 3)
    frames, rows, columns = (int(number) for number in grids[0])
    merge = int(getattr(image_processor, "merge_size", 0) or 0)
    depth = int(getattr(image_processor, "temporal_patch_size", 1) or 1)
    edge = round((pixels.shape[-1] / (3 * depth)) ** 0.5)
    block = max(merge, 1)
    if (
        len(grids) != 1
        or frames != 1
        or pixels.shape != (rows * columns, 3 * depth * edge * edge)
        or rows % block
        or columns % block
    ):
        raise _refusal(image_processor, f"gives pixel_values of shape {list(pixels.shape)} for grids {grids.tolist()}")
    blocks = pixels.reshape(rows // block, columns // block, block, block, 3, depth, edge, edge)[:, :, :, :, :, 0]
    # To [channel, block row, row in block, y, block column, column in block, x].
    picture = blocks.transpose(4, 0, 2, 5, 1, 3, 6).reshape(1, 3, rows * edge, columns * edge)
    return _Output(picture, np.ones(1, bool), ((rows, columns, merge),))


def _padded_patches(image_processor: Any, pixels: np.ndarray, shapes: np.ndarray, merge_name: str) -> _Output:
    """Put [tiles, patches, edge * edge * 3] together, of which the first rows * columns of a tile are its patches.

    Args:
        shapes: int [tiles, 2], the rows and columns of each tile.
        merge_name: the processor's attribute that says along how many patches a token is merged.
    """
    merge = int(getattr(image_processor, merge_name, 0) or 0)
    edge = round((pixels.shape[-1] / 3) ** 0.5)
    if (
        pixels.ndim != 3
        or pixels.shape[2] != 3 * edge * edge
        or len(shapes) != len(pixels)
        or shapes.prod(axis=1).max() > pixels.shape[1]
        or merge < 1
        or (shapes % merge).any()
    ):
        raise _refusal(image_processor, f"gives pixel_values of shape {list(pixels.shape)} for {shapes.tolist()}")
    most_rows, most_columns = shapes.max(axis=0)
    pictures = np.zeros((len(pixels), 3, most_rows * edge, most_columns * edge), pixels.dtype)
    for picture, patches, (rows, columns) in zip(pictures, pixels, shapes, strict=True):
        blocks = patches[: rows * columns].reshape(rows, columns, edge, edge, 3).transpose(4, 0, 2, 1, 3)
        picture[:, : rows * edge, : columns * edge] = blocks.reshape(3, rows * edge, columns * edge)
    grids = tuple((int(rows), int(columns), merge) for rows, columns in shapes)
    return _Output(pictures, np.ones(len(pixels), bool), grids)


def _name(image_processor: Any) -> str:
    return type(image_processor).__name__


def _too_thin(image_processor: Any, height: int, width: int) -> ModelError:
    return ModelError(
        expected="an image whose place in every tile can be measured",
        got=f"The image of {width} x {height} pixels is too thin for {_name(image_processor)}",
        remedy="Pad or crop the image to a less extreme shape",
    )


def _refusal(image_processor: Any, fault: str) -> ModelError:
    return ModelError(
        expected="an image processor that resizes, crops, pads or tiles the image",
        got=f"{_name(image_processor)} {fault}",
        remedy="Use a model whose image processor keeps pixels in a grid",
    )
