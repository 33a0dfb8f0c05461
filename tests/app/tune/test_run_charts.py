"""Curves of a run in the browser: long ones are thinned by means of neighbours."""

from __future__ import annotations

import pytest

MODULE = "tune/static/run_charts.js"


def test_a_short_curve_stays_as_it_is(call_module):
    points = [[step, step / 2] for step in range(800)]
    assert call_module(MODULE, "extended", points[:300], points[300:]) == points


def test_a_long_curve_has_the_mean_of_neighbours_at_the_later_step(call_module):
    points = [[step, float(step % 7)] for step in range(1001)]
    thinned = call_module(MODULE, "extended", points[:700], points[700:])
    assert len(thinned) == 501
    assert thinned[3] == [7, pytest.approx((6 % 7 + 7 % 7) / 2)]
    assert thinned[-1] == points[-1], "the last one has no neighbour"
