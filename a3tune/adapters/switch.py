"""Several adapters of any PEFT kind on one set of base weights, one of them (or none) at work at a time.

A PEFT model refuses a second adapter of another kind. Here each adapter keeps the layers that PEFT built for it, and
its own copy of what it trained of the base itself (biases, embeddings). Switching puts them in place of the base's own
and back: no weight is loaded or copied, and with "base" the original layers and weights are back in their places, so
the base answers bit for bit as if never touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from peft import PeftConfig, PeftModel
from peft.auto import MODEL_TYPE_TO_PEFT_MODEL_MAPPING
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel

from a3tune.adapters.a3moe import A3MoeConfig, register
from a3tune.adapters.isolation import Change, taken_back
from a3tune.adapters.origin import Base, check_origin
from a3tune.adapters.stored import plainly_named, read_adapter
from a3tune.adapters.target_modules import does_not_fit, exact_config
from a3tune.errors import AdapterError, is_lack_of_memory
from a3tune.lack_of_memory import memory_for
from a3tune.memory_advice import TO_MOUNT
from a3tune.offloading import execution_device, is_offloaded, weights_in_place

BASE = "base"
"""The name under which the model without any adapter is asked for."""


@dataclass(frozen=True, eq=False)
class _Mounted:
    """One adapter: its PEFT model and what it changes in the base."""

    model: PeftModel
    changes: tuple[Change, ...]
    origin: str


class AdapterSet:
    """Adapters loaded beside one base model.

    The layers at work are a property of the base model, so all threads see one choice: whoever shares the model
    between threads holds a lock from `activate` to the end of the call. Loading an adapter freezes the base
    weights and sets the model to evaluation. Its own weights are kept where its layers compute, in their precision.

    Args:
        base: the base model, without adapters.
        folders: adapter folders in PEFT's format by name; more can be added later.
        identity: the same model as it was stored (a `VisionLanguageModel`): adapters that were made for other weights
            are refused. None compares nothing.
        allow_other_base: take such adapters all the same; `origin` says so.

    Raises:
        AdapterError: see `add`.
    """

    def __init__(
        self,
        base: PreTrainedModel,
        folders: Mapping[str, str | Path] | None = None,
        *,
        identity: Base | None = None,
        allow_other_base: bool = False,
    ) -> None:
        if hasattr(base, "peft_config"):
            raise AdapterError(
                expected="a base model without adapters",
                got="The model already carries PEFT layers",
                remedy="Pass peft_model.unload(), or the model as it was loaded",
            )
        register()
        self.base = base
        self._identity, self._allow_other = identity, allow_other_base
        self._adapters: dict[str, _Mounted] = {}
        self._active = BASE
        for name, folder in (folders or {}).items():
            self.add(name, folder)

    @property
    def names(self) -> tuple[str, ...]:
        """ "base" and the adapters in the order in which they were added."""
        return (BASE, *self._adapters)

    @property
    def active(self) -> str:
        """The name at work."""
        return self._active

    @property
    def model(self) -> PreTrainedModel | PeftModel:
        """What to call for the adapter at work: its PEFT model, or the base model."""
        return self.base if self._active == BASE else self._adapters[self._active].model

    def config(self, name: str) -> PeftConfig | None:
        """The settings of an adapter; None for "base"."""
        return None if self._known(name) == BASE else self._adapters[name].model.peft_config[name_in_layers(name)]

    def origin(self, name: str) -> str:
        """What is to be said about whether an adapter was made for this base; "" where there is no doubt."""
        return "" if self._known(name) == BASE else self._adapters[name].origin

    def changes(self, name: str) -> tuple[Change, ...]:
        """What an adapter changes in the base while it is at work; nothing for "base"."""
        return () if self._known(name) == BASE else self._adapters[name].changes

    def takes_masks(self, name: str) -> bool:
        """Whether the adapter has to be told where question and image stand (see `a3moe.TokenSpans`)."""
        return isinstance(self.config(name), A3MoeConfig)

    def activate(self, name: str) -> PreTrainedModel | PeftModel:
        """Put an adapter (or "base") to work and return what to call.

        Raises:
            AdapterError: no adapter has that name.
        """
        if self._known(name) != self._active:
            self._unmount()
            self._mount(name)
        return self.model

    @contextmanager
    def using(self, name: str) -> Iterator[PreTrainedModel | PeftModel]:
        """`activate` for the length of a ``with`` block; afterwards the former one is back at work."""
        before = self._active
        model = self.activate(name)
        try:
            yield model
        finally:
            self.activate(before)

    def add(self, name: str, folder: str | Path) -> None:
        """Load one adapter; the one at work stays at work.

        Args:
            name: a new name, not "base", without a dot.
            folder: local folder that `save_pretrained` has written.

        Raises:
            AdapterError: the folder holds no adapter, or the adapter does not fit the base model (layers that it
                does not have, other shapes, parts missing, made for other weights). The set is then as before.
        """
        if name in self.names or not name or "." in name:
            raise AdapterError(
                expected="a new adapter name without a dot",
                got=f"{name!r} was given; there are {', '.join(self.names)}",
                remedy="Choose another name",
            )
        stored = read_adapter(folder)
        origin = ""
        if self._identity is not None and self._identity.source:
            origin = check_origin(stored, self._identity, allow_other=self._allow_other)
        active = self._active
        self._unmount()
        try:
            config = exact_config(stored, self.base)
            offloaded = is_offloaded(self.base)
            if offloaded:
                _check_offloaded(config)
            with (
                memory_for(f"the adapter {name}", TO_MOUNT),
                weights_in_place(self.base),
                taken_back(self.base) as changes,
                plainly_named(Path(folder)) as plain,
            ):
                model = self._load(name, Path(folder), plain, config)
            if offloaded and any(isinstance(change.before, torch.Tensor) for change in changes):
                raise _not_offloaded("it changes weights of the base model itself")
            with memory_for(f"the adapter {name}", TO_MOUNT):
                for change in changes:
                    if isinstance(change.after, BaseTunerLayer):
                        _fit(cast(nn.Module, change.after), self.base)
            self._adapters[name] = _Mounted(model, tuple(changes), origin)
        finally:
            self._mount(active)

    def remove(self, name: str) -> None:
        """Forget an adapter and free its weights; if it was at work, "base" is from now on.

        Raises:
            AdapterError: no adapter has that name, or it is "base".
        """
        if self._known(name) == BASE:
            raise AdapterError(
                expected="the name of an adapter", got='"base" was to be removed', remedy="The base model stays"
            )
        if name == self._active:
            self._unmount()
        del self._adapters[name]

    def _load(self, name: str, folder: Path, plain: Path, config: PeftConfig) -> PeftModel:
        kind = MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, PeftModel)
        config.inference_mode = True
        inner = name_in_layers(name)
        try:
            # In float32, as PEFT keeps what is trained, they would take nearly twice the kernels beside a half base.
            model = kind(self.base, config, inner, autocast_adapter_dtype=False)
            # PEFT would read them onto a GPU that it believes to be there, and copy them to the layers from there.
            result = model.load_adapter(str(plain), inner, torch_device="cpu", autocast_adapter_dtype=False)
        except ImportError as error:
            raise AdapterError(
                expected=f"what {config.peft_type} adapters need to be installed",
                got=str(error),
                remedy="Install it, or choose another adapter",
            ) from error
        # PEFT has no error class of its own for these: other layers, other shapes, damaged files.
        except (ValueError, RuntimeError, LookupError, AttributeError, TypeError, OSError, SafetensorError) as error:
            if is_lack_of_memory(error):
                raise
            raise does_not_fit(folder, _first_reason(str(error))) from error
        strange = [*_truly_missing(model, result.missing_keys), *result.unexpected_keys]
        if strange:
            raise does_not_fit(folder, f"{len(strange)} of its parts have no counterpart, the first is {strange[0]}")
        return model

    def _mount(self, name: str) -> None:
        if name != BASE:
            for change in self._adapters[name].changes:
                change.put(adapted=True)
        self._active = name

    def _unmount(self) -> None:
        if self._active != BASE:
            for change in self._adapters[self._active].changes:
                change.put(adapted=False)
        self._active = BASE

    def _known(self, name: str) -> str:
        if name not in self.names:
            raise AdapterError(
                expected=f"one of {', '.join(self.names)}",
                got=f"There is no adapter {name!r}",
                remedy="Add it first, or choose one of these",
            )
        return name


def name_in_layers(name: str) -> str:
    """How PEFT's layers call the adapter that has this name in a set: their containers of modules take no name of an
    attribute that they have themselves, such as "half" or "values"."""
    return f"adapter-{name}"


def _fit(layer: nn.Module, base: PreTrainedModel) -> None:
    """Bring an adapter's weights to where its layer computes, and into the precision in which it does."""
    inner = cast(BaseTunerLayer, layer).get_base_layer()
    if not isinstance(getattr(inner, "weight", None), torch.Tensor):
        return
    own = {id(part) for part in (*inner.parameters(), *inner.buffers())}
    device, dtype = execution_device(inner), inner.weight.dtype
    if not dtype.is_floating_point or dtype.itemsize < 2:  # quantized: computed in the precision of what is not
        dtype = base.get_input_embeddings().weight.dtype
    for part in (*layer.parameters(), *layer.buffers()):
        if id(part) not in own:
            part.data = part.data.to(device, dtype if part.is_floating_point() else None)


