"""Whether a server keeps what its visitors bring beyond their visit, encrypted, and with which key."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path

from a3tune.errors import RequestError

KEEP_VARIABLE, KEY_VARIABLE, FILE_VARIABLE = "A3TUNE_KEEP", "A3TUNE_KEEP_KEY", "A3TUNE_KEEP_KEY_FILE"

_BYTES = 32
_MAKE = f"Make one with: openssl rand -base64 {_BYTES}, and name it in {FILE_VARIABLE} or {KEY_VARIABLE}"


def read_key(deployment: str, environment: Mapping[str, str]) -> bytes | None:
    """The key of what is kept: 32 bytes; None where nothing is kept encrypted.

    Args:
        deployment: the deployment's name.
        environment: ``A3TUNE_KEEP`` ("encrypted" or "no") and the key, as base64 in ``A3TUNE_KEEP_KEY`` or in the file
            that ``A3TUNE_KEEP_KEY_FILE`` names.

    Raises:
        RequestError: another word, a deployment that keeps nothing or all, no key, or one that is none.
    """
    word = environment.get(KEEP_VARIABLE, "").strip().lower() or "no"
    if word not in ("no", "encrypted"):
        raise RequestError(expected=f"encrypted or no for {KEEP_VARIABLE}", got=f"It is {word}", remedy="Correct it")
    if word == "no":
        return None
    if deployment != "server":
        raise RequestError(
            expected=f"the deployment server where {KEEP_VARIABLE} is encrypted",
            got=f"It is {deployment}",
            remedy="Choose that deployment, or unset the variable: local keeps until it is forgotten, a Space nothing",
        )
    text, file = environment.get(KEY_VARIABLE, ""), environment.get(FILE_VARIABLE, "").strip()
    if file:
        try:
            text = Path(file).read_text(encoding="utf-8")
        except (OSError, ValueError):
            raise RequestError(expected="a file with the key", got=f"{file} cannot be read", remedy=_MAKE) from None
    if not text.strip():
        raise RequestError(expected="a key for what is kept", got="There is none", remedy=_MAKE)
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _BYTES:
        raise RequestError(expected=f"a key of {_BYTES} bytes in base64", got="It is none", remedy=_MAKE)
    return key
