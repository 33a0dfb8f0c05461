"""Original LLaVA checkpoints, written once as transformers' own: tensor by tensor, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from huggingface_hub.utils import WeakFileLock
from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, GenerationConfig

from a3tune.errors import ModelError
from a3tune.models.checkpoint_folder import check_kind, is_original, read_configuration_file, read_json
from a3tune.models.download import fetch_tower, locate
from a3tune.models.llava_med import KNOWN_TOWERS, OriginalCheckpoint, holds_tower, read_original, tower_folder
from a3tune.models.tensors import StoredTensor, read_tensors, write_tensors
from a3tune.progress import Progress, no_progress
from a3tune.storage import cache_folder

RECORD = "a3tune.json"
"""In a folder that was converted: what from, and that its images are prepared with PIL, as LLaVA does."""

_FORMAT = 1
_SHARD = 1 << 30
_ENDS_IN_VOCABULARY = ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight")


def model_folder(
    source: str | Path, *, vision_tower: str | Path | None = None, on_progress: Progress = no_progress
) -> Path:
    """The folder with a checkpoint in transformers' format that ``source`` stands for: fetched from the hub, and
    converted, where that is needed and was not done before.

    Args:
        source: a folder, or a hub id.
        vision_tower: as for :func:`a3tune.models.llava_med.read_original`.
        on_progress: called with what is being done and the share done.

    Raises:
        ModelError: the files cannot be had, or are of a model that cannot be asked about an image.
    """
    folder = locate(source, on_progress)
    if is_original(read_configuration_file(folder)):
        folder = converted_folder(folder, vision_tower=vision_tower, on_progress=on_progress)
    check_kind(read_configuration_file(folder), str(folder / "config.json"))
    return folder


def converted_folder(
    folder: Path, *, vision_tower: str | Path | None = None, on_progress: Progress = no_progress
) -> Path:
    """The converted copy of an original checkpoint in the cache folder, written now when it is not there.

    Args:
        folder: the original checkpoint; it is only read.
        vision_tower: as for :func:`a3tune.models.llava_med.read_original`.
        on_progress: told how far the writing is.

    Raises:
        ModelError: the checkpoint cannot be restated, or the copy cannot be written.
    """
    name = str(read_json(folder / "config.json").get("mm_vision_tower"))
    tower = tower_folder(folder, name, vision_tower)
    # Only what LLaVA was published with is fetched unasked: a checkpoint may not send this machine anywhere else.
    if tower is None and name in KNOWN_TOWERS and not holds_tower(folder):
        tower = fetch_tower(name, on_progress)
    target = cache_folder() / "models" / f"{_safe(folder)}-{_digest([folder, tower])}"
    if not target.is_dir():
        convert(read_original(folder, tower), target, on_progress=on_progress)
    return target


def convert(
    original: OriginalCheckpoint, target: Path, *, shard_size: int = _SHARD, on_progress: Progress = no_progress
) -> None:
    """Write ``original`` to the new folder ``target``, in the data types that it is stored in.

    At most one tensor is in memory. The folder appears under its name when all is written; processes that want the
    same folder wait for the first.

    Args:
        shard_size: bytes of one weight file, at most (a larger single tensor gets a file of its own).

    Raises:
        ModelError: the disk is full or cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
        if free < original.size * 1.02 + (64 << 20):
            raise ModelError(
                expected=f"{original.size / 1e9:.1f} GB of free space for the converted copy in {target.parent}",
                got=f"{free / 1e9:.1f} GB",
                remedy="Free some space, or set A3TUNE_CACHE to a folder on a larger disk",
            )
        with WeakFileLock(target.with_name(target.name + ".lock")):
            if target.is_dir():
                return
            partial = target.with_name(target.name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)  # left by a run that was cut off
            partial.mkdir()
            try:
                _write(original, partial, shard_size, on_progress)
                os.replace(partial, target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise ModelError(
            expected=f"a folder for the converted copy that can be written ({target.parent})",
            got=f"writing failed: {error.strerror or error}",
            remedy="Check its permissions and the free space, or set A3TUNE_CACHE to another folder",
        ) from error


def prepares_with_pil(folder: Path) -> bool:
    """Whether a checkpoint folder was converted here, and so wants its images prepared with PIL."""
    return (folder / RECORD).is_file() and read_json(folder / RECORD).get("images") == "pil"


def _write(original: OriginalCheckpoint, folder: Path, shard_size: int, report: Progress) -> None:
    what = f"converting {original.folder.name} for transformers, once"
    report(what, 0.0)
    shards = _shards(original, shard_size)
    places: dict[str, str] = {}
    done = 0
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        layout = [_widened(original, name) for name in names]
        write_tensors(folder / file, layout, _values(original, names, layout))
        places |= dict.fromkeys(names, file)
        done += sum(original.tensors[name].size for name in names)
        report(what, done / original.size)
    index = {"metadata": {"total_size": original.size}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1, sort_keys=True), encoding="utf-8")
    config = original.config
    config.architectures = [MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)].__name__]
    config.dtype = original.tensors[_ENDS_IN_VOCABULARY[0]].dtype
    config.save_pretrained(folder)
    original.processor.save_pretrained(folder)
    tokenizer = original.processor.tokenizer
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    GenerationConfig(**ends).save_pretrained(folder)
    record = {"format": _FORMAT, "from": original.folder.name, "images": "pil"}
    (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")


def _shards(original: OriginalCheckpoint, shard_size: int) -> list[list[str]]:
    """Names for each new file, in the order of the files they come from."""
    shards: list[list[str]] = []
    room = 0
    for name, tensor in sorted(original.tensors.items(), key=lambda item: (str(item[1].file), item[0])):
        if not shards or tensor.size > room:
            shards.append([])
            room = shard_size
        shards[-1].append(name)
        room -= tensor.size
    return shards


def _widened(original: OriginalCheckpoint, name: str) -> StoredTensor:
    """The tensor under its new name, with a row for the image token where that is missing."""
    stored = original.tensors[name]
    rows = max(original.rows, stored.shape[0]) if name in _ENDS_IN_VOCABULARY else stored.shape[0]
    return replace(stored, name=name, shape=(rows, *stored.shape[1:]))


def _values(original: OriginalCheckpoint, names: list[str], layout: list[StoredTensor]) -> Iterator[torch.Tensor]:
    for (_, value), wanted in zip(read_tensors(original.tensors[name] for name in names), layout, strict=True):
        missing = wanted.shape[0] - len(value)
        # The image token's row is never read: patches take its place in the prompt.
        yield torch.cat([value, value.new_zeros(missing, *value.shape[1:])]) if missing else value


def _digest(folders: Sequence[Path | None]) -> str:
    """Changes with any file in the folders, by content for small files and by size and time for weights."""
    seen: list[int | list] = [_FORMAT]
    for place in (folder for folder in folders if folder is not None):
        for file in sorted(path for path in place.iterdir() if path.is_file()):
            status = file.stat()
            content = file.read_bytes() if status.st_size < 4 << 20 else b""
            identity = hashlib.sha256(content).hexdigest() if content else status.st_mtime_ns
            seen.append([file.name, status.st_size, identity])
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:12]


def _safe(folder: Path) -> str:
    # In the hub's cache the folder is models--OWNER--NAME/snapshots/COMMIT.
    name = folder.parent.parent.name.removeprefix("models--") if folder.parent.name == "snapshots" else folder.name
    return re.sub(r"[^\w.-]", "_", name) or "model"
