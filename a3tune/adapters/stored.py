"""An adapter as it lies on the disk: its settings and the shapes of its tensors, checked before PEFT reads either."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import pickle
import re
import shutil
import struct
import tempfile
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from peft import AdaptionPromptConfig, PromptLearningConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from a3tune.adapters.a3moe import register
from a3tune.adapters.safetensors_header import load_head, read_head
from a3tune.errors import AdapterError
from a3tune.state_dicts import first_difference, plain_names
from a3tune.storage import UNREADABLE_WEIGHTS, file_digest, find_stand_in, read_json, whole_file

MOST_SETTINGS = 1 << 20
"""Largest adapter_config.json in bytes."""

_MOST_NAMES = 5_000
_MOST_PATTERNS = 2_000
_LARGEST = 2**53
_LITERAL = re.compile(r"[\w.\-]{1,500}")
_NAME_LISTS = (
    "target_modules", "exclude_modules", "feedforward_modules", "layers_pattern", "modules_to_save",
    "target_parameters", "trainable_token_indices",
)  # fmt: skip
# Of LoRA: what reaches beyond the adapter's own layers in ways that can be neither checked nor taken back.
_REFUSED = {
    "layer_replication": "makes copies of the base's layers",
    "megatron_config": "names a library to import",
    "arrow_config": "chooses between several adapters",
    "use_bdlora": "splits its layers for several machines",
}
# Methods beside those that change the prompt which cannot be put in place of layers, and what they do instead.
_NOT_LAYERS = {
    "POLY": "has to be told the task with every call",
    "XLORA": "names further adapters to fetch",
    "SHADOW": "runs a second model beside the base",
}
# What stands behind "model." where a wrapper put that before every name.
_TOPS = ("base_model.",)
_UNREADABLE = (pickle.UnpicklingError, *UNREADABLE_WEIGHTS)
_NEEDS_DATA = ("loftq", "corda", "lora_ga")


@dataclass(frozen=True)
class StoredAdapter:
    """Settings and shapes of an adapter's folder.

    Attributes:
        folder: where it lies.
        kind: PEFT's name of the method: "LORA", "A3MOE", ...
        settings: what adapter_config.json says, of the types that PEFT expects; what PEFT does not know is left out.
        shapes: tensor -> shape.
        notes: what the weight file says beside its tensors.
    """

    folder: Path
    kind: str
    settings: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    notes: Mapping[str, str] = field(default_factory=dict)


def read_adapter(folder: str | Path) -> StoredAdapter:
    """Read an adapter's settings and the head of its weight file; no weight is loaded and no pattern is matched.

    Raises:
        AdapterError: the folder holds no adapter, a file is damaged, or a setting is of another type than PEFT's, asks
            for code or for what can be neither checked nor taken back.
    """
    folder = Path(folder)
    weights = next(
        (folder / name for name in (SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME) if (folder / name).is_file()), None
    )
    # PEFT would take a path that is not there for the name of a repository and go looking for it.
    if weights is None or not (folder / CONFIG_NAME).is_file():
        raise AdapterError(
            expected=f"a folder with {CONFIG_NAME} and {SAFETENSORS_WEIGHTS_NAME}",
            got=f"{folder.name} has no such files",
            remedy="Give the folder that save_pretrained has written (a run's adapter/ folder)",
        )
    if found := find_stand_in(weights):
        raise _fault(f"{weights.name} is {found.what}", found.remedy)
    kind, settings = read_settings(folder / CONFIG_NAME)
    if kind in _NOT_LAYERS or issubclass(
        PEFT_TYPE_TO_CONFIG_MAPPING[kind], (PromptLearningConfig, AdaptionPromptConfig)
    ):
        raise AdapterError(
            expected="an adapter that replaces layers (LoRA, A3MoE, ...)",
            got=f"{folder.name} holds a {kind} adapter, which {_NOT_LAYERS.get(kind, 'changes the prompt')}",
            remedy="Load it with peft alone",
        )
    if weights.suffix != ".safetensors":
        return StoredAdapter(folder, kind, settings, _plain(_pickled_shapes(weights)))
    if (folder / WEIGHTS_NAME).is_file():
        _check_copies(weights, folder / WEIGHTS_NAME)
    shapes, notes = read_head(weights)
    return StoredAdapter(folder, kind, settings, _plain(shapes), notes)


@contextmanager
def plainly_named(folder: Path) -> Iterator[Path]:
    """The folder, or a copy of it for the length of the block in which wrappers' prefixes are gone from the tensors'
    names, as PEFT needs them."""
    weights = folder / SAFETENSORS_WEIGHTS_NAME
    names = plain_names(read_head(weights)[0], _TOPS) if weights.is_file() else {}
    if all(name == plain for name, plain in names.items()):
        yield folder
        return
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copy(folder / CONFIG_NAME, scratch)
        state = {names[name]: value for name, value in load_file(weights).items()}
        save_file(state, Path(scratch) / SAFETENSORS_WEIGHTS_NAME)
        yield Path(scratch)


def read_settings(path: Path) -> tuple[str, dict[str, Any]]:
    """(kind, settings) of an adapter_config.json.

    Raises:
        AdapterError: see `read_adapter`.
    """
    register()
    try:
        if path.stat().st_size > MOST_SETTINGS:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        given = read_json(path)
    except (OSError, ValueError) as error:
        raise _fault(f"{CONFIG_NAME} cannot be read ({error})", "Save the adapter again with PEFT") from error
    kind = given.get("peft_type")
    if not isinstance(kind, str):
        raise _fault(f"{CONFIG_NAME} names no kind of adapter", "Save the adapter with PEFT")
    if kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise AdapterError(
            expected="an adapter of a kind that PEFT or this project knows",
            got=f"{CONFIG_NAME} names {kind[:60]!r}",
            remedy="Update peft, or convert the adapter",
        )
    mapping = given.get("auto_mapping") or {}
    library = mapping.get("parent_library", "transformers") if isinstance(mapping, dict) else "transformers"
    if not isinstance(library, str) or library.split(".")[0] not in ("transformers", ""):
        raise _fault(f"{CONFIG_NAME} asks for the library {str(library)[:60]}", "Save it again without custom code")
    known = _known_settings(kind)
    settings = {name: value for name, value in given.items() if name in known and value is not None}
    for name, value in settings.items():
        # PEFT's own list of starts leaves out those with a number behind.
        if not _fits(value, known[name]) and not (name == "init_lora_weights" and isinstance(value, str)):
            shown = json.dumps(value)[:60]
            raise _fault(f"{CONFIG_NAME} gives {shown} for {name}, which PEFT does not take", "Save it again with PEFT")
    _check_names(settings)
    for name, does in _REFUSED.items():
        if settings.get(name):
            raise _fault(f"It uses {name}, which {does}", "Train it without, or load it with peft alone")
    start = settings.get("init_lora_weights")
    if isinstance(start, str) and start.lower() in _NEEDS_DATA:
        raise _fault(
            f"It was started with init_lora_weights={start!r}, which replaces the base's own weights",
            "Save it as plain LoRA (path_initial_model_for_weight_conversion of PEFT's save_pretrained)",
        )
    return kind, {**settings, "auto_mapping": None, **({"loftq_config": {}} if "loftq_config" in settings else {})}


def adapter_fingerprint(folder: str | Path) -> str:
    """SHA-256 of an adapter's files, in hex digits: of its weights and of its settings, which say how strongly they
    count.

    Raises:
        OSError: the folder holds no weights, or they cannot be read.
    """
    files = [Path(folder) / name for name in (SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME, CONFIG_NAME)]
    there = [path for path in files if path.is_file()]
    if not set(there) & set(files[:2]):
        raise FileNotFoundError(files[0])
    return hashlib.sha256("".join(file_digest(path) for path in there).encode()).hexdigest()


def is_literal(text: str) -> bool:
    """Whether a text is a plain name, so that nothing happens when it is used as a regular expression."""
    return _LITERAL.fullmatch(text) is not None


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Tensor -> shape, from a safetensors file's head (a length, then JSON), checked against the file's size.

    Raises:
        AdapterError: the file is damaged.
    """
    return read_head(path)[0]


