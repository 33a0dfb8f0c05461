"""Visual ratio and critical heads: worked examples, parity with the research code's numbers, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from a3tune.attention.critical_heads import critical_heads, head_maps, head_set_map, rows_at, visual_ratio
from a3tune.errors import ModelError, RequestError
from a3tune.types import AttentionMaps, Head
from tests.support.pretend_cuda import GPU, GpuTensor, pretend_cuda

GOLDEN = np.load(Path(__file__).parents[1] / "files" / "golden_heads.npz")
CASES = json.loads(str(GOLDEN["index_json"]))


def make_maps(layers=2, heads=3, rows=4, patches=6, seed=0):
    generator = np.random.default_rng(seed)
    attention = generator.dirichlet(np.ones(patches + 5), size=(layers, heads, rows)).astype(np.float32)
    weights = attention[..., :patches]
    return AttentionMaps(weights, 10 + np.arange(rows, dtype=np.int64) * 2, weights.sum(-1))


def test_ratio_is_the_mean_share_of_the_rows():
    share = np.array([[[0.2, 0.4], [0.0, 1.0]]], dtype=np.float32)
    np.testing.assert_allclose(visual_ratio(share), [[0.3, 0.5]], rtol=1e-6)
    assert visual_ratio(share).dtype == np.float32


def test_ratio_counts_only_the_rows_of_the_mask():
    share = np.array([[[0.2, 0.4, 0.9]]])
    np.testing.assert_allclose(visual_ratio(share, np.array([True, True, False])), [[0.3]])
    tensor = visual_ratio(torch.tensor(share), torch.tensor([False, False, True]))
    assert tensor.tolist() == [[0.9]]


def test_ratio_of_a_tensor_stays_a_tensor_with_gradient():
    share = torch.rand(2, 3, 4, 5, requires_grad=True)
    ratio = visual_ratio(share)
    assert ratio.shape == (2, 3, 4)
    ratio.sum().backward()
    torch.testing.assert_close(share.grad, torch.full_like(share, 0.2))


def test_ratio_of_half_precision_is_summed_in_single():
    share = torch.full((1, 1, 3000), 0.1, dtype=torch.bfloat16)
    ratio = visual_ratio(share)
    assert ratio.dtype == torch.float32
    torch.testing.assert_close(ratio, share[..., 0].float())


def test_ratio_needs_a_row():
    with pytest.raises(RequestError, match="No text token stands after the image"):
        visual_ratio(np.zeros((1, 1, 0)))
    with pytest.raises(RequestError, match="row mask has shape"):
        visual_ratio(np.zeros((1, 1, 3)), np.ones(2, bool))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_parity_with_the_research_code(case, kind):
    attention = GOLDEN[case["attention"]]
    start, stop = case["image_start"], case["image_start"] + case["image_length"]
    share = attention[..., start:stop].sum(-1)
    ratio = visual_ratio(torch.from_numpy(share) if kind == "torch" else share)
    np.testing.assert_allclose(np.asarray(ratio), GOLDEN[case["key"] + "_ratios"], atol=1e-6)
    expected = GOLDEN[case["key"] + "_heads"]
    assert critical_heads(ratio, len(expected)) == tuple(map(tuple, expected.tolist()))


def test_every_number_of_heads_is_honoured():
    ratio = np.random.default_rng(1).random((4, 5))
    ranked = critical_heads(ratio, 20)
    assert sorted(ranked) == [(layer, head) for layer in range(4) for head in range(5)]
    assert [ratio[head] for head in ranked] == sorted(ratio.ravel(), reverse=True)
    for k in range(1, 21):
        assert critical_heads(ratio, k) == ranked[:k]


def test_ties_keep_layer_then_head_order():
    ratio = np.array([[0.5, 0.9, 0.5], [0.9, 0.5, 0.1]])
    assert critical_heads(ratio, 5) == (Head(0, 1), Head(1, 0), Head(0, 0), Head(0, 2), Head(1, 1))
    assert critical_heads(torch.tensor(ratio, dtype=torch.float16, requires_grad=True), 2) == (Head(0, 1), Head(1, 0))


@pytest.mark.parametrize("k", [0, -1, 7, 2.0, True])
def test_impossible_numbers_of_heads_are_refused(k):
    with pytest.raises(RequestError, match=r"from 1 to 6 \(2 layers of 3 heads\)"):
        critical_heads(np.zeros((2, 3)), k)


def test_ratios_that_cannot_be_ranked_are_refused():
    with pytest.raises(ModelError, match="1 of 2 heads is not a number"):
        critical_heads(np.array([[np.nan, 0.1]]), 1)
    with pytest.raises(RequestError, match=r"shape \(1, 2, 3\)"):
        critical_heads(np.zeros((1, 2, 3)), 1)


def test_head_set_map_is_the_mean_over_heads_and_rows():
    maps = make_maps()
    heads = (Head(1, 2), Head(0, 0))
    expected = (maps.weights[1, 2, [1, 3]].mean(0) + maps.weights[0, 0, [1, 3]].mean(0)) / 2
    result = head_set_map(maps, heads, [1, 3])
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    np.testing.assert_allclose(head_set_map(maps, heads, np.array([False, True, False, True])), expected, rtol=1e-6)
    np.testing.assert_allclose(head_maps(maps, heads)[0], maps.weights[1, 2].mean(0), rtol=1e-6)


def test_rows_are_found_by_sequence_position():
    maps = make_maps()
    assert rows_at(maps, [12, 10, 16]).tolist() == [1, 0, 3]
    with pytest.raises(RequestError, match="Position 11 has no attention row"):
        rows_at(maps, [10, 11])
    with pytest.raises(RequestError, match="Position 99"):
        rows_at(maps, [99])


@pytest.mark.parametrize(
    ("heads", "rows", "message"),
    [
        ((), None, "head set is empty"),
        (((2, 0),), None, "Layer 2, head 0 does not exist"),
        (((0, -1),), None, "Layer 0, head -1 does not exist"),
        (((0, 0),), [], "No text token is chosen"),
        (((0, 0),), [4], "outside that range"),
        (((0, 0),), np.zeros(4, bool), "No text token is chosen"),
        (((0, 0),), [0.5], "float64"),
    ],
)
def test_impossible_choices_are_refused(heads, rows, message):
    with pytest.raises(RequestError, match=message):
        head_set_map(make_maps(), heads, rows)


def test_a_device_without_float64_is_asked_for_none():
    """Neither as a copy on the device nor in one step with the copy to the CPU, which Apple's GPUs make themselves."""
    ratio, seen = torch.tensor([[0.1, 0.4], [0.3, 0.2]]), []

    class Copies(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if isinstance(args[0] if args else None, GpuTensor):
                seen.append((kwargs or {}).get("dtype"))
            return function(*args, **(kwargs or {}))

    with pretend_cuda(double=False):
        there = ratio.to(GPU)
        with Copies():
            assert critical_heads(there, 3) == (Head(0, 1), Head(1, 0), Head(1, 1))
    assert seen
    assert torch.float64 not in seen
