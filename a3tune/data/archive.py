"""A ZIP archive with a data set into a folder of its own.

An archive with paths that climb out or with links, one that would fill the disk, or one that hides another archive is
refused as a whole before anything is written, with the entry's name and what to do.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from a3tune.data.intake import (
    LIMITS,
    PACK,
    Intake,
    IntakeLimits,
    cannot_write,
    check_names,
    check_room,
    check_totals,
    kind_of,
    new_folder,
    parts_of,
    refused,
)
from a3tune.errors import A3TuneError, Cancelled, DataError
from a3tune.images.isolation import writing
from a3tune.progress import Progress, no_progress
from a3tune.storage import zip_faults
from a3tune.wording import byte_words, listed

# What systems and file managers add by themselves.
_CLUTTER = ("__macosx", "thumbs.db", "desktop.ini")
# Names in an archive that are not marked as UTF-8 are in the code page of the machine that packed it.
_ENCODINGS = ("utf-8", "cp437", "cp1252", "cp850", "gb18030", "cp932", "cp949", "cp1251")
_CHUNK = 1 << 20
_TABLES_READ = 16 << 20
_SEPARATORS = re.compile(r"[\t\r\n\",;|/\\]+")
_SHOWN = 5
# The end of a ZIP archive (APPNOTE.TXT 4.3.14 to 4.3.16): the record that says how long the directory is.
_END, _END_BYTES, _LONGEST_COMMENT = b"PK\x05\x06", 22, 1 << 16
_LONG_LOCATOR, _LONG_LOCATOR_BYTES = b"PK\x06\x07", 20
_ENTRY_BYTES = 512


@dataclass(frozen=True)
class _Entry:
    info: zipfile.ZipInfo
    parts: tuple[str, ...]

    @property
    def name(self) -> str:
        return "/".join(self.parts)


@writing
def unpack_archive(
    archive: str | Path,
    folder: str | Path,
    limits: IntakeLimits = LIMITS,
    *,
    need_table: bool = True,
    on_progress: Progress = no_progress,
    should_stop: Callable[[], bool] | None = None,
) -> Intake:
    """Unpack a ZIP archive with a data set into a new folder: tables and images, nothing else.

    Args:
        archive: the ZIP file; what it is called does not matter.
        folder: a folder that does not exist yet; it appears only when everything is in it.
        limits: how much is taken.
        need_table: whether an archive without a table is refused; False where the table lies elsewhere.
        on_progress: told which share of the bytes is written.
        should_stop: asked between files; True ends the work and leaves nothing behind.

    Raises:
        DataError: it is no ZIP archive, is damaged or encrypted, is too large, holds no data, or holds something that
            is never unpacked (climbing paths, links, archives, names that are no file names). Nothing was written.
        Cancelled: ``should_stop`` said so.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        packed_size = archive.stat().st_size
        _check_directory(archive, packed_size, limits)
        with zip_faults(), zipfile.ZipFile(archive) as packed:
            entries, left_out = _choose(packed, limits, need_table)
            size = _check_sizes([entry.info for entry in entries], packed_size, limits)
            check_room(folder.parent, size, limits)
            with new_folder(folder) as part:
                _write_members(packed, {entry.name: entry.info for entry in entries}, part, on_progress, should_stop)
    except zipfile.BadZipFile as error:
        raise DataError(
            expected="a ZIP archive",
            got=f"This is none, or it is damaged ({error})",
            remedy="Pack the data again as ZIP, with the ordinary (deflate) method",
        ) from error
    except OSError as error:
        raise cannot_write(folder, error) from error
    names = [name for name in left_out if name]
    return Intake(folder, len(entries), size, tuple(names[:_SHOWN]), len(names))


# ---- what to take ----------------------------------------------------------------------------------


def _choose(packed: zipfile.ZipFile, limits: IntakeLimits, need_table: bool) -> tuple[list[_Entry], list[str]]:
    """The entries to unpack, and the names of those that are left out ("" for what systems add by themselves)."""
    infos = packed.infolist()
    if len(infos) > limits.files:
        raise _too_many(len(infos), limits)
    names = _names(packed, infos, limits)
    entries, left_out = [], []
    for info, name in zip(infos, names, strict=True):
        parts = parts_of(name, limits)
        _check_entry(info, "/".join(parts))
        if info.is_dir() or name.endswith("/"):
            continue
        if any(part.startswith(".") or part.lower() in _CLUTTER for part in parts):
            left_out.append("")
            continue
        kind = kind_of(parts[-1])
        if kind == "archive":
            raise refused("/".join(parts), "is an archive inside the archive", PACK)
        if kind in ("image", "table"):
            entries.append(_Entry(info, parts))
        else:
            left_out.append("/".join(parts))
    check_names([entry.name for entry in entries], limits)
    # Seen before anything is written: tens of thousands of files would be written only to be refused.
    if need_table and not any(kind_of(entry.parts[-1]) == "table" for entry in entries):
        others = [entry.name for entry in entries] or [name for name in left_out if name]
        raise DataError(
            expected="images, and a table (CSV, JSON, JSON Lines or Parquet) that names them",
            got=f"The archive holds {'no table' if entries else 'none'}"
            + (f" (but {listed(others, _SHOWN)})" if others else ""),
            remedy=PACK,
        )
    return entries, left_out


