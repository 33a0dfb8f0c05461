"""Tiny random models of classes that keep an image's shape, as a grid of merged patches: builders for BUILDERS."""

from __future__ import annotations

from transformers import (
    Gemma4AudioFeatureExtractor,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Gemma4ImageProcessor,
    Gemma4Processor,
    Gemma4VideoProcessor,
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    Glm4vImageProcessor,
    Glm4vMoeConfig,
    Glm4vMoeForConditionalGeneration,
    Glm4vProcessor,
    Glm4vVideoProcessor,
    Glm46VConfig,
    Glm46VForConditionalGeneration,
    Glm46VImageProcessor,
    Glm46VProcessor,
    Glm46VVideoProcessor,
    Lfm2VlConfig,
    Lfm2VlForConditionalGeneration,
    Lfm2VlImageProcessor,
    Lfm2VlProcessor,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
    VideoLlama3Config,
    VideoLlama3ForConditionalGeneration,
    VideoLlama3ImageProcessor,
    VideoLlama3Processor,
    VideoLlama3VideoProcessor,
)

from tests.support.chat_templates import CHATML_TEMPLATE, GEMMA4_TEMPLATE, GLM_TEMPLATE
from tests.support.tiny_tokenizers import byte_level_tokenizer, chatml_tokenizer

_EXPERTS = {"moe_intermediate_size": 16, "num_experts_per_tok": 2}
_PATCHES = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
_SIZE = {"shortest_edge": 16 * 16, "longest_edge": 48 * 48}


def _glm(config_class, vision_type: str, rope: dict, text: dict):
    tokens = [
        "[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|image|>", "<|video|>", "<|begin_of_image|>",
        "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>",
    ]  # fmt: skip
    tokenizer = byte_level_tokenizer(tokens, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    ids = tokenizer.convert_tokens_to_ids
    return tokenizer, config_class(
        vision_config={
            "model_type": vision_type, "depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2,
            "image_size": 24, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 32,
        },
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
            "eos_token_id": ids("<|user|>"), "pad_token_id": ids("<|endoftext|>"),
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, **rope}, **text,
        },
        image_token_id=ids("<|image|>"), video_token_id=ids("<|video|>"),
        image_start_token_id=ids("<|begin_of_image|>"), image_end_token_id=ids("<|end_of_image|>"),
        video_start_token_id=ids("<|begin_of_video|>"), video_end_token_id=ids("<|end_of_video|>"),
    )  # fmt: skip


def _glm4v_processor(tokenizer):
    return Glm4vProcessor(
        Glm4vImageProcessor(**_PATCHES, size=_SIZE),
        tokenizer,
        Glm4vVideoProcessor(**_PATCHES, size=_SIZE),
        chat_template=GLM_TEMPLATE,
    )


def glm4v():
    tokenizer, config = _glm(Glm4vConfig, "glm4v_vision", {"mrope_section": [1, 1, 2]}, {"model_type": "glm4v_text"})
    return Glm4vForConditionalGeneration, config, _glm4v_processor(tokenizer)


def glm4v_moe():
    text = {
        "model_type": "glm4v_moe_text", "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1,
        **_EXPERTS,
    }  # fmt: skip
    rope = {"mrope_section": [1, 1, 0], "partial_rotary_factor": 0.5}
    tokenizer, config = _glm(Glm4vMoeConfig, "glm4v_moe_vision", rope, text)
    return Glm4vMoeForConditionalGeneration, config, _glm4v_processor(tokenizer)


def glm46v():
    tokenizer, config = _glm(Glm46VConfig, "glm4v_vision", {"mrope_section": [1, 1, 2]}, {"model_type": "glm4v_text"})
    processor = Glm46VProcessor(
        Glm46VImageProcessor(**_PATCHES, size=_SIZE),
        tokenizer,
        Glm46VVideoProcessor(**_PATCHES, size=_SIZE),
        chat_template=GLM_TEMPLATE,
    )
    return Glm46VForConditionalGeneration, config, processor


def qwen3_vl_moe(qwen3_vl):
    """From the builder's result for Qwen3-VL, whose parts these are, with experts in the second layer."""
    _, dense, processor = qwen3_vl
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    experts = {"num_experts": 4, "mlp_only_layers": [0], "decoder_sparse_step": 1, **_EXPERTS}
    config = Qwen3VLMoeConfig(
        vision_config={**dense.vision_config.to_dict(), "model_type": "qwen3_vl_moe_vision"},
        text_config={**dense.text_config.to_dict(), "model_type": "qwen3_vl_moe_text", **experts},
        **{name: getattr(dense, name) for name in names},
    )
    return Qwen3VLMoeForConditionalGeneration, config, processor


