"""For which models the beginning of a prompt may be taken over from another prompt, and what that is."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from a3tune.attention.record import ReadPrefix
from a3tune.models.model import VisionLanguageModel
from a3tune.prefixes.model_state import base_of, is_adapted, is_plain

# fmt: off
PROVEN = frozenset((
    "aya_vision", "cohere2_vision", "deepseek_vl", "gemma3", "gemma4", "glm46v", "glm4v", "glm4v_moe", "idefics3",
    "internvl", "janus", "lfm2_vl", "lighton_ocr", "llama4", "llava", "llava_next", "llava_next_video",
    "llava_onevision", "mistral3", "ovis2", "paligemma", "perception_lm", "qwen2_5_vl", "qwen2_vl", "qwen3_5",
    "qwen3_5_moe", "qwen3_vl", "qwen3_vl_moe", "smolvlm", "video_llama_3", "vipllava",
))
# fmt: on
"""Values of ``model_type`` for which reuse is tested to equal a fresh run."""

FEATURES_ONLY = {
    "paligemma": "its prompt sees itself both ways, the image the question too",
    "ovis2": "it writes learnt states over tokens behind the image, in the pass that reads the image",
}
"""Those of them whose prompts are read from the start each time, and why. Further ones are so by their layers: linear
attention, a sliding window that prompt and answer have outgrown, rotary positions that depend on the length."""

PIXELS = "pixel_values"
"""The input that holds the images."""

_MOVING_ROTARY = ("dynamic", "longrope")


@dataclass(frozen=True, eq=False)
class Prefix:
    """Keys and values of each layer, [1, key heads, tokens, dim]; None for one that has none of its own."""

    layers: tuple[tuple[torch.Tensor, torch.Tensor] | None, ...]
    read: ReadPrefix

    @property
    def size(self) -> int:
        return self.read.size + sum(part.nbytes for layer in self.layers for part in layer or ())


def empty_cache(model: VisionLanguageModel, modules: list[nn.Module]) -> DynamicCache | None:
    """A cache whose beginning another question can go on from; None where that is not proven."""
    config = model.text_config
    both_ways = getattr(config, "use_bidirectional_attention", None) not in (None, False, "vision")
    rotary = getattr(config, "rope_parameters", None) or {}
    kinds = {part.get("rope_type") for part in (rotary, *rotary.values()) if isinstance(part, dict)}
    if model.config.model_type in FEATURES_ONLY or both_ways or kinds & set(_MOVING_ROTARY):
        return None
    # Quantized products may take in what else a pass holds: 8 bit ones look for columns with large numbers.
    if getattr(model.model, "is_quantized", False) or not is_plain(modules) or is_adapted(modules, lora_too=False):
        return None
    cache = DynamicCache(config=config)
    if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers):
        return None
    return cache


def digest(inputs: Mapping[str, torch.Tensor]) -> bytes:
    found = hashlib.sha256()
    for name, part in sorted(inputs.items()):
        found.update(f"{name} {part.dtype} {list(part.shape)}\n".encode())
        found.update(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.digest()


def feature_names(model: VisionLanguageModel, inputs: Iterable[str]) -> list[str]:
    """Those of a prompt's inputs from which the features of its images are made."""
    accepted = inspect.signature(base_of(model).base_model.get_image_features).parameters
    given = set(inputs)
    return [name for name in accepted if name in given]


def counts_plainly(model: VisionLanguageModel) -> bool:
    """Whether places are counted one by one, as position ids from the attention mask are; not so under M-RoPE."""
    config = model.text_config
    rotary = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    return "mrope_section" not in rotary
