"""Batches of prompts that go on behind beginnings which were read before.

A question about an image is mostly the image. What stands before the question is read once for each image and adapter,
each alone: what comes out does not depend on which prompts share a batch, nor on what was asked before. It is taken
over where :mod:`a3tune.prefixes.supported_models` says that it may be, for prompts of tokens and pixels alone in models
that count places one by one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from a3tune.attention.capture import capture
from a3tune.attention.record import ReadPrefix
from a3tune.models.encoded_prompt import EncodedBatch, EncodedPrompt
from a3tune.models.model import VisionLanguageModel
from a3tune.prefixes.cache import MOST_BYTES, PrefixCache, PrefixStore
from a3tune.prefixes.features import JOINED, features_size, joined_features, read_features, with_features
from a3tune.prefixes.model_state import adds_tokens, image_modules, is_adapted, is_plain, text_modules
from a3tune.prefixes.supported_models import PIXELS, PROVEN, Prefix, counts_plainly, digest, empty_cache, feature_names

_IDS, _MASK = "input_ids", "attention_mask"


@dataclass(frozen=True, eq=False)
class PrefixedBatch(EncodedBatch):
    """Prompts that share a batch behind their beginnings: each row is padding, beginning, padding, and the rest.

    Attributes:
        begun: how many columns of every row have been read.
        prefixes: what was read of each prompt.
    """

    begun: int
    prefixes: tuple[Prefix, ...]

    def column_of(self, b: int, position: int) -> int:
        """Where a token of prompt ``b`` stands in its padded row."""
        if position < self.prefixes[b].read.length:
            return self.starts[b] + position
        return self.length - self.prompts[b].length + position

    @property
    def behind(self) -> tuple[ReadPrefix, ...]:
        """What a capture has of the columns that have been read, see :func:`a3tune.attention.capture.capture`."""
        return tuple(replace(prefix.read, length=self.begun) for prefix in self.prefixes)

    def cache(self) -> DynamicCache:
        """The keys and values of what has been read, for one pass or for passes that write."""
        cache = DynamicCache()
        for number in range(len(self.prefixes[0].layers)):
            sides: list[list[torch.Tensor]] = [[], []]
            for prefix in self.prefixes:
                for side, part in zip(sides, prefix.layers[number] or (), strict=True):
                    room = self.begun - part.shape[-2]
                    side.append(torch.nn.functional.pad(part, (0, 0, room, 0)) if room else part)
            cache.update(torch.cat(sides[0]), torch.cat(sides[1]), number)
        return cache

    @property
    def rest(self) -> dict[str, torch.Tensor]:
        """The model's keyword arguments for one pass over what has not been read."""
        seen = self.inputs[_MASK]
        places = (seen.cumsum(dim=1) - 1).clamp(min=0)
        return {_IDS: self.inputs[_IDS][:, self.begun :], _MASK: seen, "position_ids": places[:, self.begun :]}


