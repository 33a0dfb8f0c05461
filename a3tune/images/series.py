"""A DICOM series as a volume of slices: from a folder, a ZIP archive or the medium of a DICOMDIR.

Headers are read first and without their pixels; only the slice that is asked for is decoded.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from pydicom import Dataset, dcmread, uid

from a3tune.errors import A3TuneError, ImageError, RequestError
from a3tune.images.content import Content, choose_frame, decode, unsupported
from a3tune.images.dicom import MODALITIES, read_dicom
from a3tune.images.dicom_header import contradiction, missing_field, number, text, whole_number
from a3tune.images.dicom_kinds import describe_object
from a3tune.images.isolation import isolable
from a3tune.images.kinds import detect_kind
from a3tune.images.limits import MAX_BYTES
from a3tune.images.silence_decoders import silence_decoders
from a3tune.images.slices import Series, Slice, describe_gaps, frame_order, read_plane
from a3tune.wording import counted

MAX_FILES = 20_000
"""Most files that a folder or archive may hold, and most frames that one of them may."""

_ZIP_SIGNATURE = b"PK\x03\x04"
_DICOMDIR_CLASS = b"1.2.840.10008.1.3.10"
_TAGS = [
    *("SOPClassUID", "Modality", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "Rows", "Columns"),
    *("StudyInstanceUID", "FrameOfReferenceUID", "PixelSpacing"),
    *("NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient", "SegmentationType", "DoseGridScaling"),
    *("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"),
]
_LISTED = 20
_REASONS = 3
_CHOOSE = "Choose a folder or archive with the slices of a series, or a single picture"
_EACH = (
    "Open one of them by itself; or have each asked: give all of them, unpacked, to 'Several images, one question' on "
    "the page, or their folder to --images on the command line"
)


class _Folder:
    """The files below a folder, or those of it that a DICOMDIR lists."""

    def __init__(self, root: Path, listed: frozenset[str] | None = None) -> None:
        self._root, self._listed = root, listed
        self.word = "folder" if listed is None else "medium of the DICOMDIR"

    def names(self) -> Iterator[str]:
        for place, folders, files in os.walk(self._root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                relative = os.path.relpath(os.path.join(place, name), self._root)
                if not name.startswith(".") and (self._listed is None or relative.upper() in self._listed):
                    yield relative

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        path = self._root / name
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise unsupported("A file of the folder is no plain file, or larger than 2 GiB", _CHOOSE)
        with path.open("rb") as stream:
            yield stream


class _Archive:
    """The members of a ZIP archive."""

    word = "ZIP archive"

    def __init__(self, stream: BinaryIO) -> None:
        self._zip = zipfile.ZipFile(stream)

    def names(self) -> Iterator[str]:
        for member in self._zip.infolist():
            if (
                not member.is_dir()
                and not Path(member.filename).name.startswith(".")
                and "__MACOSX" not in member.filename
            ):
                if member.flag_bits & 1:
                    raise unsupported("The ZIP archive is encrypted", "Unpack it with its password and open the folder")
                yield member.filename

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        if self._zip.getinfo(name).file_size > MAX_BYTES:
            raise unsupported("A file in the ZIP archive is larger than 2 GiB", _CHOOSE)
        with decode("ZIP", lambda: self._zip.open(name)) as stream:
            yield cast(BinaryIO, stream)


def holds_series(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is a folder, a ZIP archive or a DICOMDIR."""
    if os.path.isdir(path):
        return True
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as stream:
        start = stream.read(512)
    return start.startswith(_ZIP_SIGNATURE) or (start[128:132] == b"DICM" and _DICOMDIR_CLASS in start)


@isolable
def find_series(path: str | os.PathLike[str]) -> tuple[Series, ...]:
    """The series in a folder, a ZIP archive or the medium of a DICOMDIR, as ``load_image`` counts them from 1; none for
    any other file.

    Raises:
        ImageError: as ``read_series``.
    """
    if not holds_series(path):
        return ()
    with silence_decoders(), _open_source(Path(path)) as source:
        return tuple(_find_series(source))


def read_series(path: str | os.PathLike[str], frame: int | None, series: int | Series | None) -> Content:
    """Decode one slice of a series.

    Args:
        path: a folder, a ZIP archive or a DICOMDIR.
        frame: slice from 0 in the order of their places, or None for the middle one.
        series: which series, from 1, as the error lists them; one that was found in ``path`` before, which spares
            looking for it again; None for the only one.

    Raises:
        ImageError: no slices, several series and none chosen, a file that cannot be read, an archive that is damaged,
            encrypted or too large.
        RequestError: no such series or slice.
    """
    with open_slice(path, frame, series) as (stream, member):
        content = decode("DICOM", lambda: read_dicom(stream, member.frame))
        chosen = member.series
    count, number = len(chosen.slices), member.number
    return replace(content, frame=number, frame_count=count, notes=(*content.notes, *chosen.notes), series=chosen)


