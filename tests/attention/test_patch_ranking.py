"""The arithmetic of the faithfulness checks, by hand."""

import numpy as np
import pytest

from a3tune.attention.patch_ranking import area_under, curve_shares, first_patches, patch_order, rank_correlation
from a3tune.errors import RequestError


def test_patches_are_ordered_from_the_highest_and_equal_ones_stay_in_place():
    np.testing.assert_array_equal(patch_order(np.array([0.1, 0.7, 0.1, 0.9])), [3, 1, 0, 2])


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.24, 1), (0.5, 2), (0.99, 4), (1.0, 4)])
def test_the_first_patches_of_an_order(share, count):
    order = np.array([2, 0, 3, 1])
    chosen = first_patches(order, share)
    assert set(np.flatnonzero(chosen)) == set(order[:count])


def test_the_area_under_a_curve():
    shares = curve_shares(4)
    np.testing.assert_allclose(shares, [0, 0.25, 0.5, 0.75, 1])
    assert area_under(shares, np.full(5, 0.3)) == pytest.approx(0.3)
    assert area_under(shares, 1 - shares) == pytest.approx(0.5)
    assert area_under(shares, np.array([1, 0, 0, 0, 0])) == pytest.approx(0.125)
    with pytest.raises(RequestError, match="two steps"):
        curve_shares(1)


def test_rank_correlation_sees_order_only():
    values = np.array([0.5, 0.1, 3.0, 2.0])
    assert rank_correlation(values, np.exp(values)) == pytest.approx(1)
    assert rank_correlation(values, -values) == pytest.approx(-1)
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 x 5).
    assert rank_correlation(np.array([1, 2, 2, 3]), np.array([1, 2, 3, 4])) == pytest.approx(4.5 / np.sqrt(22.5))
    assert np.isnan(rank_correlation(values, np.ones(4)))
