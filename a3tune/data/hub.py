"""A public data set from the hub into a folder: its tables and images, also those in ZIP archives; no code."""

from __future__ import annotations

import errno
import filecmp
import hashlib
import os
import re
import shutil
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.utils import WeakFileLock

from a3tune.data.archive import unpack_archive
from a3tune.data.formats.layouts import LAYOUTS
from a3tune.data.intake import (
    LIMITS,
    Intake,
    IntakeLimits,
    cannot_write,
    check_room,
    check_totals,
    kind_of,
    new_folder,
    parts_of,
    refused,
)
from a3tune.errors import DataError
from a3tune.hub import reachable
from a3tune.hub_errors import gated
from a3tune.progress import Progress, no_progress, part_of
from a3tune.storage import cache_folder, is_hub_id, named_path
from a3tune.wording import byte_words, listed

_ELSEWHERE = "Download the data set elsewhere, unpack it there, and name its folder or upload it as ZIP"
_REVISION_LETTERS = 40
_FOR_IMAGES = re.compile(r"im(a?ge?)?s|image|img|pic|photo|figure|slice|scan", re.IGNORECASE)
# Parts of an archive: the ending of imgs.zip.001 would else be a DICOM image's.
_ARCHIVE_PART = re.compile(r"\.(zip|7z|rar|tar|t?gz)\.\w{2,3}$|\.[rz]\d\d$", re.IGNORECASE)
_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EEXIST, errno.ENOTDIR)
# Where rows' names of images may begin, in any layout.
_BASES = ("", *sorted({folder for layout in LAYOUTS.values() for folder in layout.folders}))


def dataset_place(name: str | Path, on_progress: Progress = no_progress, *, with_images: bool = True) -> Path:
    """Where a data set lies that a command names: the file or folder of that name, or else a public data set of the
    hub, each version of which is fetched once into the cache folder. Without a connection the version that was
    fetched last is taken.

    Args:
        name: a path, or ``name/repository``.
        on_progress: told that something is fetched.
        with_images: whether archives are fetched too where rows name images that lie in them; False where the images
            are elsewhere.

    Raises:
        DataError: the hub does not give such a data set out, or is out of reach.
    """
    path = named_path(name)
    if path.exists() or not is_hub_id(str(name)):
        return path
    key = hashlib.sha256(str(name).encode()).hexdigest()[:16] + ("" if with_images else "-tables")
    folder = cache_folder() / "datasets" / key
    held = sorted(folder.glob("?" * _REVISION_LETTERS), key=lambda place: place.stat().st_mtime)
    if held and not reachable():
        return held[-1]
    try:
        listing = _listing(str(name))
    except DataError as error:
        if held:
            return held[-1]
        raise DataError(
            expected=f"a file or folder, or {error.expected}",
            got=f"There is no {name} here. {error.got}",
            remedy="Correct the name, or download the data set elsewhere and name its folder",
        ) from error
    place = folder / listing.revision
    folder.mkdir(parents=True, exist_ok=True)
    # Of several processes one fetches.
    with WeakFileLock(folder / ".lock"):
        if not place.is_dir():
            on_progress(f"Fetching {name}", 0.0)
            _fetch(listing, place, LIMITS, on_progress, with_images)
    return place


def fetch_dataset(
    hub_id: str, folder: str | Path, limits: IntakeLimits = LIMITS, on_progress: Progress = no_progress
) -> Intake:
    """Download the tables and images of a data set; loading scripts are left where they are.

    Where its rows name images that lie in none of its files, or it has no rows outside archives, its ZIP archives are
    fetched and unpacked as uploaded ones are, those that are named after images first, until every image is there.
    An archive is unpacked where it lies, or into a folder of its name, or without the one folder that is around
    everything in it: where most of the rows' names fit.

    Args:
        hub_id: ``name/repository`` of a data set that anybody may read.
        folder: a folder that does not exist yet.
        limits: how much is taken; an archive counts by what is in it.
        on_progress: told what is fetched and unpacked.

    Raises:
        DataError: there is no such data set, nothing of it can be used, it is too large, its images lie in archives of
            another kind, an archive cannot be unpacked or holds none of the images, or the hub is out of reach.
    """
    return _fetch(_listing(hub_id), Path(folder), limits, on_progress, True)


