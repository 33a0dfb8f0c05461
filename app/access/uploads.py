"""Where uploads lie until they are opened: a folder of this process alone, wiped when the next one starts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

_PREFIX, _LOCK = "a3tune-", "in-use"


def private_folder(environment: os._Environ[str] | dict[str, str]) -> Path:
    """A new folder for the process's temporary files, which only this user can read; those that earlier processes left
    behind are removed.

    Gradio and Python's own ``tempfile`` put their files there from now on. It is made in ``$GRADIO_TEMP_DIR`` or the
    machine's temporary folder.
    """
    parent = Path(environment.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / f"{_PREFIX}{os.getuid()}")
    folder = fresh_folder(parent)
    environment["GRADIO_TEMP_DIR"] = str(folder / "uploads")
    (folder / "uploads").mkdir()
    (folder / "work").mkdir()
    tempfile.tempdir = str(folder / "work")
    return folder


def fresh_folder(parent: Path, clear: Callable[[Path], None] = lambda folder: None) -> Path:
    """A new folder that is this process's as long as it lives; those of processes that are gone are removed.

    Args:
        parent: where it is made; what else lies there stays.
        clear: called with a folder before it is removed.
    """
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in _left_behind(parent):
        clear(left)
        shutil.rmtree(left, ignore_errors=True)
    name = f"{_PREFIX}{secrets.token_hex(16)}"
    folder = parent / f".{name}"
    folder.mkdir(mode=0o700)
    # Held as long as the process lives, however it ends; nobody sees the folder before.
    lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return folder.rename(parent / name)


def _left_behind(parent: Path) -> Iterator[Path]:
    """The folders of processes that are gone."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield folder
            finally:
                os.close(lock)


class UploadFolder:
    """Uploads, each in a folder with an unguessable name.

    Args:
        root: where they lie; nothing else is there but what Gradio leaves.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def new(self) -> Path:
        """A new folder for one upload."""
        folder = self.root / secrets.token_urlsafe(24)
        folder.mkdir(mode=0o700, parents=True)
        return folder

    def folder_of(self, path: str) -> Path | None:
        """The folder of the upload that a path belongs to; None for any other path."""
        try:
            inside = Path(os.path.realpath(path)).relative_to(self.root)
        except (ValueError, OSError):
            return None
        return self.root / inside.parts[0] if len(inside.parts) > 1 else None

    def remove(self, folder: Path) -> None:
        """Remove an upload."""
        shutil.rmtree(folder, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what is no upload, and the folders of those that were opened."""
        for entry in self.root.iterdir() if self.root.is_dir() else ():
            with contextlib.suppress(OSError):
                # Gradio opens an empty file for each upload that it hands on.
                entry.unlink() if entry.is_file() else None
