"""Patch grid <-> source pixel: where each image token of a model looks at, for any image processor.

Masks go to patches as averages over each patch's own area (:func:`to_patches`), attention goes back to source pixels
at the place where its patch lies (:func:`to_source`). Frames are those of :mod:`a3tune.types`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from a3tune.errors import RequestError
from a3tune.geometry.probing import probe
from a3tune.geometry.tiling import tile_patches
from a3tune.recently_used import RecentlyUsed
from a3tune.types import PatchGrid, PatchTile

TileChoice = Literal["all", "overview", "detail"]

_cache: RecentlyUsed[PatchGrid] = RecentlyUsed(64)
# Less of a patch than this inside the image is measuring error, not content.
_SLIVER = 0.01


def probe_patch_grid(
    image_processor: Any,
    height: int,
    width: int,
    patches: int,
    *,
    options: Mapping[str, Any] | None = None,
    patch_size: int | None = None,
) -> PatchGrid:
    """Learn where each image token lies in the source image by running the image processor on coordinate images.

    Works for processors that resize, crop, pad and tile, by the form of their output: ``pixel_values`` as
    [tiles, 3, height, width] or [1, tiles, 3, height, width] (tiles that only fill up a batch left out by
    ``pixel_attention_mask``), or flattened patches with ``image_grid_thw``, or with ``spatial_shapes`` or
    ``image_position_ids`` in tiles of any sizes (one token per merged block). With
    ``image_sizes`` beside a tile axis the tokens are those of LLaVA-NeXT's family: an overview, then all tiles as one
    raster without its padding, each row closed by a separator, whose box has no area. Each tile's tokens are taken as
    a raster of square cells, row by row; where a tile's edge is no multiple of the raster, the cells have whole
    pixels and the remainder at the right and bottom is unused, as under a strided convolution.

    Args:
        image_processor: any Hugging Face image processor.
        height, width: size of the source image in pixels.
        patches: how many image tokens the prompt holds for this one image.
        options: keyword arguments that the model's own processor passes to its image processor
            (``crop_to_patches=True`` for InternVL, pan-and-scan for Gemma 3, ...).
        patch_size: edge of the vision tower's patches in processor pixels, where known; checks and settles the cells.

    Returns:
        The grid; boxes are right to a fraction of a processor pixel, and to one source pixel along an axis of fewer
        than 17 pixels.

    Raises:
        ModelError: the number of tokens cannot be explained, or the processor does something else than resize,
            crop, pad and tile.
    """
    options = dict(options or {})
    key = _cache_key(image_processor, height, width, patches, options, patch_size)
    known = None if key is None else _cache.get(key)
    if known is not None:
        return known
    # Two requests may measure the same size twice, but none waits for another's processor.
    grid = tile_patches(probe(image_processor, height, width, options), height, width, patches, patch_size)
    if key is not None:
        _cache.put(key, grid)
    return grid


def to_patches(values: np.ndarray, grid: PatchGrid, mode: Literal["area", "nearest"] = "area") -> np.ndarray:
    """Bring a mask or map from source pixels to patches.

    ``"area"``: the exact mean over the part of each patch's box that lies inside the image, pixels cut by the box
    counted by their share. So a patch whose image content belongs wholly to a mask gets 1, also when the rest of the
    patch is padding. Patches outside the image (less than 1 % of their area inside) and row separators get 0. Parts of
    the image that the processor crops away count nowhere.

    ``"nearest"``: one sampled pixel per patch, without regard to the grid's boxes, for comparison with published
    results only: the image squashed to 256 x 256, then to 224 x 224, then to the patch raster, nearest pixel each
    time. It misses small masks and misplaces those of images that are not square.

    Args:
        values: bool, int or float [height, width], source pixel frame.
        grid: where the patches lie.
        mode: see above.

    Returns:
        float32 [patches]; 0 to 1 for a mask.

    Raises:
        RequestError: another size than the grid's image, or "nearest" on a grid of several tiles.
    """
    values = np.asarray(values)
    if values.shape != (grid.height, grid.width):
        raise RequestError(
            expected=f"a mask of the image's size, {grid.width} x {grid.height} pixels",
            got=f"The mask has shape {values.shape}",
            remedy="Use the image that the patch grid was made for",
        )
    if mode == "nearest":
        return _nearest(values, grid)
    if mode != "area":
        raise RequestError(expected='"area" or "nearest"', got=f"The mode is {mode!r}", remedy="Choose one of these")
    result = np.zeros(grid.count, np.float32)
    for raster in _rasters(grid, "all"):
        sums = _interval_sums(_interval_sums(values, raster.rows).T, raster.columns).T
        areas = np.outer(raster.rows.inside(grid.height), raster.columns.inside(grid.width))
        seen_part = areas > _SLIVER * np.outer(raster.rows.lengths, raster.columns.lengths)
        result[raster.index] = np.divide(sums, areas, out=np.zeros_like(sums), where=seen_part)
    return result


def to_source(values: np.ndarray, grid: PatchGrid, smooth: bool = True, tiles: TileChoice = "all") -> np.ndarray:
    """Bring numbers of patches, such as attention weights, to source pixels.

    With one raster of patches, each pixel takes its patch's value (``smooth=False``), or the bilinear mix of the
    nearest patch centres (``smooth=True``; beyond the outer centres the nearest value). Where several rasters show
    the same pixels (an overview and its details), their weights are added as densities, so that a patch's weight is
    spread over the source area it stands for: each is scaled by the smallest patch area over its own. The sum of the
    sharp map over all pixels, over the smallest patch area, is then the total weight on the image. Adjoining tiles of
    one size are treated as one raster, so the map is continuous across their seams.

    Args:
        values: float [patches].
        grid: where the patches lie.
        smooth: bilinear instead of sharp.
        tiles: "all", or only those that are overviews, or only the others.

    Returns:
        float32 [height, width]; 0 where no patch looks.

    Raises:
        RequestError: another number of values than patches, or no such tile.
    """
    values = np.asarray(values, dtype=np.float32)
    if values.shape != (grid.count,):
        raise RequestError(
            expected=f"one number for each of the {grid.count} patches",
            got=f"The values have shape {values.shape}",
            remedy="Use the patch grid that belongs to these maps",
        )
    rasters = _rasters(grid, tiles)
    if not rasters:
        raise RequestError(
            expected="a grid with such tiles", got=f"The grid has no {tiles} tiles", remedy='Choose "all" tiles'
        )
    smallest = min(raster.patch_area for raster in rasters)
    result = np.zeros((grid.height, grid.width), np.float32)
    for raster in rasters:
        rows, columns = (
            _pixel_mix(raster.rows, grid.height, smooth),
            _pixel_mix(raster.columns, grid.width, smooth),
        )
        part = values[raster.index] * np.float32(smallest / raster.patch_area)
        part = part[:, columns.first] * columns.near + part[:, columns.second] * columns.far
        part = part[rows.first] * rows.near[:, None] + part[rows.second] * rows.far[:, None]
        result[rows.pixels, columns.pixels] += part
    return result


@dataclass(frozen=True)
class _Cells:
    """Neighbouring cells along one axis, ascending, in source pixels; gaps are pixels that no patch covers."""

    starts: np.ndarray
    ends: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return self.ends - self.starts

    def inside(self, size: int) -> np.ndarray:
        """Length of each cell's part in [0, size]."""
        return np.clip(self.ends, 0, size) - np.clip(self.starts, 0, size)


