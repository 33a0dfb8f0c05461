"""Several rows through a linear layer at once: what the layer gives, by the quicker library where there is one."""

import pytest
import torch
from torch import nn
from torch.profiler import profile

from a3tune.adapters import batched_linear
from a3tune.adapters.batched_linear import SMALLEST_WEIGHT, BatchedLinear


def names_of_work(layer, x):
    with profile() as record:
        layer(x)
    return {event.name for event in record.events()}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3, 1), (3, 40), (1, 7)])
def test_rows_are_what_the_layer_gives(bias, shape):
    torch.manual_seed(1)
    layer = nn.Linear(512, SMALLEST_WEIGHT // 512, bias=bias)
    # A part of a larger tensor, as the rows of a pass often are.
    x = torch.randn(*shape, 1024)[..., ::2]
    with torch.inference_mode():
        batched = BatchedLinear(layer)
        torch.testing.assert_close(batched(x), layer(x), rtol=0, atol=2e-5)
        assert "aten::mkldnn_linear" in names_of_work(batched, x)
    assert batched.weight is layer.weight
    assert batched.bias is layer.bias


@pytest.mark.parametrize("why", ["half", "small", "gradients", "switched off"])
def test_the_layer_itself_computes_what_the_other_library_would_not_do_better(why, monkeypatch):
    layer = nn.Linear(512, SMALLEST_WEIGHT // 512 - (why == "small"))
    x = torch.randn(3, 1, 512)
    if why == "half":
        layer, x = layer.to(torch.bfloat16), x.to(torch.bfloat16)
    if why == "switched off":
        monkeypatch.setattr(batched_linear.torch.backends.mkldnn, "is_available", lambda: False)
    with torch.set_grad_enabled(why == "gradients"):
        assert "aten::to_mkldnn" not in names_of_work(BatchedLinear(layer), x)
        assert torch.equal(BatchedLinear(layer)(x), layer(x))
