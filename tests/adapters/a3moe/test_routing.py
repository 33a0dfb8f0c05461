import pytest
import torch

from a3tune.adapters.a3moe.routing import (
    balance_losses,
    choose_experts,
    key_probabilities,
    published_balance_loss,
    query_gates,
)


def test_query_gate_is_the_router_of_the_mean_question_token():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 3, generator=generator)
    weight, bias = torch.randn(4, 3, generator=generator), torch.randn(4, generator=generator)
    mask = torch.tensor([[0, 1, 1, 0, 0], [0, 0, 0, 0, 1]], dtype=torch.bool)
    found = query_gates(x, mask, weight, bias)
    for row, mean in enumerate((x[0, 1:3].mean(dim=0), x[1, 4])):
        torch.testing.assert_close(found[row], (weight @ mean + bias).softmax(dim=-1))


def test_half_precision_routes_in_single():
    x = torch.randn(1, 4, 8, dtype=torch.bfloat16)
    weight, bias = torch.randn(3, 8, dtype=torch.bfloat16), torch.zeros(3, dtype=torch.bfloat16)
    assert query_gates(x, torch.ones(1, 4, dtype=torch.bool), weight, bias).dtype == torch.float32
    assert key_probabilities(x[0], weight, bias).dtype == torch.float32


PROBABILITIES = [[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]]


@pytest.mark.parametrize(
    ("top_k", "gate", "choice", "weights"),
    [
        (1, "straight_through", [[1], [0]], [[1.0], [1.0]]),
        (1, "none", [[1], [0]], [[1.0], [1.0]]),
        (1, "probability", [[1], [0]], [[0.6], [0.5]]),
        (2, "straight_through", [[1, 2], [0, 2]], [[2 / 3, 1 / 3], [0.625, 0.375]]),
        (2, "probability", [[1, 2], [0, 2]], [[0.6, 0.3], [0.5, 0.3]]),
    ],
)
def test_choice_and_weights(top_k, gate, choice, weights):
    found = choose_experts(torch.tensor(PROBABILITIES), top_k, gate)
    assert found[0].tolist() == choice
    torch.testing.assert_close(found[1], torch.tensor(weights))


@pytest.mark.parametrize(("gate", "learns"), [("straight_through", True), ("probability", True), ("none", False)])
def test_the_router_learns_unless_told_otherwise(gate, learns):
    probabilities = torch.tensor(PROBABILITIES, requires_grad=True)
    _, weights = choose_experts(probabilities, 1, gate)
    assert weights.requires_grad == learns
    if learns:
        weights.sum().backward()
        assert probabilities.grad.tolist() == [[0, 1, 0], [1, 0, 0]]


def balance_loss(probabilities, choice):
    """That of one row alone."""
    (loss,) = balance_losses(probabilities, choice, torch.zeros(len(choice), dtype=torch.int64), 1)
    return loss


@pytest.mark.parametrize("experts", [2, 5, 16])
def test_balance_is_one_when_even_and_the_expert_count_when_one_takes_all(experts):
    even = torch.full((experts, experts), 1 / experts)
    assert float(balance_loss(even, torch.arange(experts).unsqueeze(1))) == pytest.approx(1)
    one = torch.zeros(7, experts)
    one[:, 0] = 1
    assert float(balance_loss(one, torch.zeros(7, 1, dtype=torch.int64))) == pytest.approx(experts)


def test_balance_of_two_choices_is_one_when_even():
    even = torch.full((4, 4), 0.25)
    assert float(balance_loss(even, torch.tensor([[0, 1], [2, 3], [0, 1], [2, 3]]))) == pytest.approx(1)
    assert float(balance_loss(even[:0], torch.zeros(0, 1, dtype=torch.int64))) == 0


def test_balance_of_a_row_is_that_of_its_own_tokens():
    torch.manual_seed(0)
    probabilities = torch.rand(5, 3).softmax(dim=-1)
    choice = torch.tensor([[0], [2], [1], [0], [0]])
    rows = torch.tensor([2, 0, 2, 0, 2])
    found = balance_losses(probabilities, choice, rows, 4)
    expected = [balance_loss(probabilities[rows == row], choice[rows == row]) for row in range(4)]
    torch.testing.assert_close(found, torch.stack(expected))
    assert found[1] == found[3] == 0


def test_balance_pushes_towards_unused_experts():
    logits = torch.zeros(6, 3, requires_grad=True)
    balance_loss(logits.softmax(dim=-1), torch.zeros(6, 1, dtype=torch.int64)).backward()
    assert (logits.grad[:, 0] > 0).all()
    assert (logits.grad[:, 1:] < 0).all()


def test_published_balance_by_hand():
    probabilities = torch.tensor([[0.75, 0.25], [0.25, 0.75]]).view(1, 1, 2, 2)
    used = torch.tensor([[1, 0], [1, 0]]).view(1, 1, 2, 2)
    assert float(published_balance_loss(probabilities, used)) == pytest.approx(0.5)
