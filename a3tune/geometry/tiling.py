"""From measured tiles to image tokens: which rectangle of the source image each token of a prompt stands for."""

from __future__ import annotations

import itertools
import math

import numpy as np

from a3tune.errors import ModelError
from a3tune.geometry.axis_fit import AxisMap
from a3tune.geometry.probing import Probe, ProcessorTile
from a3tune.types import PatchGrid, PatchTile


def tile_patches(measured: Probe, height: int, width: int, patches: int, patch_size: int | None = None) -> PatchGrid:
    """Lay the image tokens over the measured tiles.

    Args:
        measured: what the processor does with an image of this size.
        height, width: size of the source image in pixels.
        patches: how many image tokens there are.
        patch_size: edge of the vision tower's patches in processor pixels, where known.

    Returns:
        The grid, with the tiles that show what others show in more detail marked as overviews.

    Raises:
        ModelError: the number of tokens does not follow from the tiles, or a tile's place cannot be told.
    """
    any_resolution = measured.any_resolution and len(measured.tiles) > 1
    thin = _only_overview(measured.tiles, height, width, patches, patch_size) if any_resolution else None
    for tile in measured.tiles[:1] if thin else measured.tiles:
        if tile.fault is not None:
            raise tile.fault
    if thin is not None:
        boxes, tiles = thin
    elif any_resolution:
        boxes, tiles = _any_resolution_tokens(measured.tiles, height, width, patches, patch_size)
    elif measured.merged is not None:
        boxes, tiles = _merged_tokens(measured.tiles, measured.merged, patches)
    else:
        boxes, tiles = _tile_tokens(measured.tiles, patches, patch_size)
    return PatchGrid(boxes, _with_overviews(tiles, height, width), height, width)


