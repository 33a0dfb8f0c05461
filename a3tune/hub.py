"""Files of the Hugging Face hub: what of them is on this machine, and fetching the rest, taken up where it stopped."""

from __future__ import annotations

import fnmatch
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.utils import WeakFileLock, build_hf_headers, get_session, hf_raise_for_status, httpx, tqdm
from safetensors import SafetensorError, safe_open

from a3tune.errors import RequestError
from a3tune.progress import Progress, no_progress

PARTIAL = ".a3tune-part"
"""Ends the name of a file in the hub's cache that has not come whole yet."""

# Files of at least so many bytes are fetched piece by piece and taken up where they broke off.
_LARGE = 4 << 20
_PIECE = 1 << 20
# A connection that breaks is tried again so often before a person hears of it.
_TRIALS = 3
_CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class Held:
    """What of a repository is on this machine.

    Attributes:
        folder: the files of its newest version, as far as they are there; None when nothing is.
        size: bytes, of whole files and of parts.
        parts: whether some file has come in part only.
    """

    folder: Path | None
    size: int
    parts: bool


def held(name: str) -> Held:
    """What the hub's cache holds of a repository; nothing is asked of the hub."""
    place = _cache(name)
    files = [path for path in (place / "blobs").glob("*") if path.is_file()]
    folder = None
    reference = place / "refs" / "main"
    if reference.is_file():
        commit = place / "snapshots" / reference.read_text(encoding="utf-8").strip()
        folder = commit if commit.is_dir() else None
    # Where links cannot be made, files lie in the folder itself.
    loose = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()] if folder else []
    size = sum(path.stat().st_size for path in (*files, *loose))
    return Held(folder, size, any(path.name.endswith((PARTIAL, ".incomplete")) for path in files))


def held_file(name: str, file: str) -> Path | None:
    """A file of a repository in the hub's cache, or None."""
    found = try_to_load_from_cache(name, file)
    return Path(found) if isinstance(found, str) else None


def fetch_files(name: str, wanted: Sequence[str], on_progress: Progress = no_progress) -> Path:
    """The folder with a repository's files in the hub's cache; what is missing is fetched.

    What came of a large file before the work was ended stays, and the next call goes on there.

    Args:
        name: the hub id.
        wanted: patterns of the files' names.
        on_progress: told how many bytes have come.

    Raises:
        RequestError: the disk is full.
        Exception: huggingface_hub's own; see `faults`.
    """
    patterns: dict[str, Any] = {"allow_patterns": list(wanted), "tqdm_class": _Silent}
    if not reachable():
        return Path(snapshot_download(name, local_files_only=True, **patterns))
    states = snapshot_download(name, dry_run=True, **patterns)
    if _remove_damaged(states):
        states = snapshot_download(name, dry_run=True, **patterns)
    report = _fetch(name, [state for state in states if state.will_download], on_progress)
    folder = Path(snapshot_download(name, **patterns))
    report()
    return folder


def fetch_file(name: str, file: str, on_progress: Progress = no_progress) -> Path:
    """One file of a repository in the hub's cache; fetched when it is not there. See `fetch_files`."""
    if not reachable():
        return Path(hf_hub_download(name, file, local_files_only=True))
    state = hf_hub_download(name, file, dry_run=True)
    if _remove_damaged([state]):
        state = hf_hub_download(name, file, dry_run=True)
    _fetch(name, [state] if state.will_download else [], on_progress)
    return Path(hf_hub_download(name, file))


def list_files(name: str, patterns: Sequence[str]) -> list[str]:
    """Names of a repository's files that fit one of the patterns, as the hub tells them."""
    files = snapshot_download(name, allow_patterns=list(patterns), dry_run=True, tqdm_class=_Silent)
    return [file.filename for file in files if any(fnmatch.fnmatch(file.filename, pattern) for pattern in patterns)]


def reachable() -> bool:
    """Whether the hub can be asked. Its client would try for half a minute, on a machine that has no network, before
    it takes what lies in the cache."""
    if constants.HF_HUB_OFFLINE:
        return False
    # Behind a proxy only the proxy knows.
    if getproxies():
        return True
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        with socket.create_connection((address.hostname, port), timeout=_CONNECT_SECONDS):
            return True
    except OSError:
        return False