def _check_offloaded(config: PeftConfig) -> None:
    """Whether an adapter only adds to what its layers give; of others, weights would be looked for where none are."""
    plain = config.peft_type in ("LORA", "A3MOE") and not getattr(config, "use_dora", False)
    more = ("modules_to_save", "trainable_token_indices", "target_parameters", "layer_replication")
    if not plain or any(getattr(config, name, None) for name in more):
        raise _not_offloaded(
            f"it is of the kind {getattr(config.peft_type, 'value', config.peft_type)}"
            + (" with more than plain layers" if plain else "")
        )


def _not_offloaded(why: str) -> AdapterError:
    return AdapterError(
        expected="a plain LoRA or an A3MoE adapter on a model that is partly left in the machine's memory",
        got=f"This adapter cannot be put on it: {why}",
        remedy="Load the model without offloading, for example in 4 bit",
    )


def _truly_missing(model: PeftModel, names: Iterable[str]) -> list[str]:
    """Of the weights that a file lacks, those that are not another name of one that it holds: some methods share one
    set of numbers between all layers, and save it once."""
    state = model.state_dict()
    missing = set(names)
    filled = {tensor.data_ptr() for name, tensor in state.items() if name not in missing and tensor.numel()}
    return [name for name in names if name not in state or state[name].data_ptr() not in filled]


def _first_reason(text: str) -> str:
    """The first of the reasons that torch lists, one to a line below a headline, and how many there are."""
    first, *more = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason is given"]
    reason = more[0] if more and first.startswith("Error(s) in loading state_dict") else first
    others = f" (and {len(more) - 1} more)" if reason is not first and len(more) > 1 else ""
    return reason.rstrip(".")[:300] + others
