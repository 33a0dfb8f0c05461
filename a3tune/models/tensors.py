"""Weight files, read tensor by tensor: safetensors, and PyTorch's ``.bin`` without running the code it may hold."""

from __future__ import annotations

import json
import math
import pickle
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from a3tune.errors import ModelError
from a3tune.models.checkpoint_folder import read_json
from a3tune.state_dicts import first_difference, plain_names, quantized
from a3tune.storage import UNREADABLE_WEIGHTS, find_stand_in

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
SAFETENSORS_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
"""Data type -> what safetensors calls it."""

_FORMS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, not read yet."""

    name: str
    file: Path
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a checkpoint folder: ``model.safetensors`` or the shards that its index names, else the same
    of ``pytorch_model.bin``.

    Raises:
        ModelError: there are none, or the index is damaged.
    """
    if copies := _copies(folder):
        return copies[0]
    raise ModelError(
        expected="model.safetensors or pytorch_model.bin (or their shards and index)",
        got=f"{folder} without weights",
        remedy="Fetch the missing files",
    )


def list_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of a checkpoint folder by its name in the model, without what wrappers put before it; safetensors
    files count before pickled ones.

    Raises:
        ModelError: there are no weights, one is missing, damaged, quantized, or holds more than tensors.
    """
    stored = {tensor.name: tensor for file in weight_files(folder) for tensor in _headers(file)}
    if fault := quantized({name: tensor.dtype for name, tensor in stored.items()}):
        raise _quantized(fault)
    names = _plain_names(folder, stored)
    return {names[name]: tensor for name, tensor in stored.items()}


def read_tensors(tensors: Iterable[StoredTensor]) -> Iterator[tuple[StoredTensor, torch.Tensor]]:
    """The tensors in the order given, on the CPU as they are stored; neighbours in one file share its opening.

    Raises:
        ModelError: a file cannot be read.
    """
    opened: Path | None = None
    values: Any = None
    for tensor in tensors:
        if tensor.file != opened:
            values, opened = open_weights(tensor.file), tensor.file
        try:
            value = values[tensor.name] if isinstance(values, dict) else values.get_tensor(tensor.name)
        except (KeyError, SafetensorError, OSError) as error:
            raise _damaged(tensor.file, error) from error
        yield tensor, value


def write_tensors(file: Path, tensors: Sequence[StoredTensor], values: Iterable[torch.Tensor]) -> None:
    """Write a safetensors file one tensor at a time, so that no more than one is in memory.

    The format is a length, a JSON header and the numbers: https://huggingface.co/docs/safetensors.

    Args:
        tensors: name, shape and data type of each tensor; their ``file`` is not looked at.
        values: their values, in the same order.
    """
    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        start, end = end, end + tensor.size
        header[tensor.name] = {
            "dtype": SAFETENSORS_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(file, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for value in values:
            out.write(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def lazy_weights(folder: Path) -> dict[str, Any]:
    """Every tensor of a safetensors checkpoint as a slice that is read when it is indexed.

    Raises:
        ModelError: as :func:`list_tensors`.
    """
    return _slices(weight_files(folder))


def check_copies(folder: Path) -> None:
    """Refuse a folder that holds its weights in several forms which do not hold the same: nothing tells which is meant.

    Raises:
        ModelError: naming two files and their first difference, or a file is damaged.
    """
    first, *others = _copies(folder)
    for other in others:
        if fault := first_difference(_slices(first), _slices(other)):
            raise ModelError(
                expected="one set of weights in the folder",
                got=f"{first[0].name} and {other[0].name} differ: {fault}",
                remedy="Move the file that is not meant, often the older one, out of the folder",
            )


def _copies(folder: Path) -> list[list[Path]]:
    """The weight files in each form in which a folder holds them, the one that counts first."""
    found = []
    for name in _FORMS:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            found.append([folder / name])
        if index.is_file():
            places = read_json(index).get("weight_map")
            if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
                raise ModelError(expected=f"a weight_map in {index}", got="none", remedy="Fetch the file again")
            files = {folder / name for name in places.values()} - {file for form in found for file in form}
            if files:
                found.append(sorted(files))
    return found


def _slices(files: Sequence[Path]) -> dict[str, Any]:
    slices: dict[str, Any] = {}
    for file in files:
        opened = open_weights(file)
        is_read = isinstance(opened, dict)
        slices |= {name: opened[name] if is_read else opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
    names = _plain_names(files[0].parent, slices)
    return {names[name]: part for name, part in slices.items()}


def _plain_names(folder: Path, names: Iterable[str]) -> dict[str, str]:
    try:
        return plain_names(names, ("model.", "lm_head.", "language_model.lm_head."))
    except ValueError as error:
        raise ModelError(
            expected=f"the weights of one model in {folder.name}", got=str(error), remedy="Save the model alone"
        ) from error


def _quantized(fault: str) -> ModelError:
    return ModelError(
        expected="weights as plain numbers",
        got=fault,
        remedy="Choose a checkpoint that is not quantized; 8 and 4 bit can be chosen when loading",
    )


def _headers(file: Path) -> list[StoredTensor]:
    values = open_weights(file)
    if isinstance(values, dict):
        return [StoredTensor(name, file, tuple(value.shape), value.dtype) for name, value in values.items()]
    headers = []
    for name in values.keys():  # noqa: SIM118 - an open file, not a mapping
        entry = values.get_slice(name)
        kind = entry.get_dtype()
        if kind not in _DTYPES:
            raise _quantized(f"{name} in {file.name} is stored as {kind}")
        headers.append(StoredTensor(name, file, tuple(entry.get_shape()), _DTYPES[kind]))
    return headers


def open_weights(file: Path) -> Any:
    """An open safetensors file, or a dictionary of tensors that lie in the file until they are used."""
    if not file.is_file():
        raise ModelError(
            expected=f"the weight file {file.name}",
            got=f"{file.parent} without it",
            remedy="Fetch the missing file into the folder",
        )
    if found := find_stand_in(file):
        raise ModelError(expected="a complete weight file", got=f"{file.name} is {found.what}", remedy=found.remedy)
    try:
        if file.suffix == ".safetensors":
            # Read, not mapped: the pages of a mapped file would count as this process's memory beside the tensors.
            return safe_open(file, framework="pt", backend="pread")
        # Files of before 2020 are no zip archives, and cannot be read piece by piece.
        values = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        raise ModelError(
            expected=f"tensors and nothing else in {file.name}",
            got="a pickle that wants to run code, or a damaged file",
            remedy="Fetch the file again from a source that you trust, or a copy in safetensors format",
        ) from error
    except (SafetensorError, *UNREADABLE_WEIGHTS) as error:
        raise _damaged(file, error) from error
    if not isinstance(values, dict) or not all(isinstance(value, torch.Tensor) for value in values.values()):
        raise ModelError(
            expected=f"tensors by name in {file.name}", got="something else", remedy="Fetch the model's weights"
        )
    return values


def _damaged(file: Path, error: Exception) -> ModelError:
    return ModelError(
        expected="a complete weight file",
        got=f"{file.name} is damaged ({error})",
        remedy="Fetch the file again; an interrupted download or copy leaves it cut off",
    )
