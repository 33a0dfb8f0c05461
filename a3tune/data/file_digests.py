"""The digests of files: what tells the same image under two names."""

from __future__ import annotations

from pathlib import Path

from a3tune.errors import DataError
from a3tune.storage import file_digest


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