@dataclass(frozen=True)
class _Listing:
    """One version of a repository: file -> bytes."""

    hub_id: str
    revision: str
    files: Mapping[str, int]

    def of_kind(self, *kinds: str) -> dict[str, int]:
        return {
            name: size
            for name, size in self.files.items()
            if not PurePosixPath(name).name.startswith(".")
            and ("archive" if _ARCHIVE_PART.search(name) else kind_of(PurePosixPath(name).name)) in kinds
        }


def _listing(hub_id: str) -> _Listing:
    with _faults(hub_id):
        info = HfApi(token=False).dataset_info(hub_id, files_metadata=True)
    return _Listing(hub_id, str(info.sha), {file.rfilename: file.size or 0 for file in info.siblings or ()})


def _fetch(listing: _Listing, folder: Path, limits: IntakeLimits, on_progress: Progress, with_images: bool) -> Intake:
    chosen, archives = listing.of_kind("table", "image"), listing.of_kind("archive") if with_images else {}
    if not chosen and not archives:
        raise DataError(
            expected="a data set with tables and images, or with Parquet files",
            got=f"{listing.hub_id} has none of these",
            remedy="Download it, unpack it, and upload it as ZIP",
        )
    check_totals(len(chosen), list(chosen.values()), list(chosen), limits)
    check_room(folder.parent, sum(chosen.values()), limits)
    taken: list[str] = []
    with _faults(listing.hub_id), new_folder(folder) as part:
        done = 0
        for name, size in chosen.items():
            _download(listing, name, part, limits)
            done += size
            on_progress(f"Fetching {listing.hub_id}: {name}", 0.5 * done / max(1, sum(chosen.values())))
        if archives:
            taken = _take_archives(listing, archives, part, limits, part_of(on_progress, 0.5, 1.0))
        # The hub's client keeps notes of its own beside what it fetches.
        shutil.rmtree(part / ".cache", ignore_errors=True)
        sizes = _sizes(part)
    left_out = [name for name in listing.files if name not in chosen and name not in taken]
    return Intake(folder, len(sizes), sum(sizes.values()), tuple(left_out[:5]), len(left_out))


def _download(listing: _Listing, name: str, part: Path, limits: IntakeLimits) -> Path:
    parts_of(name, limits)
    revision = listing.revision
    return Path(
        hf_hub_download(listing.hub_id, name, repo_type="dataset", revision=revision, local_dir=part, token=False)
    )


