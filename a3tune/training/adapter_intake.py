"""Adapters that come from elsewhere: from a ZIP archive or the hub, as safetensors only, and only if they fit."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
)
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME

from a3tune.adapters.origin import check_origin
from a3tune.adapters.stored import MOST_SETTINGS, StoredAdapter, read_adapter, read_shapes
from a3tune.adapters.target_modules import check_bounded, is_vision
from a3tune.bundle import model_source
from a3tune.data.archive import unpack_members
from a3tune.data.intake import LIMITS, IntakeLimits, new_folder
from a3tune.errors import AdapterError, ModelError
from a3tune.hub_errors import gated
from a3tune.models.conventions import stored_convention
from a3tune.models.conversion import model_folder
from a3tune.models.fingerprint import weights_fingerprint
from a3tune.training.model_card import CARD_NAME

MAX_WEIGHTS = 4 << 30
"""Largest weight file of an adapter."""

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_EXPECTED = f"an adapter in PEFT's format: {CONFIG_NAME} and {SAFETENSORS_WEIGHTS_NAME}"
_LARGEST = {
    re.escape(CONFIG_NAME): MOST_SETTINGS,
    re.escape(SAFETENSORS_WEIGHTS_NAME): MAX_WEIGHTS,
    re.escape(CARD_NAME): MOST_SETTINGS,
}
_LORA_LIKE = ("LORA", "A3MOE")


def unpack_adapter(archive: str | Path, folder: str | Path, limits: IntakeLimits = LIMITS) -> Path:
    """Take an adapter out of a ZIP archive; everything else in it stays there.

    Args:
        archive: the ZIP file, with the files at its top or in one folder.
        folder: a folder that does not exist yet.

    Returns:
        ``folder``.

    Raises:
        AdapterError: no adapter is in it, or one that is no safetensors file, is damaged or too large.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        with new_folder(folder) as part:
            beside = unpack_members(
                archive,
                part,
                CONFIG_NAME,
                _LARGEST,
                what="adapter",
                expected=_EXPECTED,
                error=AdapterError,
                limits=limits,
            )
            _check_weights(beside)
            check_files(part)
    except OSError as error:
        raise _cannot_write(error) from error
    return folder


def fetch_adapter(hub_id: str, folder: str | Path, *, token: str | None = None) -> Path:
    """Take an adapter from the hub: settings, safetensors and card, no other file.

    Args:
        hub_id: ``name/repository``.
        folder: a folder that does not exist yet.
        token: for a private repository; kept nowhere.

    Raises:
        AdapterError: there is no such repository, it holds no safetensors adapter, or the hub is out of reach.
    """
    folder = Path(folder)
    names = (CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME, CARD_NAME)
    try:
        with new_folder(folder) as part:
            for name in names:
                try:
                    hf_hub_download(hub_id, name, local_dir=part, token=token or False)
                except EntryNotFoundError:
                    if name == CARD_NAME:
                        continue
                    raise
            # The hub's client keeps notes of its own beside what it fetches.
            shutil.rmtree(part / ".cache", ignore_errors=True)
            check_files(part)
    except LocalEntryNotFoundError as error:
        raise AdapterError(
            expected="the hub within reach",
            got=f"{hub_id} cannot be fetched: there is no connection, or it is switched off",
            remedy="Download the adapter elsewhere and load its ZIP",
        ) from error
    except EntryNotFoundError as error:
        raise AdapterError(
            expected=_EXPECTED,
            got=f"{hub_id} lacks one of these files",
            remedy="Choose a repository with safetensors weights; pickled ones are never loaded",
        ) from error
    except GatedRepoError as error:
        raise gated(AdapterError, hub_id, "and give a token of the account that did") from error
    except (HfHubHTTPError, HFValidationError) as error:
        raise AdapterError(
            expected="the id of a repository that may be read",
            got=f"The hub does not give {hub_id[:100]!r} out",
            remedy="Check the id; for a private one give a token",
        ) from error
    except OSError as error:
        raise _cannot_write(error) from error
    return folder


