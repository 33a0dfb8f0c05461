"""A file to the decoded contents of its frames, by the kind that its bytes tell."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from pydicom import Dataset

from a3tune.errors import ImageError
from a3tune.images.content import Content, decode
from a3tune.images.dicom import read_dataset, read_dicom
from a3tune.images.kinds import detect_kind
from a3tune.images.limits import MAX_BYTES
from a3tune.images.nifti import read_nifti
from a3tune.images.pictures import ends_early, read_picture
from a3tune.images.series import holds_series, read_series
from a3tune.images.silence_decoders import silence_decoders, silence_terminal
from a3tune.images.slices import Series
from a3tune.images.tiff import read_tiff


def read_content(
    path: str | os.PathLike[str], frame: int | None, axis: int, volume: int, series: int | Series | None
) -> Content:
    """Decode one frame of a file, or one slice of a series, as ``load_image`` does before it shows it."""
    return next(read_contents(path, [frame], axis, volume, series))


def read_contents(
    path: str | os.PathLike[str],
    frames: Sequence[int | None],
    axis: int,
    volume: int,
    series: int | Series | None,
) -> Iterator[Content]:
    """Decode several frames one after the other; the file is opened, and a DICOM header read, once."""
    if holds_series(path):
        with silence_decoders():
            yield from (read_series(path, frame, series) for frame in frames)
        return
    with open_file(path) as stream, silence_decoders():
        kind = detect_kind(stream)
        dataset = decode(kind, lambda: read_dataset(stream)) if kind == "DICOM" and len(frames) > 1 else None
        for frame in frames:
            stream.seek(0)
            yield _read_frame(stream, kind, frame, axis, volume, dataset)


def _read_frame(
    stream: BinaryIO,
    kind: str,
    frame: int | None,
    axis: int,
    volume: int,
    dataset: Dataset | None,
) -> Content:
    if kind == "DICOM":
        return decode(kind, lambda: read_dicom(stream, frame, dataset))
    if kind.startswith("NIfTI"):
        return decode("NIfTI", lambda: read_nifti(stream, kind, frame, axis, volume))
    if kind == "TIFF":
        with silence_terminal():
            return decode(
                kind,
                lambda: read_tiff(stream, frame, lambda page: read_picture(stream, kind, page)),
                lambda: ends_early(stream, kind),
            )
    return decode(kind, lambda: read_picture(stream, kind, frame), lambda: ends_early(stream, kind))


def kind_of(path: str | os.PathLike[str]) -> str:
    """What a file is, by its contents (see :func:`a3tune.images.kinds.detect_kind`).

    Raises:
        ImageError: it cannot be opened, or is of no kind that can be shown.
    """
    with open_file(path) as stream:
        return detect_kind(stream)


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading; what the system has against it becomes an ImageError."""
    problem, remedy = "", "Check the name and the folder"
    try:
        # A pipe or a device would block on opening, so the kind is asked first.
        facts = os.stat(path)
        if stat.S_ISDIR(facts.st_mode):
            problem, remedy = "This is a folder, not a file", "Choose a file inside it"
        elif not stat.S_ISREG(facts.st_mode):
            problem, remedy = "This is a device or a pipe, not a file", "Choose a file"
        elif facts.st_size > MAX_BYTES:
            problem, remedy = "The file is larger than 2 GiB", "Export the frame of interest on its own"
        else:
            return open(path, "rb")
    except FileNotFoundError:
        problem = "The file does not exist"
    except PermissionError:
        problem, remedy = "The file may not be read", "Ask its owner for the right to read it"
    except (OSError, ValueError):
        problem = "The file cannot be opened"
    raise ImageError(got=problem, expected="a picture file that can be read", remedy=remedy)
