"""What a program and the process that decodes for it tell each other: pickled values over a pipe, arrays uncopied.

A decoder may be taken over by the file that it reads, and whoever unpickles what it then says would be taken over too.
So a reply is unpickled to arrays and paths, and to records and errors of this library, only.
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
from dataclasses import is_dataclass
from typing import Any, BinaryIO

from a3tune.errors import A3TuneError

_ROOMS = ("a3tune.errors", "a3tune.images.", "a3tune.data.", "a3tune.types")
_ARRAYS = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
}
# Of the standard library what cannot do anything, and of this one what is no record.
_PLAIN = {
    *((room, name) for room in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath")),
    ("collections", "Counter"),
    ("a3tune.data.formats.faults", "FaultLog"),
    ("a3tune.data.formats.faults", "RowNumber"),
}
_MOST_PARTS = 64


class TooLarge(Exception):
    """A message takes more bytes than it may."""


def send(stream: BinaryIO, value: object, most: int = sys.maxsize) -> None:
    """Write a message.

    Raises:
        TooLarge: it would take more than ``most`` bytes; nothing was written.
        OSError: nobody reads it.
    """
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, 5, buffer_callback=buffers.append)
    parts = [memoryview(head), *(buffer.raw() for buffer in buffers)]
    sizes = [part.nbytes for part in parts]
    if sum(sizes) > most or len(parts) > _MOST_PARTS:
        raise TooLarge
    stream.write(struct.pack(f"<I{len(parts)}Q", len(parts), *sizes))
    for part in parts:
        stream.write(part)
    stream.flush()


def receive(stream: BinaryIO, most: int = sys.maxsize, *, trusted: bool = False) -> Any:
    """Read a message.

    Args:
        stream: where it comes from.
        most: how many bytes it may take.
        trusted: whether it comes from the program itself, and may hold anything.

    Raises:
        EOFError: the other side is gone.
        TooLarge: it takes more than ``most`` bytes; it was not read.
        pickle.UnpicklingError: it holds what no reader gives.
    """
    (count,) = struct.unpack("<I", _exactly(stream, 4))
    if count > _MOST_PARTS:
        raise TooLarge
    sizes = struct.unpack(f"<{count}Q", _exactly(stream, 8 * count))
    if sum(sizes) > most:
        raise TooLarge
    head, *buffers = [_exactly(stream, size) for size in sizes]
    load = pickle.Unpickler if trusted else _ReplyUnpickler
    return load(io.BytesIO(head), buffers=buffers).load()


def _exactly(stream: BinaryIO, size: int) -> bytearray:
    data = bytearray(size)
    view, read = memoryview(data), 0
    while read < size:
        got = stream.readinto(view[read:])  # type: ignore[attr-defined]
        if not got:
            raise EOFError
        read += got
    return data


class _ReplyUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # A name with a dot would reach through a module to what that imports.
        if "." not in name:
            if (module, name) in _ARRAYS | _PLAIN:
                return super().find_class(module, name)
            if module.startswith(_ROOMS):
                found = super().find_class(module, name)
                if (module, name) == ("a3tune.errors", "_rebuild") or (
                    isinstance(found, type)
                    and found.__module__ == module
                    and (is_dataclass(found) or issubclass(found, A3TuneError | tuple))
                ):
                    return found
        raise pickle.UnpicklingError(f"a reader gives no {module}.{name}")
