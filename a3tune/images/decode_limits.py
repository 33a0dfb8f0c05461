"""What reading a file from outside may take, and the variables of the environment that say so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import psutil

from a3tune.errors import RequestError

PATIENCE = 5.0
"""How many times its seconds of processor time a file may take altogether."""
SECONDS_VARIABLE, MEMORY_VARIABLE = "A3TUNE_DECODE_SECONDS", "A3TUNE_DECODE_MEMORY"


@dataclass(frozen=True)
class DecodeLimits:
    """What one file may take.

    Attributes:
        seconds: processor time for any file; where the machine is busy with other work, or waits for its disk, a file
            may take `PATIENCE` times as long.
        bytes_per_second: a second more for as many bytes of the file.
        memory: bytes of working memory.
        total: bytes of working memory of all files together: where they take more, the one that takes most is ended.
        output: bytes of the decoded picture.
        rows: bytes of the rows of a data set's tables.
        file: bytes of one file that is unpacked.
        pictures, volumes, tables: how many PNG, JPEG, GIF, BMP and WebP files, how many others, and how many archives
            and data sets' tables are read at once.
        slow: how many more may be in the making that have taken a second already.
        spare: how many idle processes are kept for the next files, the last of them for pictures.
        waiting: how long a file may wait for its turn, in seconds.
    """

    seconds: float = 3.5
    bytes_per_second: float = 2 << 20
    memory: int = 2 << 30
    total: int = field(default_factory=lambda: psutil.virtual_memory().total // 2)
    output: int = 512 << 20
    rows: int = 128 << 20
    file: int = 4 << 30
    pictures: int = 4
    volumes: int = 4
    tables: int = 2
    slow: int = 6
    spare: int = 3
    waiting: float = 60.0


def limits_from(variables: Mapping[str, str]) -> DecodeLimits:
    """The usual limits, with what variables of the environment say of time and memory.

    Raises:
        RequestError: one of them is no number above 0.
    """
    usual = DecodeLimits()
    seconds = _number(variables, SECONDS_VARIABLE, usual.seconds)
    memory = _number(variables, MEMORY_VARIABLE, usual.memory / 2**30)
    return DecodeLimits(seconds=seconds, memory=int(memory * 2**30))


def _number(variables: Mapping[str, str], name: str, usual: float) -> float:
    text = variables.get(name, "").strip()
    try:
        value = float(text) if text else usual
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise RequestError(
            expected=f"a number above 0 for {name} (usually {usual:g})",
            got=f"It is {text}",
            remedy="Set it, or unset it",
        )
    return value
