"""SAM's mask decoder for many boxes on one image, with less arithmetic and the same result.

The decoder lets a handful of prompt tokens and thousands of image tokens attend to each other. Run box by
box, it projects every image token again for every box. Two identities avoid most of that:

* a projection can be moved to the side with the few tokens, ``q . (W x) = (W^T q) . x`` and
  ``sum a (W x) = W (sum a x)``;
* before the first cross attention the image tokens are the same for all boxes.

Only the mask that is asked for is drawn, and boxes run in small groups that stay in the processor's cache.
The weights are those of the module given; results agree with its own ``forward`` to float32 rounding.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

SamModule = Any
"""A module of segment-anything, which declares no types for its parts."""


class DecodedMasks(NamedTuple):
    """Mask logits of some boxes.

    Attributes:
        logits: float32 [boxes, 4 h, 4 w], four times as fine as the image embedding, above 0 inside.
        predicted_iou: float32 [boxes], the decoder's own estimate.
    """

    logits: Tensor
    predicted_iou: Tensor


@torch.inference_mode()
def decode_boxes(
    mask_decoder: SamModule, prompt_encoder: SamModule, embedding: Tensor, boxes: Tensor, *, group: int = 2
) -> DecodedMasks:
    """The single best mask for each box (SAM's ``multimask_output=False``).

    Args:
        mask_decoder, prompt_encoder: segment-anything's modules (also those of LiteMedSAM and MedSAM).
        embedding: float32 [1, channels, h, w], the image encoder's output.
        boxes: float32 [boxes, 4] as (x0, y0, x1, y1) in pixels of the encoder's input.
        group: how many boxes run at once.
    """
    sparse, dense = prompt_encoder(points=None, boxes=boxes[:, None, :], masks=None)
    height, width = embedding.shape[-2:]
    # Without a mask prompt the dense embedding is one vector everywhere, the same for every box.
    image = (embedding + dense[:1]).flatten(2).transpose(1, 2)
    position = prompt_encoder.get_dense_pe().flatten(2).transpose(1, 2)
    output_tokens = torch.cat([mask_decoder.iou_token.weight, mask_decoder.mask_tokens.weight])
    logits, quality = [], []
    for prompts in sparse.split(group):
        tokens = torch.cat([output_tokens.expand(len(prompts), -1, -1), prompts], dim=1)
        queries, keys = _two_way(mask_decoder.transformer, image, position, tokens)
        logits.append(_draw(mask_decoder, queries[:, 1], keys, height, width))
        quality.append(mask_decoder.iou_prediction_head(queries[:, 0])[:, 0])
    return DecodedMasks(torch.cat(logits), torch.cat(quality))


def _two_way(transformer: SamModule, image: Tensor, position: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    queries, keys = tokens, image
    for block in transformer.layers:
        if block.skip_first_layer_pe:
            queries = block.self_attn(q=queries, k=queries, v=queries)
        else:
            placed = queries + tokens
            queries = queries + block.self_attn(q=placed, k=placed, v=queries)
        queries = block.norm1(queries)
        located = keys + position
        queries = block.norm2(queries + _few_to_many(block.cross_attn_token_to_image, queries + tokens, located, keys))
        queries = block.norm3(queries + block.mlp(queries))
        update = _many_to_few(block.cross_attn_image_to_token, located, queries + tokens, queries)
        keys = block.norm4(update.add_(keys))
    attended = _few_to_many(transformer.final_attn_token_to_image, queries + tokens, keys + position, keys)
    return transformer.norm_final_attn(queries + attended), keys


def _few_to_many(attention: SamModule, few: Tensor, many_keys: Tensor, many_values: Tensor) -> Tensor:
    """Attention from few tokens [b, t, c] to many [b or 1, n, c]; the key bias cancels in the softmax."""
    heads = attention.num_heads
    query = _split(attention.q_proj(few), heads)
    folded = torch.einsum("bhtd,hdc->bhtc", query, _by_head(attention.k_proj.weight, heads))
    batch, _, count, channels = folded.shape
    scores = folded.flatten(1, 2) @ many_keys.transpose(1, 2)
    weights = (scores / query.shape[-1] ** 0.5).softmax(dim=-1)
    gathered = (weights @ many_values).view(batch, heads, count, channels)
    value = torch.einsum("bhtc,hdc->bthd", gathered, _by_head(attention.v_proj.weight, heads)).flatten(2)
    return attention.out_proj(value + attention.v_proj.bias)


def _many_to_few(attention: SamModule, many: Tensor, few_keys: Tensor, few_values: Tensor) -> Tensor:
    """Attention from many tokens [b or 1, n, c] to few [b, t, c], returned as [b, n, c]."""
    heads = attention.num_heads
    key = _split(attention.k_proj(few_keys), heads)
    value = _split(attention.v_proj(few_values), heads)
    batch, _, count, width = key.shape
    folded = torch.einsum("bhtd,hdc->bhtc", key, _by_head(attention.q_proj.weight, heads)).flatten(1, 2)
    offset = torch.einsum("bhtd,hd->bht", key, attention.q_proj.bias.view(heads, width)).flatten(1)
    scores = torch.baddbmm(offset[:, None], many.expand(batch, -1, -1), folded.transpose(1, 2))
    scores = scores.view(batch, -1, heads, count).div_(width**0.5)
    weights = scores.softmax(dim=-1).flatten(2)
    out = attention.out_proj.weight.view(-1, heads, width)
    drawn = torch.einsum("bhtd,chd->bhtc", value, out).flatten(1, 2)
    return (weights @ drawn).add_(attention.out_proj.bias)


def _draw(decoder: SamModule, mask_token: Tensor, keys: Tensor, height: int, width: int) -> Tensor:
    first, norm, first_activation, second, second_activation = decoder.output_upscaling
    pixels = keys.transpose(1, 2).reshape(len(keys), -1, height, width)
    pixels = second_activation(second(first_activation(norm(first(pixels)))))
    weights = decoder.output_hypernetworks_mlps[0](mask_token)
    return torch.einsum("bc,bchw->bhw", weights, pixels)


def _split(tokens: Tensor, heads: int) -> Tensor:
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)


def _by_head(weight: Tensor, heads: int) -> Tensor:
    return weight.unflatten(0, (heads, -1))


def stability(logits: Tensor, *, offset: float = 1.0) -> Tensor:
    """IoU of each mask cut at +offset and at -offset, as segment-anything defines it: float32 [boxes]."""
    inside = (logits > offset).flatten(1).sum(dim=1)
    outside = (logits > -offset).flatten(1).sum(dim=1)
    return inside / outside.clamp(min=1)