class _Silent(tqdm):
    """The client's own bars, which are not shown: progress goes to whoever asked."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "disable": True})


def _remove_damaged(states: list) -> bool:
    """Whether weights lay in the cache cut off or overwritten. They are removed, since the hub's client takes whatever
    is there for whole; it knows their true size only when they are gone."""
    found = False
    for state in states:
        there = Path(state.local_path)
        if there.suffix != ".safetensors" or not there.exists():
            continue
        try:
            with safe_open(there, framework="np") as tensors:
                tensors.keys()
        except SafetensorError:
            there.resolve().unlink()
            there.unlink(missing_ok=True)
            found = True
    return found


def _fetch(name: str, missing: list, on_progress: Progress) -> Callable[[], None]:
    """Bring the large ones of the missing files into the cache, where the hub's client finds them; returns what tells
    that the small ones have come too."""
    total = sum(file.file_size or 0 for file in missing)
    large = [file for file in missing if (file.file_size or 0) >= _LARGE]
    there = _cache(name) / "blobs"
    come = 0

    def arrived(count: int) -> None:
        nonlocal come
        come += count
        share = min(come / total, 1.0) if total else 1.0
        on_progress(f"fetching {name}: {come / 1e9:.2f} of {total / 1e9:.2f} GB", share)

    if missing:
        parts = sum(path.stat().st_size for path in there.glob(f"*{PARTIAL}")) if there.is_dir() else 0
        _check_disk(total - parts)
        arrived(0)
    for file in large:
        _fetch_large(name, file, there, arrived)
    return lambda: arrived(total - come) if missing else None


def _fetch_large(name: str, file: Any, there: Path, arrived: Callable[[int], None]) -> None:
    url = hf_hub_url(name, file.filename, revision=file.commit_hash)
    metadata = get_hf_file_metadata(url)
    there.mkdir(parents=True, exist_ok=True)
    blob = there / str(metadata.etag)
    partial = blob.with_name(blob.name + PARTIAL)
    with WeakFileLock(partial.with_name(partial.name + ".lock")):
        if blob.exists():
            arrived(file.file_size)
            return
        for trial in range(_TRIALS):
            if trial:
                time.sleep(0.2 * 4 ** (trial - 1))
            begun = partial.stat().st_size if partial.exists() else 0
            if trial == 0:
                arrived(begun)
            try:
                if begun < file.file_size:
                    _stream(metadata.location, url, partial, begun, arrived)
                if partial.stat().st_size == file.file_size:
                    partial.replace(blob)
                    return
                if partial.stat().st_size > file.file_size:
                    partial.unlink()  # of another version, or damaged
            except (httpx.TransportError, httpx.StreamError):
                if trial + 1 == _TRIALS:
                    raise
    raise OSError(f"{file.filename} ended before it was whole")


def _stream(location: str, url: str, partial: Path, begun: int, arrived: Callable[[int], None]) -> None:
    """Append what is missing from byte ``begun`` on."""
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={begun}-"} if begun else {})}
    # A large file lies on another host, whose address is its own permission.
    headers |= build_hf_headers() if location == url else {}
    with (
        partial.open("ab") as out,
        get_session().stream("GET", location, headers=headers, follow_redirects=True) as response,
    ):
        hf_raise_for_status(response)
        if begun and response.status_code == 200:  # the server sends the whole file
            out.truncate(0)
            arrived(-begun)
        for piece in response.iter_bytes(_PIECE):
            out.write(piece)
            arrived(len(piece))


def _cache(name: str) -> Path:
    return Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"


def _check_disk(missing: int) -> None:
    place = Path(constants.HF_HUB_CACHE)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if missing > free:
        raise RequestError(
            expected=f"{missing / 1e9:.1f} GB of free space in {constants.HF_HUB_CACHE}",
            got=f"{free / 1e9:.1f} GB are free",
            remedy="Free some space, or set HF_HOME to a folder on a larger disk",
        )
