import math

import pytest
import torch

from a3tune.attention.loss import (
    FORMS,
    alignment_loss,
    batch_alignment_loss,
    kl_loss,
    mass_loss,
    pool_heads,
)
from a3tune.errors import RequestError
from a3tune.types import Head


@pytest.fixture
def weights():
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(2, 3, 5, 9, generator=generator, dtype=torch.float64)
    return scores.softmax(dim=-1)[..., :6]


@pytest.fixture
def masks():
    return torch.tensor([[1, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0]], dtype=torch.float64)


# Of each loss the value for attention [[0.1, 0.3], [0.3, 0.3]] and the mask [1, 0], worked out on paper.
BY_HAND = {
    "mass": ((1 - 1 / 4) ** 2 + (1 - 1 / 2) ** 2) / 2,
    "log_mass": (math.log(4) + math.log(2)) / 2,
    "kl": (math.log(4) + math.log(2)) / 2,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_loss_by_hand(form):
    assert form in BY_HAND, f"work out the loss {form!r} on paper for BY_HAND"
    attention = torch.tensor([[0.1, 0.3], [0.3, 0.3]], dtype=torch.float64)
    found = alignment_loss(attention[None], torch.tensor([[1.0, 0]]), form=form)
    assert float(found) == pytest.approx(BY_HAND[form], abs=1e-6)


def test_mass_by_hand():
    attention = torch.tensor([[0.1, 0.3, 0.0, 0.0], [0.0, 0.1, 0.1, 0.2]])
    mask = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]])
    assert float(mass_loss(attention, mask, "union")) == pytest.approx((0 + (1 - 0.25) ** 2) / 2)
    each = ((1 - 0.25) ** 2 + 1) / 2 + ((1 - 0.75) ** 2 + (1 - 0.25) ** 2) / 2
    assert float(mass_loss(attention, mask, "each")) == pytest.approx(each)


def test_log_mass_keeps_its_pull_on_attention_that_is_far_off():
    scores = torch.tensor([[[-9.0, 0.0]]], dtype=torch.float64, requires_grad=True)
    pulls = {}
    for form in ("mass", "log_mass"):
        (gradient,) = torch.autograd.grad(
            alignment_loss(scores.softmax(-1), torch.tensor([[1.0, 0]]), form=form), scores
        )
        pulls[form] = float(gradient.abs().max())
    assert pulls["mass"] < 1e-3
    assert pulls["log_mass"] > 0.99


def test_kl_by_hand():
    attention = torch.tensor([[0.1, 0.3]], dtype=torch.float64)
    assert float(kl_loss(attention, torch.tensor([[1.0, 0]]))) == pytest.approx(math.log(4), abs=1e-6)
    assert float(kl_loss(attention, torch.tensor([[1.0, 3]]) / 3)) == pytest.approx(0, abs=1e-6)


def test_exactly_the_chosen_heads_count(weights):
    chosen = [Head(0, 2), Head(1, 0)]
    expected = (weights[0, 2] + weights[1, 0]) / 2
    torch.testing.assert_close(pool_heads(weights, chosen), expected)
    torch.testing.assert_close(pool_heads(torch.stack([weights[0, 2], weights[1, 0]])), expected)
    torch.testing.assert_close(pool_heads(weights), weights.mean(dim=(0, 1)))
    weights.requires_grad_()
    alignment_loss(weights, torch.eye(6)[:2], chosen).backward()
    touched = {(layer, head) for layer, head in weights.grad.abs().sum(dim=(2, 3)).nonzero().tolist()}
    assert touched == set(chosen)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("combine", ["union", "each"])
def test_the_gradient_is_right(weights, masks, form, combine):
    weights.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda w: alignment_loss(w, masks, [Head(0, 1), Head(1, 2)], form=form, combine=combine), (weights,)
    )


