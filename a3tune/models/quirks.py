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
    """

    why: str
    answer_inputs: Mapping[str, int] = field(default_factory=dict)
    tiles: str | None = None


QUIRKS: dict[str, Quirk] = {
    "paligemma": Quirk("its prompt, type 0, sees itself both ways: it would see the answer too", {"token_type_ids": 1}),
    "perception_lm": Quirk("images cut into different numbers of tiles fit into no tensor", tiles="pixel_values"),
}
"""By ``model_type`` of the configuration. A class that is not here needs nothing."""

_NONE = Quirk("")


def quirk_of(config: PretrainedConfig) -> Quirk:
    """What a model of this configuration needs."""
    return QUIRKS.get(config.model_type, _NONE)