@contextmanager
def _faults(hub_id: str) -> Iterator[None]:
    """What the hub's client raises, in words."""
    try:
        yield
    except GatedRepoError as error:
        then = "download the data set with that account, and give its folder or a ZIP of it"
        raise gated(DataError, f"datasets/{hub_id}", then) from error
    except (HfHubHTTPError, HFValidationError) as error:
        raise DataError(
            expected="the id of a public data set, like name/repository",
            got=f"The hub does not give {hub_id[:100]!r} out",
            remedy="Check the id; a private one can be downloaded and uploaded here as ZIP",
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        if isinstance(error, OSError) and error.errno in _NOT_WRITTEN:
            raise cannot_write(Path(error.filename or hub_id), error) from error
        raise DataError(
            expected="the hub within reach",
            got=f"{hub_id} cannot be fetched: there is no connection, or it is switched off",
            remedy="Download the data set elsewhere and upload it here as ZIP",
        ) from error


# ---- archives --------------------------------------------------------------------------------------


def _take_archives(
    listing: _Listing, archives: Mapping[str, int], part: Path, limits: IntakeLimits, on_progress: Progress
) -> list[str]:
    """Fetch and unpack archives until no image is missing that rows name; returns those that were of use."""
    wanted = _wanted(part)
    taken: list[str] = []
    order = sorted(archives, key=lambda name: (not _FOR_IMAGES.search(PurePosixPath(name).stem), -archives[name], name))
    for number, name in enumerate(order):
        if wanted is not None and not wanted:
            break
        if not name.lower().endswith(".zip"):
            continue
        if archives[name] > limits.total_bytes:
            most = byte_words(limits.total_bytes)
            raise refused(name, f"has {byte_words(archives[name])}, more than {most}", _ELSEWHERE)
        check_room(part, 2 * archives[name], limits)
        on_progress(f"Fetching {listing.hub_id}: {name}", number / len(order))
        archive = _download(listing, name, part, limits)
        unpacked = part / ".cache" / "unpacked"
        try:
            unpack_archive(
                archive, unpacked, limits, need_table=False,
                on_progress=part_of(on_progress, number / len(order), (number + 1) / len(order), f"{name}: "),
            )  # fmt: skip
        except DataError as error:
            raise DataError(
                expected=error.expected, got=f"{name} of {listing.hub_id}: {error.got}", remedy=_ELSEWHERE
            ) from error
        archive.unlink()
        if _put(unpacked, part, PurePosixPath(name), wanted):
            taken.append(name)
            sizes = _sizes(part)
            check_totals(len(sizes), list(sizes.values()), list(sizes), limits)
            wanted = _wanted(part)
        shutil.rmtree(unpacked)
    others = [name for name in order if not name.lower().endswith(".zip")]
    if others and not taken and (wanted is None or wanted):
        raise DataError(
            expected="images in files of their own, in Parquet files or in ZIP archives",
            got=f"{listing.hub_id} has them in {listed(others, 3)}" + (f"; missing is {wanted[0]}" if wanted else ""),
            remedy=_ELSEWHERE,
        )
    if wanted and not taken:
        raise DataError(
            expected="the images that its rows name",
            got=f"{listing.hub_id} holds {wanted[0]} neither as a file nor in {listed(order, 3)}",
            remedy="Download the data set elsewhere, and put the images beside its rows",
        )
    return taken


def _sizes(part: Path) -> dict[str, int]:
    """File -> bytes of the data set as far as it is there."""
    paths = {path.relative_to(part).as_posix(): path for path in part.rglob("*") if path.is_file()}
    return {name: path.stat().st_size for name, path in paths.items() if not name.startswith(".cache/")}


def _wanted(part: Path) -> Sequence[str] | None:
    """Names of images that are missing; None where there are no rows yet."""
    from a3tune.data.read import missing_images

    try:
        return missing_images(part)
    except DataError:
        return None


def _put(unpacked: Path, part: Path, archive: PurePosixPath, wanted: Collection[str] | None) -> bool:
    """Move an archive's files to where rows name them; False, and nothing is moved, where they name none of them."""
    files = sorted(path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file())
    tops = {PurePosixPath(file).parts[0] for file in files}
    beside = archive.parent.as_posix()
    places = [{file: os.path.normpath(f"{beside}/{file}") for file in files}]
    if len(tops) == 1 and not any(file in tops for file in files):
        places += [{file: os.path.normpath(f"{beside}/{file.partition('/')[2]}") for file in files}]
    if wanted is None:
        # Rows that lie deeper than the images name these from the folder around both.
        place, fits = places[-1], any(kind_of(file) == "table" for file in files)
    else:
        places += [{file: os.path.normpath(f"{beside}/{archive.stem}/{file}") for file in files}]
        found = [_named(place.values(), wanted, beside) for place in places]
        place, fits = places[found.index(max(found))], max(found) > 0
    for file, name in place.items() if fits else ():
        target = part / name
        if target.exists():
            if not target.is_file() or not filecmp.cmp(unpacked / file, target, shallow=False):
                raise refused(f"{archive}: {name}", "is there twice, and the two differ", _ELSEWHERE)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(unpacked / file, target)
    return fits


def _named(files: Collection[str], wanted: Collection[str], beside: str) -> int:
    """How many of the names of images files would have, with or without their endings."""
    there = {unicodedata.normalize("NFC", form) for file in files for form in (file, os.path.splitext(file)[0])}
    bases = [os.path.join(folder, base) for folder in dict.fromkeys(("", beside)) for base in _BASES]
    plain = [unicodedata.normalize("NFC", name.strip().replace("\\", "/")) for name in wanted]
    return sum(any(os.path.normpath(os.path.join(base, name)) in there for base in bases) for name in plain)
