"""Files and folders that appear whole or not at all, JSON, and the places that people name.

Standard library only: the process that watches over a run reads and writes through it with little memory.
"""

from __future__ import annotations

import errno
import hashlib
import json
import lzma
import os
import re
import secrets
import shutil
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

try:
    import fcntl
except ImportError:  # Windows has none of its locks: what a killed process left stays there
    fcntl = None  # type: ignore[assignment]

_CHUNK = 1 << 20
_UNFINISHED = re.compile(r"\.[0-9a-f]{16}\.part")
_DAMAGED = (zlib.error, lzma.LZMAError, struct.error, EOFError, RuntimeError, ValueError, OverflowError)

DAMAGED_ARRAYS = (
    *(zipfile.BadZipFile, *_DAMAGED, OSError, LookupError, TypeError, AttributeError, MemoryError),
    *(SyntaxError, tokenize.TokenError, RecursionError),
)
"""What reading an .npz file raises that is damaged, or lacks what should be in it."""

UNREADABLE_WEIGHTS = (*DAMAGED_ARRAYS, ArithmeticError, AssertionError)
"""What ``torch.load`` raises at a damaged file, beside ``pickle.UnpicklingError`` for what is no plain tensor."""


@contextmanager
def zip_faults() -> Iterator[None]:
    """Whatever ``zipfile`` raises in the block at an archive that is damaged, or packed in a way that Python does not
    know, comes out as ``BadZipFile``; what the system has against a file stays an OSError with its number."""
    try:
        yield
    except _DAMAGED as error:
        raise zipfile.BadZipFile(" ".join(str(error).split())[:200] or type(error).__name__) from error
    except OSError as error:
        # bzip2 reports damaged data so, and a place before the beginning is asked of the file itself.
        if error.errno in (None, errno.EINVAL):
            raise zipfile.BadZipFile(str(error)) from error
        raise


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