@dataclass(frozen=True)
class _Raster:
    """A rectangle of patches, possibly of several adjoining tiles: ``index`` [rows, columns] into the patch frame."""

    index: np.ndarray
    rows: _Cells
    columns: _Cells

    @property
    def patch_area(self) -> float:
        return float(self.rows.lengths.mean() * self.columns.lengths.mean())


@dataclass(frozen=True)
class _PixelMix:
    """For each pixel of the slice ``pixels``: the two cells it mixes and their shares, both 0 in gaps."""

    pixels: slice
    first: np.ndarray
    second: np.ndarray
    near: np.ndarray
    far: np.ndarray


def _rasters(grid: PatchGrid, choice: TileChoice) -> list[_Raster]:
    if choice not in ("all", "overview", "detail"):
        raise RequestError(
            expected='"all", "overview" or "detail"', got=f"The tiles are {choice!r}", remedy="Choose one of these"
        )
    overviews = [_raster(grid, tile) for tile in grid.tiles if tile.overview and _has_area(tile)]
    details = [_raster(grid, tile) for tile in grid.tiles if not tile.overview and _has_area(tile)]
    details = _mosaic(details)
    return {"all": overviews + details, "overview": overviews, "detail": details}[choice]


def _has_area(tile: PatchTile) -> bool:
    x0, y0, x1, y1 = tile.box
    return x1 > x0 and y1 > y0


def _raster(grid: PatchGrid, tile: PatchTile) -> _Raster:
    index = tile.start + np.arange(tile.rows * tile.columns).reshape(tile.rows, tile.columns)
    boxes = grid.boxes[index]
    return _Raster(index, _Cells(boxes[:, 0, 1], boxes[:, 0, 3]), _Cells(boxes[0, :, 0], boxes[0, :, 2]))


