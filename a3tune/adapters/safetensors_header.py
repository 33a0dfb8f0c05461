"""The head of a safetensors file: which tensors it holds, of what shapes, and what it says beside them.

Whoever wrote the file wrote its head: it is read wherever files from outside are read (`a3tune.images.isolation`), and
nothing is computed from its numbers before these are known to be sizes.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any, BinaryIO

from a3tune.errors import AdapterError
from a3tune.images.isolation import isolable

_MOST_BYTES = 16 << 20
_MOST_TENSORS = 50_000
_LONGEST_NAME = 500
_MOST_SIDES = 16
_LARGEST_SIDE = 2**53
_EIGHT_BITS = ("I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0")


@isolable
def read_head(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """(tensor -> shape, the texts beside them) of a safetensors file, checked against the file's size.

    Raises:
        AdapterError: the file is damaged, or holds more tensors, longer names or larger shapes than an adapter has.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length, head = load_head(stream, min(size, _MOST_BYTES))
        entries = {name: entry for name, entry in head.items() if name != "__metadata__"}
        if len(entries) > _MOST_TENSORS or max(map(len, entries), default=0) > _LONGEST_NAME:
            raise ValueError(f"it has over {_MOST_TENSORS:,} tensors, or names of over {_LONGEST_NAME} letters")
        if eight := next((n for n, e in entries.items() if e["dtype"] in _EIGHT_BITS and "indices" not in n), None):
            raise ValueError(f"{eight} is stored as {entries[eight]['dtype']}, quantized; save it in 16 or 32 bit")
        shapes = {name: _shape(entry["shape"]) for name, entry in entries.items()}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        if not shapes or end != size - 8 - length or sum(map(math.prod, shapes.values())) > 8 * size:
            raise ValueError("it is cut off, or holds no tensors")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error, RecursionError) as error:
        raise AdapterError(
            expected=f"{path.name} as save_pretrained writes it",
            got=f"It cannot be read ({str(error)[:300]})",
            remedy="Download it again, or save the adapter anew",
        ) from error
    notes = head.get("__metadata__")
    texts = notes.items() if isinstance(notes, dict) else ()
    return shapes, {name: text for name, text in texts if isinstance(text, str)}


def load_head(stream: BinaryIO, most: int) -> tuple[int, dict[str, Any]]:
    """The length of a head in bytes, and what it says; the stream then stands at the tensors.

    Raises:
        ValueError, struct.error, RecursionError: it is none, or longer than ``most`` bytes.
    """
    (length,) = struct.unpack("<Q", stream.read(8))
    if length > most:
        raise ValueError("its head is longer than itself")
    head = json.loads(stream.read(length))
    if not isinstance(head, dict):
        raise ValueError("its head names no tensors")
    return length, head


def _shape(value: Any) -> tuple[int, ...]:
    """A shape of few and sensible sides: the product of a million of them would never be computed to its end."""
    sides = value if isinstance(value, list) and len(value) <= _MOST_SIDES else None
    if sides is None or not all(type(side) is int and 0 <= side <= _LARGEST_SIDE for side in sides):
        raise ValueError("it is cut off, or holds no tensors")
    return tuple(sides)