@pytest.mark.parametrize("form", FORMS)
def test_following_the_gradient_moves_attention_into_the_mask(form, masks):
    scores = torch.zeros(1, 2, 3, 6, requires_grad=True)
    optimiser = torch.optim.SGD([scores], lr=5.0)
    for _ in range(120):
        optimiser.zero_grad()
        alignment_loss(scores.softmax(dim=-1), masks, form=form).backward()
        optimiser.step()
    inside = scores.softmax(dim=-1)[..., :3].sum(dim=-1)
    assert inside.min() > 0.9


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_underflow_gives_finite_loss_and_gradient(form, dtype):
    # A head that looks at text alone: its weights on the image underflow to exact zeros.
    scores = torch.tensor([[[0.0, 0.0, 0.0, 900.0], [0.0, -800.0, 1.0, 2.0]]], dtype=dtype, requires_grad=True)
    weights = scores.softmax(dim=-1)[..., :3]
    assert (weights == 0).any()
    loss = alignment_loss(weights, torch.tensor([[0.0, 1.0, 0.0]]), form=form)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(scores.grad).all()
    assert loss > 0.5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("combine", ["union", "each"])
def test_empty_masks_change_nothing(weights, masks, form, combine):
    empty = torch.zeros(1, 6, dtype=torch.float64)
    expected = alignment_loss(weights, masks, form=form, combine=combine)
    found = alignment_loss(weights, torch.cat([masks, empty]), form=form, combine=combine)
    torch.testing.assert_close(found, expected)
    assert float(alignment_loss(weights, empty, form=form, combine=combine)) == 0
    assert float(alignment_loss(weights, torch.zeros(0, 6), form=form, combine=combine)) == 0
    assert float(alignment_loss(weights[:, :, :0], masks, form=form, combine=combine)) == 0


def test_a_published_empty_mask_counts_one(weights, masks):
    pooled = pool_heads(weights)
    empty = torch.zeros(1, 6, dtype=torch.float64)
    both = torch.cat([masks, empty])
    difference = mass_loss(pooled, both, "each", keep_empty=True) - mass_loss(pooled, masks, "each")
    assert float(difference) == pytest.approx(1)


def test_ground_truth_counts_with_chosen_heads(weights, masks):
    heads = [Head(1, 1)]
    truth = torch.tensor([[0.0, 0, 0, 0, 1, 0]])
    found = alignment_loss(weights, masks, heads, ground_truth=truth, ground_truth_weight=5)
    expected = alignment_loss(weights, masks, heads) + 5 * alignment_loss(weights, truth, heads)
    torch.testing.assert_close(found, expected)


def test_samples_of_a_batch_never_meet(weights, masks):
    other = weights.flip(-1)[:, :, :3]
    targets = [masks, torch.tensor([[0.0, 0, 0, 1, 0, 0]]), torch.zeros(0, 6)]
    heads = [[Head(0, 0)], [Head(1, 2), Head(0, 1)], [Head(0, 0)]]
    found = batch_alignment_loss([weights, other, weights], targets, heads, form="kl")
    alone = [
        alignment_loss(w, t, h, form="kl") for w, t, h in zip([weights, other], targets[:2], heads[:2], strict=True)
    ]
    torch.testing.assert_close(found, (alone[0] + alone[1]) / 2)
    assert float(batch_alignment_loss([weights], [torch.zeros(1, 6)])) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w, m: alignment_loss(w, m[:, :4]), "targets"),
        (lambda w, m: alignment_loss(w, m, [Head(2, 0)]), r"hold \(2, 0\)"),
        (lambda w, m: alignment_loss(w, m, []), "No head was chosen"),
        (lambda w, m: alignment_loss(w[0], m, [Head(0, 0)]), "They are"),
        (lambda w, m: alignment_loss(w, m, form="l2"), "form is 'l2'"),
        (lambda w, m: alignment_loss(w, m, combine="all"), "combine is 'all'"),
        (lambda w, m: batch_alignment_loss([w], [m, m]), "2 targets"),
    ],
)
def test_what_does_not_fit_is_refused(weights, masks, call, message):
    with pytest.raises(RequestError, match=message):
        call(weights, masks)
