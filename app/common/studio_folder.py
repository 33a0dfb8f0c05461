"""Where visitors' data, runs and adapters are kept on the server's disk."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from a3tune.data.intake import LIMITS, IntakeLimits
from a3tune.errors import RequestError
from a3tune.storage import remove_left
from app.access.deployment import LOCAL, Deployment
from app.engine.ids import OwnerId

ID = re.compile(r"[0-9a-f]{12}")
"""The form of a folder's name among a visitor's data sets, runs or adapters."""
_REMOVED = re.compile(r"\.\w+\.[0-9a-f]{8}")
_MEMORY, _ROOM = Path("/dev/shm"), 4 << 30
UNDO_SECONDS = 60.0
"""How long a visitor can take back what they deleted."""


@dataclass(frozen=True)
class StudioFolder:
    """The folder with a folder for each visitor.

    Attributes:
        root: made when something is put into it.
        deployment: how much may lie there.
        sealed: where the same lies encrypted beyond a visit; it counts too.
    """

    root: Path
    deployment: Deployment = LOCAL
    sealed: Path | None = None

    @property
    def in_memory(self) -> bool:
        """Whether it lies in the machine's memory rather than on a disk."""
        return _file_system(self.root) in ("tmpfs", "ramfs")

    def data(self, owner: OwnerId) -> Path:
        """The folder with a visitor's data sets, a folder for each."""
        return self.root / owner / "data"

    def runs(self, owner: OwnerId) -> Path:
        """The folder with a visitor's runs, a folder for each."""
        return self.root / owner / "runs"

    def adapters(self, owner: OwnerId) -> Path:
        """The folder with the adapters that a visitor loaded, a folder for each."""
        return self.root / owner / "adapters"

    def check_room(self, owner: OwnerId) -> None:
        """Raises:
        RequestError: as much lies there as may, of this visitor's or of all.
        """
        deployment = self.deployment
        if deployment.stored_each_mb is not None:
            size = _size(self.root / owner) / 1e6
            words = f"Yours hold {size:,.0f} MB"
            deployment.check("stored_each_mb", size, words, "Delete what you no longer need")
        if deployment.stored_all_mb is not None:
            size = (_size(self.root) + (_size(self.sealed) if self.sealed else 0)) / 1e6
            deployment.check("stored_all_mb", size, f"They hold {size:,.0f} MB", "Come back later")

    def intake_limits(self, owner: OwnerId) -> IntakeLimits:
        """How much a visitor may have taken in at once: no more than there is room for."""
        deployment, limits = self.deployment, LIMITS
        held = {"stored_each_mb": self.root / owner, "stored_all_mb": self.root}
        for limit, place in held.items():
            most = getattr(deployment, limit)
            if most is None:
                continue
            size = _size(place) + (_size(self.sealed) if self.sealed and place == self.root else 0)
            room = max(0, int(most * 1e6) - size)
            if room < limits.total_bytes:
                limits = replace(limits, total_bytes=room, room_raised=deployment.who_raises(limit))
        return limits

    def remove(self, owner: OwnerId) -> None:
        """Remove everything of a visitor's at once."""
        place, gone = self.root / owner, self.root / f".{owner}.{secrets.token_hex(4)}"
        with suppress(FileNotFoundError):
            # What still writes there finds its folder gone.
            place.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    def clear(self) -> None:
        """Remove what killed processes were writing or removing; what a living one writes stays."""
        for part in (*self.root.glob("*/*/.*.part"), *self.root.glob("*/*/*/.*.part")):
            remove_left(part)
        for gone in self.root.glob(".*"):
            if _REMOVED.fullmatch(gone.name):
                shutil.rmtree(gone, ignore_errors=True)

    def purge(self, seconds: float = UNDO_SECONDS) -> None:
        """Remove from the disk what was retired so many seconds ago."""
        for retired in self.root.glob("*/*/.*.gone"):
            with suppress(FileNotFoundError):  # just restored
                if time.time() - retired.stat().st_mtime >= seconds:
                    removed = retired.with_name(f"{retired.name}.gone")
                    retired.rename(removed)
                    shutil.rmtree(removed, ignore_errors=True)


def _file_system(path: Path) -> str:
    """The kind of file system that a path lies on; "" where the system does not tell."""
    real, found = os.path.realpath(path), ("", "")
    with suppress(OSError):
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
            _, place, kind, *_ = line.split(" ")
            inside = real == place or real.startswith(place.rstrip("/") + "/")
            if inside and len(place) >= len(found[0]):
                found = (place, kind)
    return found[1]


def passing_studio_folder() -> StudioFolder:
    """For what ends with its visit: ``$A3TUNE_STUDIO``, else the machine's memory where that has a place for files
    with room enough, else as `default_studio_folder`."""
    memory = StudioFolder(_MEMORY / f"a3tune-{os.getuid()}")
    if os.environ.get("A3TUNE_STUDIO") or not memory.in_memory or not os.access(_MEMORY, os.W_OK):
        return default_studio_folder()
    return memory if shutil.disk_usage(_MEMORY).total >= _ROOM else default_studio_folder()


def default_studio_folder() -> StudioFolder:
    """``$A3TUNE_STUDIO``, else ``$XDG_DATA_HOME/a3tune``, else ``~/.local/share/a3tune``."""
    if os.environ.get("A3TUNE_STUDIO"):
        return StudioFolder(Path(os.environ["A3TUNE_STUDIO"]).expanduser())
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
    return f"{_size(folder) / 1e6:,.1f} MB"


def _size(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # just removed
            size += path.lstat().st_size if path.is_file() else 0
    return size


def _retired(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.gone")


def remove_upload(path: Path) -> None:
    """Remove an upload from the server's temporary folder, and its folder when nothing else lies there."""
    path.unlink(missing_ok=True)
    try:
        os.rmdir(path.parent)
    except OSError:
        return  # something else lies there