def _check_entry(info: zipfile.ZipInfo, name: str) -> None:
    mode = info.external_attr >> 16
    if info.create_system == 3 and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "is a link" if stat.S_ISLNK(mode) else "is a device or a pipe"
        raise refused(name, what, "Pack the files that it stands for")
    if info.flag_bits & 0x1:
        raise refused(name, "is encrypted", "Pack the data without a password")


def _names(packed: zipfile.ZipFile, infos: Sequence[zipfile.ZipInfo], limits: IntakeLimits) -> list[str]:
    """The entries' names, in the encoding and the form in which the tables of the archive name them."""
    raw = [None if info.flag_bits & 0x800 else _raw_name(info.orig_filename) for info in infos]
    given = [info.orig_filename for info in infos]
    if all(name.isascii() for name in given):
        return given
    words = _table_words(packed, infos, limits)
    best: tuple[int, list[str]] | None = None
    for encoding in _ENCODINGS:
        try:
            read = [name if byte is None else byte.decode(encoding) for name, byte in zip(given, raw, strict=True)]
        except UnicodeDecodeError:
            continue
        for form in ("NFC", "NFD"):
            spelt = [unicodedata.normalize(form, name) for name in read]
            named = sum(name.rpartition("/")[2] in words for name in spelt if not name.isascii())
            if best is None or named > best[0]:
                best = (named, spelt)
    return given if best is None else best[1]


def _raw_name(name: str) -> bytes | None:
    # zipfile has read it as code page 437, which has a character for each byte.
    try:
        return name.encode("cp437")
    except UnicodeEncodeError:
        return None


def _table_words(packed: zipfile.ZipFile, infos: Sequence[zipfile.ZipInfo], limits: IntakeLimits) -> set[str]:
    """What stands between separators in the tables, as far as needed to recognise names beyond ASCII."""
    words: set[str] = set()
    left = _TABLES_READ
    for info in infos:
        if kind_of(info.orig_filename) != "table" or info.flag_bits & 0x1 or not 0 < info.file_size <= left:
            continue
        if info.file_size > limits.ratio * max(info.compress_size, 1) and info.file_size > limits.ratio_from:
            continue
        with suppress(zipfile.BadZipFile), zip_faults(), packed.open(info) as stream:
            # JSON may write every letter beyond ASCII as an escape.
            text = stream.read(left).decode("utf-8", "replace")
            for part in (text, _unescaped(text)) if "\\u" in text else (text,):
                words |= {word.strip() for word in _SEPARATORS.split(part) if not word.isascii()}
        left -= info.file_size
    return words


def _unescaped(text: str) -> str:
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)


def _check_directory(archive: Path, size: int, limits: IntakeLimits) -> None:
    """Refuse a directory of millions of entries before it is read into memory."""
    with archive.open("rb") as stream:
        stream.seek(max(0, size - _END_BYTES - _LONGEST_COMMENT - _LONG_LOCATOR_BYTES))
        tail = stream.read()
        place = tail.rfind(_END)
        if place < 0 or len(tail) < place + _END_BYTES:
            return  # zipfile says what is wrong with it
        count, length = struct.unpack_from("<HI", tail, place + 10)
        locator = tail[max(0, place - _LONG_LOCATOR_BYTES) : place]
        if locator.startswith(_LONG_LOCATOR) and len(locator) == _LONG_LOCATOR_BYTES:
            (offset,) = struct.unpack_from("<Q", locator, 8)
            stream.seek(min(offset, size))
            record = stream.read(56)
            if len(record) == 56:
                count, length = struct.unpack_from("<QQ", record, 32)
    if count > limits.files or length > limits.files * _ENTRY_BYTES:
        raise _too_many(count, limits)


def _too_many(count: int, limits: IntakeLimits) -> DataError:
    return DataError(
        expected=f"at most {limits.files:,} files",
        got=f"The archive has {count:,} entries",
        remedy=limits.remedy("Split the data set"),
    )


# ---- how much --------------------------------------------------------------------------------------


