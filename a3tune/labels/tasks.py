"""What is to be labelled: the pictures of a folder, or the questions of a data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from a3tune.data.dataset import TrainingItem
from a3tune.data.formats.faults import place_of
from a3tune.data.read import read_dataset
from a3tune.errors import ImageError, RequestError
from a3tune.images.kinds import detect_kind

# Files of these names are pictures even when their contents say otherwise: then they are damaged, and it is told.
_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".dcm", ".dicom", ".nii", ".nii.gz")


@dataclass(frozen=True)
class LabelTask:
    """One image and what to look for in it.

    Attributes:
        folder: name of the folder for its results, relative to the output folder, with forward slashes.
        name: what messages call it.
        image: the image's file.
        questions: the text, or several descriptions of one thing, as asked: before any template.
        organ: organ or location that a template may ask for; "" where it is not known.
        item: the question of a data set that it belongs to; None for a picture of a folder.
    """

    folder: str
    name: str
    image: Path
    questions: tuple[str, ...]
    organ: str = ""
    item: TrainingItem | None = None


@dataclass(frozen=True)
class TaskList:
    """What was found.

    Attributes:
        tasks: what can be tried, in a fixed order.
        faults: (name, what is wrong) of what cannot even be tried.
        passed_over: how many files are no pictures.
        root: the folder that the images lie in.
    """

    tasks: tuple[LabelTask, ...]
    faults: tuple[tuple[str, str], ...] = ()
    passed_over: int = 0
    root: Path = Path()


def tasks_in_folder(folder: Path, questions: Sequence[str], organ: str = "", *, out: Path) -> TaskList:
    """The pictures in a folder and all folders below it, in alphabetical order.

    Hidden files and the output folder are left out. What is a picture is told from the contents; files that are
    called like one count as well.

    Args:
        folder: an existing folder.
        questions, organ: as in `LabelTask`, the same for all.
        out: the output folder, which may lie inside ``folder``.

    Raises:
        RequestError: there is no picture, or ``folder`` is a file.
        OSError: a folder cannot be read.
    """
    if folder.is_file():
        raise RequestError(
            expected="a folder with PNG, JPEG, TIFF, DICOM or NIfTI files",
            got=f"{folder} is a file",
            remedy="Unpack it if it is an archive, and give the folder; of a single image, or the slices of one "
            "series, give --image",
        )
    own = out.resolve()
    found: list[Path] = []
    passed_over = 0
    for parent, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and Path(parent, name).resolve() != own
        )
        for name in sorted(files):
            path = Path(parent, name)
            if name.startswith(".") or not path.is_file():
                continue
            if _is_picture(path):
                found.append(path)
            else:
                passed_over += 1
    if not found:
        raise RequestError(
            expected="a folder with PNG, JPEG, TIFF, DICOM or NIfTI files",
            got=f"{folder} holds no picture" + (f" (other files: {passed_over})" if passed_over else ""),
            remedy="Check the path",
        )
    names = [path.relative_to(folder).as_posix() for path in found]
    tasks = (LabelTask(name, name, path, tuple(questions), organ) for name, path in zip(names, found, strict=True))
    return TaskList(tuple(tasks), passed_over=passed_over, root=folder)


def tasks_in_data(
    path: Path,
    questions: Sequence[str] = (),
    organ: str = "",
    *,
    layout: str = "auto",
    images: Path | None = None,
    unpack_to: Path | None = None,
) -> TaskList:
    """The questions of a data set, each with its image; rows with errors become faults.

    Args:
        path, layout, images, unpack_to: as in `a3tune.data.read.read_dataset`.
        questions: asked of every image instead of the data set's own; empty for those.
        organ: for rows that name none.

    Raises:
        DataError: nothing there is a data set, or none of its rows can be used.
    """
    dataset = read_dataset(
        path, layout, images=images, check_images=False, allow_shared_images=True, unpack_to=unpack_to
    )
    if not dataset.items:
        dataset.raise_for_faults()
    tasks = item_tasks(dataset.items, questions, organ)
    errors = [fault for fault in dataset.faults if fault.severity == "error"]
    faults = [(place_of(fault.file, fault.line), f"{fault.what}. {fault.remedy}.") for fault in errors]
    unlisted = dataset.counts.errors - len(errors)
    if unlisted:
        faults.append((path.name, f"{unlisted} more faults of this kind."))
    return TaskList(tasks, tuple(faults), root=dataset.root)


def item_tasks(items: Sequence[TrainingItem], questions: Sequence[str] = (), organ: str = "") -> tuple[LabelTask, ...]:
    """A task for each question of a data set; arguments as in `tasks_in_data`."""
    return tuple(
        LabelTask(
            f"{number:06d}",
            item.place,
            item.image,
            tuple(questions) or (item.question,),
            item.organ or organ,
            item,
        )
        for number, item in enumerate(items, start=1)
    )


def _is_picture(path: Path) -> bool:
    if path.name.upper() == "DICOMDIR":
        # The table of contents of a DICOM disc: a DICOM file without a picture.
        return False
    if path.name.lower().endswith(_SUFFIXES):
        return True
    try:
        with path.open("rb") as stream:
            detect_kind(stream)
    except ImageError:
        return False
    except OSError:
        # It cannot be told; opening it as an image says why.
        return True
    return True


def _refuse(error: OSError) -> None:
    raise error
