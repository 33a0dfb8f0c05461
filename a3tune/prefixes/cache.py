"""What another question about the same image need not compute again: the image's features, and where an adapter's
mathematics allow it the keys and values of all that stands before the question.

Features of vision tower and projector are the very same tensors for every question and for every adapter that leaves
these alone: answers and maps are then bit for bit those of a fresh run. Keys and values of system text and image follow
from the tokens before them alone, in the base model and under plain LoRA: each adapter has its own. What comes behind
is computed in a shorter pass then, which differs from a fresh one by the rounding of other matrix shapes (in float32 by
less than 1e-5 in every attention weight). The question of an A3MoE adapter changes the image's states from its first
adapted layer on, so that only the features serve there.

Reuse is for what is proven: for the classes of :mod:`a3tune.prefixes.supported_models`, on a model without other
adapters and without hooks or weights that somebody changed. Everything else is computed afresh.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache

from a3tune.attention.record import AttentionRecord, ReadPrefix
from a3tune.lack_of_memory import give_up_when_short
from a3tune.models.encoded_prompt import EncodedPrompt
from a3tune.models.memory import WORKING_MEMORY, available_memory
from a3tune.models.model import VisionLanguageModel
from a3tune.prefixes.features import features_size, read_features, with_features
from a3tune.prefixes.model_state import (
    ModelState,
    adds_tokens,
    image_modules,
    is_adapted,
    is_plain,
    text_modules,
)
from a3tune.prefixes.supported_models import PIXELS, PROVEN, Prefix, digest, empty_cache, feature_names

MOST_BYTES = 1 << 30
"""How much all of a store's entries may hold together unless another limit is given."""


@dataclass(frozen=True, eq=False)
class _Entry:
    """Something kept, what it took, and the state of the modules from which it came."""

    value: Any
    size: int
    state: ModelState


class PrefixStore:
    """What the caches of all visits hold, within one bound; that which was not used for longest goes first.

    Entries belong to one model: those of another go when this one is asked, or with it. All go when memory runs out
    (:func:`a3tune.lack_of_memory.release_memory`), and none comes in where it would leave less than a question needs.

    Args:
        most_bytes: how much they may hold together; 0 keeps nothing.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self._entries: OrderedDict[tuple[int, bytes], _Entry] = OrderedDict()
        self._model: weakref.ref[VisionLanguageModel] | None = None
        self._guard = threading.RLock()
        give_up_when_short(self)

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        with self._guard:
            return sum(entry.size for entry in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Let everything go."""
        with self._guard:
            self._entries.clear()

    def belong_to(self, model: VisionLanguageModel) -> None:
        """Let go of what another model has left."""
        with self._guard:
            if self._model is None or self._model() is not model:
                self.clear()
                self._model = weakref.ref(model, lambda _: self.clear())

    def get(self, key: tuple[int, bytes], modules: list[nn.Module]) -> Any:
        """What is kept under a key, if the modules are still those that it came from; else None."""
        with self._guard:
            entry = self._entries.get(key)
            if entry is not None and not entry.state.holds(modules):
                del self._entries[key]
                return None
            if entry is not None:
                self._entries.move_to_end(key)
            return None if entry is None else entry.value

    def put(self, key: tuple[int, bytes], entry: _Entry, device: torch.device) -> None:
        """Keep something; others make room."""
        if entry.size > self.most_bytes:
            return
        with self._guard:
            if available_memory(device) < WORKING_MEMORY + entry.size:
                self.clear()
                return
            self._entries[key] = entry
            while self.size > self.most_bytes:
                self._entries.popitem(last=False)

    def forget(self, owner: int) -> None:
        """Drop what belongs to one cache."""
        with self._guard:
            for key in [key for key in self._entries if key[0] == owner]:
                del self._entries[key]


