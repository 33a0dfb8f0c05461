"""Attention sinks: constant outliers are found, content is not, and each is filled in from the patches around it."""

import numpy as np
import pytest

from a3tune.attention.sinks import find_sinks, surroundings
from a3tune.errors import RequestError
from a3tune.types import AttentionMaps, PatchGrid, PatchTile

EDGE = 8


def make_grid(rows=EDGE, columns=EDGE):
    y, x = np.mgrid[:rows, :columns].reshape(2, -1).astype(float)
    boxes = np.stack([x, y, x + 1, y + 1], axis=1)
    return PatchGrid(boxes, (PatchTile(0, rows, columns, (0.0, 0.0, float(columns), float(rows))),), rows, columns)


def make_maps(sinks=(), content=(), rows=12, seed=0):
    """Noise, sinks in every row, and content patches that two of the rows look at hard."""
    generator = np.random.default_rng(seed)
    weights = generator.dirichlet(np.full(EDGE * EDGE, 20.0), size=(3, 4, rows)) * 0.3
    for patch in sinks:
        weights[..., patch] += 0.1
    for patch in content:
        weights[:, :, 3:5, patch] += 0.4
    weights = weights.astype(np.float32)
    return AttentionMaps(weights, np.arange(rows, dtype=np.int64), weights.sum(-1))


def test_patches_that_draw_attention_in_every_row_are_sinks():
    assert np.flatnonzero(find_sinks(make_maps(sinks=(0, 37)))).tolist() == [0, 37]


def test_patches_that_some_words_look_at_are_not():
    assert np.flatnonzero(find_sinks(make_maps(sinks=(63,), content=(20, 21)))).tolist() == [63]


@pytest.mark.parametrize("seed", range(5))
def test_noise_has_no_sinks(seed):
    assert not find_sinks(make_maps(seed=seed)).any()


def test_flat_and_empty_maps_have_no_sinks():
    for level in (0.0, 0.01):
        weights = np.full((2, 2, 5, 9), level, np.float32)
        assert not find_sinks(AttentionMaps(weights, np.arange(5), weights.sum(-1))).any()


def test_one_row_cannot_tell():
    assert not find_sinks(make_maps(sinks=(5,), rows=1)).any()
    assert find_sinks(make_maps(sinks=(5,), rows=2))[5]


def test_rows_without_weight_do_not_hide_a_sink():
    maps = make_maps(sinks=(5,))
    weights = maps.weights.copy()
    weights[:, :, :6] = 0
    assert np.flatnonzero(find_sinks(AttentionMaps(weights, maps.rows, weights.sum(-1)))).tolist() == [5]


def test_thresholds_widen_and_narrow():
    maps = make_maps(sinks=(1,), content=(2,))
    assert not find_sinks(maps, deviations=1000).any()
    assert np.flatnonzero(find_sinks(maps, constancy=0.1)).tolist() == [1, 2]


@pytest.mark.parametrize("arguments", [{"deviations": 0}, {"constancy": 0}, {"constancy": 1.1}])
def test_impossible_thresholds_are_refused(arguments):
    with pytest.raises(RequestError, match="constancy"):
        find_sinks(make_maps(), **arguments)


def flags(count, *sinks):
    marked = np.zeros(count, bool)
    marked[list(sinks)] = True
    return marked


def test_a_sink_is_surrounded_by_its_neighbours():
    assert surroundings(flags(9, 4), make_grid(3, 3)) == {4: (0, 1, 2, 3, 5, 6, 7, 8)}
    assert surroundings(flags(6, 0), make_grid(2, 3)) == {0: (1, 3, 4)}
    assert surroundings(flags(64), make_grid()) == {}


def test_neighbouring_sinks_do_not_fill_each_other():
    assert surroundings(flags(5, 0, 1, 2), make_grid(1, 5)) == {0: (3,), 1: (3,), 2: (3,)}
    assert surroundings(np.ones(5, bool), make_grid(1, 5)) == dict.fromkeys(range(5), ())


def test_separators_and_tiles_keep_to_themselves():
    boxes = np.array([(0, 0, 1, 1), (1, 0, 2, 1), (2, 0, 2, 0), (0, 1, 1, 2), (1, 1, 2, 2), (2, 1, 2, 1)], float)
    tiles = (PatchTile(0, 1, 2, (0.0, 0.0, 2.0, 1.0)), PatchTile(3, 1, 2, (0.0, 1.0, 2.0, 2.0)))
    assert surroundings(flags(6, 0, 2), PatchGrid(boxes, tiles, 2, 2)) == {0: (1,), 2: ()}


def test_sizes_must_match():
    with pytest.raises(RequestError, match="64 patches"):
        surroundings(np.zeros(9, bool), make_grid())