def qwen3_5(qwen3_vl):
    """From the builder's result for Qwen3-VL: two layers of linear attention, each before one of softmax attention."""
    _, older, processor = qwen3_vl
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    vision = {**older.vision_config.to_dict(), "model_type": "qwen3_5_vision"}
    vision.pop("deepstack_visual_indexes")
    rope = {**older.text_config.rope_parameters, "partial_rotary_factor": 0.5, "mrope_section": [1, 1, 0]}
    text = {
        **older.text_config.to_dict(), "model_type": "qwen3_5_text", "num_hidden_layers": 4, "rope_parameters": rope,
        "layer_types": ["linear_attention", "full_attention"] * 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
        "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    }  # fmt: skip
    config = Qwen3_5Config(vision_config=vision, text_config=text, **{name: getattr(older, name) for name in names})
    return Qwen3_5ForConditionalGeneration, config, processor


def qwen3_5_moe(qwen3_vl):
    """As Qwen3.5, with experts."""
    _, dense, processor = qwen3_5(qwen3_vl)
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    experts = {"num_experts": 4, "shared_expert_intermediate_size": 16, **_EXPERTS}
    config = Qwen3_5MoeConfig(
        vision_config={**dense.vision_config.to_dict(), "model_type": "qwen3_5_moe_vision"},
        text_config={**dense.text_config.to_dict(), "model_type": "qwen3_5_moe_text", **experts},
        **{name: getattr(dense, name) for name in names},
    )
    return Qwen3_5MoeForConditionalGeneration, config, processor


def gemma4():
    turns = ["<|turn>", "<turn|>", "<|video|>"]
    named = {
        "image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>", "audio_token": "<|audio|>",
        "boa_token": "<|audio>", "eoa_token": "<audio|>",
    }  # fmt: skip
    tokenizer = byte_level_tokenizer(turns, named, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    ids = tokenizer.convert_tokens_to_ids
    config = Gemma4Config(
        vision_config={
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 2, "head_dim": 8, "patch_size": 2, "position_embedding_size": 256,
        },
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "global_head_dim": 16,
            "num_global_key_value_heads": 1, "sliding_window": 16, "max_position_embeddings": 512,
            "layer_types": ["sliding_attention", "full_attention"],
            "hidden_size_per_layer_input": 4, "vocab_size_per_layer_input": len(tokenizer),
            "use_bidirectional_attention": "vision", "bos_token_id": ids("<bos>"), "eos_token_id": ids("<eos>"),
            "pad_token_id": ids("<pad>"),
        },
        image_token_id=ids("<|image|>"), boi_token_id=ids("<|image>"), eoi_token_id=ids("<image|>"),
        audio_token_id=ids("<|audio|>"), boa_token_id=ids("<|audio>"), eoa_token_index=ids("<audio|>"),
        video_token_id=ids("<|video|>"),
    )  # fmt: skip
    processor = Gemma4Processor(
        Gemma4AudioFeatureExtractor(),
        Gemma4ImageProcessor(patch_size=2, max_soft_tokens=70),
        tokenizer,
        Gemma4VideoProcessor(patch_size=2),
        chat_template=GEMMA4_TEMPLATE,
    )
    return Gemma4ForConditionalGeneration, config, processor


def lfm2_vl():
    rows = [f"<|img_row_{row}_col_{column}|>" for row in range(1, 5) for column in range(1, 5)]
    tokenizer = chatml_tokenizer(
        image_token="<image>", image_start_token="<|image_start|>", image_end_token="<|image_end|>",
        image_thumbnail_token="<|img_thumbnail|>",
    )  # fmt: skip
    tokenizer.add_special_tokens({"additional_special_tokens": rows}, replace_extra_special_tokens=False)
    ids = tokenizer.convert_tokens_to_ids
    config = Lfm2VlConfig(
        vision_config={
            "model_type": "siglip2_vision_model", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "patch_size": 4, "num_patches": 64, "vision_use_head": False,
        },
        text_config={
            "model_type": "lfm2", "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
            "layer_types": ["conv", "full_attention", "full_attention"], "block_auto_adjust_ff_dim": False,
            "eos_token_id": ids("<|im_end|>"), "pad_token_id": ids("<|endoftext|>"), "bos_token_id": None,
        },
        image_token_id=ids("<image>"), projector_hidden_size=32, downsample_factor=2,
    )  # fmt: skip
    sizes = {"min_image_tokens": 4, "max_image_tokens": 9, "encoder_patch_size": 4, "tile_size": 16}
    processor = Lfm2VlProcessor(
        Lfm2VlImageProcessor(**sizes, min_tiles=2, max_tiles=4, max_pixels_tolerance=1.0),
        tokenizer,
        chat_template=CHATML_TEMPLATE.replace("IMAGE", "<image>"),
    )
    return Lfm2VlForConditionalGeneration, config, processor


def video_llama_3():
    tokenizer = chatml_tokenizer(image_token="<image>", video_token="<video>")
    ids = tokenizer.convert_tokens_to_ids
    config = VideoLlama3Config(
        vision_config={
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "patch_size": 8,
        },
        text_config={
            "model_type": "qwen2", "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
            "eos_token_id": ids("<|im_end|>"), "pad_token_id": ids("<|endoftext|>"),
        },
        image_token_id=ids("<image>"), video_token_id=ids("<video>"),
    )  # fmt: skip
    processor = VideoLlama3Processor(
        VideoLlama3ImageProcessor(patch_size=8, size=_SIZE),
        tokenizer,
        VideoLlama3VideoProcessor(patch_size=8, size=_SIZE),
        chat_template=CHATML_TEMPLATE.replace("IMAGE", "<image>\n"),
    )
    return VideoLlama3ForConditionalGeneration, config, processor
