"""What visitors of a server keep beyond their visit: encrypted on its disk, and open only while somebody is there.

Each data set, run and adapter is an encrypted file, named by its owner's folder. When an owner comes, all of theirs is
opened into the folder that the application works in; when their visit ends, or the server does, it is sealed again and
the open folder goes. A server that was killed seals at its next start what it had open.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from a3tune.errors import RequestError
from app.common.studio_folder import ID
from app.engine.ids import OwnerId
from app.kept.sealed_files import open_sealed, seal_folder

log = logging.getLogger("a3tune.app")

_KINDS = ("data", "runs", "adapters")
_SUFFIX, _CHECK = ".sealed", "key"


class KeptFolders:
    """The encrypted files of all owners, and which of them are open.

    Args:
        root: where both lie: ``kept`` and ``open``; in ``moving`` what is on its way.
        key: 32 bytes.
        clear: called with the open folder before what is in it is sealed at the start.

    Attributes:
        wanted: whether somebody who is here has things under a name, which stay open then.

    Raises:
        RequestError: what is there was kept with another key, or another process has it open.
    """

    def __init__(self, root: Path, key: bytes, clear: Callable[[Path], None] = lambda folder: None) -> None:
        self.kept, self.open_root, self._moving = root / "kept", root / "open", root / "moving"
        self._key = key
        self.wanted: Callable[[OwnerId], bool] = lambda owner: False
        self._open: set[OwnerId] = set()
        self._locks: defaultdict[OwnerId, threading.Lock] = defaultdict(threading.Lock)
        for folder in (self.kept, self.open_root):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._hold(root / "in-use")
        shutil.rmtree(self._moving, ignore_errors=True)
        self._moving.mkdir(mode=0o700)
        for part in self.kept.rglob(".*.part"):  # a server that was killed was sealing it
            part.unlink()
        self._check_key()
        clear(self.open_root)
        for owner in self._opened():
            self.close(owner)

    def _hold(self, path: Path) -> None:
        # Held as long as the process lives, however it ends.
        lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise RequestError(
                expected="a folder that no other server keeps things in",
                got=f"{path.parent} is in use",
                remedy="End that server, or name another folder in A3TUNE_STUDIO",
            ) from None

    def _check_key(self) -> None:
        """Refuse a key that is not the one that everything else here was sealed with."""
        check = self.kept / f"{_CHECK}{_SUFFIX}"
        place = self._moving / _CHECK
        if not check.exists():
            place.mkdir()
            seal_folder(place, check, _CHECK, self._key)
        else:
            open_sealed(check, place, _CHECK, self._key)
        shutil.rmtree(place, ignore_errors=True)

    def open(self, owner: OwnerId) -> None:
        """Have an owner's things open from now on.

        Raises:
            RequestError: one of their files was changed.
        """
        if owner in self._open:
            return
        with self._locks[owner]:
            place = self.open_root / owner
            if owner in self._open or place.exists():
                self._open.add(owner)
                return
            part = self._moving / f"{owner}.{secrets.token_hex(4)}"
            try:
                for file in sorted((self.kept / owner).glob(f"*/*{_SUFFIX}")):
                    kind, name = file.parent.name, file.name.removesuffix(_SUFFIX)
                    open_sealed(file, part / kind / name, f"{owner}/{kind}/{name}", self._key)
                if part.is_dir():
                    part.rename(place)
            finally:
                shutil.rmtree(part, ignore_errors=True)
            self._open.add(owner)

    def close(self, owner: OwnerId, *, always: bool = False) -> None:
        """Seal an owner's things and remove what is open of them; not where somebody wants them, unless ``always``."""
        with self._locks[owner]:
            if self.wanted(owner) and not always:
                return
            place = self.open_root / owner
            if place.is_dir():
                self._seal(owner, place)
                self._remove(place)
            self._open.discard(owner)

    def _seal(self, owner: OwnerId, place: Path) -> None:
        files = set()
        for kind in _KINDS:
            for folder in (place / kind).iterdir() if (place / kind).is_dir() else ():
                if ID.fullmatch(folder.name):
                    file = self.kept / owner / kind / f"{folder.name}{_SUFFIX}"
                    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    seal_folder(folder, file, f"{owner}/{kind}/{folder.name}", self._key)
                    files.add(file)
        # Only once all is sealed: what the owner deleted goes.
        for file in (self.kept / owner).glob(f"*/*{_SUFFIX}"):
            if file not in files:
                file.unlink()

    def close_all(self, at_work: Callable[[OwnerId], bool]) -> None:
        """Seal everything, since the server ends, but what is at work, and what a disk that fails does not take: the
        next start seals these."""
        for owner in self._opened():
            if not at_work(owner):
                try:
                    self.close(owner, always=True)
                except OSError as error:
                    log.error("What is kept could not be sealed: %s", error.strerror)

    def remove(self, owner: OwnerId) -> None:
        """Remove what is kept of an owner for good; what is open of it is removed by others."""
        if (self.kept / owner).is_dir():
            self._remove(self.kept / owner)

    def _opened(self) -> list[OwnerId]:
        return [OwnerId(folder.name) for folder in self.open_root.iterdir() if folder.is_dir()]

    def _remove(self, place: Path) -> None:
        gone = self._moving / f"{place.name}.{secrets.token_hex(4)}"
        place.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
