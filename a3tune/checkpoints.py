"""Reading weights from files that nobody vouches for: tensors only, never code."""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from a3tune import hub
from a3tune.errors import LabelError
from a3tune.hub_errors import hub_errors
from a3tune.progress import Progress, no_progress
from a3tune.state_dicts import plain_names, quantized
from a3tune.storage import UNREADABLE_WEIGHTS, find_stand_in, is_folder, named_path

HUB_PREFIX = "hub:"
_WRAPPERS = ("model", "state_dict", "model_state_dict")


def read_checkpoint(path: str | Path, *, purpose: str) -> dict[str, torch.Tensor]:
    """Read a state dict from a ``.safetensors`` file or from a file written by ``torch.save``.

    Pickled files go through ``torch.load(weights_only=True)``: a file that asks to run code is refused and
    nothing in it runs. Tensors stay on the CPU; where the format allows, they are mapped from disk.

    Args:
        path: the file.
        purpose: what the weights are for, as it should read in an error ("a SAM checkpoint").

    Raises:
        LabelError: the file is missing, damaged, hostile, a pointer or web page in its place, or holds no named
            tensors or quantized ones.
    """
    path = named_path(path)
    if not os.path.isfile(path):
        raise LabelError(
            expected=f"{purpose} as a .pth, .pt, .bin or .safetensors file",
            got=f"There is no file {path}" if not is_folder(path) else f"{path} is a folder",
            remedy="Check the path, or leave it out to use the parts that come with the program",
        )
    if found := find_stand_in(path):
        raise LabelError(expected=purpose, got=f"{path.name} is {found.what}", remedy=found.remedy)
    try:
        state = load_file(path) if path.suffix == ".safetensors" else _unpickle_tensors(path)
    except pickle.UnpicklingError as error:
        raise LabelError(
            expected=f"{purpose}: a file with nothing but tensors",
            got=f"{path.name} is not plain weights and was not executed ({_first_sentence(error)})",
            remedy="Use the file from the model's own source, best in .safetensors form",
        ) from error
    except (*UNREADABLE_WEIGHTS, SafetensorError) as error:
        raise LabelError(
            expected=purpose,
            got=f"{path.name} cannot be read as weights ({_first_sentence(error)})",
            remedy="Fetch the file again and compare its size with the source",
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
            break
    if not isinstance(state, Mapping) or not state or not all(torch.is_tensor(value) for value in state.values()):
        raise LabelError(
            expected=f"{purpose}: named tensors",
            got=f"{path.name} holds something else",
            remedy="Use a file that holds the model's state dict",
        )
    if fault := quantized({name: value.dtype for name, value in state.items()}):
        raise LabelError(
            expected=f"{purpose} in float32, float16 or bfloat16",
            got=f"In {path.name} {fault}",
            remedy="Use the weights from before they were quantized",
        )
    if spread := next((name for name, value in state.items() if value.layout != torch.strided), None):
        raise LabelError(
            expected=f"{purpose}: dense tensors",
            got=f"In {path.name} {spread} is stored as {str(state[spread].layout).removeprefix('torch.')}",
            remedy="Save the model with dense weights (tensor.to_dense())",
        )
    try:
        names = plain_names(map(str, state))
    except ValueError as error:
        raise LabelError(
            expected=f"{purpose}: one model", got=f"In {path.name} {error}", remedy="Save the model alone"
        ) from error
    return {names[str(name)]: value for name, value in state.items()}


def locate_checkpoint(name: str | Path, *, purpose: str, gives: str, on_progress: Progress = no_progress) -> Path:
    """The file that a path or a place on the hub stands for; fetched when it is not there yet.

    Args:
        name: a path, or ``hub:OWNER/REPOSITORY/FILE`` (FILE may lie in folders) for a file on the Hugging Face hub.
        purpose: what the weights are for, as it should read in an error ("a SAM checkpoint").
        gives: what the file would have been used for, likewise ("which finds the regions").
        on_progress: told how many bytes have come.

    Raises:
        LabelError: the place is not of that form, or the file is neither there nor can it be fetched.
        RequestError: the disk is full.
    """
    place = hub_place(name)
    if place is None:
        return named_path(name)
    repository, file = place
    if not file:
        raise LabelError(
            expected=f"{purpose} on the hub, written {HUB_PREFIX}OWNER/REPOSITORY/FILE",
            got=f"The place is {str(name)!r}",
            remedy=f"Write for instance {HUB_PREFIX}ybelkada/segment-anything/checkpoints/sam_vit_b_01ec64.pth",
        )
    with hub_errors(
        repository,
        LabelError,
        what=f"{file} of {repository}: {purpose}, {gives}",
        command=f"hf download {repository} {file} --local-dir FOLDER",
        otherwise=", or use litemedsam, which comes with the program",
    ):
        return hub.fetch_file(repository, file, on_progress)


def hub_place(name: str | Path) -> tuple[str, str] | None:
    """(repository, file) of a place on the hub, the file empty where the place is incomplete; None for a path."""
    text = str(name)
    if not text.startswith(HUB_PREFIX):
        return None
    owner, _, rest = text.removeprefix(HUB_PREFIX).partition("/")
    repository, _, file = rest.partition("/")
    return f"{owner}/{repository}", file if owner and repository else ""


def load_strictly(
    model: torch.nn.Module, state: Mapping[str, torch.Tensor], *, name: str, purpose: str, assign: bool = False
) -> None:
    """Put ``state`` into ``model``; every name and every shape has to agree.

    Args:
        name: what the state is called in an error.
        purpose: what it is for, likewise.
        assign: whether the model takes the tensors themselves, in their precision, instead of copying them.

    Raises:
        LabelError: the first names that are missing, left over or of another shape.
    """
    own = model.state_dict()
    missing = [key for key in own if key not in state]
    extra = [key for key in state if key not in own]
    both = [key for key in own if key in state]
    shapes = [key for key in both if own[key].shape != state[key].shape]
    # Whole numbers in place of fractions are a quantizer's codes, which mean nothing without its scales.
    kinds = [key for key in both if own[key].is_floating_point() != state[key].is_floating_point()]
    if missing or extra or shapes or kinds:
        parts = [
            f"{len(keys)} {what} (first: {keys[0]})"
            for keys, what in (
                (missing, "weights missing"),
                (extra, "unknown"),
                (shapes, "of another shape"),
                (kinds, "not of the same kind of number"),
            )
            if keys
        ]
        raise LabelError(
            expected=purpose,
            got=f"{name} does not fit: {', '.join(parts)}",
            remedy="Choose the checkpoint that belongs to this model",
        )
    model.load_state_dict(state, assign=assign)


def check_finite(weights: Iterable[torch.Tensor], *, name: str, purpose: str) -> None:
    """Refuse weights that are not all finite, as a run leaves them that diverged: whatever such a model finds is thrown
    away later on, so that it looks like one that finds nothing.

    Args:
        weights: of any shape.
        name: of the file, for the error.
        purpose: what the weights are for, as in `load_strictly`.

    Raises:
        LabelError: there is such a weight.
    """
    if not all(weight.isfinite().all() for weight in weights):
        raise LabelError(
            expected=f"{purpose}: finite numbers",
            got=f"{name} holds NaN or infinite weights",
            remedy="Use a checkpoint from before training diverged, or fetch the file again",
        )


def weights_digest(
    state: Mapping[str, torch.Tensor], after: Callable[[torch.Tensor], object] = lambda weight: None
) -> str:
    """16 hex digits that change when any weight changes: part of the key of cached masks.

    Args:
        after: called with each weight once it has been read.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
        after(state[name])
    return digest.hexdigest()[:16]


def _unpickle_tensors(path: Path) -> object:
    # Only the zip form of torch.save can be mapped; older files are read whole.
    with warnings.catch_warnings():
        # About unusual pickle protocols; such a file is refused or read, and either is said in full.
        warnings.simplefilter("ignore", UserWarning)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def _first_sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].split(". ")[0] if lines else type(error).__name__
