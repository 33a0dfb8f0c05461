"""What is said of a run at its end follows from its two validations, pair by pair."""

from pathlib import Path

import torch

from a3tune.training.validation import Tally
from a3tune.training.verdict import judge

IMAGES = [Path(f"{place // 4}.png") for place in range(80)]


def tally(right, mass=0.2):
    right = torch.tensor(right, dtype=torch.float64)
    ones = torch.ones_like(right)
    return Tally(torch.stack([ones, ones, right, mass * ones, ones], dim=1), torch.ones(len(right), dtype=torch.bool))


def test_a_better_adapter_is_told_with_its_gain():
    found = judge(tally([0, 1] * 40), tally([1, 1, 0, 1] * 20, 0.36), IMAGES, 25)
    assert (found.gain, found.attention, found.questions, found.images) == (25.0, 1.8, 80, 20)
    # Every image gains the same, so other images would not change it.
    assert found.low == found.high == 25.0
    assert not found.worse
    assert "answers 25.0 points up (+25.0 to +25.0), attention inside the regions 1.8 x" in found.words()
    assert "step 25" in found.words()


def test_a_worse_adapter_is_called_worse():
    right = [1] * 80
    wrong = [place % 4 != 0 for place in range(80)]
    found = judge(tally(right), tally(wrong), IMAGES, 5)
    assert found.worse
    assert found.gain == -25.0
    assert "answers worse than the base model" in found.words()


def test_questions_about_one_image_do_not_count_as_many():
    # All that changes is one image out of twenty, with four questions.
    base = [0] * 80
    tuned = [place < 4 for place in range(80)]
    found = judge(tally(base), tally(tuned), IMAGES, 5)
    assert found.low < 0 < found.gain < found.high + 0.01
    assert "cannot tell" in found.words()
    assert "Attention is as it was." in found.words()


def test_without_a_question_there_is_no_verdict():
    assert judge(tally([]), tally([]), [], 5) is None


def test_two_images_have_no_interval():
    found = judge(tally([0, 0]), tally([1, 0]), IMAGES[3:5], 5)
    assert "answers 50.0 points up (too few images for an interval)" in found.words()
    assert not found.worse
