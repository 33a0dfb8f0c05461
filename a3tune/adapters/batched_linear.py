"""Linear layers over a few rows on a processor, where reading the weights is what takes the time.

PyTorch computes float32 products by the math library it was built with. For the two to four rows of a decoding step of
a small batch, that one may take two or three times as long as for one row; oneDNN, which every build for processors
has, reads the weights once and takes a third longer. Both sum in float32, in another order.
"""

from __future__ import annotations

import torch
from torch import nn

SMALLEST_WEIGHT = 1 << 18
"""Numbers of a weight from which on the way there and back, a copy of the rows, pays."""


def linear_of_rows(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """What a linear layer gives for several rows at once, by the quicker library.

    Args:
        layer: a plain one.
        x: [batch, tokens, in], on the layer's device.

    Returns:
        [batch, tokens, out]: that of the layer itself, apart from the rounding of another order of sums.
    """
    weight = layer.weight
    if (
        weight.device.type == "cpu"
        and weight.dtype == x.dtype == torch.float32
        and weight.numel() >= SMALLEST_WEIGHT
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and not torch.is_grad_enabled()
    ):
        return nn.functional.linear(x.to_mkldnn(), weight, layer.bias).to_dense()
    return layer(x)


class BatchedLinear(nn.Module):
    """In the place of a linear layer while several rows are computed together.

    Args:
        base_layer: the layer.
    """

    def __init__(self, base_layer: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base_layer

    @property
    def weight(self) -> torch.Tensor:
        """The layer's."""
        return self.base_layer.weight

    @property
    def bias(self) -> torch.Tensor | None:
        """The layer's."""
        return self.base_layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in] to [..., out]."""
        return linear_of_rows(self.base_layer, x)
