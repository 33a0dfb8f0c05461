"""Uploaded files into a folder of their own: how much is taken, which names and kinds, and where it goes.

Everything is looked at before anything is written, and nothing is ever written outside the folder that is named.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from a3tune.data.formats.files import ARCHIVE_SUFFIXES, PICKLE_SUFFIXES, ROW_SUFFIXES, is_pair_list
from a3tune.data.table import TABLE_NAME
from a3tune.errors import A3TuneError, DataError
from a3tune.storage import making
from a3tune.wording import brief, byte_words

TABLE_SUFFIXES = ROW_SUFFIXES
IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".dcm", ".dicom", ".ima", ".nii", ".nii.gz",
)  # fmt: skip
PACK = "Pack the files themselves, with the table at the top and the images beside it or in a folder"
"""The remedy where an archive holds something else."""

_ARCHIVES = (*ARCHIVE_SUFFIXES, ".bz2", ".xz", ".tbz", ".txz", ".zst", ".cab", ".iso", ".jar")
_LONGEST_PART = 255


@dataclass(frozen=True)
class IntakeLimits:
    """How much is taken.

    Attributes:
        files: entries of an archive, or loose files.
        folders: folders that they lie in, those around them included.
        total_bytes: all files together, unpacked.
        file_bytes: one file, unpacked.
        ratio: unpacked size over packed size of the whole archive, where it unpacks to more than ``ratio_from``.
        ratio_from: bytes below which the ratio says nothing.
        depth: folders inside one another.
        reserve: bytes that must stay free on the disk.
        raised: what can be done to have more files taken, as the end of a sentence; "" where nothing can.
        room_raised: the same, to have more bytes taken altogether.
    """

    files: int = 100_000
    folders: int = 100_000
    total_bytes: int = 16 << 30
    file_bytes: int = 2 << 30
    ratio: float = 200.0
    ratio_from: int = 64 << 20
    depth: int = 16
    reserve: int = 1 << 30
    raised: str = ""
    room_raised: str = ""

    def remedy(self, words: str) -> str:
        """What to do about too many files, with what can be done to have them taken."""
        return f"{words}, or {self.raised}" if self.raised else words

    def check_total(self, size: int, remedy: str, error: type[A3TuneError] = DataError) -> None:
        """Raises:
        A3TuneError: of the kind ``error``: so many bytes are more than are taken altogether.
        """
        if size > self.total_bytes:
            raise error(
                expected=f"at most {byte_words(self.total_bytes)} of data",
                got=f"There are {byte_words(size)}",
                remedy=f"{remedy}, or {self.room_raised}" if self.room_raised else remedy,
            )


LIMITS = IntakeLimits()


@dataclass(frozen=True)
class Intake:
    """What was taken in.

    Attributes:
        folder: where the files lie now.
        files: how many files were written.
        size: their bytes.
        left_out: names of files that no data set needs, the first few.
        left_out_count: how many there were.
    """

    folder: Path
    files: int
    size: int
    left_out: tuple[str, ...]
    left_out_count: int


def collect_files(
    files: Sequence[tuple[str | Path, str]],
    rows: Sequence[Mapping[str, str]],
    folder: str | Path,
    limits: IntakeLimits = LIMITS,
) -> Intake:
    """Put loose files into a new folder, with a table of rows that were typed in.

    Args:
        files: (where the file lies, what the user calls it) of each; of the name only the last part counts.
        rows: column -> text of each row; written to ``data.csv``. None where a table is among the files.
        folder: a folder that does not exist yet.
        limits: how much is taken.

    Raises:
        DataError: no files, two of one name, a file that is no image and no table, or too much of it.
    """
    folder = Path(folder)
    chosen = [(Path(path), parts_of(name.replace("\\", "/").rsplit("/", 1)[-1], limits)[-1]) for path, name in files]
    for path, name in chosen:
        if path.is_symlink() or not path.is_file():
            raise refused(name, "is no file", "Choose files")
        if kind_of(name) == "archive":
            raise refused(name, "is an archive", "Give an archive by itself, as ZIP, or the files that are in it")
        if kind_of(name) == "pickle":
            raise refused(name, "is a pickle, which can run any code when it is opened", "Convert it to CSV or JSON")
        if kind_of(name) == "other":
            raise refused(name, "is neither an image nor a table", "Leave it out")
    check_names([name for _, name in chosen] + ([TABLE_NAME] if rows else []), limits)
    if not chosen:
        raise DataError(expected="image files", got="No file was given", remedy="Choose the images")
    sizes = [path.stat().st_size for path, _ in chosen]
    check_totals(len(chosen), sizes, [name for _, name in chosen], limits)
    check_room(folder.parent, sum(sizes), limits)
    try:
        with new_folder(folder) as part:
            for path, name in chosen:
                shutil.copyfile(path, part / name)
            if rows:
                _write_rows(part / TABLE_NAME, rows)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return Intake(folder, len(chosen) + bool(rows), sum(sizes), (), 0)


def check_room(folder: Path, size: int, limits: IntakeLimits = LIMITS) -> None:
    """Refuse what would leave the disk almost full.

    Raises:
        DataError: fewer than ``size`` bytes and the reserve are free where ``folder`` lies.
    """
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < size + limits.reserve:
        raise DataError(
            expected=f"{byte_words(size + limits.reserve)} of free disk: {byte_words(limits.reserve)} stay free",
            got=f"There are {byte_words(free)}",
            remedy="Delete runs or data that are no longer needed, or free space on the server",
        )


def kind_of(name: str) -> str:
    """ "table", "image", "archive", "pickle" or "other", by the ending; without one it may be a DICOM image."""
    lower = name.lower()
    if lower.endswith(IMAGE_SUFFIXES):
        return "image"
    if lower.endswith(TABLE_SUFFIXES) or is_pair_list(name):
        return "table"
    if lower.endswith(PICKLE_SUFFIXES):
        return "pickle"
    if lower.endswith(_ARCHIVES):
        return "archive"
    return "other" if "." in name and not _is_number(name.rsplit(".", 1)[-1]) else "image"


def _is_number(text: str) -> bool:
    # DICOM files are often named by their numbers: 1.2.840.113619
    return text.isascii() and text.isdigit()


def parts_of(name: str, limits: IntakeLimits) -> tuple[str, ...]:
    """The parts of a name below the data folder.

    Raises:
        DataError: it leads out of the folder, or is no name that every system can write.
    """
    # Some Windows programs write backslashes, against the format's rules.
    plain = name.replace("\\", "/")
    parts = tuple(part for part in plain.split("/") if part not in ("", "."))
    if plain.startswith("/") or ".." in parts or (parts and ":" in parts[0]):
        raise refused(name, "leads out of the data folder", "Pack the data again with paths below one folder")
    if not parts or any(not part.isprintable() or len(part.encode()) > _LONGEST_PART for part in parts):
        raise refused(name, "is no file name", "Rename it and pack the data again")
    if len(parts) > limits.depth:
        raise refused(name, f"lies more than {limits.depth} folders deep", PACK)
    return parts


def check_names(names: Sequence[str], limits: IntakeLimits = LIMITS) -> None:
    """Names must differ, and none may be the folder of another one.

    Raises:
        DataError: they do not, or lie in too many folders.
    """
    seen: set[str] = set()
    folders: set[str] = set()
    for name in names:
        if name in seen:
            raise refused(name, "is there twice", "Rename one of them")
        seen.add(name)
        folder = name.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
        if len(folders) > limits.folders:
            raise DataError(
                expected=f"at most {limits.folders:,} folders",
                got="There are more",
                remedy=limits.remedy("Put the files into fewer folders"),
            )
    clash = next((name for name in names if name in folders), None)
    if clash is not None:
        raise refused(clash, "is a file and a folder", "Rename one of them")


def check_totals(count: int, sizes: Sequence[int], names: Sequence[str], limits: IntakeLimits) -> None:
    """Refuse too many files, too large ones, or too much of them.

    Raises:
        DataError: a limit is passed.
    """
    if count > limits.files:
        raise DataError(
            expected=f"at most {limits.files:,} files", got=f"There are {count:,}", remedy=limits.remedy("Give fewer")
        )
    for name, size in zip(names, sizes, strict=True):
        if size > limits.file_bytes:
            raise refused(name, f"has {byte_words(size)}, more than {byte_words(limits.file_bytes)}", "Leave it out")
    limits.check_total(
        sum(sizes), "Give a part of the data, or start the run from the command line on the folder itself"
    )


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill under another name, which appears when the block ends without an error.

    Raises:
        DataError: it is there already.
    """
    part = folder.with_name(f".{folder.name}.part")
    if folder.exists():
        raise DataError(expected="a new folder", got=f"{folder.name} is there already", remedy="Choose another name")
    if part.exists():
        shutil.rmtree(part)
    with making(part, lambda part: part.mkdir(parents=True, mode=0o700)):
        try:
            yield part
            part.rename(folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


def _write_rows(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def refused(name: str, what: str, remedy: str) -> DataError:
    """The error about one file that is not taken."""
    return DataError(
        expected="images and tables that can be unpacked safely", got=f"{brief(name)} {what}", remedy=remedy
    )


def cannot_write(folder: Path, error: OSError) -> DataError:
    """The error when the system does not let files be written."""
    return DataError(
        expected="a place that can be written, with room for the data",
        got=f"{folder.name} cannot be written ({os.strerror(error.errno) if error.errno else error})",
        remedy="Free space on the server, or ask whoever runs it",
    )
