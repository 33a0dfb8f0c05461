"""What tells one model's weights from all others: a digest over every tensor as it is stored."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import torch

from a3tune.bundle import model_source
from a3tune.errors import ModelError
from a3tune.models.download import locate
from a3tune.models.tensors import SAFETENSORS_NAMES, open_weights, weight_files
from a3tune.progress import Progress, no_progress
from a3tune.storage import cache_folder, read_json_or_empty, write_json

_BLOCK = 8 << 20
_THREADS = 4
_HEADER = 1 << 30
_DIGITS = 64


def weights_fingerprint(source: str | Path, on_progress: Progress = no_progress) -> str:
    """64 hex digits: SHA-256 over name, data type, shape and bytes of every tensor, in the order of their names.

    How the tensors are spread over files, and what the files are called, makes no difference, nor does the precision
    that a model is loaded in. Of an original LLaVA checkpoint, its own tensors count and not those of its conversion.
    It is kept in the cache folder for as long as the files keep their paths, sizes and times.

    Args:
        source: "demo", a checkpoint folder or a hub id.
        on_progress: told how much has been read when it has to be made.

    Raises:
        ModelError: there is no such checkpoint, or a weight file is missing or damaged.
    """
    folder = locate(model_source(str(source)), on_progress)
    files = weight_files(folder)
    try:
        facts = [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
        name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
        kept = cache_folder() / "fingerprints" / f"{name}.json"
        known = read_json_or_empty(kept).get("fingerprint")
        if isinstance(known, str) and len(known) == _DIGITS:
            return known
        lines: list[str] = []
        for number, file in enumerate(files):
            on_progress("reading the base's weights, once", number / len(files))
            lines += _of_safetensors(file) if file.suffix == ".safetensors" else _of_pickled(file)
        on_progress("reading the base's weights, once", 1.0)
    except (OSError, ValueError, LookupError, TypeError, struct.error) as error:
        raise ModelError(
            expected="complete weight files",
            got=f"A weight file of {folder.name} cannot be read ({getattr(error, 'strerror', None) or error})",
            remedy="Check the folder and its permissions, or fetch the files again",
        ) from error
    found = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    # A cache that cannot be written costs time, no more.
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, {"fingerprint": found, "files": facts})
    return found


def _line(name: str, dtype: str, shape: list[int], digest: str) -> str:
    return json.dumps([name, dtype, shape, digest])


def _of_safetensors(file: Path) -> list[str]:
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > min(_HEADER, file.stat().st_size):
            raise ValueError(f"{file.name} is cut off")
        header = json.loads(stream.read(length))
    header.pop("__metadata__", None)

    def digest(entry: dict) -> str:
        start, end = entry["data_offsets"]
        return _digest(_blocks(file, 8 + length + start, end - start))

    with ThreadPoolExecutor(_THREADS) as pool:
        digests = pool.map(digest, header.values())
        pairs = zip(header.items(), digests, strict=True)
        return [_line(name, entry["dtype"], entry["shape"], found) for (name, entry), found in pairs]


def _blocks(file: Path, start: int, size: int) -> Iterator[bytes]:
    with file.open("rb", buffering=0) as stream:
        stream.seek(start)
        while size:
            block = stream.read(min(size, _BLOCK))
            if not block:
                raise ValueError(f"{file.name} is cut off")
            size -= len(block)
            yield block


def _of_pickled(file: Path) -> list[str]:
    lines = []
    for name, tensor in open_weights(file).items():
        numbers = memoryview(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
        blocks = (numbers[start : start + _BLOCK] for start in range(0, len(numbers), _BLOCK))
        kind = SAFETENSORS_NAMES.get(tensor.dtype, str(tensor.dtype))
        lines.append(_line(name, kind, list(tensor.shape), _digest(blocks)))
    return lines


def _digest(blocks: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()