def _check_sizes(infos: Sequence[zipfile.ZipInfo], packed_size: int, limits: IntakeLimits) -> int:
    sizes = [info.file_size for info in infos]
    check_totals(len(infos), sizes, [info.filename for info in infos], limits)
    total = sum(sizes)
    if total > limits.ratio_from and total > limits.ratio * max(packed_size, 1):
        raise DataError(
            expected=f"an archive that unpacks to at most {limits.ratio:g} times its size",
            got=f"{byte_words(packed_size)} would become {byte_words(total)}",
            remedy="Leave out what is empty or repeated, or give the files themselves",
        )
    return total


# ---- writing ---------------------------------------------------------------------------------------


def _write_members(
    packed: zipfile.ZipFile,
    members: Mapping[str, zipfile.ZipInfo],
    part: Path,
    on_progress: Progress = no_progress,
    should_stop: Callable[[], bool] | None = None,
) -> None:
    """Write members of an archive into a folder that is being filled.

    Args:
        members: path below the folder, checked -> the member.
        part: as `a3tune.data.intake.new_folder` gives it.

    Raises:
        DataError: together they have more bytes than they declare.
        Cancelled: ``should_stop`` said so.
    """
    total, written = sum(info.file_size for info in members.values()), 0
    made: set[str] = set()
    for number, (name, info) in enumerate(members.items()):
        if should_stop is not None and number % 64 == 0 and should_stop():
            raise Cancelled
        place = os.path.join(part, name)
        folder = os.path.dirname(place)
        if folder not in made:
            os.makedirs(folder, exist_ok=True)
            made.add(folder)
        # "x": never into what is there already, which could be a link only if somebody else put it there.
        with open(place, "xb") as target:
            for chunk in _chunks(packed, info):
                written += len(chunk)
                if written > total:
                    raise refused(name, "unpacks to more than it declares", "Pack the data again")
                target.write(chunk)
        if number % 64 == 0:
            on_progress("Unpacking", written / max(total, 1))


@writing
def unpack_members(
    archive: Path,
    folder: Path,
    key: str,
    largest: Mapping[str, int],
    *,
    what: str,
    expected: str,
    error: type[A3TuneError],
    limits: IntakeLimits = LIMITS,
) -> tuple[str, ...]:
    """Unpack the one folder of an archive that holds a file of a name: of it what is named, nothing else.

    Args:
        archive: the ZIP file.
        folder: an empty folder.
        key: the file by which the folder is known.
        largest: regular expression of a path below that folder -> the most bytes of such a file.
        what: what such a folder is called.
        expected, error: how it is told that something is wrong.
        limits: how many entries there may be, and how much of the disk stays free.

    Returns:
        the names of all files that lie in that folder itself.

    Raises:
        A3TuneError: of the kind ``error``: it is no archive, is damaged, does not hold one such folder, or a file is
            encrypted or has too many bytes.
        DataError: the disk is almost full, or something has more bytes than it declares.
        OSError: the folder cannot be written.
    """
    forms = [(re.compile(form), most) for form, most in largest.items()]
    try:
        _check_directory(archive, archive.stat().st_size, limits)
        with zip_faults(), zipfile.ZipFile(archive) as packed:
            infos = {PurePosixPath(info.filename): info for info in packed.infolist()}
            if len(infos) > limits.files:
                raise _too_many(len(infos), limits)
            tops = [path.parent for path in infos if path.name == key]
            if len(tops) != 1:
                got = f"The archive holds {len(tops) or 'no'} {what}{'s' * (len(tops) > 1)}"
                raise error(expected=expected, got=got, remedy=f"Pack one {what} folder")
            (top,) = tops
            chosen = {}
            for path, info in infos.items():
                name = path.relative_to(top).as_posix() if top in (path.parent, path.parent.parent) else ""
                most = next((most for form, most in forms if form.fullmatch(name)), None)
                if most is None:
                    continue
                if info.file_size > most or info.flag_bits & 0x1:
                    got = f"{name} is encrypted or has too many bytes ({info.file_size:,})"
                    raise error(expected=expected, got=got, remedy=f"Pack the {what} folder again")
                chosen[name] = info
            size = sum(info.file_size for info in chosen.values())
            limits.check_total(size, "Delete what you no longer need", error)
            check_room(folder, size, limits)
            _write_members(packed, chosen, folder)
    except zipfile.BadZipFile as fault:
        raise error(
            expected=expected,
            got=f"This is no ZIP archive, or it is damaged ({fault})",
            remedy=f"Download it again, or pack the {what} folder anew",
        ) from fault
    return tuple(path.name for path in infos if path.parent == top)


def _chunks(packed: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    with packed.open(info) as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk
