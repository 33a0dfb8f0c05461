"""Tokenizers of the tiny models: of the forms that the real ones have, learnt from a few sentences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

_CORPUS = [
    "Is there a mass in the left lung? No. Which organ is shown in the image? The liver and the right kidney.",
    "USER: ASSISTANT: user assistant system model What is the modality? This is an axial CT of the abdomen.",
    "Describe the chest radiograph. The heart is enlarged, with a pleural effusion on the right side.",
] * 4


def sentencepiece_like(special: list[str], merge_spaces: bool) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-fallback BPE whose spaces are written as lower blocks."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token=special[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=True) if merge_spaces else None
    if not merge_spaces:
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=len(special) + 256 + 180,
        special_tokens=special + bytes_,
        show_progress=False,
        initial_alphabet=["\n"],
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return _vocabulary_and_merges(tokenizer)


def byte_level() -> tuple[dict[str, int], list[tuple[str, str]]]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=430, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return _vocabulary_and_merges(tokenizer)


def _vocabulary_and_merges(tokenizer: Tokenizer) -> tuple[dict[str, int], list[tuple[str, str]]]:
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def chatml_tokenizer(**named: str) -> Qwen2Tokenizer:
    vocabulary, merges = byte_level()
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary, merges=merges, eos_token="<|im_end|>", pad_token="<|endoftext|>", extra_special_tokens=named
    )
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", *named.values()]})
    return tokenizer


def qwen_vl_tokenizer() -> Qwen2Tokenizer:
    return chatml_tokenizer(
        image_token="<|image_pad|>",
        video_token="<|video_pad|>",
        vision_bos_token="<|vision_start|>",
        vision_eos_token="<|vision_end|>",
    )


def byte_level_tokenizer(
    tokens: Sequence[str], named: Mapping[str, str] | None = None, **special: str
) -> PreTrainedTokenizerFast:
    """One of bytes with further special tokens; ``special`` names those that have a role (bos_token, ...), ``named``
    those that a processor asks the tokenizer for (image_token, ...)."""
    vocabulary, merges = byte_level()
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, extra_special_tokens=dict(named or {}), **special)
    tokenizer.add_special_tokens({"extra_special_tokens": [*tokens, *(named or {}).values()]})
    return tokenizer
