"""Segment Anything's automatic mask generator within bounded memory: the same masks, few of them in full at a time.

The library draws all masks of a batch of points at the image's size, and holds every attention weight of its image
encoder at once. Here masks are drawn a few at a time and kept as run lengths, and heads attend one after the other.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import Sam
from segment_anything.modeling.image_encoder import add_decomposed_rel_pos
from segment_anything.utils.amg import (
    MaskData,
    batched_mask_to_box,
    calculate_stability_score,
    is_box_near_crop_edge,
    mask_to_rle_pytorch,
    remove_small_regions,
    rle_to_mask,
    uncrop_masks,
)
from torch import Tensor
from torchvision.ops.boxes import batched_nms

_DRAWN_AT_ONCE = 4
POINTS_AT_ONCE = 8
"""Points per pass of the mask decoder at most: each holds about 30 MB for every copy of the image embedding."""


class CompressedMaskGenerator(SamAutomaticMaskGenerator):
    """The library's generator with ``output_mode="uncompressed_rle"``; it may come back with nothing, where the
    original fails on layers of crops without a single mask."""

    def _process_crop(
        self, image: np.ndarray, crop_box: list[int], crop_layer_idx: int, orig_size: tuple[int, ...]
    ) -> MaskData:
        data = super()._process_crop(image, crop_box, crop_layer_idx, orig_size)
        if not len(data["rles"]):
            data["crop_boxes"] = torch.zeros((0, 4), dtype=torch.int64)
        return data

    def _process_batch(
        self, points: np.ndarray, im_size: tuple[int, ...], crop_box: list[int], orig_size: tuple[int, ...]
    ) -> MaskData:
        predictor: Any = self.predictor
        model = predictor.model
        placed = torch.as_tensor(predictor.transform.apply_coords(points, im_size), device=predictor.device)
        ones = torch.ones(len(placed), 1, dtype=torch.int, device=predictor.device)
        sparse, dense = model.prompt_encoder(points=(placed[:, None, :], ones), boxes=None, masks=None)
        logits, quality = model.mask_decoder(
            image_embeddings=predictor.features,
            image_pe=model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        where = torch.as_tensor(points.repeat(logits.shape[1], axis=0))
        logits, quality = logits.flatten(0, 1), quality.flatten(0, 1)
        found = MaskData()
        for group in torch.arange(len(logits)).split(_DRAWN_AT_ONCE):
            found.cat(self._drawn(logits[group], quality[group], where[group], crop_box, orig_size))
        return found

    def _drawn(
        self, logits: Tensor, quality: Tensor, points: Tensor, crop_box: list[int], orig_size: tuple[int, ...]
    ) -> MaskData:
        """Some masks at full size, those that are good enough as run lengths."""
        predictor: Any = self.predictor
        height, width = orig_size
        threshold = predictor.model.mask_threshold
        full = predictor.model.postprocess_masks(logits[:, None], predictor.input_size, predictor.original_size)[:, 0]
        data = MaskData(masks=full, iou_preds=quality, points=points)
        if self.pred_iou_thresh > 0.0:
            data.filter(data["iou_preds"] > self.pred_iou_thresh)
        data["stability_score"] = calculate_stability_score(data["masks"], threshold, self.stability_score_offset)
        if self.stability_score_thresh > 0.0:
            data.filter(data["stability_score"] >= self.stability_score_thresh)
        data["masks"] = data["masks"] > threshold
        data["boxes"] = batched_mask_to_box(data["masks"])
        data.filter(~is_box_near_crop_edge(data["boxes"], crop_box, [0, 0, width, height]))
        data["rles"] = mask_to_rle_pytorch(uncrop_masks(data["masks"], crop_box, height, width))
        del data["masks"]
        return data

    @staticmethod
    def postprocess_small_regions(mask_data: MaskData, min_area: int, nms_thresh: float) -> MaskData:
        """Remove small parts and holes of each mask, then masks whose boxes have become duplicates."""
        boxes, unchanged = [], []
        for index, lengths in enumerate(mask_data["rles"]):
            mask, filled = remove_small_regions(rle_to_mask(lengths), min_area, mode="holes")
            mask, cleared = remove_small_regions(mask, min_area, mode="islands")
            cleaned = torch.as_tensor(mask)[None]
            boxes.append(batched_mask_to_box(cleaned)[0])
            unchanged.append(float(not filled and not cleared))
            if filled or cleared:
                mask_data["rles"][index] = mask_to_rle_pytorch(cleaned)[0]
                mask_data["boxes"][index] = boxes[-1]
        if boxes:
            # What needed no change is preferred.
            scores = torch.as_tensor(unchanged)
            kinds = torch.zeros(len(boxes))
            mask_data.filter(batched_nms(torch.stack(boxes).float(), scores, kinds, iou_threshold=nms_thresh))
        return mask_data


def attend_head_by_head(model: Sam) -> Sam:
    """Bound the memory of the image encoder's attention over the whole image; the model is changed in place."""
    for block in model.image_encoder.blocks:
        if getattr(block, "window_size", 1) == 0:
            block.attn.forward = partial(_head_by_head, block.attn)
    return model


def _head_by_head(attention: Any, x: Tensor) -> Tensor:
    """The image encoder's attention, float32 [batch, h, w, channels] to the same, one head after the other."""
    batch, height, width, _ = x.shape
    parts = attention.qkv(x).reshape(batch, height * width, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    queries, keys, values = parts.reshape(3, batch * attention.num_heads, height * width, -1).unbind(0)
    mixed, size = torch.empty_like(queries), (height, width)
    for head in range(len(queries)):
        query, key, value = (part[head : head + 1] for part in (queries, keys, values))
        weights = (query * attention.scale) @ key.transpose(-2, -1)
        if attention.use_rel_pos:
            weights = add_decomposed_rel_pos(weights, query, attention.rel_pos_h, attention.rel_pos_w, size, size)
        mixed[head] = (weights.softmax(dim=-1) @ value)[0]
    mixed = mixed.view(batch, attention.num_heads, height, width, -1).permute(0, 2, 3, 1, 4)
    return attention.proj(mixed.reshape(batch, height, width, -1))
