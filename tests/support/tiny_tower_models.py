"""Tiny random models of classes that see through one vision tower of fixed size: builders for BUILDERS."""

from __future__ import annotations

from transformers import (
    AyaVisionConfig,
    AyaVisionForConditionalGeneration,
    AyaVisionProcessor,
    Cohere2VisionConfig,
    Cohere2VisionForConditionalGeneration,
    Cohere2VisionImageProcessor,
    Cohere2VisionProcessor,
    DeepseekVLConfig,
    DeepseekVLForConditionalGeneration,
    DeepseekVLImageProcessor,
    DeepseekVLProcessor,
    GotOcr2ImageProcessor,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusImageProcessor,
    JanusProcessor,
    LightOnOcrConfig,
    LightOnOcrForConditionalGeneration,
    LightOnOcrProcessor,
    Llama4Config,
    Llama4ForConditionalGeneration,
    Llama4ImageProcessor,
    Llama4Processor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    LlavaNextVideoProcessor,
    LlavaNextVideoVideoProcessor,
    LlavaProcessor,
    Ovis2Config,
    Ovis2ForConditionalGeneration,
    Ovis2ImageProcessor,
    Ovis2Processor,
    PerceptionLMConfig,
    PerceptionLMForConditionalGeneration,
    PerceptionLMImageProcessor,
    PerceptionLMProcessor,
    PerceptionLMVideoProcessor,
    PixtralImageProcessor,
    PixtralProcessor,
    SiglipImageProcessor,
    VipLlavaConfig,
    VipLlavaForConditionalGeneration,
)

from tests.support.chat_templates import (
    CHATML_TEMPLATE,
    COHERE_TEMPLATE,
    LLAMA4_TEMPLATE,
    MISTRAL_TEMPLATE,
    USER_ASSISTANT_TEMPLATE,
)
from tests.support.tiny_tokenizers import byte_level_tokenizer, chatml_tokenizer

_SQUARE = {"height": 24, "width": 24}
_SIGLIP = {
    "model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "image_size": 24, "patch_size": 6, "vision_use_head": False,
}  # fmt: skip


def _text(tokenizer, kind: str, **options) -> dict:
    """The configuration of a language model of two layers, of four heads on two key heads."""
    return {
        "model_type": kind, "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id, **options,
    }  # fmt: skip