class Member(NamedTuple):
    """A slice as it stands in its series.

    Attributes:
        series: the series.
        number: which of its slices, from 0.
        frame: which frame of its file it is, counted as they are shown.
    """

    series: Series
    number: int
    frame: int


@contextmanager
def open_slice(
    path: str | os.PathLike[str], frame: int | None, series: int | Series | None
) -> Iterator[tuple[BinaryIO, Member]]:
    """The file of one slice of a series, open for reading.

    Args, Raises: as `read_series`.
    """
    with _open_source(Path(path)) as source:
        chosen = series if isinstance(series, Series) else _choose_series(_find_series(source), series, source.word)
        count = len(chosen.slices)
        number = choose_frame(frame, count, default=count // 2, what="slice")
        member = chosen.slices[number]
        with source.open(member.name) as stream:
            # The decoders go to and fro in the file, which the member of an archive answers by unpacking it again.
            whole = io.BytesIO(decode("ZIP", stream.read)) if isinstance(source, _Archive) else stream
            yield whole, Member(chosen, number, member.frame)


@contextmanager
def _open_source(path: Path) -> Iterator[_Folder | _Archive]:
    if path.is_dir():
        yield _Folder(path)
        return
    with path.open("rb") as stream:
        if stream.read(4) != _ZIP_SIGNATURE:
            yield _Folder(path.parent, _listed_files(stream))
            return
        yield decode("ZIP", lambda: _Archive(stream))


def _listed_files(stream: BinaryIO) -> frozenset[str]:
    """The paths that a DICOMDIR lists (PS3.3 F.5), in upper case, since media and copies differ in it."""
    stream.seek(0)
    records = decode("DICOMDIR", lambda: dcmread(stream).DirectoryRecordSequence)
    names = set()
    for record in records:
        parts = record.get("ReferencedFileID")
        if parts:
            parts = [parts] if isinstance(parts, str) else list(parts)
            names.add(os.path.join(*map(str, parts)).upper())
    return frozenset(names)


def _find_series(source: _Folder | _Archive) -> list[Series]:
    groups: dict[_Key, list[tuple[Slice, tuple]]] = defaultdict(list)
    unreadable: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for count, name in enumerate(source.names()):
        if count >= MAX_FILES:
            raise unsupported(f"The {source.word} holds more than {MAX_FILES} files", _CHOOSE)
        try:
            with source.open(name) as stream:
                kind = _picture_kind(stream)
                if kind != "DICOM":
                    others.update([kind] if kind else ())
                    continue
                found = decode("DICOM", partial(_read_header, stream, name))
        except ImageError as error:
            unreadable[error.got] += 1
            continue
        for key, facts, one in found:
            groups[key].append((one, facts))
    if not groups:
        raise _nothing_found(source.word, unreadable, others)
    if len(groups) > 1 and all(key.file and not key.series and len(found) == 1 for key, found in groups.items()):
        raise _loose(f"These {len(groups):,} DICOM files do not say which series they are of")
    notes: tuple[str, ...] = ()
    if unreadable:
        left_out = counted(unreadable.total(), "DICOM file")
        notes = (f"{left_out} could not be read and may be missing from the series ({_reasons(unreadable)})",)
    if others:
        notes = (*notes, f"Left out, since no part of the series: {_pictures(others)}")
    series = [_sorted_series(members, notes) for _, members in sorted(groups.items(), key=_by_key)]
    return sorted(series, key=lambda one: (one.number is None, one.number or 0))


def _nothing_found(word: str, unreadable: Counter[str], others: Counter[str]) -> ImageError:
    if others and not unreadable:
        apart = ", and nothing in them says that they belong together" if others.total() > 1 else ""
        return _loose(f"No slice of a DICOM series is here, but {_pictures(others)}{apart}")
    why = f" that can be read ({_reasons(unreadable)})" if unreadable else ""
    return unsupported(f"The {word} holds no slice of a DICOM series{why}", _CHOOSE)


def _loose(got: str) -> ImageError:
    return ImageError(expected="the slices of one series, or a single picture", got=got, remedy=_EACH)


def _pictures(others: Counter[str]) -> str:
    """ "3 pictures (2 PNG, 1 JPEG)"."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(others.items()))
    return f"{counted(others.total(), 'picture')} ({kinds})"


def _reasons(found: Counter[str]) -> str:
    return "; ".join(f"{counted(count, 'file')}: {reason}" for reason, count in found.most_common(_REASONS))


def _by_key(item: tuple) -> str:
    return repr(item[0])


def _picture_kind(stream: BinaryIO) -> str:
    """What a file is, as `detect_kind` names it; "" for no picture."""
    try:
        return decode("ZIP", lambda: detect_kind(stream))
    except ImageError:
        return ""


class _Key(NamedTuple):
    """What slices that belong together have in common.

    Attributes:
        series, study: the UIDs; "" where there is none.
        facts: modality, number and size.
        place: orientation and frame of reference; None where the slices do not tell where they lie.
        spacing: of rows and of columns, in millimetres to 4 decimals; None where it is not told.
        file: the file's own name where nothing says that it belongs to another one; "" for any other.
    """

    series: str
    study: str
    facts: tuple
    place: tuple | None
    spacing: tuple[float | None, float | None]
    file: str


def _read_header(stream: BinaryIO, name: str) -> list[tuple[_Key, tuple, Slice]]:
    """The slices of a DICOM file with what tells their series.

    Raises:
        ImageError: it cannot be read.
    """
    dataset = dcmread(stream, stop_before_pixels=True, specific_tags=_TAGS, force=True)
    rows, columns = whole_number(dataset, "Rows"), whole_number(dataset, "Columns")
    storage = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    if not rows or not columns or describe_object(dataset) is not None:
        if "Image Storage" in uid.UID(str(storage or "")).name:
            missing_field("Rows" if not rows else "Columns")
        return []
    modality = text(dataset, "Modality")
    facts = modality if modality in MODALITIES else None, whole_number(dataset, "SeriesNumber"), (rows, columns)
    count = max(1, whole_number(dataset, "NumberOfFrames") or 1)
    if count > MAX_FILES:
        contradiction(f"its header says it has {count:,} frames, more than {MAX_FILES:,}")
    series, study, frame_of_reference = (
        str(dataset.get(keyword) or "") for keyword in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
    )
    spacing = _spacing(dataset, 0), _spacing(dataset, 1)
    order = frame_order(dataset, count)
    instance = whole_number(dataset, "InstanceNumber")
    found = []
    for shown, stored in enumerate(order):
        plane = read_plane(dataset, stored)
        # The frames of a file belong together whatever else is in its series. Of several files a series, or a place in
        # the same patient, says so; and then their places or their numbers say in which order.
        tied = bool(series or (plane is not None and (study or frame_of_reference)))
        own = count > 1 or not tied or (plane is None and instance is None)
        place = None if plane is None else (plane.orientation, frame_of_reference)
        key = _Key(series, study, facts, place, spacing, name if own else "")
        found.append((key, facts, Slice(name, shown, instance or 0, plane)))
    return found


def _spacing(dataset: Dataset, index: int) -> float | None:
    value = number(dataset, "PixelSpacing", index=index)
    return None if value is None else round(value, 4)


def _sorted_series(members: Iterable[tuple[Slice, tuple]], notes: tuple[str, ...]) -> Series:
    members = list(members)
    slices = [one for one, _ in members]
    modality, number, size = members[0][1]
    distances = {one: one.plane.distance for one in slices if one.plane is not None}
    if len(distances) < len(slices):
        slices.sort(key=lambda one: (one.number, one.name, one.frame))
        if len(slices) > 1 and len({one.name for one in slices}) > 1:
            notes = (*notes, "The slices do not tell where they lie: they are in the order of their instance numbers")
    else:
        slices.sort(key=lambda one: (round(distances[one], 3), one.number, one.frame))
        notes = (*notes, *describe_gaps([distances[one] for one in slices]))
    return Series(modality, number, size, tuple(slices), notes)


def _choose_series(found: list[Series], series: int | None, word: str) -> Series:
    if series is None and len(found) == 1:
        return found[0]
    listed = "; ".join(f"{place}: {one}" for place, one in enumerate(found[:_LISTED], start=1))
    listed += f"; and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    if series is not None and 1 <= series <= len(found):
        return found[series - 1]
    kind: type[A3TuneError] = ImageError
    expected = "slices of one series"
    if series is not None:
        kind, expected = RequestError, f"a series from 1 to {len(found)}"
    raise kind(
        expected=expected,
        got=f"The {word} holds {len(found)} series ({listed})",
        remedy="Choose one by its number (--series N), or keep the files of one series only",
    )