def _mosaic(rasters: list[_Raster]) -> list[_Raster]:
    """Join tiles that form a gapless rectangle into one raster; others stay as they are."""
    if len(rasters) < 2:
        return rasters
    lines: list[list[_Raster]] = []
    for raster in sorted(rasters, key=lambda raster: raster.rows.starts[0]):
        if lines and _aligned(lines[-1][0].rows, raster.rows):
            lines[-1].append(raster)
        else:
            lines.append([raster])
    for line in lines:
        line.sort(key=lambda raster: raster.columns.starts[0])
    rows, columns = [line[0].rows for line in lines], [raster.columns for raster in lines[0]]
    regular = all(
        len(line) == len(columns)
        and all(_aligned(raster.columns, cells) for raster, cells in zip(line, columns, strict=True))
        for line in lines
    )
    if not (regular and _adjoining(rows) and _adjoining(columns)):
        return rasters
    index = np.concatenate([np.concatenate([raster.index for raster in line], axis=1) for line in lines])
    return [_Raster(index, _joined(rows), _joined(columns))]


def _aligned(one: _Cells, other: _Cells) -> bool:
    tolerance = 0.25 * one.lengths.mean()
    return len(one.starts) == len(other.starts) and bool(
        (np.abs(one.starts - other.starts) < tolerance).all() and (np.abs(one.ends - other.ends) < tolerance).all()
    )


def _adjoining(cells: list[_Cells]) -> bool:
    """Whether each starts where the one before ends; a convolution may have left less than one cell between."""
    gaps = [(after.starts[0] - before.ends[-1]) / before.lengths.mean() for before, after in itertools.pairwise(cells)]
    return all(-0.25 < gap < 1 for gap in gaps)


def _joined(cells: list[_Cells]) -> _Cells:
    starts, ends = (np.concatenate([getattr(part, name) for part in cells]) for name in ("starts", "ends"))
    # Tiles are measured one by one, so a seam may overlap by the measuring error.
    ends[:-1] = np.minimum(ends[:-1], starts[1:])
    return _Cells(starts, ends)


def _interval_sums(values: np.ndarray, cells: _Cells) -> np.ndarray:
    """float64 [cells, ...]: integral of a step function with one value per pixel, over each cell along axis 0."""
    size = values.shape[0]
    sums = np.zeros((len(cells.starts), *values.shape[1:]))
    for at, (start, end) in enumerate(zip(np.clip(cells.starts, 0, size), np.clip(cells.ends, 0, size), strict=True)):
        if end > start:
            first, last = int(np.floor(start)), int(np.ceil(end))
            sums[at] = values[first:last].sum(axis=0, dtype=np.float64)
            sums[at] -= (start - first) * values[first] + (last - end) * values[last - 1]
    return sums


def _pixel_mix(cells: _Cells, size: int, smooth: bool) -> _PixelMix:
    centres = np.arange(size) + 0.5
    begin, stop = np.searchsorted(centres, [cells.starts[0], cells.ends[-1]])
    centres = centres[begin:stop]
    if smooth:
        # Cells that are all padding must not shine into the image.
        within = np.flatnonzero(cells.inside(size) > _SLIVER * cells.lengths)
        if within.size == 0:
            within = np.arange(len(cells.starts))
        place = np.interp(centres, (cells.starts + cells.ends)[within] / 2, within)
        first = np.minimum(np.floor(place).astype(np.int64), within[-1])
        far = (place - first).astype(np.float32)
        return _PixelMix(slice(begin, stop), first, np.minimum(first + 1, within[-1]), 1 - far, far)
    first = np.clip(np.searchsorted(cells.starts, centres, side="right") - 1, 0, None)
    covered = (centres < cells.ends[first]).astype(np.float32)
    return _PixelMix(slice(begin, stop), first, first, covered, np.zeros_like(covered))


def _nearest(values: np.ndarray, grid: PatchGrid) -> np.ndarray:
    if len(grid.tiles) != 1:
        raise RequestError(
            expected="a model with one tile per image",
            got=f"The grid has {len(grid.tiles)} tiles",
            remedy='Use the mode "area"',
        )
    tile = grid.tiles[0]
    picture = Image.fromarray(values.astype(np.float32))
    for size in ((256, 256), (224, 224), (tile.columns, tile.rows)):
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.NEAREST)
    return np.asarray(picture, dtype=np.float32).reshape(-1)


def _cache_key(image_processor: Any, *parts: Any) -> Hashable | None:
    """What the grid depends on; None when the processor cannot say how it is set up."""
    if not hasattr(image_processor, "to_json_string"):
        return None
    kind = type(image_processor)
    return (kind.__module__, kind.__qualname__, image_processor.to_json_string(), json.dumps(parts, default=repr))
