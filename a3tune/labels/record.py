"""Writes the labels of an image to a folder, whole or not at all, and tells whether they are there already."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from a3tune import __version__
from a3tune.images.frames import image_record, labels_to_stored, masks_to_stored
from a3tune.labels.picture import numbered_outlines
from a3tune.types import MedicalImage, WeakLabels

RECORD_NAME = "labels.json"
MASKS_NAME = "masks.npz"
PICTURE_NAME = "regions.png"


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
        "settings": dict(settings),
        "notes": list(labels.notes),
        "regions": [
            {
                "box": list(item.region.box),
                "area": item.region.area,
                "score": _number(item.score),
                "rank": item.rank,
                "weight": _number(item.weight),
                "phrase": item.phrase,
                "predicted_iou": _number(item.region.predicted_iou),
                "stability_score": _number(item.region.stability_score),
            }
            for item in labels_to_stored(labels, image).regions
        ],
    }


def write_labels(
    labels: WeakLabels, image: MedicalImage, folder: Path, prompts: Sequence[str], settings: Mapping[str, Any]
) -> tuple[Path, ...]:
    """Write ``labels.json``, ``masks.npz`` (``masks`` bool [regions, stored height, stored width] in the order of the
    record) and ``regions.png``, which shows square pixels.

    The record is written last: where it is, the rest is whole and belongs to it.

    Args:
        folder: made when missing; files of the same names are replaced.
        prompts: the texts that the regions were ranked for.
        settings: what the labels were made with.

    Returns:
        the files written.

    Raises:
        OSError: the folder cannot be written; nothing of these labels stays behind.
    """
    text = json_text(record(labels, image, prompts, settings))
    masks = masks_to_stored([item.region.mask for item in labels.regions], image)
    picture = numbered_outlines(image.pixels, labels.regions)
    names = (MASKS_NAME, PICTURE_NAME, RECORD_NAME)
    with _scratch(folder) as scratch:
        np.savez_compressed(scratch / MASKS_NAME, masks=masks)
        Image.fromarray(picture).save(scratch / PICTURE_NAME)
        (scratch / RECORD_NAME).write_text(text, encoding="utf-8")
        # A record of labels made before must not vouch for the new masks if the work ends between the files.
        (folder / RECORD_NAME).unlink(missing_ok=True)
        for name in names:
            os.replace(scratch / name, folder / name)
    return tuple(folder / name for name in names)


def finished_regions(
    folder: Path, image: MedicalImage, prompts: Sequence[str], settings: Mapping[str, Any]
) -> int | None:
    """How many regions the labels in ``folder`` hold, when they are whole and were made for this very image and these
    prompts with the same settings; else None."""
    try:
        known = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
        same = (
            known["image"]["sha256"] == image.sha256
            and known["prompts"] == list(prompts)
            and known["settings"] == dict(settings)
        )
        count = len(known["regions"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    whole = all((folder / name).is_file() for name in (MASKS_NAME, PICTURE_NAME))
    return count if same and whole else None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all; its folder is made when missing.

    Raises:
        OSError: it cannot be written.
    """
    with _scratch(path.parent) as scratch:
        (scratch / path.name).write_text(json_text(value), encoding="utf-8")
        os.replace(scratch / path.name, path)


def json_text(value: Mapping[str, Any]) -> str:
    """The value as readable JSON; strict, so that every reader takes it."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder inside ``folder`` to write in, gone at the end; folders made for it go as well when the work fails."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as scratch:
            yield Path(scratch)
    except BaseException:
        _remove_empty(made)
        raise


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        # Another process may have put something there.
        with suppress(OSError):
            folder.rmdir()


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