class PrefixReader:
    """Reads the beginnings of prompts, once for all that begin alike.

    Args:
        model: who reads.
        most_bytes: how much may be kept for later batches; what does not fit in there is read whole.

    Attributes:
        seconds: how long was spent so far on what is read once: beginnings and features.
    """

    def __init__(self, model: VisionLanguageModel, most_bytes: int = MOST_BYTES) -> None:
        self._model, self._most_bytes, self._token_bytes = model, most_bytes, 0.0
        self._kept = PrefixCache(PrefixStore(most_bytes))
        self.seconds = 0.0

    @torch.no_grad()
    def batch(
        self, prompts: Sequence[EncodedPrompt], name: str, *, padding_side: Literal["left", "right"] = "left"
    ) -> EncodedBatch:
        """The prompts, with or without answers, behind their beginnings; where these are to be read whole, with the
        features of their images in the place of pixels; and as they are where neither is proven.

        Call it with the adapter at work and the model locked; the model is prepared for capture.

        Args:
            name: of the adapter at work, whose beginnings are its own; "" where each row has one of its own.
            padding_side: where prompts that are read whole are padded.
        """
        model = self._model
        plain = model.collate(prompts, padding_side=padding_side)
        image = image_modules(model)
        if not self._most_bytes or model.config.model_type not in PROVEN or adds_tokens(model):
            return plain
        if not all(PIXELS in prompt.inputs for prompt in prompts) or not is_plain(image) or is_adapted(image):
            return plain
        return (self._prefixed(prompts, name) if name else None) or self._featured(plain, image)

    def _featured(self, batch: EncodedBatch, image: list[torch.nn.Module]) -> EncodedBatch:
        if self._model.config.model_type not in JOINED:
            return batch
        features = []
        for prompt in batch.prompts:
            key = digest({name: prompt.inputs[name] for name in feature_names(self._model, prompt.inputs)})
            found = self._kept.get(key, image)
            if found is None:
                started = time.perf_counter()
                found = read_features(self._model, prompt.inputs)
                self._kept.put(key, found, features_size(found), image, self._model.device)
                self.seconds += time.perf_counter() - started
            features.append(found)
        return replace(batch, inputs=with_features(batch.inputs, joined_features(features)))

    def _prefixed(self, prompts: Sequence[EncodedPrompt], name: str) -> PrefixedBatch | None:
        model = self._model
        modules = [*image_modules(model), *text_modules(model)]
        cache = empty_cache(model, modules) if self._may_go_on(prompts) else None
        if cache is None or any(type(layer) is not DynamicLayer for layer in cache.layers):
            return None
        prefixes = self._prefixes(prompts, name, modules)
        if prefixes is None or any(layer is None for prefix in prefixes for layer in prefix.layers):
            return None
        begun = max(prefix.read.length for prefix in prefixes)
        lengths = [prefix.read.length for prefix in prefixes]
        length = begun + max(prompt.length - own for prompt, own in zip(prompts, lengths, strict=True))
        inputs = {
            key: prompts[0].inputs[key].new_full((len(prompts), length), model.pad_token_id if key == _IDS else 0)
            for key in (_IDS, _MASK)
        }
        for b, (prompt, own) in enumerate(zip(prompts, lengths, strict=True)):
            for key, padded in inputs.items():
                padded[b, begun - own : begun] = prompt.inputs[key][0, :own]
                padded[b, length - (prompt.length - own) :] = prompt.inputs[key][0, own:]
        starts = tuple(begun - own for own in lengths)
        return PrefixedBatch(inputs, tuple(prompts), starts, begun, prefixes)

    def _may_go_on(self, prompts: Sequence[EncodedPrompt]) -> bool:
        """Whether the prompts are of the kind for which that is proven."""
        model = self._model
        return counts_plainly(model) and all(
            set(prompt.inputs) <= {_IDS, _MASK, *feature_names(model, prompt.inputs)}
            and prompt.images[-1][-1] < prompt.question[0]
            for prompt in prompts
        )

    def _prefixes(
        self, prompts: Sequence[EncodedPrompt], name: str, modules: list[torch.nn.Module]
    ) -> tuple[Prefix, ...] | None:
        """What was read of each prompt; None where so much cannot be kept, and reading it apart would save nothing."""
        begun = [self._beginning(prompt) for prompt in prompts]
        keys = [name.encode() + digest(inputs) for inputs in begun]
        tokens = sum(inputs[_IDS].shape[1] for inputs in dict(zip(keys, begun, strict=True)).values())
        if tokens * self._token_bytes > self._most_bytes:
            return None
        found: dict[bytes, Prefix] = {}
        for prompt, inputs, key in zip(prompts, begun, keys, strict=True):
            if key in found:
                continue
            known = self._kept.get(key, modules)
            if known is None:
                known = self._read(prompt, inputs)
                self._kept.put(key, known, known.size, modules, self._model.device)
            found[key] = known
            # How much a token takes is known with the first.
            self._token_bytes = known.size / inputs[_IDS].shape[1]
            if tokens * self._token_bytes > self._most_bytes:
                return None
        return tuple(found[key] for key in keys)

    @staticmethod
    def _beginning(prompt: EncodedPrompt) -> dict[str, torch.Tensor]:
        """The model's keyword arguments for all up to the last image token."""
        length = prompt.images[-1][-1] + 1
        return {key: part[:, :length] if key in (_IDS, _MASK) else part for key, part in prompt.inputs.items()}

    def _read(self, prompt: EncodedPrompt, begun: dict[str, torch.Tensor]) -> Prefix:
        model, cache = self._model, DynamicCache(config=self._model.text_config)
        started, length = time.perf_counter(), begun[_IDS].shape[1]
        rows, columns = prompt.rows[:, :length], prompt.columns[:, :length]
        # Row and tile tokens between the patches are text rows.
        watched: Any = capture(rows, columns, growing=True) if bool(rows.any()) else nullcontext()
        options = {"logits_to_keep": 1} if model.keeps_logits else {}
        with watched as record:
            model.model(**begun, **options, past_key_values=cache, use_cache=True)
        layers = tuple((layer.keys, layer.values) if layer.is_initialized else None for layer in cache.layers)
        self.seconds += time.perf_counter() - started
        return Prefix(layers, ReadPrefix(length, ()) if record is None else record.prefix(length))
