"""The data's own marks of where to look: an item's mask and boxes on its image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from a3tune.data.dataset import TrainingItem
from a3tune.errors import A3TuneError, DataError, EmptyTargetError, ImageError
from a3tune.images.frames import mask_to_source
from a3tune.images.masks import mask_labels
from a3tune.images.read import kind_of
from a3tune.images.target_mask import LOCATED, load_target
from a3tune.types import MedicalImage


def is_located(path: Path) -> bool:
    """Whether a mask is of a kind that says where it lies in the patient (DICOM, NIfTI), not a mere picture."""
    return kind_of(path) in LOCATED


def true_mask(item: TrainingItem, image: MedicalImage) -> np.ndarray | None:
    """bool [height, width], source pixels: the item's own mask and boxes (both in stored pixels) together; None when
    they are empty.

    Raises:
        DataError: the mask cannot be read, or does not fit the image (its size, or where it lies).
    """
    mask = np.zeros(image.stored_size, bool)
    for x, y, width, height in item.boxes:
        left, top = max(0, round(x)), max(0, round(y))
        mask[top : max(0, round(y + height)), left : max(0, round(x + width))] = True
    if item.mask is None:
        mask = mask_to_source(mask, image)
    elif is_located(item.mask):
        mask = mask_to_source(mask, image) | _located_mask(item, item.mask, image)
    else:
        mask = mask_to_source(mask | _picture_mask(item, item.mask, image), image)
    return mask if mask.any() else None


def counting_values(item: TrainingItem) -> tuple[int, ...]:
    """Which values of the item's mask count where it is a picture; all above 0 when there are none.

    Raises:
        DataError: the item names a segment by a word, which no picture knows.
    """
    if not item.segment:
        return item.mask_values
    if not item.segment.isdecimal():
        raise DataError(
            expected="the number of a grey value as the segment of a picture",
            got=f"{item.place} names a segment by a word, and its mask is a picture without names",
            remedy="Give the grey value, or leave the segment out",
        )
    return (int(item.segment),)


def _located_mask(item: TrainingItem, path: Path, image: MedicalImage) -> np.ndarray:
    """The marked segments, structures or values; several are joined."""
    mask = np.zeros((image.height, image.width), bool)
    named = (item.segment,) if item.segment else tuple(map(str, item.mask_values))
    for segment in named or (None,):
        try:
            mask |= load_target(path, image, item.image, segment=segment)
        except EmptyTargetError:
            continue
        except A3TuneError as error:
            raise DataError(expected=error.expected, got=f"{error.got} ({item.place})", remedy=error.remedy) from error
    return mask


def _picture_mask(item: TrainingItem, path: Path, image: MedicalImage) -> np.ndarray:
    try:
        values = mask_labels(path)
    except ImageError as error:
        raise DataError(
            expected="the mask that was there when the data was checked",
            got=f"{path.name} ({item.place}) cannot be read: {error.got}",
            remedy="Check the data folder and start again",
        ) from error
    height, width = image.stored_size
    if values.shape != (height, width):
        raise DataError(
            expected=f"a mask of the image's size, {width} x {height} pixels",
            got=f"{path.name} ({item.place}) has {values.shape[1]} x {values.shape[0]}",
            remedy="Save the mask in the image's own size",
        )
    counting = counting_values(item)
    return np.isin(values, counting) if counting else values > 0