def _merged_tokens(
    measured: tuple[ProcessorTile, ...], merged: tuple[tuple[int, int, int], ...], patches: int
) -> tuple[np.ndarray, list[PatchTile]]:
    boxes, tiles, start = [], [], 0
    for tile, (rows, columns, merge) in zip(measured, merged, strict=True):
        # Where the processor names no size, there is one tile, and the number of its tokens tells.
        merge = merge or math.isqrt(rows * columns // patches)
        if merge < 1 or rows % merge or columns % merge:
            raise _unexplained(patches, f"{rows} x {columns} patches merged by {merge}")
        part, box = _tile_boxes(tile, rows // merge, columns // merge, None)
        boxes.append(part)
        tiles.append(PatchTile(start, rows // merge, columns // merge, box))
        start += len(part)
    if start != patches:
        grids = " and ".join(f"{rows} x {columns} patches merged by {merge}" for rows, columns, merge in merged)
        raise _unexplained(patches, grids)
    return np.concatenate(boxes), tiles


def _tile_tokens(
    tiles: tuple[ProcessorTile, ...], patches: int, patch_size: int | None
) -> tuple[np.ndarray, list[PatchTile]]:
    per_tile, rest = divmod(patches, len(tiles))
    found = [_raster_shape(tile, per_tile, patch_size) for tile in tiles]
    shapes = [shape for shape in found if shape is not None]
    if rest or len(shapes) < len(tiles):
        sizes = sorted({(tile.width, tile.height) for tile in tiles})
        raise _unexplained(patches, f"{len(tiles)} tiles of {' or '.join(f'{w} x {h}' for w, h in sizes)} pixels")
    boxes, result = [], []
    for index, (tile, (rows, columns)) in enumerate(zip(tiles, shapes, strict=True)):
        part, box = _tile_boxes(tile, rows, columns, patch_size)
        boxes.append(part)
        result.append(PatchTile(index * per_tile, rows, columns, box))
    return np.concatenate(boxes), result


def _any_resolution_tokens(
    tiles: tuple[ProcessorTile, ...], height: int, width: int, patches: int, patch_size: int | None
) -> tuple[np.ndarray, list[PatchTile]]:
    """The tokens of LLaVA-NeXT's family: an overview, then the other tiles' raster without padding, rows separated.

    How much is cut from the raster follows the models' own rule (Liu et al., "LLaVA-NeXT", 2024): the rows or columns
    that the image's aspect ratio leaves empty, halved and rounded down on each side. A raster larger than the model
    allows is shrunk evenly (Li et al., "LLaVA-OneVision", 2024). The count of tokens must single out one way.
    """
    base, details = tiles[0], tiles[1:]
    places = [(tile.x, tile.y) for tile in details if tile.x is not None and tile.y is not None]
    if base.x is None or len(places) < len(details) or len({(tile.height, tile.width) for tile in tiles}) > 1:
        raise _unexplained(patches, f"{len(tiles)} tiles, of which some show no image or differ in size")
    half = 0.5 * base.width * places[0][0].scale
    tile_rows = 1 + sum(b.offset < a.offset + half for (a, _), (b, _) in itertools.pairwise(places))
    tile_columns, rest = divmod(len(details), tile_rows)
    edges = range(1, math.isqrt(patches) + 1) if patch_size is None else [base.height // patch_size]
    found = {}
    for edge in edges if not rest else ():
        if _cell(base.height, edge, patch_size) is None:
            continue
        top, left = _padding_cells(height, width, tile_rows * edge, tile_columns * edge)
        rows, columns = tile_rows * edge - 2 * top, tile_columns * edge - 2 * left
        if not rows * columns:
            continue
        for most in (None, *range(1, len(details))):
            ratio = 1.0 if most is None else math.sqrt(rows * columns / (most * edge**2))
            shape = (rows, columns) if most is None else (int(rows // ratio), int(columns // ratio))
            if (most is None or ratio > 1.1) and patches == edge**2 + shape[0] * (shape[1] + 1):
                found[edge, shape] = (top, left, rows, columns)
    if len(found) != 1:
        raise _unexplained(
            patches, f"an overview and {tile_rows} x {tile_columns} tiles ({len(found)} ways to count them)"
        )
    (edge, shape), (top, left, rows, columns) = found.popitem()
    base_boxes, base_box = _tile_boxes(base, edge, edge, patch_size)
    x0, x1 = _mosaic_cells([x for x, _ in places[:tile_columns]], base.width, edge, patch_size)
    y0, y1 = _mosaic_cells([y for _, y in places[::tile_columns]], base.height, edge, patch_size)
    x0, x1 = _shrunk(x0[left : left + columns], x1[left : left + columns], shape[1])
    y0, y1 = _shrunk(y0[top : top + rows], y1[top : top + rows], shape[0])
    boxes, result, start = [base_boxes], [PatchTile(0, edge, edge, base_box)], edge**2
    for row in range(shape[0]):
        part = np.stack([x0, np.full(shape[1], y0[row]), x1, np.full(shape[1], y1[row])], axis=1)
        boxes += [part, np.array([[x1[-1], y0[row], x1[-1], y0[row]]])]
        result.append(PatchTile(start, 1, shape[1], (x0[0], y0[row], x1[-1], y1[row])))
        start += shape[1] + 1
    return np.concatenate(boxes), result


def _only_overview(
    measured: tuple[ProcessorTile, ...], height: int, width: int, patches: int, patch_size: int | None
) -> tuple[np.ndarray, list[PatchTile]] | None:
    """The tokens of an image so thin that what is cut leaves no row or no column of the raster: the overview's, and
    one separator for each row that is left. None when the count says otherwise."""
    base, details = measured[0], len(measured) - 1
    edges = range(1, math.isqrt(patches) + 1) if patch_size is None else [base.height // patch_size]
    for edge, tile_rows in itertools.product(edges, range(1, details + 1)):
        if details % tile_rows or _cell(base.height, edge, patch_size) is None:
            continue
        rows, columns = tile_rows * edge, details // tile_rows * edge
        top, left = _padding_cells(height, width, rows, columns)
        left_over = rows - 2 * top
        if not left_over * (columns - 2 * left) and patches == edge**2 + left_over:
            boxes, box = _tile_boxes(base, edge, edge, patch_size)
            return np.concatenate([boxes, np.zeros((left_over, 4))]), [PatchTile(0, edge, edge, box)]
    return None


def _padding_cells(height: int, width: int, rows: int, columns: int) -> tuple[int, int]:
    """Rows cut at top and bottom each, columns at left and right each, of a raster that holds a padded image."""
    if width / height > columns / rows:
        return (rows - int(round(height * (columns / width), 7))) // 2, 0
    return 0, (columns - int(round(width * (rows / height), 7))) // 2


def _mosaic_cells(
    maps: list[AxisMap], pixels: int, count: int, patch_size: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends, in source pixels, of the cells of adjoining tiles along one axis."""
    cell = _cell(pixels, count, patch_size)
    if cell is None:
        raise _unexplained(count, f"a tile's edge of {pixels} pixels")
    starts = np.concatenate([axis.offset + axis.scale * cell * np.arange(count) for axis in maps])
    ends = np.concatenate([axis.offset + axis.scale * cell * np.arange(1, count + 1) for axis in maps])
    return starts, ends


def _shrunk(starts: np.ndarray, ends: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    if count == len(starts):
        return starts, ends
    places, borders = np.arange(len(starts) + 1), np.linspace(0, len(starts), count + 1)
    starts, ends = np.append(starts, ends[-1]), np.insert(ends, 0, starts[0])
    return np.interp(borders[:-1], places, starts), np.interp(borders[1:], places, ends)


def _raster_shape(tile: ProcessorTile, tokens: int, patch_size: int | None) -> tuple[int, int] | None:
    """Rows and columns of a tile's tokens in square cells, or None when no such raster has this many."""
    about = round(math.sqrt(tokens * tile.height / tile.width))
    for rows in (about, about - 1, about + 1):  # a dropped remainder changes the shape
        if rows < 1 or tokens % rows:
            continue
        columns = tokens // rows
        height, width = _cell(tile.height, rows, patch_size), _cell(tile.width, columns, patch_size)
        if height is not None and width is not None and math.isclose(height, width):
            return rows, columns
    return None


def _cell(pixels: int, count: int, patch_size: int | None) -> float | None:
    """Edge in processor pixels of each of ``count`` cells along ``pixels``, or None when no cell fits."""
    unit = patch_size or 1
    units = pixels // unit
    # What merges patches drops the remainder, as a strided convolution does: 27 patches of 14 pixels in 384.
    merged = units // count
    if merged and units // merged == count:
        return float(merged * unit)
    return pixels / count if patch_size is None and pixels % count == 0 else None


def _tile_boxes(tile: ProcessorTile, rows: int, columns: int, patch_size: int | None) -> tuple[np.ndarray, tuple]:
    if tile.x is None or tile.y is None:
        # All padding: tokens that show no pixels.
        return np.zeros((rows * columns, 4)), (0.0, 0.0, 0.0, 0.0)
    cell_width, cell_height = _cell(tile.width, columns, patch_size), _cell(tile.height, rows, patch_size)
    if cell_width is None or cell_height is None:
        raise _unexplained(rows * columns, f"a tile of {tile.width} x {tile.height} pixels")
    x_edges = tile.x.offset + tile.x.scale * cell_width * np.arange(columns + 1)
    y_edges = tile.y.offset + tile.y.scale * cell_height * np.arange(rows + 1)
    return _boxes(x_edges, y_edges), (x_edges[0], y_edges[0], x_edges[-1], y_edges[-1])


def _boxes(x_edges: np.ndarray, y_edges: np.ndarray) -> np.ndarray:
    y0, x0 = np.meshgrid(y_edges[:-1], x_edges[:-1], indexing="ij")
    y1, x1 = np.meshgrid(y_edges[1:], x_edges[1:], indexing="ij")
    return np.stack([x0, y0, x1, y1], axis=-1).reshape(-1, 4)


def _with_overviews(tiles: list[PatchTile], height: int, width: int) -> tuple[PatchTile, ...]:
    """Mark each tile that shows all that the others show, with larger patches."""
    limit = np.array([width, height, width, height], dtype=float)
    inside = np.array([np.clip(tile.box, 0, limit) for tile in tiles])
    areas = (inside[:, 2] - inside[:, 0]) * (inside[:, 3] - inside[:, 1])
    slack = 0.02 * limit
    result = []
    for index, tile in enumerate(tiles):
        others = np.delete(np.arange(len(tiles)), index)
        others = others[areas[others] > 0]
        holds = (inside[index, :2] <= inside[others, :2] + slack[:2]).all() and (
            inside[index, 2:] >= inside[others, 2:] - slack[2:]
        ).all()
        overview = bool(len(others) and holds and areas[others].min() < 0.9 * areas[index])
        left, top, right, bottom = map(float, tile.box)
        box = (left, top, right, bottom)
        result.append(PatchTile(tile.start, tile.rows, tile.columns, box, overview))
    return tuple(result)


def _unexplained(patches: int, structure: str) -> ModelError:
    return ModelError(
        expected="a number of image tokens that follows from the processor's output",
        got=f"{patches} image tokens do not fit {structure}",
        remedy="Pass the options with which the model's processor calls its image processor, or use another model",
    )
