"""Where this program keeps what it made once and can make again, and the places that people name."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)
"""What reading a ZIP archive raises that is damaged or packed in a way that Python does not know."""

DAMAGED_ARRAYS = (*DAMAGED_ZIP, OSError, ValueError, KeyError, IndexError)
"""What reading an .npz file raises that is damaged, or lacks what should be in it."""


def cache_folder() -> Path:
    """``$A3TUNE_CACHE``, else ``$XDG_CACHE_HOME/a3tune``, else ``~/.cache/a3tune``; deleting it is always safe."""
    if os.environ.get("A3TUNE_CACHE"):
        return named_path(os.environ["A3TUNE_CACHE"])
    return named_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "a3tune"


def named_path(name: str | Path) -> Path:
    """A path as somebody typed it, "~" and "~person" put in full; a person who is not there is left as typed."""
    return Path(os.path.expanduser(name))


def is_hub_id(name: str) -> bool:
    """Whether a name has the form of a hub id, owner/name, and does not begin as a path does."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def is_folder(name: str | Path) -> bool:
    """Whether a name stands for a folder on this machine; False for what no file system takes as a name."""
    return os.path.isdir(os.path.expanduser(name))