@contextmanager
def whole_file(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """A stream to write to whose content becomes ``path`` when the block ends: readers see the former file or the
    new one, never a part, whichever process they are in. When the block fails, the former file stays.

    Args:
        path: in a folder that is there.
        sync: wait until the content is on the disk, so that it outlives a loss of power; for files that can be made
            again in numbers, not waiting saves time.

    Raises:
        OSError: it cannot be written.
    """
    with _unfinished(path.parent, Path.touch) as part:
        try:
            with part.open("r+b") as stream:
                yield stream
                stream.flush()
                if sync:
                    os.fsync(stream.fileno())
            os.replace(part, path)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise


@contextmanager
def _unfinished(folder: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """A new hidden file or folder in ``folder``, held until the block ends."""
    _clear(folder)
    part = folder / f".{secrets.token_hex(8)}.part"
    with making(part, make):
        yield part


# Once in each process: a killed writer was another one, and some folders get many files.
@lru_cache(1024)
def _clear(folder: Path) -> None:
    """Remove what killed writers left in a folder."""
    for left in folder.glob(".*.part"):
        if _UNFINISHED.fullmatch(left.name):
            remove_left(left)


@contextmanager
def making(part: Path, make: Callable[[Path], None]) -> Iterator[None]:
    """Make an unfinished file or folder, and hold it until the block ends, or the process does, however that is:
    `remove_left` leaves it alone."""
    lock = None
    while lock is None:
        make(part)
        lock = _hold(part)
    try:
        yield
    finally:
        if lock >= 0:
            os.close(lock)


def _hold(part: Path) -> int | None:
    """A descriptor that holds what lies there; -1 where the system has no such locks, None where it was gone before."""
    if fcntl is None:
        return -1
    try:
        lock = os.open(part, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with suppress(OSError):  # nor has every disk: what is left there stays
        fcntl.flock(lock, fcntl.LOCK_EX)
    if _is_at(lock, part):
        return lock
    os.close(lock)
    return None


def remove_left(part: Path) -> None:
    """Remove what a killed process left unfinished; what a living one holds stays.

    Args:
        part: a file or folder that was made by `making`.
    """
    if fcntl is None:
        return
    with suppress(OSError):
        lock = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(lock, part):
                shutil.rmtree(part) if part.is_dir() else part.unlink()
        finally:
            os.close(lock)


def _is_at(file: int, path: Path) -> bool:
    """Whether an open file is still what lies at a path."""
    try:
        return os.path.samestat(os.fstat(file), path.lstat())
    except FileNotFoundError:
        return False


def write_bytes(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Write a file as `whole_file` does."""
    with whole_file(path, sync=sync) as stream:
        stream.write(content)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, line ends as given, as `whole_file` does."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON as `whole_file` does; strict, so that every reader takes it.

    Raises:
        ValueError: a number in it is not finite.
        OSError: it cannot be written.
    """
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


class StandIn(NamedTuple):
    """What lies where a file should be whose content never came: what it is, and what to do."""

    what: str
    remedy: str


_PAGE_SIGNS = (b"<!doctype html", b"<html", b"<head", b"<body", b"<title", b"<meta", b"<script")
# What servers say in place of a file, alone.
_ANSWER = re.compile(
    rb"(404: |http/[\d.]+ 4\d\d )?(\w+ )?not found\.?|(access denied|forbidden|unauthorized|internal server error)\.?"
    rb"|invalid username or password\.?|invalid credentials in authorization header\.?"
    rb"|access to model \S+ is restricted.*"
    rb'|\{"(error|message|detail)":\s*"[^"]*"\s*\}',
    re.DOTALL,
)


def find_stand_in(path: Path) -> StandIn | None:
    """What a file is when it is none of its own kind but a pointer to it, or the page that shows it; else None."""
    try:
        with path.open("rb") as stream:
            return stand_in_of(stream.read(2048))
    except OSError:
        return None


def stand_in_of(head: bytes) -> StandIn | None:
    """As `find_stand_in`, by a file's first bytes."""
    # Without the zeros of UTF-16.
    head = head.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").lower()
    if head.startswith((b"version https://git-lfs", b"version https://hawser")):
        return StandIn("a pointer of Git LFS, not the file itself", "Run `git lfs pull`, or download the file itself")
    if re.match(rb"(\.\./)*(/|\.git/)annex/objects/", head):
        return StandIn(
            "a pointer of git-annex, not the file itself", "Run `git annex get`, or download the file itself"
        )
    archived = head.startswith((b"from: <saved by", b"mime-version:")) and b"multipart/related" in head
    if archived or (head.startswith(b"<") and any(sign in head for sign in _PAGE_SIGNS)):
        return StandIn("a saved web page, not the file itself", "Use the download link on that page, not the page")
    if head.startswith((b"[internetshortcut]", b"[desktop entry]")):
        return StandIn("a link to a web page, not the file itself", "Open the link and download the file itself")
    if _ANSWER.fullmatch(head.rstrip()):
        return StandIn("what a server answered in place of the file", "Download the file again, signed in if need be")
    if head.startswith((b"<?xml", b"<error>")):
        return StandIn("an XML text, as servers send with an error", "Download the file again")
    return None


def first_stand_in(folder: Path, suffixes: tuple[str, ...]) -> tuple[Path, StandIn] | None:
    """The first of a folder's own files with these endings that is none of its kind, and what it is."""
    files = sorted(path for path in folder.iterdir() if path.suffix in suffixes and path.is_file())
    return next(((path, found) for path in files if (found := find_stand_in(path))), None)


@contextmanager
def files_together(folder: Path, record: str) -> Iterator[Path]:
    """A folder to write to whose files become those of ``folder`` when the block ends, the record last: where it is,
    the rest is whole and belongs to it, whenever the process is killed. When the block fails, the former files stay.

    Args:
        folder: made when missing, gone again when the block fails; files of the same names are replaced.
        record: the name of the file that tells of the others.

    Raises:
        OSError: it cannot be written.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _unfinished(folder, Path.mkdir) as scratch:
            try:
                yield scratch
                # One that was written before must not vouch for the new files if the work ends between them.
                (folder / record).unlink(missing_ok=True)
                for path in sorted(scratch.iterdir(), key=lambda path: (path.name == record, path.name)):
                    os.replace(path, folder / path.name)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    except BaseException:
        for path in made:
            # Another process may have put something there.
            with suppress(OSError):
                path.rmdir()
        raise


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def whole_lines(stream: BinaryIO, most: int) -> Iterator[tuple[int, bytes]]:
    """(bytes with its end, line) of each line that has come to its end; b"" in the place of one of over ``most`` bytes,
    of which no more than these are held."""
    size, line = 0, b""
    while part := stream.readline(most):
        line = part if not size else b""
        size += len(part)
        if part.endswith(b"\n"):
            yield size, line[:-1]
            size = 0


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        OSError: it cannot be read; FileNotFoundError when it is not there.
        ValueError: it is damaged, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except ValueError as error:
        if found := find_stand_in(path):
            raise ValueError(f"it is {found.what}. {found.remedy}") from error
        raise
    if not isinstance(value, dict):
        raise ValueError(f"it holds {type(value).__name__} where an object is expected")
    return value


def read_json_or_empty(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty when it is not there, damaged or something else."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return {}


def place_folder(part: Path, place: Path) -> None:
    """Rename a finished folder into its place on the same disk; one that is there goes only once the new one is in
    its place.

    Raises:
        OSError: it cannot be renamed.
    """
    retired = place.with_name(f".{place.name}.old.part")
    if retired.exists():
        shutil.rmtree(retired)
    if place.exists():
        place.rename(retired)
    part.rename(place)
    if retired.exists():
        shutil.rmtree(retired)
