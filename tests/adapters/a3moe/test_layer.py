import pytest
import torch
from torch import nn

from a3tune.adapters.a3moe import A3MoeConfig, ExpertLinear, TokenSpans, record_experts
from a3tune.adapters.a3moe.layer import sorted_experts, stacked_experts
from a3tune.errors import AdapterError


def build(name: str, out: int = 6, **options) -> ExpertLinear:
    torch.manual_seed(0)
    config = A3MoeConfig(
        target_modules=[name], query_experts=3, key_experts=4, expert_r=2, r=3, dropout=0.0,
        init_weights=False, **options
    )  # fmt: skip
    base = nn.Linear(8, out).double().requires_grad_(False)
    return ExpertLinear(base, f"layers.0.self_attn.{name}", "default", config).double()


@pytest.fixture
def spans():
    image = torch.tensor([[0, 1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0]], dtype=torch.bool)
    question = torch.tensor([[0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 0, 0, 0]], dtype=torch.bool)
    return TokenSpans(question, image)


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_sorted_and_stacked_products_agree(top_k):
    generator = torch.Generator().manual_seed(1)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)

    x, down, up, weights = random(9, 8), random(4, 2, 8), random(4, 5, 2), random(9, top_k)
    # Expert 3 gets no token at all when one is chosen.
    choice = torch.stack([torch.randperm(3 if top_k == 1 else 4, generator=generator)[:top_k] for _ in range(9)])
    results = []
    for product in (sorted_experts, stacked_experts):
        found = product(x, down, up, choice, weights, nn.Identity())
        results.append((found, *torch.autograd.grad(found.square().sum(), (x, down, up, weights))))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two)
    by_hand = torch.stack(
        [sum(w * up[e] @ down[e] @ row for w, e in zip(ws, es, strict=True)) for row, ws, es in
         zip(x, weights, choice, strict=True)]
    )  # fmt: skip
    torch.testing.assert_close(results[0][0], by_hand)


def test_query_layer_by_hand(spans):
    layer = build("q_proj")
    x = torch.randn(2, 7, 8, dtype=torch.float64)
    with spans, record_experts() as use:
        found = layer(x)
    down, up, router = layer.expert_A["default"], layer.expert_B["default"], layer.expert_router["default"]
    for row, mean in enumerate((x[0, 4:6].mean(dim=0), x[1, 3])):
        gates = router(mean).softmax(dim=-1)
        assert use.query_gates(row)[0] == pytest.approx(gates.detach().numpy(), abs=1e-6)
        weight = sum(gate * b @ a for gate, a, b in zip(gates, down, up, strict=True)) * 0.5 * 8
        torch.testing.assert_close(found[row], layer.base_layer(x[row]) + x[row] @ weight.T)


@pytest.mark.parametrize(("gate", "top_k"), [("straight_through", 1), ("probability", 1), ("straight_through", 3)])
def test_key_layer_by_hand(spans, gate, top_k):
    layer = build("k_proj", key_gate=gate, key_top_k=top_k)
    x = torch.randn(2, 7, 8, dtype=torch.float64)
    with spans, record_experts() as use:
        found = layer(x)
    down, up, router = layer.expert_A["default"], layer.expert_B["default"], layer.expert_router["default"]
    expected = layer.base_layer(x)
    for row, column in spans.image.nonzero().tolist():
        value, choice = router(x[row, column]).softmax(dim=-1).topk(top_k)
        value = value if gate == "probability" else value / value.sum()
        for weight, expert in zip(value, choice, strict=True):
            expected[row, column] += weight * 4 * up[expert] @ down[expert] @ x[row, column]
    torch.testing.assert_close(found, expected)
    assert use.key_choice(0).shape == (1, 3, top_k)
    assert use.key_choice(1).shape == (1, 2, top_k)
    text = ~spans.image
    assert torch.equal(found[text], layer.base_layer(x)[text])


def test_plain_layer_needs_no_spans():
    layer = build("v_proj")
    x = torch.randn(7, 8, dtype=torch.float64)
    weight = layer.expert_B["default"][0] @ layer.expert_A["default"][0] * (16 / 3)
    torch.testing.assert_close(layer(x), layer.base_layer(x) + x @ weight.T)


def test_flat_inputs_are_refused(spans):
    with spans, pytest.raises(AdapterError, match=r"Its input is \[7, 8\]"):
        build("q_proj")(torch.randn(7, 8, dtype=torch.float64))


def test_initial_values():
    layer = ExpertLinear(nn.Linear(400, 5), "k_proj", "default", A3MoeConfig())
    down = layer.expert_A["default"]
    assert layer.expert_B["default"].abs().max() == 0
    assert 0.045 < down.abs().max() <= 0.05
    assert down.std().item() == pytest.approx(0.05 / 3**0.5, rel=0.02)
    assert layer.expert_router["default"].bias is not None


def test_dropout_acts_while_training_only(spans):
    layer = build("q_proj")
    layer.expert_dropout["default"].p = 0.5
    x = torch.randn(2, 7, 8, dtype=torch.float64)
    with spans:
        assert not torch.equal(layer(x), layer(x))
        layer.eval()
        assert torch.equal(layer(x), layer(x))


def test_reading_a_prompt_in_two_parts(spans):
    spans.growing = True
    whole = spans.window(2, 7)
    first, second = spans.window(2, 3), spans.window(2, 4, past=3)
    assert first.question is None
    assert torch.equal(torch.cat([first.image, second.image], dim=1), whole.image)
    assert torch.equal(second.question, whole.question[:, 3:])
    with pytest.raises(AdapterError, match="cuts the question"):
        spans.window(2, 5)


def test_new_tokens_belong_to_neither_span(spans):
    spans.growing = True
    step = spans.window(2, 1, past=9)
    assert step.question is None
    assert step.image is None
    longer = spans.window(4, 9)
    assert longer.image.shape == (4, 9)
    assert torch.equal(longer.image[1], longer.image[0])
    assert not longer.image[:, 7:].any()
