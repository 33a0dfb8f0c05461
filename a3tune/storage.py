"""Where this program keeps what it made once and can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$A3TUNE_CACHE``, else ``$XDG_CACHE_HOME/a3tune``, else ``~/.cache/a3tune``; deleting it is always safe."""
    if os.environ.get("A3TUNE_CACHE"):
        return Path(os.environ["A3TUNE_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "a3tune"
