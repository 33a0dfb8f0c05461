"""Intervals that cover, tests that hold their level, and words that the numbers carry."""

import math

import numpy as np
import pytest

from a3tune.errors import RequestError
from a3tune.evaluation.statistics import (
    Difference,
    holm,
    mcnemar,
    mean_interval,
    paired_difference,
    spread_of_runs,
    verdict,
)


def clustered(generator, images, effect=0.0, most=8):
    """Right and wrong answers of two systems; questions about one image are alike."""
    counts = generator.integers(1, most + 1, images)
    image = np.repeat(np.arange(images), counts)
    hard = generator.beta(3, 2, images)[image]
    before = (generator.random(len(image)) < hard).astype(float)
    after = (generator.random(len(image)) < np.clip(hard + effect, 0, 1)).astype(float)
    return before, after, list(image)


def test_the_interval_covers_the_truth():
    generator = np.random.default_rng(5)
    covered = 0
    for run in range(200):
        before, _, images = clustered(generator, 24)
        interval = mean_interval(before, images, seed=run, draws=400)
        covered += interval.low <= 0.6 <= interval.high
    assert 0.93 <= covered / 200 <= 0.97


def test_no_interval_ends_where_no_value_can_be():
    """Attention in multiples of an even map's has no upper end, and none below 0; a change may go either way."""
    values, images = [0.2, 4.0, 0.1, 0.3, 0.2], list("abcde")
    amount = mean_interval(values, images)
    assert amount.low == 0.0
    assert amount.high > 1.0
    share = mean_interval([0.1, 0.9, 0.1, 0.0, 0.1], images)
    assert share.low == 0.0
    assert share.high <= 1.0
    assert mean_interval([value - 1.0 for value in values], images).low < -1.0


def test_rounding_alone_is_no_difference():
    """The same answers, their attention read in other passes: a little more on every image, and nothing else."""
    before = np.linspace(0.1, 0.6, 40)
    found = paired_difference(before, before + 2e-8, range(40))
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert verdict(found) == "the same on every one of 40 images"
    assert paired_difference(before, before + 1e-3, range(40)).p < 0.01


def test_the_tests_of_a_difference_hold_their_level():
    generator = np.random.default_rng(6)
    found, covered = 0, 0
    for run in range(200):
        difference = paired_difference(*clustered(generator, 24), seed=run, draws=400)
        found += difference.p < 0.05
        covered += difference.low <= 0 <= difference.high
    assert found / 200 <= 0.08
    assert 0.92 <= covered / 200 <= 0.98


def test_questions_of_one_image_are_no_more_than_one_image():
    values = np.tile([1.0, 0.0, 1.0, 0.0, 1.0, 1.0], 1)
    few = mean_interval(values, list(range(6)))
    many = mean_interval(np.repeat(values, 50), list(np.repeat(np.arange(6), 50)))
    assert many.value == few.value
    assert (many.low, many.high) == pytest.approx((few.low, few.high))
    assert (many.questions, many.images) == (300, 6)


def test_undefined_values_are_left_out_and_nothing_is_nan():
    interval = mean_interval([1.0, math.nan, 0.0, 1.0, 1.0], ["a", "a", "b", "c", "d"])
    assert (interval.value, interval.questions, interval.images) == (0.75, 4, 4)
    assert math.isnan(mean_interval([math.nan], ["a"]).value)
    two = mean_interval([1.0, 0.0], ["a", "b"])
    assert two.value == 0.5
    assert math.isnan(two.low)


def test_all_right_is_not_certain():
    interval = mean_interval([1.0] * 20, list(range(20)))
    assert interval.value == interval.high == 1.0
    assert interval.low == pytest.approx(0.8389, abs=1e-3)  # Wilson's, 20 of 20
    # What smoothing makes of nothing in common is nothing.
    for nothing in (0.0, 3e-78):
        assert mean_interval([nothing] * 20, list(range(20))).high == pytest.approx(0.1611, abs=1e-3)