def add_notes(path: Path, notes: Mapping[str, str]) -> None:
    """Write texts into the head of a safetensors file, where they go with the weights and trouble no reader.

    Raises:
        OSError: it cannot be written; the file is then as before.
    """
    with path.open("rb") as stream, whole_file(path) as target:
        _, head = load_head(stream, path.stat().st_size)
        head["__metadata__"] = {**head.get("__metadata__", {}), **notes}
        text = json.dumps(head, ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        target.write(struct.pack("<Q", len(text)) + text)
        shutil.copyfileobj(stream, target, 1 << 20)


def _pickled_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        values = torch.load(path, map_location="meta", weights_only=True)
        return {name: tuple(value.shape) for name, value in values.items()}
    except _UNREADABLE as error:
        raise _fault(f"{path.name} cannot be read as tensors", "Save the adapter anew, as safetensors") from error


def _plain(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    try:
        names = plain_names(shapes, _TOPS)
    except ValueError as error:
        raise _fault(str(error), "Save the adapter again with PEFT") from error
    return {names[name]: shape for name, shape in shapes.items()}


def _check_copies(weights: Path, pickled: Path) -> None:
    if found := find_stand_in(pickled):
        raise _fault(f"{pickled.name} is {found.what}", found.remedy)
    try:
        other = torch.load(pickled, map_location="cpu", weights_only=True)
        fault = first_difference(load_file(weights), other)
    except (*_UNREADABLE, SafetensorError) as error:
        raise _fault(
            f"{pickled.name} beside {weights.name} cannot be compared with it", f"Move {pickled.name} away"
        ) from error
    if fault:
        raise _fault(
            f"{weights.name} and {pickled.name} differ: {fault}", "Move the one that is not meant out of the folder"
        )


def _known_settings(kind: str) -> dict[str, Any]:
    """Setting -> type of PEFT's configuration of one method."""
    config = PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    hints = get_type_hints(config)
    taken = {item.name for item in dataclasses.fields(config) if item.init} - {"runtime_config"}
    return {name: hint for name, hint in hints.items() if name in taken}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value can stand for a type; where several are told apart no further, the outer one decides."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in inner)
    if origin is Literal:
        return value in inner
    if hint in (int, float):
        # Written so, "inf", "nan" and numbers that no float holds are none of them.
        return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST
    if (origin or hint) in (list, set, tuple):
        part = inner[0] if inner else Any
        return isinstance(value, list) and all(_fits(entry, part) for entry in value)
    if (origin or hint) is dict:
        return isinstance(value, dict) and all(_fits(entry, inner[1] if inner else Any) for entry in value.values())
    if isinstance(hint, type):
        if issubclass(hint, (str, enum.Enum)):
            return isinstance(value, str)
        return isinstance(value, dict) if dataclasses.is_dataclass(hint) else isinstance(value, hint)
    return True


def _check_names(settings: dict[str, Any]) -> None:
    """Names in lists are plain names, of which there are not too many; one text may be a pattern, and is replaced."""
    for name in _NAME_LISTS:
        given = settings.get(name)
        if name == "modules_to_save" and isinstance(given, str):
            given = settings[name] = [given]
        if not isinstance(given, (list, dict)) or (name == "trainable_token_indices" and isinstance(given, list)):
            continue
        odd = next((entry for entry in given if not isinstance(entry, str) or not is_literal(entry)), None)
        if odd is not None or len(given) > _MOST_NAMES:
            got = f"{len(given):,} names" if odd is None else f"{str(odd)[:60]!r}"
            raise _fault(f"{name} in {CONFIG_NAME} holds {got}", "Name modules by plain names, without a pattern")

    for name, given in settings.items():
        if name.endswith("_pattern") and isinstance(given, dict) and len(given) > _MOST_PATTERNS:
            raise _fault(f"{name} in {CONFIG_NAME} has {len(given):,} entries", "Save the adapter again as plain LoRA")


def _fault(got: str, remedy: str) -> AdapterError:
    return AdapterError(expected="an adapter in PEFT's format whose settings can be checked", got=got, remedy=remedy)
