"""Folders as encrypted files: each in one file that only the key opens, and only under the name that it was given.

A file is its salt and then chunks of AES-256-GCM. The file's own key is derived from salt and name (HKDF, RFC 5869); a
chunk's nonce is its number and whether it is the last (the STREAM construction of Hoang, Reyhanitabar, Rogaway and
Vizár, 2015), so that no chunk can be left out, added or moved.
"""

from __future__ import annotations

import os
import secrets
import tarfile
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from a3tune.errors import RequestError

_MARK = b"a3tune sealed 1\n"
_SALT, _TAG, _CHUNK = 32, 16, 1 << 20


def seal_folder(folder: Path, file: Path, name: str, key: bytes) -> None:
    """Write a folder's files, and nothing else of it, into an encrypted file, which is there whole or not at all.

    Args:
        folder: what is sealed.
        file: where; one that is there is replaced.
        name: has to be given again to open it.
        key: 32 bytes.
    """
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as stream:
            part.chmod(0o600)
            sealer = _Sealer(stream, name, key)
            with tarfile.open(fileobj=sealer, mode="w|") as archive:  # type: ignore[call-overload]
                archive.add(folder, ".", filter=lambda entry: entry if entry.isreg() or entry.isdir() else None)
            sealer.end()
            stream.flush()
            os.fsync(stream.fileno())
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)


def open_sealed(file: Path, folder: Path, name: str, key: bytes) -> None:
    """Write what `seal_folder` sealed into a folder that does not exist yet.

    Raises:
        RequestError: another key or name, or the file was changed or cut off.
    """
    folder.mkdir(mode=0o700, parents=True)
    try:
        with file.open("rb") as stream:
            opener = _Opener(stream, name, key)
            with tarfile.open(fileobj=opener, mode="r|") as archive:  # type: ignore[call-overload]
                archive.extractall(folder, filter="data")
            while opener.read(_CHUNK):
                pass
    except (InvalidTag, tarfile.TarError, EOFError) as error:
        raise RequestError(
            expected="what was kept, as it was kept, and the key that it was kept with",
            got="It was changed, or the key is another one",
            remedy="Tell whoever runs this server",
        ) from error


def _cipher(key: bytes, salt: bytes, name: str) -> AESGCM:
    return AESGCM(HKDF(SHA256(), 32, salt, b"a3tune sealed " + name.encode()).derive(key))


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


class _Sealer:
    """A stream that encrypts what is written to it."""

    def __init__(self, stream: BinaryIO, name: str, key: bytes) -> None:
        salt = secrets.token_bytes(_SALT)
        stream.write(_MARK + salt)
        self._stream, self._cipher = stream, _cipher(key, salt, name)
        self._held, self._number = bytearray(), 0

    def write(self, data: bytes) -> int:
        self._held += data
        while len(self._held) > _CHUNK:
            self._put(bytes(self._held[:_CHUNK]), last=False)
            del self._held[:_CHUNK]
        return len(data)

    def end(self) -> None:
        self._put(bytes(self._held), last=True)

    def _put(self, chunk: bytes, *, last: bool) -> None:
        self._stream.write(self._cipher.encrypt(_nonce(self._number, last), chunk, None))
        self._number += 1


class _Opener:
    """A stream that decrypts what is read from it."""

    def __init__(self, stream: BinaryIO, name: str, key: bytes) -> None:
        head = stream.read(len(_MARK) + _SALT)
        if not head.startswith(_MARK) or len(head) < len(_MARK) + _SALT:
            raise EOFError
        self._stream, self._cipher = stream, _cipher(key, head[len(_MARK) :], name)
        self._held, self._number = bytearray(), 0
        self._next = stream.read(_CHUNK + _TAG)

    def read(self, size: int) -> bytes:
        while len(self._held) < size and self._number >= 0:
            chunk, self._next = self._next, self._stream.read(_CHUNK + _TAG)
            self._held += self._cipher.decrypt(_nonce(self._number, not self._next), chunk, None)
            self._number = self._number + 1 if self._next else -1
        data = bytes(self._held[:size])
        del self._held[:size]
        return data
