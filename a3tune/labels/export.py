"""Labels as files for other programs: a record with masks for each task, COCO JSON, and masks with a table.

All of them are in stored pixels, the grid of the image's own file.
"""

from __future__ import annotations

import io
import json
import math
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from a3tune import __version__
from a3tune.data.table import TABLE_NAME, table_row, table_text
from a3tune.encoding import finite
from a3tune.images.frames import image_record, labels_to_stored, mask_to_stored, region_record
from a3tune.labels.batch import Outcome
from a3tune.labels.picture import numbered_outlines
from a3tune.labels.tasks import LabelTask
from a3tune.storage import (
    files_together,
    read_json,
    read_json_or_empty,
    whole_file,
    write_bytes,
    write_json,
    write_text,
)
from a3tune.types import MedicalImage, WeakLabels

RECORD_NAME, MASKS_NAME, PICTURE_NAME = "labels.json", "masks.npz", "regions.png"
INDEX_NAME, COCO_NAME, MASK_FOLDER = "index.json", "coco.json", "masks"


def record(
    labels: WeakLabels, image: MedicalImage, prompts: Sequence[str], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The labels as plain JSON values: everything but the masks.

    Boxes are (x, y, width, height) in stored pixels with exclusive edges; the regions stand in the order of their
    rank. No file name and nothing else from the image's header is in it.
    """
    return {
        "a3tune": __version__,
        "image": image_record(image),
        "prompt": labels.prompt,
        "prompts": list(prompts),
        "segmenter": labels.segmenter,
        "scorer": labels.scorer,
        "settings": dict(settings) | ({"chosen": "by hand"} if labels.checked else {}),
        "notes": list(labels.notes),
        "regions": [
            {
                **region_record(item),
                "predicted_iou": finite(item.region.predicted_iou),
                "stability_score": finite(item.region.stability_score),
            }
            for item in labels_to_stored(labels, image).regions
        ],
    }


def write_labels(
    labels: WeakLabels, image: MedicalImage, folder: Path, prompts: Sequence[str], settings: Mapping[str, Any]
) -> tuple[Path, ...]:
    """Write ``labels.json``, ``masks.npz`` (``masks`` bool [regions, stored height, stored width] in the order of the
    record) and ``regions.png``, which shows square pixels. Files that say the same already stay as they are.

    The record is written last: where it is, the rest is whole and belongs to it.

    Args:
        folder: made when missing; files of the same names are replaced.
        prompts: the texts that the regions were ranked for.
        settings: what the labels were made with.

    Returns:
        the three files.

    Raises:
        OSError: the folder cannot be written; nothing of these labels stays behind.
    """
    names = (MASKS_NAME, PICTURE_NAME, RECORD_NAME)
    files = tuple(folder / name for name in names)
    value = record(labels, image, prompts, settings)
    if read_json_or_empty(folder / RECORD_NAME) == value and all(path.is_file() for path in files):
        return files
    picture = numbered_outlines(image.pixels, labels.regions)
    with files_together(folder, RECORD_NAME) as scratch:
        masks = (mask_to_stored(item.region.mask, image) for item in labels.regions)
        _write_array(scratch / MASKS_NAME, "masks", masks, (len(labels.regions), *image.stored_size))
        Image.fromarray(picture).save(scratch / PICTURE_NAME)
        write_json(scratch / RECORD_NAME, value)
    return files


def write_index(out: Path, outcomes: Sequence[Outcome], settings: Mapping[str, Any]) -> None:
    """Write ``index.json``: what became of each task, and the folder of its record."""
    items = []
    for outcome in outcomes:
        item: dict[str, object] = {"name": outcome.name, "status": outcome.status}
        if outcome.status == "failed":
            item["error"] = outcome.error
        elif outcome.task is not None:
            item |= {"folder": outcome.task.folder, "regions": outcome.regions}
        if outcome.task is not None:
            item["questions"] = list(outcome.task.questions)
        items.append(item)
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    counts = {"labelled": len(outcomes) - failed, "failed": failed}
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / INDEX_NAME, {"a3tune": __version__, "settings": dict(settings), **counts, "items": items})


def write_coco(out: Path, names: Mapping[Path, str]) -> Path:
    """Write ``coco.json``: the regions of all records as COCO annotations, each with its ``score`` and ``rank``, masks
    as uncompressed run lengths. The categories are the prompts.

    Args:
        out: the output folder.
        names: folder of a record -> name of its image's file; several records may be of one image.
    """
    images: dict[str, dict[str, Any]] = {}
    categories: dict[str, int] = {}
    records = [(folder, name, read_json(folder / RECORD_NAME)) for folder, name in names.items()]
    for _, name, found in records:
        size = {key: found["image"][key] for key in ("width", "height")}
        images.setdefault(name, {"id": len(images) + 1, "file_name": name, **size})
        categories.setdefault(found["prompt"], len(categories) + 1)
    head = {
        "info": {"description": f"Weak labels made by a3tune {__version__}"},
        "images": list(images.values()),
        "categories": [{"id": number, "name": prompt} for prompt, number in categories.items()],
    }
    number = 0
    with whole_file(out / COCO_NAME) as stream:
        # Annotation by annotation: the run lengths of a large data set are more than a machine's memory.
        stream.write(json.dumps(head, ensure_ascii=False).encode()[:-1] + b', "annotations": [')
        for folder, name, found in records:
            masks = _read_array(folder / MASKS_NAME, "masks")
            for region, mask in zip(found["regions"], masks, strict=True):
                number += 1
                annotation = {
                    "id": number,
                    "image_id": images[name]["id"],
                    "category_id": categories[found["prompt"]],
                    "bbox": region["box"],
                    "area": region["area"],
                    "iscrowd": 0,
                    "segmentation": {"size": list(mask.shape), "counts": run_lengths(mask)},
                    "score": region["score"],
                    "rank": region["rank"],
                }
                stream.write((b"," if number > 1 else b"") + b"\n" + json.dumps(annotation).encode())
        stream.write(b"\n]}\n")
    return out / COCO_NAME


def run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's run lengths of a mask, bool [height, width]: column by column, first those outside."""
    pixels = np.concatenate([[False], mask.ravel(order="F")])
    edges = np.flatnonzero(pixels[1:] != pixels[:-1])
    return np.diff(edges, prepend=0, append=mask.size).tolist()


def write_masks(out: Path, folders: Iterable[str]) -> list[Path]:
    """Write the regions of each record together as ``masks/FOLDER.png`` (``mask.png`` for the record in ``out``
    itself), 255 inside and 0 outside."""
    written = []
    for folder in folders:
        mask = reduce(np.logical_or, _read_array(out / folder / MASKS_NAME, "masks"))
        path = _mask_path(out, folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        Image.fromarray(mask.astype(np.uint8) * 255).save(content, "PNG")
        write_bytes(path, content.getvalue())
        written.append(path)
    return written


def image_names(tasks: Iterable[LabelTask], root: Path) -> dict[Path, str]:
    """image file -> its name relative to the data folder; ``images/...`` for those that lie elsewhere."""
    root = root.resolve()
    names: dict[Path, str] = {}
    for task in tasks:
        path = task.image.resolve()
        inside = path.is_relative_to(root)
        name = path.relative_to(root).as_posix() if inside else f"images/{task.folder}{path.suffix}"
        names.setdefault(task.image, name)
    return names


def write_table(out: Path, tasks: Sequence[LabelTask], root: Path) -> Path:
    """Write ``data.csv``: the labelled questions of a data set, with the files of `write_masks` as their masks.

    Args:
        out: the output folder.
        tasks: questions of a data set that have a record.
        root: the data folder, which the names of images are relative to; images from elsewhere are copied.
    """
    names = image_names(tasks, root)
    rows = [
        # The masks that are written take the place of what the data marks.
        table_row(
            replace(task.item, boxes=(), mask_values=(), segment=""),
            names[task.image],
            _mask_path(out, task.folder).relative_to(out).as_posix(),
        )
        for task in tasks
        if task.item is not None
    ]
    for path, name in names.items():
        if not path.resolve().is_relative_to(root.resolve()):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, out / name)
    write_text(out / TABLE_NAME, table_text(rows))
    return out / TABLE_NAME


def _mask_path(out: Path, folder: str) -> Path:
    return out / MASK_FOLDER / f"{folder}.png" if folder else out / "mask.png"


def _write_array(path: Path, name: str, rows: Iterable[np.ndarray], shape: tuple[int, ...]) -> None:
    """Write bool rows as one array of that shape into a compressed .npz file, one in memory at a time."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(f"{name}.npy", "w") as stream:
        header = {"descr": "|b1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        for row in rows:
            stream.write(np.ascontiguousarray(row).data)


def _read_array(path: Path, name: str) -> Iterator[np.ndarray]:
    """The rows of a bool array of an .npz file, one in memory at a time."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
        np.lib.format.read_magic(stream)
        shape, _, _ = np.lib.format.read_array_header_1_0(stream)
        for _ in range(shape[0]):
            row = stream.read(math.prod(shape[1:]))
            yield np.frombuffer(row, dtype=np.bool_).reshape(shape[1:])
