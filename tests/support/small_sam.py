"""A Segment Anything model in the published form, small and with random weights."""

from __future__ import annotations

from functools import partial

import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer


def build_small_sam(seed: int = 0) -> Sam:
    torch.manual_seed(seed)
    embedding = 32
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=128,
            patch_size=16,
            embed_dim=32,
            depth=2,
            num_heads=2,
            out_chans=embedding,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=4,
            global_attn_indexes=(1,),
        ),
        prompt_encoder=PromptEncoder(embedding, (8, 8), (128, 128), mask_in_chans=8),
        mask_decoder=MaskDecoder(
            transformer_dim=embedding,
            transformer=TwoWayTransformer(depth=2, embedding_dim=embedding, num_heads=2, mlp_dim=64),
            iou_head_hidden_dim=32,
        ),
    ).eval()
