"""Numbers that are made from sums over all reports: their intervals, and what two systems differ by."""

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu

from a3tune.evaluation.corpus_statistics import bleu, corpus_difference, corpus_interval, ratio
from a3tune.evaluation.items import EvaluatedItem
from a3tune.evaluation.report_metrics import measure_reports
from a3tune.evaluation.statistics import mean_interval, paired_difference

WORDS = ("lungs", "clear", "effusion", "heart", "size", "normal", "small", "nodule", "right", "base", "left", "seen")


def reports(system, share, seed=0, count=30):
    """Reports of which a share of the words is the right one's, two about each image."""
    generator = np.random.default_rng(seed)
    items = []
    for number in range(count):
        right = generator.choice(WORDS, 12)
        said = np.where(np.random.default_rng([number, seed, int(100 * share)]).random(12) < share, right, "mass")
        items.append(
            EvaluatedItem(
                f"q{number}", number, system, "", f"image{number // 2}", "Describe.", " ".join(right), "open",
                " ".join(said), {}, {}, {}, adapter=system,
            )
        )  # fmt: skip
    return items


def test_a_mean_is_the_ratio_of_two_sums_with_the_same_interval_difference_and_p():
    generator = np.random.default_rng(3)
    images = np.repeat(np.arange(20), 2).tolist()
    first, second = generator.random((2, 40)) * 0.6
    mean = ratio((1, 0), (0, 1))
    one, two = (np.stack([values, np.ones(40)], axis=1) for values in (first, second))
    ours, theirs = corpus_interval(one, images, mean), mean_interval(first, images)
    assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high), abs=1e-12)
    assert (ours.questions, ours.images) == (40, 20)
    changed, expected = corpus_difference(one, two, images, mean), paired_difference(first, second, images)
    for name in ("before", "after", "value", "low", "high", "p", "detectable", "images_needed", "questions", "images"):
        assert getattr(changed, name) == pytest.approx(getattr(expected, name), abs=1e-12), name


def test_bleu_is_pycocoevalcaps_of_any_drawn_reports_and_its_gradient_that_of_its_formula():
    (*orders, _, _) = measure_reports({"a": reports("a", 0.7)})["a"][:6]
    items, statistics = orders[0].reports, orders[0].statistics
    drawn = np.random.default_rng(0).integers(0, 30, 30)
    wanted = {place: [items[number].answer] for place, number in enumerate(drawn)}
    said = {place: [items[number].prediction] for place, number in enumerate(drawn)}
    expected = Bleu(4).compute_score(wanted, said, verbose=0)[0]
    sums = statistics[drawn].sum(axis=0)
    assert [float(one.function(sums)[0]) for one in orders] == pytest.approx(expected, abs=1e-12)
    for short in (1.0, 0.9):  # with and without the penalty for short texts
        point = sums * np.array([short, *[1] * 9])
        value, gradient = bleu(4)(point)
        steps = [(bleu(4)(point + step)[0] - bleu(4)(point - step)[0]) / 2e-3 for step in 1e-3 * np.eye(10)]
        left_out = [0, 1] if short == 1 else []  # at the edge of the penalty there is no slope
        assert np.delete(gradient, left_out) == pytest.approx(np.delete(steps, left_out), abs=1e-6)
        assert 0 < value < 1


def test_every_measured_number_of_reports_has_an_interval_around_it_and_a_difference():
    better, worse = measure_reports({"base": reports("base", 0.5), "a3": reports("a3", 0.8)}).values()
    for before, after in zip(better, worse, strict=True):
        told = before.metric()
        if before.statistics is None:
            assert (told.low, told.high) == (None, None)
            assert before.against(after) is None
            continue
        if before.name != "METEOR":  # its interval is of another number, which its note says
            assert told.low <= told.value <= told.high
            assert told.images == 15
        found = before.against(after)
        if not before.name.startswith("findings"):
            assert found.low > 0
            assert found.p < 0.01
    same = better[3].against(better[3])
    assert (same.value, same.low, same.high, same.p, same.images_needed) == (0, 0, 0, 1, None)
    nothing = measure_reports({"base": reports("base", 0.0)})["base"][3].metric()
    assert nothing.value < 1e-3
    assert nothing.high > 0.1
