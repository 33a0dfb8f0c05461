"""Where visitors' data, runs and adapters are kept on the server's disk."""

from __future__ import annotations

import os
import re
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from a3tune.errors import RequestError
from app.engine.ids import OwnerId

ID = re.compile(r"[0-9a-f]{12}")
"""The form of a folder's name among a visitor's data sets, runs or adapters."""
UNDO_SECONDS = 60.0
"""How long a visitor can take back what they deleted."""


@dataclass(frozen=True)
class StudioFolder:
    """The folder with a folder for each visitor.

    Attributes:
        root: made when something is put into it.
    """

    root: Path

    def data(self, owner: OwnerId) -> Path:
        """The folder with a visitor's data sets, a folder for each."""
        return self.root / owner / "data"

    def runs(self, owner: OwnerId) -> Path:
        """The folder with a visitor's runs, a folder for each."""
        return self.root / owner / "runs"

    def adapters(self, owner: OwnerId) -> Path:
        """The folder with the adapters that a visitor loaded, a folder for each."""
        return self.root / owner / "adapters"

    def purge(self, seconds: float = UNDO_SECONDS) -> None:
        """Remove from the disk what was retired so many seconds ago."""
        for retired in self.root.glob("*/*/.*.gone"):
            with suppress(FileNotFoundError):  # just restored
                if time.time() - retired.stat().st_mtime >= seconds:
                    removed = retired.with_name(f"{retired.name}.gone")
                    retired.rename(removed)
                    shutil.rmtree(removed, ignore_errors=True)


def default_studio_folder() -> StudioFolder:
    """``$A3TUNE_STUDIO``, else the persistent disk of a Space, else ``$XDG_DATA_HOME/a3tune``, else
    ``~/.local/share/a3tune``."""
    if os.environ.get("A3TUNE_STUDIO"):
        return StudioFolder(Path(os.environ["A3TUNE_STUDIO"]).expanduser())
    if os.environ.get("SPACE_ID") and os.access("/data", os.W_OK):
        return StudioFolder(Path("/data/a3tune"))
    return StudioFolder(Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "a3tune")


def retire_folder(folder: Path) -> None:
    """Take a folder out of the lists, to be removed from the disk in a minute."""
    os.utime(folder)
    folder.rename(_retired(folder))


def restore_folder(parent: Path, name: str) -> None:
    """Take a folder back that was retired.

    Raises:
        RequestError: it was removed meanwhile, or was never there.
    """
    folder = parent / name
    if not ID.fullmatch(name) or not _retired(folder).is_dir():
        raise RequestError(
            expected=f"something that was deleted in the last {UNDO_SECONDS:.0f} seconds",
            got="It was removed from the server",
            remedy="Upload it or make it again",
        )
    _retired(folder).rename(folder)


def megabytes(folder: Path) -> str:
    """How much lies in a folder, in words."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{size / 1e6:,.1f} MB"


def _retired(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.gone")


def remove_upload(path: Path) -> None:
    """Remove an upload from the server's temporary folder, and its folder when nothing else lies there."""
    path.unlink(missing_ok=True)
    try:
        os.rmdir(path.parent)
    except OSError:
        return  # something else lies there
