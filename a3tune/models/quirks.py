"""What single model classes need beside what their configuration and processor say: a row for each, by model type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from transformers import PretrainedConfig


@dataclass(frozen=True)
class Quirk:
    """What one model class needs.

    Attributes:
        why: what would go wrong without, in words.
        answer_inputs: model input [1, length] -> its value at the answer's tokens, where that is not 0.
        tiles: model input of which the processor makes a tensor [tiles, ...] for each image, and the model reads the
            tiles of all images in a row: [1, all tiles, ...]. None where the processor joins them itself.
        one_image: why it is not known of several images in a prompt where their patches lie; "" where it is.
    """

    why: str
    answer_inputs: Mapping[str, int] = field(default_factory=dict)
    tiles: str | None = None
    one_image: str = ""


QUIRKS: dict[str, Quirk] = {
    "paligemma": Quirk("its prompt, type 0, sees itself both ways: it would see the answer too", {"token_type_ids": 1}),
    "llava_onevision": Quirk(
        "images in company are squares without tiles, with a token more: their maps would lie elsewhere",
        one_image="beside others it is shown each as a padded square, and where its patches then lie is not measured",
    ),
    "perception_lm": Quirk("images cut into different numbers of tiles fit into no tensor", tiles="pixel_values"),
}
"""By ``model_type`` of the configuration. A class that is not here needs nothing."""

_NONE = Quirk("")


_TRAINED_ON_ONE = ("llava_next", "llava_next_video", "vipllava", "paligemma")
"""Types of which the published checkpoints were trained on one image a prompt, beside LLaVA on CLIP."""


def note_on_several(config: PretrainedConfig) -> str:
    """What is to be said of an answer about several images; "" where nothing is."""
    tower = getattr(getattr(config, "vision_config", None), "model_type", None)
    if config.model_type in _TRAINED_ON_ONE or (config.model_type, tower) == ("llava", "clip_vision_model"):
        return (
            f"Published models of type {config.model_type} were trained on one image a prompt: unless this one was "
            "tuned on several, it may take them for one, or pass over one of them."
        )
    return ""


def quirk_of(config: PretrainedConfig) -> Quirk:
    """What a model of this configuration needs."""
    return QUIRKS.get(config.model_type, _NONE)