class PrefixCache:
    """What is kept for the questions of one visit; another visit's questions find nothing of it.

    Args:
        store: where it is kept, beside that of other visits; None for one of its own.
        features_only: keep the features of images alone.
    """

    _numbers = iter(range(1 << 62))

    def __init__(self, store: PrefixStore | None = None, *, features_only: bool = False) -> None:
        self.store = PrefixStore() if store is None else store
        self.features_only = features_only
        self._number = next(self._numbers)
        self._closed = False
        self._guard = threading.Lock()

    def close(self) -> None:
        """Drop all of it, and keep nothing from now on: the visit is over, whatever still runs for it."""
        with self._guard:
            self._closed = True
            self.store.forget(self._number)

    def get(self, key: bytes, modules: list[nn.Module]) -> Any:
        """See :meth:`PrefixStore.get`."""
        return self.store.get((self._number, key), modules)

    def put(self, key: bytes, value: Any, size: int, modules: list[nn.Module], device: torch.device) -> None:
        """See :meth:`PrefixStore.put`."""
        with self._guard:
            if not self._closed:
                self.store.put((self._number, key), _Entry(value, size, ModelState(modules)), device)


class PromptReading:
    """How one prompt is read by one adapter: what is there already, and what will be kept of it.

    Begin it with the adapter at work, in inference mode and with the model locked.

    Args:
        model, prompt: the prompt, without an answer, and who reads it.
        prefixes: what was kept; None reads everything.
        name: the adapter's, which has keys and values of its own.

    Attributes:
        inputs: the model's keyword arguments.
        cache: the key-value cache that it goes on from, filled or empty; None for one of the model's own choice.
        read: what a capture has of the beginning already; None where it is read.
    """

    def __init__(
        self, model: VisionLanguageModel, prompt: EncodedPrompt, prefixes: PrefixCache | None = None, name: str = ""
    ) -> None:
        self.inputs: Mapping[str, Any] = prompt.inputs
        self.cache: DynamicCache | None = None
        self.read: ReadPrefix | None = None
        self._model, self._prompt, self._prefixes = model, prompt, prefixes
        self._prefix_key = b""
        if prefixes is None or model.config.model_type not in PROVEN or PIXELS not in prompt.inputs:
            return
        prefixes.store.belong_to(model)
        # What follows from the image, and what its prefix follows from: all before its end is known then.
        self._length = prompt.images[-1][-1] + 1
        self._image = image_modules(model)
        if not is_plain(self._image) or is_adapted(self._image) or adds_tokens(model):
            return
        content = digest({name: prompt.inputs[name] for name in feature_names(self._model, self._prompt.inputs)})
        self._modules = [*self._image, *text_modules(model)]
        self.cache = None if prefixes.features_only else empty_cache(model, self._modules)
        if self.cache is not None:
            shape, known = prompt.inputs["input_ids"].shape, feature_names(self._model, self._prompt.inputs)
            begun = {
                key: part[:, : self._length] if part.shape == shape else part
                for key, part in prompt.inputs.items()
                if key not in known
            }
            self._prefix_key = name.encode() + content + digest(begun)
            if self._go_on(prefixes.get(self._prefix_key, self._modules)):
                return
        self._use_features(content, prefixes)

    def keep(self, record: AttentionRecord) -> None:
        """Keep what was read for other questions about the image, once an answer is written."""
        if self._prefixes is None or self.cache is None or self.read is not None:
            return
        layers: list[tuple[torch.Tensor, torch.Tensor] | None] = []
        for layer in self.cache.layers:
            if layer.is_initialized and layer.keys.shape[-2] != layer.get_seq_length():
                return  # a sliding window has moved on
            parts = (layer.keys, layer.values) if layer.is_initialized else ()
            layers.append(tuple(part[..., : self._length, :].clone() for part in parts) or None)
        prefix = Prefix(tuple(layers), record.prefix(self._length))
        self._prefixes.put(self._prefix_key, prefix, prefix.size, self._modules, self._model.device)

    def _go_on(self, prefix: Prefix | None) -> bool:
        if prefix is None or self.cache is None:
            return False
        for number, layer in enumerate(prefix.layers):
            if layer is not None:
                self.cache.update(*layer, number)  # copies them
        self.read = prefix.read
        self.inputs = {name: part for name, part in self._prompt.inputs.items() if name != PIXELS}
        return True

    def _use_features(self, content: bytes, prefixes: PrefixCache) -> None:
        features = prefixes.get(content, self._image)
        if features is None:
            features = read_features(self._model, self._prompt.inputs)
            prefixes.put(content, features, features_size(features), self._image, self._model.device)
        self.inputs = with_features(self._prompt.inputs, features)
