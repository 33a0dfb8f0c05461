"""Where visitors' data, runs and adapters are kept on the server's disk."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from app.engine.ids import OwnerId


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


def default_studio_folder() -> StudioFolder:
    """``$A3TUNE_STUDIO``, else the persistent disk of a Space, else ``$XDG_DATA_HOME/a3tune``, else
    ``~/.local/share/a3tune``."""
    if os.environ.get("A3TUNE_STUDIO"):
        return StudioFolder(Path(os.environ["A3TUNE_STUDIO"]).expanduser())
    if os.environ.get("SPACE_ID") and os.access("/data", os.W_OK):
        return StudioFolder(Path("/data/a3tune"))
    return StudioFolder(Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "a3tune")


def remove_folder(folder: Path) -> None:
    """Remove a folder: at once for whoever lists them, and then from the disk."""
    removed = folder.with_name(f".{folder.name}.gone")
    folder.rename(removed)
    shutil.rmtree(removed, ignore_errors=True)


def remove_upload(path: Path) -> None:
    """Remove an upload from the server's temporary folder, and its folder when nothing else lies there."""
    path.unlink(missing_ok=True)
    try:
        os.rmdir(path.parent)
    except OSError:
        return  # something else lies there
