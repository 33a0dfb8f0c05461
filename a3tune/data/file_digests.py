"""The digests of files: what tells the same image under two names."""

from __future__ import annotations

import hashlib
from pathlib import Path

from a3tune.errors import DataError

_CHUNK = 1 << 20


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class FileDigests(dict[Path, str]):
    """SHA-256 of the files of a data set that was checked, in hex, each read when it is first asked for.

    Raises:
        DataError: a file can no longer be read.
    """

    def __missing__(self, path: Path) -> str:
        try:
            self[path] = file_digest(path)
        except OSError as error:
            raise DataError(
                got=f"{path.name} cannot be read any more ({error.strerror})",
                expected="the images and masks that were there when the data was checked",
                remedy="Check the data folder and start again",
            ) from error
        return self[path]
