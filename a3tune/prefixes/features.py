"""Features of images, as vision tower and projector give them to the language model: of one prompt, or of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from a3tune.models.model import VisionLanguageModel
from a3tune.prefixes.model_state import base_of
from a3tune.prefixes.supported_models import PIXELS, PROVEN, feature_names

GIVEN = "mm_encoder_outputs"
"""The model's keyword argument that takes features in the place of pixels."""

JOINED = PROVEN - {"qwen3_vl", "qwen3_vl_moe"}
"""Values of ``model_type`` whose features of several prompts make those of a batch, one after another; the others have
features of several layers."""

# States of all layers of the vision tower: no model reads them from here.
_UNREAD = ("hidden_states", "attentions")


def read_features(model: VisionLanguageModel, inputs: Mapping[str, torch.Tensor]) -> Any:
    """The features of a prompt's images: what ``get_image_features`` of the model gives.

    Args:
        inputs: the prompt's.
    """
    given = {name: inputs[name] for name in feature_names(model, inputs)}
    found = base_of(model).base_model.get_image_features(**given, return_dict=True)
    return type(found)(**{name: part for name, part in found.items() if name not in _UNREAD})


def features_size(features: Any) -> int:
    """Bytes of all their tensors."""
    return sum(part.nbytes for part in _tensors(list(features.values())))


def with_features(inputs: Mapping[str, Any], features: Any) -> dict[str, Any]:
    """A model's keyword arguments with features in the place of pixels."""
    return {**{name: part for name, part in inputs.items() if name != PIXELS}, GIVEN: {"image": features}}


def joined_features(features: Sequence[Any]) -> Any:
    """The features of several prompts as those of their batch, of a model whose ``model_type`` is in `JOINED`."""
    first = features[0]
    return type(first)(**{name: _joined([one[name] for one in features]) for name in first})


def _joined(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], torch.Tensor):
        return torch.cat(list(parts))
    return [part for several in parts for part in several]


def _tensors(values: list[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(list(value))
