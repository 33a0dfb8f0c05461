"""Masks that were made once are kept on disk, so that the next run need not make them again.

Only derived masks, boxes and quality scores are stored, under a digest: no pixel of the image, no file name
and nothing from its header. The folder is ``$A3TUNE_CACHE``, else ``$XDG_CACHE_HOME/a3tune``, else
``~/.cache/a3tune``; deleting it is always safe.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from a3tune.errors import LabelError
from a3tune.labels.segmenters.segmentation import RecentlyUsed, Segmentation, Segmenter
from a3tune.storage import DAMAGED_ARRAYS, cache_folder, named_path
from a3tune.types import MedicalImage, Region

_FORMAT = 1


class RegionCache:
    """A bounded folder of segmentations.

    Several processes may share a folder: entries are written to a temporary file and renamed into place, a
    reader sees a whole entry or none, and two writers of one key write the same. A damaged entry is removed
    and made anew. When the folder outgrows its limit, the entries not read for longest go first.

    The entries used last are also held in memory, so that a second question about an image reads no file.

    Args:
        folder: where entries are kept; the default cache folder's ``regions`` when None.
        maximum_bytes: limit of all entries together.
        in_memory: how many entries are held in memory.

    Raises:
        LabelError: the folder cannot be created.
    """

    def __init__(
        self, folder: str | Path | None = None, *, maximum_bytes: int = 512 * 1024 * 1024, in_memory: int = 4
    ) -> None:
        self.folder = named_path(folder) if folder is not None else cache_folder() / "regions"
        self.maximum_bytes = maximum_bytes
        self._recent: RecentlyUsed[Segmentation] = RecentlyUsed(in_memory)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LabelError(
                expected="a folder for cached masks that can be written",
                got=f"{self.folder} cannot be created ({error.strerror})",
                remedy="Set A3TUNE_CACHE to another folder",
            ) from error

    def key(self, image: MedicalImage, segmenter: Segmenter) -> str:
        """Hex digest of the image's content, the segmenter's name and weights, and its settings."""
        identity = [_FORMAT, image.sha256, segmenter.name, segmenter.digest, segmenter.parameters]
        return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()

    def get(self, image: MedicalImage, segmenter: Segmenter) -> Segmentation | None:
        """The stored segmentation, or None when there is none or it was damaged."""
        key = self.key(image, segmenter)
        recent = self._recent.get(key)
        if recent is not None:
            return recent
        path = self._path(key)
        try:
            # The time of last use is set by hand: many systems do not keep access times.
            os.utime(path)
            # Opened here: numpy leaves a file open when it turns out not to be an archive.
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as entry:
                segmentation = _unpack(entry, image, segmenter.name)
        except FileNotFoundError:
            return None
        except DAMAGED_ARRAYS:
            with suppress(OSError):
                path.unlink()
            return None
        self._recent.put(key, segmentation)
        return segmentation

    def put(self, image: MedicalImage, segmenter: Segmenter, segmentation: Segmentation) -> None:
        """Store a segmentation. A full or read-only disk is no error: the entry is then not kept."""
        key = self.key(image, segmenter)
        self._recent.put(key, segmentation)
        path = self._path(key)
        temporary: str | None = None
        try:
            path.parent.mkdir(exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as stream:
                temporary = stream.name
                np.savez_compressed(stream, **_pack(segmentation))
            os.replace(temporary, path)
        except OSError:
            if temporary is not None:
                with suppress(OSError):
                    os.unlink(temporary)
            return
        self._shrink()

    def get_or_make(self, image: MedicalImage, segmenter: Segmenter) -> Segmentation:
        """The stored segmentation, or a new one, which is then stored."""
        segmentation = self.get(image, segmenter)
        if segmentation is None:
            segmentation = segmenter.segment(image)
            self.put(image, segmenter, segmentation)
        return segmentation

    def size(self) -> int:
        """Bytes of all entries."""
        return sum(size for _, size, _ in self._entries())

    def clear(self) -> None:
        """Remove every entry."""
        self._recent.clear()
        for _, _, path in self._entries():
            with suppress(OSError):
                path.unlink()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"

    def _entries(self) -> list[tuple[float, int, Path]]:
        entries = []
        for path in self.folder.glob("??/*"):
            if path.suffix in (".npz", ".part"):
                # Another process may remove an entry between listing and looking.
                with suppress(OSError):
                    status = path.stat()
                    entries.append((status.st_mtime, status.st_size, path))
        return entries

    def _shrink(self) -> None:
        entries = sorted(self._entries(), key=lambda entry: entry[0])
        total = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if total <= self.maximum_bytes:
                return
            with suppress(OSError):
                path.unlink()
            total -= size


def _pack(segmentation: Segmentation) -> dict[str, np.ndarray]:
    regions = segmentation.regions
    pixels = segmentation.height * segmentation.width
    bits = np.zeros((len(regions), -(-pixels // 8)), dtype=np.uint8)
    for row, region in zip(bits, regions, strict=True):
        row[:] = np.packbits(region.mask.ravel())
    return {
        "shape": np.array([segmentation.height, segmentation.width], dtype=np.int64),
        "masks": bits,
        "boxes": np.array([region.box for region in regions], dtype=np.int64).reshape(-1, 4),
        "predicted_iou": _optional([region.predicted_iou for region in regions]),
        "stability_score": _optional([region.stability_score for region in regions]),
        "notes": np.array(json.dumps(segmentation.notes)),
    }


def _unpack(entry: np.lib.npyio.NpzFile, image: MedicalImage, segmenter: str) -> Segmentation:
    if tuple(entry["shape"]) != (image.height, image.width):
        raise ValueError("the entry belongs to an image of another size")
    pixels = image.height * image.width
    masks = np.unpackbits(entry["masks"], axis=1, count=pixels).astype(bool)
    masks = masks.reshape(-1, image.height, image.width)
    columns = (masks, entry["boxes"], entry["predicted_iou"], entry["stability_score"])
    regions = tuple(
        Region(
            mask,
            tuple(int(value) for value in box),
            None if np.isnan(predicted) else float(predicted),
            None if np.isnan(stability) else float(stability),
        )
        for mask, box, predicted, stability in zip(*columns, strict=True)
    )
    notes = tuple(str(note) for note in json.loads(str(entry["notes"])))
    return Segmentation(regions, segmenter, image.height, image.width, notes)


def _optional(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