def _plain_tokenizer(*tokens: str, **named: str):
    """A byte-level tokenizer with a beginning, an end and padding, and further special tokens."""
    return byte_level_tokenizer(tokens, named, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def _cohere(tokens: list[str], **named: str):
    turns = ["<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"]
    special = {"bos_token": "<BOS_TOKEN>", "eos_token": "<|END_OF_TURN_TOKEN|>", "pad_token": "<PAD>"}
    tokenizer = byte_level_tokenizer([*turns, *tokens], named, **special)
    layers = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
    return tokenizer, _text(tokenizer, "cohere2", logit_scale=1.0, **layers)


def aya_vision():
    tiles = ["TILE", "TILE_GLOBAL", *(f"TILE_{index}" for index in range(1, 5))]
    tokenizer, text = _cohere(["<image>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", *tiles])
    config = AyaVisionConfig(
        vision_config=_SIGLIP, text_config=text, downsample_factor=2,
        image_token_index=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"),
    )  # fmt: skip
    processor = AyaVisionProcessor(
        GotOcr2ImageProcessor(size=_SQUARE, min_patches=1, max_patches=4),
        tokenizer,
        patch_size=6,
        img_size=24,
        downsample_factor=2,
        chat_template=COHERE_TEMPLATE.replace("IMAGE", "<image>"),
    )
    return AyaVisionForConditionalGeneration, config, processor


def cohere2_vision():
    tokenizer, text = _cohere(
        [], boi_token="<|START_OF_IMG|>", eoi_token="<|END_OF_IMG|>", image_token="<|IMG_PATCH|>",
        img_line_break_token="<|IMG_LINE_BREAK|>",
    )  # fmt: skip
    config = Cohere2VisionConfig(
        vision_config=_SIGLIP, text_config=text, downsample_factor=2, alignment_intermediate_size=32,
        image_token_id=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"),
    )  # fmt: skip
    processor = Cohere2VisionProcessor(
        Cohere2VisionImageProcessor(size=_SQUARE, patch_size=2, max_patches=4),
        tokenizer,
        chat_template=COHERE_TEMPLATE.replace("IMAGE", "<|IMG_PATCH|>"),
    )
    return Cohere2VisionForConditionalGeneration, config, processor


def deepseek_vl():
    tokenizer = _plain_tokenizer(image_token="<image_placeholder>")
    config = DeepseekVLConfig(
        vision_config=_SIGLIP, text_config=_text(tokenizer, "llama"),
        image_token_id=tokenizer.convert_tokens_to_ids("<image_placeholder>"),
    )  # fmt: skip
    processor = DeepseekVLProcessor(
        DeepseekVLImageProcessor(size=_SQUARE, min_size=6),
        tokenizer,
        num_image_tokens=16,
        chat_template=USER_ASSISTANT_TEMPLATE.replace("<image>", "<image_placeholder>"),
    )
    return DeepseekVLForConditionalGeneration, config, processor


def janus():
    tokenizer = _plain_tokenizer(
        image_token="<image_placeholder>", boi_token="<begin_of_image>", eoi_token="<end_of_image>"
    )
    config = JanusConfig(
        vision_config={
            "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 24, "patch_size": 6,
            "mlp_ratio": 2.0, "projection_dim": 32, "num_image_tokens": 16,
        },
        text_config=_text(tokenizer, "llama"),
        vq_config={
            "embed_dim": 8, "num_embeddings": 16, "latent_channels": 32, "base_channels": 32,
            "channel_multiplier": [1, 1], "num_res_blocks": 1, "projection_dim": 32, "image_token_embed_dim": 32,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image_placeholder>"),
    )  # fmt: skip
    processor = JanusProcessor(
        JanusImageProcessor(size=_SQUARE, min_size=6),
        tokenizer,
        num_image_tokens=16,
        chat_template=USER_ASSISTANT_TEMPLATE.replace("<image>", "<image_placeholder>"),
    )
    return JanusForConditionalGeneration, config, processor


def llava_siglip():
    tokenizer = chatml_tokenizer(image_token="<image>")
    config = LlavaConfig(
        vision_config=_SIGLIP, text_config=_text(tokenizer, "qwen2"), image_seq_length=16, vision_feature_layer=-1,
        vision_feature_select_strategy="full", image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    processor = LlavaProcessor(
        SiglipImageProcessor(size=_SQUARE),
        tokenizer,
        patch_size=6,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        chat_template=CHATML_TEMPLATE.replace("IMAGE", "<image>\n"),
    )
    return LlavaForConditionalGeneration, config, processor


def llava_pixtral():
    tokenizer = _plain_tokenizer("[INST]", "[/INST]", "[IMG]", "[IMG_BREAK]", "[IMG_END]")
    config = LlavaConfig(
        vision_config={
            "model_type": "pixtral", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": 48, "patch_size": 8,
        },
        text_config=_text(tokenizer, "mistral", head_dim=8, sliding_window=None),
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"), vision_feature_layer=-1,
        vision_feature_select_strategy="full", image_seq_length=1,
    )  # fmt: skip
    processor = PixtralProcessor(
        PixtralImageProcessor(size={"longest_edge": 48}, patch_size=8),
        tokenizer,
        patch_size=8,
        chat_template=MISTRAL_TEMPLATE,
    )
    return LlavaForConditionalGeneration, config, processor


def llava_next_video(llava_next):
    """From the builder's result for LLaVA-NeXT, whose parts for images these are."""
    _, image, processor = llava_next
    processor.tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<video>"]}, replace_extra_special_tokens=False
    )
    image.text_config.vocab_size = len(processor.tokenizer)
    config = LlavaNextVideoConfig(
        vision_config=image.vision_config, text_config=image.text_config, image_token_index=image.image_token_index,
        video_token_index=processor.tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=image.image_grid_pinpoints, image_seq_length=16,
    )  # fmt: skip
    video = LlavaNextVideoProcessor(
        LlavaNextVideoVideoProcessor(size={"shortest_edge": 24}, crop_size=_SQUARE),
        processor.image_processor,
        processor.tokenizer,
        patch_size=6,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=USER_ASSISTANT_TEMPLATE,
    )
    return LlavaNextVideoForConditionalGeneration, config, video


def vipllava(llava):
    """From the builder's result for LLaVA, whose parts these are; features come from several of the tower's layers."""
    _, image, processor = llava
    config = VipLlavaConfig(
        vision_config=image.vision_config, text_config=image.text_config, image_token_index=image.image_token_index,
        vision_feature_layer=[-1, -2], image_seq_length=16,
    )  # fmt: skip
    return VipLlavaForConditionalGeneration, config, processor


def ovis2():
    indicators = ["<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"]
    tokenizer = chatml_tokenizer(
        image_token="<image>", atom="<IMG_ATOM>", **{token.strip("<>").lower(): token for token in indicators}
    )
    ids = tokenizer.convert_tokens_to_ids
    config = Ovis2Config(
        vision_config={
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 24, "patch_size": 6, "hidden_stride": 2, "vocab_size": 40,
        },
        text_config=_text(tokenizer, "qwen2"), image_token_id=ids("<IMG_ATOM>"),
        visual_indicator_token_ids=ids(indicators), vocab_size=len(tokenizer), hidden_size=32,
    )  # fmt: skip
    processor = Ovis2Processor(
        Ovis2ImageProcessor(size=_SQUARE, crop_to_patches=True, max_patches=4),
        tokenizer,
        image_seq_length=4,
        chat_template=CHATML_TEMPLATE.replace("IMAGE", "<image>\n"),
    )
    return Ovis2ForConditionalGeneration, config, processor


def lighton_ocr():
    tokenizer = chatml_tokenizer(image_token="<image>", image_break_token="<break>", image_end_token="<end>")
    config = LightOnOcrConfig(
        vision_config={
            "model_type": "pixtral", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "head_dim": 8, "image_size": 52, "patch_size": 4,
        },
        text_config=_text(tokenizer, "qwen3", head_dim=8), image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        spatial_merge_size=2,
    )  # fmt: skip
    processor = LightOnOcrProcessor(
        PixtralImageProcessor(size={"longest_edge": 52}, patch_size=4),
        tokenizer,
        patch_size=4,
        spatial_merge_size=2,
        chat_template=CHATML_TEMPLATE.replace("IMAGE", "<image>"),
    )
    return LightOnOcrForConditionalGeneration, config, processor


def llama4():
    tokens = ["<|header_start|>", "<|header_end|>", "<|image|>", "<|image_start|>", "<|image_end|>", "<|patch|>"]
    tokens += ["<|tile_x_separator|>", "<|tile_y_separator|>"]
    special = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot|>", "pad_token": "<|finetune_right_pad|>"}
    tokenizer = byte_level_tokenizer(tokens, **special)
    config = Llama4Config(
        vision_config={
            "hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 48, "patch_size": 12, "vision_output_dim": 32, "projector_input_dim": 32,
            "projector_output_dim": 32,
        },
        text_config={
            **_text(tokenizer, "llama4_text"), "intermediate_size_mlp": 48, "head_dim": 8, "num_local_experts": 2,
            "moe_layers": [1], "no_rope_layers": [1, 0], "attention_chunk_size": 64,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<|patch|>"),
    )  # fmt: skip
    processor = Llama4Processor(
        Llama4ImageProcessor(size={"height": 48, "width": 48}, max_patches=4),
        tokenizer,
        patch_size=12,
        chat_template=LLAMA4_TEMPLATE,
    )
    return Llama4ForConditionalGeneration, config, processor


def perception_lm():
    tokenizer = chatml_tokenizer(image_token="<|image|>", video_token="<|video|>")
    ids = tokenizer.convert_tokens_to_ids
    config = PerceptionLMConfig(
        vision_config={
            "model_type": "timm_wrapper", "architecture": "vit_pe_core_large_patch14_336", "do_pooling": False,
            "model_args": {
                "embed_dim": 16, "depth": 2, "num_heads": 2, "img_size": [24, 24], "patch_size": 6, "mlp_ratio": 2,
                "global_pool": "", "use_post_transformer_norm": False, "init_values": 0.1, "ref_feat_shape": [4, 4],
            },
        },
        text_config=_text(tokenizer, "llama"), projector_pooling_ratio=2, image_token_id=ids("<|image|>"),
        video_token_id=ids("<|video|>"),
    )  # fmt: skip
    processor = PerceptionLMProcessor(
        PerceptionLMVideoProcessor(size=_SQUARE),
        PerceptionLMImageProcessor(tile_size=24, max_num_tiles=4),
        tokenizer,
        patch_size=6,
        pooling_ratio=2,
        chat_template=CHATML_TEMPLATE.replace("IMAGE", "<|image|>"),
    )
    return PerceptionLMForConditionalGeneration, config, processor
