"""Tiny random vision-language models of each class that is supported: configuration, processor and class, in code."""

from __future__ import annotations

from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    GemmaTokenizer,
    GotOcr2ImageProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlamaConfig,
    LlamaTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    LlavaProcessor,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PixtralImageProcessor,
    PixtralProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3Config,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SiglipImageProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from a3tune.models.load import PALIGEMMA_TEMPLATE
from tests.support import tiny_grid_models as grid
from tests.support import tiny_tower_models as tower
from tests.support.chat_templates import (
    CHATML_TEMPLATE,
    GEMMA_TEMPLATE,
    IDEFICS3_TEMPLATE,
    MISTRAL_TEMPLATE,
    USER_ASSISTANT_TEMPLATE,
)
from tests.support.tiny_tokenizers import (
    byte_level_tokenizer,
    chatml_tokenizer,
    qwen_vl_tokenizer,
    sentencepiece_like,
)


def _clip_vision() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=24, patch_size=6
    )


def _llava(text: type[LlamaConfig] | type[MistralConfig], **options):
    vocabulary, merges = sentencepiece_like(["<unk>", "<s>", "</s>"], merge_spaces=True)
    tokenizer = LlamaTokenizer(
        vocab=vocabulary, merges=merges, extra_special_tokens=["<image>"], pad_token="<unk>", add_bos_token=True
    )
    config = LlavaConfig(
        vision_config=_clip_vision(),
        text_config=text(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
            max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=0, **options,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )  # fmt: skip
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}),
        tokenizer,
        patch_size=6,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=USER_ASSISTANT_TEMPLATE,
    )
    return LlavaForConditionalGeneration, config, processor


def _llava_llama():
    return _llava(LlamaConfig, num_key_value_heads=4)


def _llava_mistral():
    return _llava(MistralConfig, num_key_value_heads=2, head_dim=8, sliding_window=20)


def _qwen2_vl():
    _, newer, processor = _qwen2_5_vl()
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    config = Qwen2VLConfig(
        vision_config={
            "depth": 2, "embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2, "num_heads": 2, "patch_size": 4,
            "spatial_merge_size": 2, "temporal_patch_size": 2,
        },
        text_config={**newer.text_config.to_dict(), "model_type": "qwen2_vl_text"},
        **{name: getattr(newer, name) for name in names},
    )  # fmt: skip
    older = Qwen2VLProcessor(
        processor.image_processor,
        processor.tokenizer,
        processor.video_processor,
        chat_template=processor.chat_template,
    )
    return Qwen2VLForConditionalGeneration, config, older


def _qwen2_5_vl():
    tokenizer = qwen_vl_tokenizer()
    ids = tokenizer.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 4,
            "out_hidden_size": 32, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 16,
            "fullatt_block_indexes": [1],
        },
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
            "eos_token_id": ids("<|im_end|>"), "pad_token_id": ids("<|endoftext|>"), "bos_token_id": None,
        },
        image_token_id=ids("<|image_pad|>"), video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"), vision_end_token_id=ids("<|vision_end|>"),
    )  # fmt: skip
    pixels = {"min_pixels": 16 * 16, "max_pixels": 48 * 48}
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(patch_size=4, merge_size=2, temporal_patch_size=2, **pixels),
        tokenizer,
        Qwen2VLVideoProcessor(patch_size=4, merge_size=2, temporal_patch_size=2, **pixels),
        chat_template=CHATML_TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return Qwen2_5_VLForConditionalGeneration, config, processor


