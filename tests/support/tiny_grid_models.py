"""Tiny random models of classes that keep an image's shape, as a grid of merged patches: builders for BUILDERS."""

from __future__ import annotations

from transformers import (
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
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
    VideoLlama3Config,
    VideoLlama3ForConditionalGeneration,
    VideoLlama3ImageProcessor,
    VideoLlama3Processor,
    VideoLlama3VideoProcessor,
)

from tests.support.chat_templates import CHATML_TEMPLATE, GLM_TEMPLATE
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
