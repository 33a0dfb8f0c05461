"""Metrics of attention maps: worked examples, edge cases, per head and per head set."""

import numpy as np
import pytest

from a3tune.attention.metrics import (
    attention_mass,
    intersection_over_union,
    measure,
    measure_head_set,
    measure_heads,
    normalised_entropy,
    pointing_game,
    relative_mass,
    target_patches,
)
from a3tune.errors import RequestError
from a3tune.types import AttentionMaps, Head

COVERAGE = np.array([0.0, 1.0, 0.5, 0.0])


def test_attention_mass_weighs_by_coverage_and_ignores_scale():
    weights = np.array([0.1, 0.2, 0.4, 0.3])
    assert attention_mass(weights, COVERAGE) == pytest.approx(0.4)
    assert attention_mass(weights / 7, COVERAGE) == pytest.approx(0.4)
    assert attention_mass(weights, np.ones(4)) == pytest.approx(1.0)


def test_relative_mass_of_a_uniform_map_is_one():
    assert relative_mass(np.full(4, 0.01), COVERAGE) == pytest.approx(1.0)
    assert relative_mass([0, 1, 0, 0], COVERAGE) == pytest.approx(1 / 0.375)


def test_pointing_game_reads_the_highest_patch():
    weights = np.array([[0, 3, 1, 2], [3, 2, 1, 0], [0, 0, 9, 1], [1, 1, 0, 0]])
    np.testing.assert_array_equal(pointing_game(weights, COVERAGE), [1, 0, 1, 0.5])
    assert pointing_game(weights[2], COVERAGE, inside=0.6) == 0


def test_a_target_smaller_than_a_patch_can_be_hit():
    assert pointing_game([0, 1, 0], [0.0, 0.02, 0.001]) == 1
    np.testing.assert_array_equal(target_patches([0.0, 0.02, 0.001]), [False, True, False])


def test_overlap_at_a_share_of_the_maximum():
    weights = np.array([0.6, 1.0, 0.4, 0.0])
    target = np.array([0, 1, 1, 0])
    assert intersection_over_union(weights, target, 0.5) == pytest.approx(1 / 3)
    assert intersection_over_union(weights, target, 0.4) == pytest.approx(2 / 3)
    assert intersection_over_union(weights, target, 1.0) == pytest.approx(1 / 2)


def test_overlap_of_the_highest_patches():
    weights = np.array([[0.6, 1.0, 0.4, 0.0], [0.1, 1.0, 0.9, 0.0], [0.0, 0.0, 0.0, 1.0]])
    target = np.array([0, 1, 1, 0])
    np.testing.assert_allclose(intersection_over_union(weights, target, rule="area"), [1 / 3, 1, 0])
    np.testing.assert_allclose(intersection_over_union(weights, target, 0.75, rule="quantile"), [2 / 3, 2 / 3, 0])
    np.testing.assert_allclose(intersection_over_union(weights, target, 0.01, rule="quantile"), [1 / 2, 1 / 2, 0])


def test_entropy_from_one_patch_to_uniform():
    maps = np.array([[0, 5, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]])
    np.testing.assert_allclose(normalised_entropy(maps), [0, 1, 0.5], atol=1e-12)
    assert normalised_entropy([3.0]) == 0
    assert not np.signbit(normalised_entropy([0.0, 2.0]))


@pytest.mark.parametrize("coverage", [COVERAGE, np.zeros(4)])
def test_zero_maps_give_nan(coverage):
    for name, value in measure(np.zeros((2, 4)), coverage).items():
        assert value.shape == (2,), name
        assert np.isnan(value).all(), name


def test_empty_targets_give_nan_where_a_target_is_needed():
    numbers = measure(np.array([0.1, 0.2, 0.3, 0.4]), np.zeros(4))
    assert 0 < numbers.pop("entropy") < 1
    assert numbers.keys() == {
        "attention_mass",
        "relative_mass",
        "pointing_game",
        "iou",
        "iou_area",
        "area_under_curve",
        "touched_mass",
    }
    assert all(np.isnan(value) for value in numbers.values())


def test_maps_with_and_without_weight_side_by_side():
    result = attention_mass(np.array([[0, 0, 0, 0], [0, 1, 0, 0]]), COVERAGE)
    assert np.isnan(result[0])
    assert result[1] == 1


def test_bool_masks_do():
    assert attention_mass([1, 3], np.array([False, True])) == 0.75


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: attention_mass(np.ones(3), np.ones(4)), r"map has shape \(3,\) and the target \(4,\)"),
        (lambda: attention_mass(np.ones((2, 4)), np.ones((2, 4))), "one coverage for each patch"),
        (lambda: pointing_game(np.ones(3), np.ones(3), inside=0), "inside is 0"),
        (lambda: intersection_over_union(np.ones(3), np.ones(3), 1.5), "threshold is 1.5"),
        (lambda: intersection_over_union(np.ones(3), np.ones(3), rule="otsu"), "'otsu'"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(RequestError, match=message):
        call()


def test_per_head_and_per_head_set():
    weights = np.zeros((2, 2, 2, 4), np.float32)
    weights[0, 0, :, 1] = [0.2, 0.4]
    weights[1, 1, :, 0] = 0.1
    maps = AttentionMaps(weights, np.array([7, 8]), weights.sum(-1))
    numbers = measure_heads(maps, COVERAGE)
    assert numbers["attention_mass"].shape == (2, 2)
    np.testing.assert_array_equal(numbers["attention_mass"], [[1, np.nan], [np.nan, 0]])
    np.testing.assert_array_equal(numbers["pointing_game"], [[1, np.nan], [np.nan, 0]])
    both = measure_head_set(maps, (Head(0, 0), Head(1, 1)), COVERAGE)
    assert both["image_share"] == pytest.approx((0.3 + 0.1) / 2)
    assert both["attention_mass"] == pytest.approx(0.75)
    assert all(type(value) is float for value in both.values())
    assert measure_head_set(maps, (Head(0, 0),), COVERAGE, rows=[1])["image_share"] == pytest.approx(0.4)
    assert measure_head_set(maps, (Head(0, 0),)).keys() == {"entropy", "image_share"}
