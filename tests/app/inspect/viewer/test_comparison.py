"""Numbers of two sides: the change in words, and how far each head's attention moved."""

from __future__ import annotations

import numpy as np
import pytest

MODULE = "inspect/viewer/comparison.js"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("12.5 %", "10.0 %", "−2.5 points"),
        ("0.80 ×", "1.30 ×", "+0.50 ×"),
        ("0.91", "0.91", "±0.00"),
        ("yes", "no", ""),
        ("12.5 %", "not defined", ""),
        ("12.5 %", None, ""),
    ],
)
def test_a_change_is_told_in_the_numbers_unit(call_module, before, after, words):
    assert call_module(MODULE, "changeWords", before, after) == words


def side(means, **changes):
    layers, heads, patches = means.shape
    means = {"answer": means.ravel().tolist(), "question": None}
    return {"layers": layers, "heads": heads, "patches": patches, "headMeans": means, **changes}


def test_movement_is_total_variation_with_the_text_as_one_place(call_module):
    generator = np.random.default_rng(0)
    before, after = (generator.dirichlet(np.ones(6), size=(2, 3))[..., :5] for _ in range(2))
    full = [np.concatenate([maps, 1 - maps.sum(axis=-1, keepdims=True)], axis=-1) for maps in (before, after)]
    moved = call_module(MODULE, "movement", side(before), side(after), "answer")
    assert moved == pytest.approx((np.abs(full[1] - full[0]).sum(axis=-1) / 2).ravel())
    assert call_module(MODULE, "movement", side(before), side(before), "answer") == [0] * 6


def test_sides_with_other_heads_or_without_the_words_are_not_compared(call_module):
    maps = np.zeros((2, 3, 5))
    assert call_module(MODULE, "movement", side(maps), side(maps, heads=4), "answer") is None
    assert call_module(MODULE, "movement", side(maps), side(maps), "question") is None


@pytest.mark.parametrize(
    ("words", "questions", "said"),
    [
        ("question", ("Where?", "Where?"), "of the question, the same on both sides"),
        ("question", ("Where?", "What?"), "of two different questions"),
        ("answer", ("Where?", "Where?"), "of the answer, the same on both sides"),
        ("answer", ("Where?", "What?"), "of the answer, the same for both questions"),
    ],
)
def test_the_words_that_are_compared_are_named_as_what_they_are(call_module, words, questions, said):
    one, other = ({"question": question} for question in questions)
    assert said in call_module(MODULE, "comparedWords", one, other, words)