def test_a_clear_difference_is_told_apart_and_a_small_one_is_not():
    generator = np.random.default_rng(7)
    clear = paired_difference(*clustered(generator, 80, effect=0.3), seed=1)
    assert clear.low > 0
    assert clear.p < 0.01
    assert "higher by" in verdict(clear)
    assert "told apart by 80 images" in verdict(clear)
    small = paired_difference(*clustered(generator, 50, effect=0.02), seed=1)
    assert small.low < 0 < small.high
    assert verdict(small).startswith("not told apart by 50 images")
    assert small.detectable > abs(small.value)


def test_the_images_needed_are_those_that_would_show_it():
    generator = np.random.default_rng(8)
    before, after, images = clustered(generator, 40, effect=0.06)
    pilot = paired_difference(before, after, images)
    # n images have the standard error e; a power of 0.8 needs (1.96 + 0.84) e <= difference.
    assert pilot.images_needed == pytest.approx(40 * (pilot.detectable / pilot.value) ** 2, rel=0.05, abs=1)
    words = verdict(pilot)
    assert ("would need about" in words) == (pilot.images_needed > 40 and pilot.p >= 0.05)


def test_swapping_the_systems_turns_the_difference_around():
    before, after, images = clustered(np.random.default_rng(9), 30, effect=0.1)
    one, other = paired_difference(before, after, images), paired_difference(after, before, images)
    assert one.value == -other.value
    assert one.p == other.p
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=0.01)


def test_the_same_seed_gives_the_same_numbers():
    before, after, images = clustered(np.random.default_rng(10), 30)
    assert paired_difference(before, after, images, seed=3) == paired_difference(before, after, images, seed=3)
    assert mean_interval(before, images, seed=3) == mean_interval(before, images, seed=3)


def test_mcnemar_is_the_exact_binomial():
    before = np.array([1] * 10 + [0] * 2 + [1] * 5)
    after = np.array([0] * 10 + [1] * 2 + [1] * 5)
    assert mcnemar(before, after) == pytest.approx(2 * sum(math.comb(12, k) for k in range(3)) / 2**12)
    assert mcnemar([1, 0], [1, 0]) == 1.0
    assert paired_difference([0.5, 0.2, 0.1], [0.4, 0.3, 0.2], [1, 2, 3]).p_mcnemar is None


def test_holm_corrects_what_is_known():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    corrected = holm([0.01, math.nan, 0.04])
    assert corrected[::2] == pytest.approx([0.02, 0.04])
    assert math.isnan(corrected[1])
    assert holm([]) == []


def test_what_is_clear_stays_clear_among_many_comparisons():
    before, after, images = clustered(np.random.default_rng(11), 80, effect=0.5)
    many = [paired_difference(before, after, images, seed=seed, draws=400, comparisons=300) for seed in range(2)]
    assert all(300 * difference.p < 0.01 for difference in many)
    assert min(holm([many[0].p] * 300)) < 0.01


def test_runs_are_spread_over_seeds():
    spread = spread_of_runs([0.5, 0.6, 0.7])
    assert (spread.mean, spread.deviation) == (pytest.approx(0.6), pytest.approx(0.1))
    assert spread.high - spread.mean == pytest.approx(4.303 * 0.1 / math.sqrt(3), rel=1e-3)
    assert math.isnan(spread_of_runs([0.5]).deviation)


def test_verdicts_without_enough_to_go_by():
    nothing = paired_difference([math.nan], [1.0], ["a"])
    assert nothing.questions == 0
    assert "cannot be compared" in verdict(nothing)
    assert verdict(paired_difference([1.0], [0.0], ["a"])) == "cannot be told from 1 image"
    few = paired_difference([1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], list("abcc"))
    assert verdict(few) == "not told apart by 3 images; so few could have shown no difference at all"
    same = paired_difference([1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0], list("abcd"))
    assert same.p == 1.0
    assert verdict(same) == "the same on every one of 4 images"
    mine = Difference(0.5, 0.57, 0.07, -0.01, 0.15, 0.08, None, 0.2, 397, 60, 50)
    assert verdict(mine) == (
        "not told apart by 50 images: a difference of 7 points would need about 400 images; "
        "they could have shown 20 points"
    )


def test_lists_of_other_lengths_are_refused():
    with pytest.raises(RequestError, match="2 and 1 numbers"):
        paired_difference([1, 0], [1], ["a", "b"])