def check_fit(folder: str | Path, model: str, *, allow_other_base: bool = False) -> str:
    """Whether an adapter was made for a base model, and its weights have the shapes of its layers, without loading
    either.

    LoRA and A3MoE are held against the layers that they name; other kinds when they are loaded.

    Args:
        folder: the adapter's folder.
        model: "demo", a checkpoint folder or a hub id.
        allow_other_base: take one that was made for other weights of the same shapes; the result says so.

    Returns:
        What is to be said about its base, as of `a3tune.adapters.origin.check_origin`.

    Raises:
        AdapterError: it was made for another base model.
        ModelError: there is no such model.
    """
    stored = read_adapter(folder)
    check_bounded(stored)
    if stored.kind in _LORA_LIKE:
        _check_layers(stored, model)
    return check_origin(stored, _Checkpoint(model), allow_other=allow_other_base)


@dataclass(frozen=True)
class _Checkpoint:
    """A base model that is not loaded."""

    source: str

    @property
    def convention(self) -> str | None:
        return stored_convention(model_source(self.source))

    def fingerprint(self) -> str:
        return weights_fingerprint(self.source)


def _check_layers(stored: StoredAdapter, model: str) -> None:
    settings = stored.settings
    layers = _layer_shapes(model)
    for name, shape in stored.shapes.items():
        layer, side = _layer_of(name)
        if layer is None or is_vision(name):
            continue
        if len(shape) < 2:
            raise _misfit(settings, f"{layer} has a matrix of shape {shape} in the adapter")
        known = layers.get(layer)
        if known is None:
            raise _misfit(settings, f"the base model has no layer {layer}")
        # lora_A [rank, in] and lora_B [out, rank]; experts are stacked in front: [experts, rank, in].
        size, wanted = (shape[-1], known[1]) if side == "in" else (shape[-2], known[0])
        if size != wanted:
            raise _misfit(settings, f"{layer} has {wanted} {side}puts in the base model, {size} in the adapter")


def _check_weights(names: Sequence[str]) -> None:
    """Whether the weights are among the files of an adapter's folder."""
    if SAFETENSORS_WEIGHTS_NAME not in names:
        pickled = [name for name in names if name.lower().endswith(_PICKLES)]
        raise AdapterError(
            expected=_EXPECTED,
            got=f"The weights are in {pickled[0]}, which can run any code when it is opened"
            if pickled
            else f"{SAFETENSORS_WEIGHTS_NAME} is missing",
            remedy="Save the adapter with safetensors: model.save_pretrained(folder)",
        )


def check_files(folder: Path) -> None:
    """Whether a folder holds an adapter whose settings are in order, whose weights are whole and of the sizes that the
    settings say, and that costs no more to make than these sizes.

    Raises:
        AdapterError: it does not.
    """
    check_bounded(read_adapter(folder))


def _layer_of(name: str) -> tuple[str | None, str]:
    """("layers.3.self_attn.q_proj", "in") of a tensor that has as many columns as the layer has inputs, "out" of one
    with as many rows as it has outputs; None for other tensors (routers, biases)."""
    parts = name.split(".")
    if "layers" not in parts:
        return None, ""
    place = len(parts) - 1 - parts[::-1].index("layers")
    kinds = {
        "lora_A": "in",
        "lora_B": "out",
        "expert_A": "in",
        "expert_B": "out",
        "experts_A": "in",
        "experts_B": "out",
    }
    for position, part in enumerate(parts[place:], start=place):
        if part in kinds:
            return ".".join(parts[place:position]), kinds[part]
    return None, ""


def _layer_shapes(model: str) -> Mapping[str, tuple[int, ...]]:
    """Layer of the language model -> its weight's shape, from the heads of the weight files."""
    folder = model_folder(model_source(model))
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, shape in read_shapes(path).items():
            parts = name.split(".")
            if "layers" in parts and parts[-1] == "weight" and len(shape) == 2 and not is_vision(name):
                shapes[".".join(parts[len(parts) - 1 - parts[::-1].index("layers") : -1])] = shape
    if not shapes:
        raise ModelError(
            expected=f"safetensors weights in {folder.name}", got="There are none", remedy="Download the model again"
        )
    return shapes


def _misfit(settings: Mapping[str, Any], why: str) -> AdapterError:
    made = settings.get("base_model_name_or_path")
    named = f" It was trained on {Path(str(made)).name}" if made else ""
    return AdapterError(
        expected="an adapter that was trained on this base model",
        got=f"It does not fit: {why}.{named}",
        remedy="Start the application with that base model (--profile), or train the adapter again",
    )


def _cannot_write(error: OSError) -> AdapterError:
    return AdapterError(
        expected="room for the adapter",
        got=f"It cannot be written ({os.strerror(error.errno) if error.errno else error})",
        remedy="Free space on the server",
    )