def _gemma3():
    special = ["<unk>", "<pad>", "<bos>", "<eos>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
    vocabulary, merges = sentencepiece_like(special, merge_spaces=False)
    tokenizer = GemmaTokenizer(
        vocab=vocabulary,
        merges=merges,
        add_bos_token=True,
        extra_special_tokens={
            "image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>",
        },
    )  # fmt: skip
    tokenizer.add_special_tokens({"extra_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})
    ids = tokenizer.convert_tokens_to_ids
    config = Gemma3Config(
        vision_config={
            "model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": 24, "patch_size": 3, "vision_use_head": False,
        },
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "query_pre_attn_scalar": 8,
            "sliding_window": 16, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
            "max_position_embeddings": 512, "bos_token_id": 2, "eos_token_id": [3, 6], "pad_token_id": 1,
        },
        mm_tokens_per_image=16, image_token_index=ids("<image_soft_token>"), boi_token_index=ids("<start_of_image>"),
        eoi_token_index=ids("<end_of_image>"), eos_token_id=[3, ids("<end_of_turn>")],
    )  # fmt: skip
    processor = Gemma3Processor(
        Gemma3ImageProcessor(size={"height": 24, "width": 24}),
        tokenizer,
        chat_template=GEMMA_TEMPLATE,
        image_seq_length=16,
    )
    return Gemma3ForConditionalGeneration, config, processor


def _idefics3():
    tokens = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"]
    tokens += [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    tokenizer = byte_level_tokenizer(
        tokens, bos_token="<|im_start|>", eos_token="<end_of_utterance>", pad_token="<|im_end|>"
    )
    ids = tokenizer.convert_tokens_to_ids
    config = Idefics3Config(
        vision_config={
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 24, "patch_size": 4,
        },
        text_config={
            "model_type": "llama", "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
            "bos_token_id": ids("<|im_start|>"), "eos_token_id": ids("<end_of_utterance>"),
            "pad_token_id": ids("<|im_end|>"),
        },
        image_token_id=ids("<image>"), scale_factor=2,
    )  # fmt: skip
    processor = Idefics3Processor(
        Idefics3ImageProcessor(size={"longest_edge": 48}, max_image_size={"longest_edge": 24}),
        tokenizer,
        image_seq_len=9,
        chat_template=IDEFICS3_TEMPLATE,
    )
    return Idefics3ForConditionalGeneration, config, processor


def _internvl():
    tokenizer = chatml_tokenizer(
        start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>", video_token="<video>"
    )
    ids = tokenizer.convert_tokens_to_ids
    config = InternVLConfig(
        vision_config={
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": [16, 16], "patch_size": [4, 4],
        },
        text_config=Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=8, max_position_embeddings=512, eos_token_id=ids("<|im_end|>"),
            pad_token_id=ids("<|endoftext|>"),
        ),
        image_token_id=ids("<IMG_CONTEXT>"), image_seq_length=4, downsample_ratio=0.5,
    )  # fmt: skip
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size={"height": 16, "width": 16}, crop_to_patches=True, min_patches=1, max_patches=4),
        tokenizer,
        InternVLVideoProcessor(size={"height": 16, "width": 16}),
        image_seq_length=4,
        chat_template=CHATML_TEMPLATE.replace("IMAGE", "<IMG_CONTEXT>\n"),
    )
    return InternVLForConditionalGeneration, config, processor


def _llava_next():
    _, llava, processor = _llava(LlamaConfig, num_key_value_heads=4)
    pinpoints = [[24, 48], [48, 24], [48, 48]]
    config = LlavaNextConfig(
        vision_config=_clip_vision(), text_config=llava.text_config, image_token_index=llava.image_token_index,
        image_grid_pinpoints=pinpoints, image_seq_length=16,
    )  # fmt: skip
    tiled = LlavaNextProcessor(
        LlavaNextImageProcessor(
            size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}, image_grid_pinpoints=pinpoints
        ),
        processor.tokenizer,
        patch_size=6,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=USER_ASSISTANT_TEMPLATE,
    )
    return LlavaNextForConditionalGeneration, config, tiled


def _llava_onevision():
    tokenizer = chatml_tokenizer(image_token="<image>", video_token="<video>")
    ids = tokenizer.convert_tokens_to_ids
    pinpoints, size = [[24, 48], [48, 24], [48, 48]], {"height": 24, "width": 24}
    config = LlavaOnevisionConfig(
        vision_config={
            "model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": 24, "patch_size": 6, "vision_use_head": False,
        },
        text_config=Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=512, eos_token_id=ids("<|im_end|>"),
            pad_token_id=ids("<|endoftext|>"),
        ),
        image_token_index=ids("<image>"), video_token_index=ids("<video>"), image_grid_pinpoints=pinpoints,
    )  # fmt: skip
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=pinpoints),
        tokenizer,
        LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=CHATML_TEMPLATE.replace("IMAGE", "<image>\n"),
    )
    return LlavaOnevisionForConditionalGeneration, config, processor


def _qwen3_vl():
    tokenizer = qwen_vl_tokenizer()
    ids = tokenizer.convert_tokens_to_ids
    config = Qwen3VLConfig(
        vision_config={
            "depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 4,
            "out_hidden_size": 32, "spatial_merge_size": 2, "temporal_patch_size": 2, "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1], "mrope_interleaved": True,
            },
            "eos_token_id": ids("<|im_end|>"), "pad_token_id": ids("<|endoftext|>"), "bos_token_id": None,
        },
        image_token_id=ids("<|image_pad|>"), video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"), vision_end_token_id=ids("<|vision_end|>"),
    )  # fmt: skip
    size = {"shortest_edge": 16 * 16, "longest_edge": 48 * 48}
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(patch_size=4, merge_size=2, temporal_patch_size=2, size=size),
        tokenizer,
        Qwen3VLVideoProcessor(patch_size=4, merge_size=2, temporal_patch_size=2, size=size),
        chat_template=CHATML_TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return Qwen3VLForConditionalGeneration, config, processor


