"""Ways to spoil a file: byte by byte, by its JSON values, or by the entries of its archive."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

_NUMBERS = (0, 1, 7, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_TEXTS = (
    b"",
    b"\x00" * 9,
    b"\xff\xfe",
    b"../../x",
    b"<html>",
    b"PK\x03\x04",
    b"NaN",
    b"1e999",
    b"\r\n",
    b'"',
    b",",
    b"{",
    b"[" * 3000,
    b"\xc3\x28",
    "é".encode(),
    "﷽".encode() * 40,
    b"-1",
    b"9" * 400,
    b"=1+1",
    b"\x1f\x8b",
    b"%s%n",
    b"\\u0000",
    b"\\ud800",
)
_ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    1e308,
    -0.5,
    2**31,
    2**63,
    10**400,
    "",
    "x" * 5000,
    "\x00",
    "../..",
    "(a+)+$",
    [],
    {},
    [[]],
    [None],
    {"": None},
    [1, "2", [3]],
    {"a": {"b": [{}]}},
    "NaN",
    float("nan"),
    float("inf"),
    "\ud800",
    ["a"] * 2000,
    "yes",
    "/etc/passwd",
    "C:\\x",
)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_NAMES = (
    "../x",
    "/x",
    "a/../../x",
    "a\\b",
    "x\x00y",
    "é.png",
    "a" * 300,
    ".",
    "",
    "con",
    "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r",
)
_DEEPEST = 1100


def spoil_bytes(random: Random, data: bytes) -> bytes:
    """The bytes with one to eight changes, often near the beginning, where headers are."""
    spoilt = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4, 8))):
        end = len(spoilt) if random.random() < 0.5 else min(len(spoilt), 600)
        place = random.randrange(end) if end else 0
        change = random.randrange(8)
        if change == 0 and spoilt:
            spoilt[place % len(spoilt)] ^= 1 << random.randrange(8)
        elif change == 1 and spoilt:
            spoilt[place % len(spoilt)] = random.randrange(256)
        elif change == 2:
            del spoilt[place : place + random.choice((1, 2, 4, 16, 200))]
        elif change == 3:
            spoilt[place:place] = random.choice(_TEXTS)
        elif change == 4:
            form = random.choice(("<H", ">H", "<I", ">I"))
            number = struct.pack(form, random.choice(_NUMBERS) & (0xFFFF if "H" in form else 0xFFFFFFFF))
            spoilt[place : place + len(number)] = number
        elif change == 5 and random.random() < 0.3:
            del spoilt[place:]
        elif change == 6:
            other = random.randrange(len(spoilt) + 1)
            spoilt[place:place] = spoilt[other : other + random.choice((1, 8, 64, 512))]
        elif change == 7:
            spoilt[place : place + 4] = random.randbytes(4)
    return bytes(spoilt)


def spoil_value(random: Random, value: Any) -> Any:
    """A JSON value in which one to three parts are another kind of thing, or gone, or there twice."""
    for _ in range(random.choice((1, 1, 2, 3))):
        value = _spoil_once(random, value)
    return value


def _spoil_once(random: Random, value: Any) -> Any:
    if isinstance(value, dict) and value and random.random() < 0.9:
        key = random.choice(list(value))
        change = random.random()
        if change < 0.1:
            return {name: entry for name, entry in value.items() if name != key}
        if change < 0.15:
            return {**value, str(random.choice(_ODD))[:50]: value[key]}
        return {**value, key: _spoil_once(random, value[key])}
    if isinstance(value, list) and value and random.random() < 0.85:
        place = random.randrange(len(value))
        change = random.random()
        if change < 0.1:
            return value[:place] + value[place + 1 :]
        if change < 0.2:
            return [*value, *value[place:]]
        return [*value[:place], _spoil_once(random, value[place]), *value[place + 1 :]]
    if isinstance(value, str) and random.random() < 0.3:
        return spoil_bytes(random, value.encode("utf-8", "replace")).decode("utf-8", "replace")
    return random.choice(_ODD)


def spoil_json(random: Random, text: bytes) -> bytes:
    """A JSON text whose values are spoilt, or now and then the text itself."""
    if random.random() < 0.15:
        return spoil_bytes(random, text)
    if random.random() < 0.02:
        return b"[" * _DEEPEST * 100
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # spoilt before
        return spoil_bytes(random, text)
    spoilt = json.dumps(spoil_value(random, value), ensure_ascii=random.random() < 0.5)
    if random.random() < 0.02:
        spoilt = spoilt[:-1] + ', "deep": ' + '{"a":' * _DEEPEST + "1" + "}" * (_DEEPEST + 1)
    return spoilt.encode("utf-8", "surrogatepass")


def spoil_lines(random: Random, text: bytes) -> bytes:
    """JSON Lines of which one or two are spoilt."""
    lines = text.splitlines()
    for _ in range(random.choice((1, 2))):
        place = random.randrange(len(lines))
        lines[place] = spoil_json(random, lines[place])
    return b"\n".join(lines) + b"\n" * random.randrange(2)


def spoil_archive(random: Random, data: bytes, spoil: Callable[[Random, str, bytes], bytes]) -> bytes:
    """A ZIP archive with an entry spoilt by ``spoil``, renamed, doubled, gone or packed otherwise; or spoilt itself.

    Args:
        spoil: (random, name, content) -> content.
    """
    if random.random() < 0.3:
        return spoil_bytes(random, data)
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        entries = [(info.filename, packed.read(info)) for info in packed.infolist()]
    place = random.randrange(len(entries))
    name, content = entries[place]
    change = random.random()
    if change < 0.55:
        entries[place] = name, spoil(random, name, content)
    elif change < 0.65:
        del entries[place]
    elif change < 0.8:
        entries[place] = random.choice(_NAMES) + random.choice(("", name)), content
    elif change < 0.9:
        entries.append((name, content))
    else:
        entries.append((random.choice(_NAMES), b"\0" * random.choice((0, 9, 100_000))))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", random.choice(_METHODS)) as packed:
        for name, content in entries:
            info = zipfile.ZipInfo(name or "x", (2020, 1, 1, 0, 0, 0))
            info.external_attr = random.choice((0o100644, 0o100644, 0o100644, 0o120777, 0o040755)) << 16
            packed.writestr(info, content, random.choice((packed.compression, *_METHODS)))
    return stream.getvalue() if random.random() < 0.85 else spoil_bytes(random, stream.getvalue())
