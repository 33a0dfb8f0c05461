"""Each way of decoding by its formula, on logits small enough to check by hand."""

import math

import pytest
import torch

from a3tune.evaluation.decoding.contrast import noised
from a3tune.evaluation.decoding.formulas import (
    boosted,
    contrasted,
    grounded,
    guided,
    kept_tokens,
    layer_contrast,
    leant_on,
    over_trust,
    plausible,
    summary_word,
)
from a3tune.evaluation.decoding.layers import candidate_layers

Z = torch.tensor([[2.0, 1.0, 0.0, -3.0]])
OTHER = torch.tensor([[2.0, -1.0, 0.5, -9.0]])


def test_only_plausible_tokens_stay():
    kept = plausible(torch.arange(4.0)[None], Z, 0.1)
    # log(0.1) is -2.3: what lies more than that below the best is out.
    assert kept.tolist() == [[0.0, 1.0, 2.0, -math.inf]]
    assert plausible(Z, Z, 1.0).tolist() == [[2.0, -math.inf, -math.inf, -math.inf]]


def test_a_contrast_is_the_difference_added():
    found = contrasted(Z, OTHER, 1.0, 0.1)
    assert found[0, :3].tolist() == [2 * 2 - 2, 2 * 1 + 1, 2 * 0 - 0.5]
    assert found[0, 3] == -math.inf
    half = contrasted(Z, OTHER, 0.5, 0.1)
    assert half[0, :3].tolist() == [1.5 * 2 - 1, 1.5 + 0.5, -0.25]


@pytest.mark.parametrize("step", [1, 5])
def test_grounding_grows_with_the_answer(step):
    lc, lu = Z.log_softmax(-1), OTHER.log_softmax(-1)
    trust = math.exp(-0.02 * step)
    expected = lc + (1 - trust) / trust * (lc - lu)
    assert grounded(Z, OTHER, step, 0.02, 0.1)[0, :3].tolist() == pytest.approx(expected[0, :3].tolist())


def test_guidance_is_between_the_two_and_beyond():
    lc, lu = Z.log_softmax(-1), OTHER.log_softmax(-1)
    expected = 1.1 * (lc - lu) + lu
    assert guided(Z, OTHER, 1.1, 0.1)[0, :3].tolist() == pytest.approx(expected[0, :3].tolist())
    assert guided(Z, OTHER, 1.0, 0.001)[0].tolist() == pytest.approx(lc[0].tolist(), abs=1e-6)


def test_raised_attention_goes_up_for_either_sign():
    scores = torch.tensor([[1.0, -2.0, 3.0]])
    assert boosted(scores, torch.tensor([[True, True, False]]), 0.2)[0].tolist() == pytest.approx([1.2, -1.6, 3.0])


def test_tokens_that_are_left_out_stay_out():
    z = torch.tensor([[1.0, -math.inf, 0.0]])
    other = torch.tensor([[0.5, 2.0, 0.0]])
    for joined in (contrasted(z, other, 1.0, 0.1), grounded(z, other, 1, 0.02, 0.1), guided(z, other, 1.1, 0.1)):
        assert joined[0, 1] == -math.inf
        assert joined[0, [0, 2]].isfinite().all()
    early = other[None]
    assert layer_contrast(z, early, 0.1)[0, 1] == -math.inf


def test_the_layer_that_differs_most_is_contrasted():
    early = torch.stack([Z, torch.tensor([[-2.0, 3.0, 0.0, 0.0]])])
    found = layer_contrast(Z, early, 0.1)
    expected = Z.log_softmax(-1) - early[1].log_softmax(-1)
    assert found[0, :3].tolist() == pytest.approx(expected[0, :3].tolist())
    assert found[0, 3] == -math.inf
    assert candidate_layers(32) == (0, 2, 4, 6, 8, 10, 12, 14)
    assert candidate_layers(4) == (0,)
    assert candidate_layers(1) == (0,)


def test_blind_tokens_are_outliers_of_the_layers_that_look_most():
    attention = torch.tensor([[0.0, 0.0, 0.1, 0.0], [0.9, 0.1, 0.1, 0.1], [0.1, 0.0, 0.0, 0.0]])
    # The second layer has 1.2 of 1.4, more than half: it alone counts.
    assert kept_tokens(attention, 0.5, 1.0).tolist() == [True, False, False, False]
    mean = attention[1:].mean(0)
    assert (mean >= mean.mean() + mean.std()).tolist() == kept_tokens(attention, 0.9, 1.0).tolist()


def test_leaning_on_one_word_is_a_product_down_its_column():
    attention = torch.tensor([[1.0, 0.0, 0.0], [0.4, 0.6, 0.0], [0.5, 0.1, 0.4]])
    assert float(over_trust(attention, 2.0)) == pytest.approx(2 * 0.4 * 2 * 0.5)
    assert float(over_trust(attention[:2, :2], 50.0)) == pytest.approx(20.0)
    assert float(over_trust(attention[:1, :1], 50.0)) == 0.0


def test_a_word_leans_on_the_column_with_the_largest_product_so_far():
    attention = torch.zeros(4, 4)
    attention[1, 0], attention[2, :2], attention[3, :3] = 0.6, torch.tensor([0.1, 0.8]), torch.tensor([0.9, 0.1, 0.3])
    # Twice each: 1.2; 1.2 * 0.2 against 1.6; 0.24 * 1.8, 1.6 * 0.2, and 0.6.
    assert leant_on(attention, 2.0) == [0, 1, 2]
    assert leant_on(attention, 10.0) == [0, 1, 0]  # 6; 6 and 8; 54, 8 and 3
    assert leant_on(attention[:1, :1], 50.0) == []


def test_a_word_that_enough_lean_on_sums_up():
    assert summary_word([0, 1, 1, 3, 1], 3) == 1
    assert summary_word([0, 1, 1, 3, 1], 4) is None
    assert summary_word([2, 0, 2, 0], 2) == 0
    assert summary_word([], 1) is None


def test_noise_keeps_what_diffusion_leaves():
    torch.manual_seed(0)
    x = torch.full((20000,), 3.0)
    betas = torch.sigmoid(torch.linspace(-6, 6, 1000)) * (0.005 - 1e-5) + 1e-5
    kept = float(torch.cumprod(1 - betas, 0)[500])
    noisy = noised(x)
    assert float(noisy.mean()) == pytest.approx(3 * math.sqrt(kept), abs=0.02)
    assert float(noisy.std()) == pytest.approx(math.sqrt(1 - kept), abs=0.02)
    assert torch.equal(noised(x, 0).round(), x)