def _paligemma():
    special = ["<unk>", "<pad>", "<bos>", "<eos>", "<mask>"]
    vocabulary, merges = sentencepiece_like(special, merge_spaces=False)
    tokenizer = GemmaTokenizer(vocab=vocabulary, merges=merges, extra_special_tokens={"image_token": "<image>"})
    processor = PaliGemmaProcessor(
        SiglipImageProcessor(size={"height": 24, "width": 24}, image_seq_length=16),
        tokenizer,
        chat_template=PALIGEMMA_TEMPLATE,
    )
    config = PaliGemmaConfig(
        vision_config={
            "model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": 24, "patch_size": 6, "vision_use_head": False,
        },
        text_config={
            "model_type": "gemma", "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 8,
            "max_position_embeddings": 512, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 1,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), projection_dim=32, hidden_size=32,
    )  # fmt: skip
    return PaliGemmaForConditionalGeneration, config, processor


def _smolvlm():
    _, idefics, processor = _idefics3()
    config = SmolVLMConfig(
        vision_config={
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 24, "patch_size": 4,
        },
        text_config=idefics.text_config, image_token_id=idefics.image_token_id, scale_factor=2,
    )  # fmt: skip
    smol = SmolVLMProcessor(
        SmolVLMImageProcessor(size={"longest_edge": 48}, max_image_size={"longest_edge": 24}),
        processor.tokenizer,
        SmolVLMVideoProcessor(),
        image_seq_len=9,
        chat_template=IDEFICS3_TEMPLATE,
    )
    return SmolVLMForConditionalGeneration, config, smol


def _mistral3():
    tokens = ["[INST]", "[/INST]", "[IMG]", "[IMG_BREAK]", "[IMG_END]"]
    tokenizer = byte_level_tokenizer(tokens, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    ids = tokenizer.convert_tokens_to_ids
    config = Mistral3Config(
        vision_config={
            "model_type": "pixtral", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": 48, "patch_size": 4,
        },
        text_config={
            "model_type": "mistral", "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
            "max_position_embeddings": 512, "sliding_window": None, "bos_token_id": ids("<s>"),
            "eos_token_id": ids("</s>"), "pad_token_id": ids("<pad>"),
        },
        image_token_index=ids("[IMG]"), spatial_merge_size=2, vision_feature_layer=-1,
    )  # fmt: skip
    processor = PixtralProcessor(
        PixtralImageProcessor(size={"longest_edge": 48}, patch_size=4),
        tokenizer,
        patch_size=4,
        spatial_merge_size=2,
        chat_template=MISTRAL_TEMPLATE,
    )
    return Mistral3ForConditionalGeneration, config, processor


BUILDERS = {
    "llava": _llava_llama,
    "llava_mistral": _llava_mistral,
    "qwen2_5_vl": _qwen2_5_vl,
    "gemma3": _gemma3,
    "idefics3": _idefics3,
    "internvl": _internvl,
    "llava_next": _llava_next,
    "llava_onevision": _llava_onevision,
    "qwen2_vl": _qwen2_vl,
    "qwen3_vl": _qwen3_vl,
    "paligemma": _paligemma,
    "smolvlm": _smolvlm,
    "mistral3": _mistral3,
    "aya_vision": tower.aya_vision,
    "cohere2_vision": tower.cohere2_vision,
    "deepseek_vl": tower.deepseek_vl,
    "glm4v": grid.glm4v,
    "glm4v_moe": grid.glm4v_moe,
    "glm46v": grid.glm46v,
    "janus": tower.janus,
    "llava_next_video": lambda: tower.llava_next_video(_llava_next()),
    "llava_siglip": tower.llava_siglip,
    "llava_pixtral": tower.llava_pixtral,
    "ovis2": tower.ovis2,
    "perception_lm": tower.perception_lm,
    "qwen3_vl_moe": lambda: grid.qwen3_vl_moe(_qwen3_vl()),
    "video_llama_3": grid.video_llama_3,
    "lfm2_vl": grid.lfm2_vl,
    "lighton_ocr": tower.lighton_ocr,
    "llama4": tower.llama4,
    "qwen3_5": lambda: grid.qwen3_5(_qwen3_vl()),
    "qwen3_5_moe": lambda: grid.qwen3_5_moe(_qwen3_vl()),
    "gemma4": grid.gemma4,
    "vipllava": lambda: tower.vipllava(_llava_llama()),
}
