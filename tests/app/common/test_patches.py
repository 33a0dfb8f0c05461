"""Patches in the browser: found under a point, outlined, averaged, and filled in where they are sinks."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from a3tune.attention.sinks import surroundings
from a3tune.types import PatchGrid, PatchTile

MODULE = "common/static/patches.js"
OVERVIEW = {"start": 0, "rows": 2, "columns": 2, "box": [0, 0, 90, 60], "overview": True}
LEFT = {"start": 4, "rows": 3, "columns": 2, "box": [0, -6, 45, 66], "overview": False}
RIGHT = {"start": 10, "rows": 3, "columns": 4, "box": [45, 0, 90, 60], "overview": False}


@pytest.fixture(scope="module")
def call(call_module):
    return functools.partial(call_module, MODULE)


def box_of(tile, patch):
    """Edges of a patch from its tile, left, top, right, bottom."""
    row, column = divmod(patch - tile["start"], tile["columns"])
    x0, y0, x1, y1 = tile["box"]
    width, height = (x1 - x0) / tile["columns"], (y1 - y0) / tile["rows"]
    return x0 + column * width, y0 + row * height, x0 + (column + 1) * width, y0 + (row + 1) * height


@pytest.mark.parametrize("tiles", [[OVERVIEW, LEFT, RIGHT], [LEFT, RIGHT, OVERVIEW]])
def test_a_point_is_in_the_patch_of_the_detailed_tile_that_holds_it(call, tiles):
    for tile in (LEFT, RIGHT):
        for patch in range(tile["start"], tile["start"] + tile["rows"] * tile["columns"]):
            left, top, right, bottom = box_of(tile, patch)
            for x, y in [
                (left + 0.01, top + 0.01),
                ((left + right) / 2, (top + bottom) / 2),
                (right - 0.01, bottom - 0.01),
            ]:
                assert call("patchAt", tiles, x, y) == patch


def test_an_overview_counts_where_it_is_all_there_is_and_outside_there_is_none(call):
    assert call("patchAt", [OVERVIEW], 50, 40) == 3
    assert call("detailedTiles", [OVERVIEW]) == [OVERVIEW]
    assert call("detailedTiles", [OVERVIEW, LEFT]) == [LEFT]
    assert [call("patchAt", [OVERVIEW, RIGHT], x, y) for x, y in [(44.9, 10), (90, 10), (50, -0.1), (50, 60)]] == [
        -1
    ] * 4


def test_patches_of_a_tile_lie_row_by_row(call):
    found = call("patchesOf", RIGHT)
    assert [item["patch"] for item in found] == list(range(10, 22))
    for item in found:
        edges = item["x"], item["y"], item["x"] + item["width"], item["y"] + item["height"]
        assert edges == pytest.approx(box_of(RIGHT, item["patch"]))
    assert (found[5]["row"], found[5]["column"]) == (1, 1)


def test_a_border_runs_around_what_is_chosen_and_not_through_it(module_page):
    sides = module_page.evaluate(
        f"""async ([tile, chosen]) => (await import("/{MODULE}")).borderOf(tile, (patch) => chosen.includes(patch))""",
        [{"start": 0, "rows": 3, "columns": 3, "box": [0, 0, 3, 3], "overview": False}, [4, 5]],
    )
    # Patch 4 has no right side and patch 5 no left one; the right side of 5 is the tile's edge.
    expected = [[1, 1, 2, 1], [1, 2, 2, 2], [1, 1, 1, 2], [2, 1, 3, 1], [2, 2, 3, 2], [3, 1, 3, 2]]
    assert sorted(sides) == sorted(expected)


@pytest.mark.parametrize("seed", range(4))
def test_sinks_take_the_median_of_their_surroundings_and_the_rest_stays(call, seed):
    generator = np.random.default_rng(seed)
    boxes = np.zeros((16, 4))
    grid = PatchGrid(boxes, (PatchTile(0, 3, 4, (0.0, 0.0, 4.0, 3.0)), PatchTile(12, 1, 4, (0.0, 0.0, 4.0, 1.0))), 3, 4)
    sinks = generator.random(16) < 0.4
    sinks[12:] = seed == 0  # one tile of sinks only
    values = generator.random(16)
    around = surroundings(sinks, grid)
    filled = call("fillSinks", values.tolist(), [[sink, list(patches)] for sink, patches in around.items()])
    expected = [
        (np.median(values[list(around[patch])]) if around[patch] else 0) if patch in around else value
        for patch, value in enumerate(values)
    ]
    assert filled == pytest.approx(expected)
    assert around, "else nothing was filled"


def test_means_sums_and_the_largest(call):
    rows = np.random.default_rng(1).random((3, 5)).astype(np.float32)
    assert call("meanOfRows", rows.ravel().tolist(), [0, 2], 5) == pytest.approx(rows[[0, 2]].mean(axis=0))
    assert call("total", [0.5, 0.25, 1]) == 1.75
    assert call("largest", [0.5, 0.75, -1]) == 0.75
    assert call("largest", []) == 0
