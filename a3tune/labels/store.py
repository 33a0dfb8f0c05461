"""Weak labels on disk: made once for each image and question, found again by both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from a3tune.labels.segmenters.segmentation import pack_regions, unpack_regions
from a3tune.storage import DAMAGED_ARRAYS, read_json_or_empty, whole_file, write_json
from a3tune.types import MedicalImage, Region, ScoredRegion, WeakLabels

SETTINGS_NAME = "settings.json"
_FORMAT = 1


class LabelStore:
    """A folder of ranked regions, one file for each image; labels lie under the question's prompt.

    Several processes may share a folder: a reader sees a whole file or none, and what two of them put for one image
    is joined. A damaged file, or one that does not fit its image, counts as missing.

    Args:
        folder: where the files lie; made when something is put into it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @property
    def settings(self) -> dict[str, Any] | None:
        """What the labels were made with; None for an empty store."""
        record = read_json_or_empty(self.folder / SETTINGS_NAME)
        return record if record.get("format") == _FORMAT else None

    def describe(self, settings: Mapping[str, Any]) -> None:
        """Write down what the labels are made with."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / SETTINGS_NAME, {"format": _FORMAT, **settings})

    def get(self, image: MedicalImage) -> dict[str, WeakLabels]:
        """prompt -> labels of one image; prompts whose regions were never ranked are not in it."""
        try:
            # Opened here, because numpy leaves a damaged file open.
            with self._path(image).open("rb") as stream, np.load(stream, allow_pickle=False) as entry:
                return self._unpack(entry, image)
        except DAMAGED_ARRAYS:
            return {}

    def put(self, image: MedicalImage, labels: Mapping[str, WeakLabels]) -> None:
        """Add labels of an image; they replace those of the same prompts, but never what a person chose, unless a
        person chose them too.

        Raises:
            OSError: the folder cannot be written.
        """
        path = self._path(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Locked while it is read and written: another process may add labels of the same image.
        with FileLock(self.folder / ".lock"):
            known = self.get(image)
            for prompt, made in labels.items():
                if made.checked or prompt not in known or not known[prompt].checked:
                    known[prompt] = made
            with whole_file(path, sync=False) as stream:
                np.savez_compressed(stream, **_pack(image, known))

    def _path(self, image: MedicalImage) -> Path:
        return self.folder / image.sha256[:2] / f"{image.sha256}.npz"

    def _unpack(self, entry: np.lib.npyio.NpzFile, image: MedicalImage) -> dict[str, WeakLabels]:
        regions = unpack_regions(entry, image)
        # Files that no person has touched need not say so, and older ones hold no details.
        checked = json.loads(str(entry["checked"])) if "checked" in entry else ()
        details = json.loads(str(entry["details"])) if "details" in entry else {}
        made_with = self.settings or {}
        found = {}
        for prompt, ranked in json.loads(str(entry["labels"])).items():
            known = details.get(prompt, {})
            text = known.get("prompt", prompt)
            phrases = known.get("phrases", [text] * len(ranked))
            found[prompt] = WeakLabels(
                tuple(
                    ScoredRegion(_at(regions, index), _finite(score), rank, _finite(weight), phrase)
                    for rank, ((index, score, weight), phrase) in enumerate(zip(ranked, phrases, strict=True), start=1)
                ),
                text,
                known.get("segmenter", made_with.get("segmenter", "")),
                known.get("scorer", made_with.get("scorer", "")),
                tuple(known.get("notes", ())),
                known.get("settings", ""),
                prompt in checked,
            )
        return found


def _pack(image: MedicalImage, labels: Mapping[str, WeakLabels]) -> dict[str, Any]:
    regions: dict[str, Region] = {}
    entries: dict[str, list[list[float]]] = {}
    for prompt, found in labels.items():
        entries[prompt] = []
        for scored in found.regions:
            regions.setdefault(scored.region.key, scored.region)
            place = list(regions).index(scored.region.key)
            entries[prompt].append([place, float(scored.score), float(scored.weight)])
    details = {
        prompt: {
            "prompt": found.prompt,
            "phrases": [scored.phrase for scored in found.regions],
            "segmenter": found.segmenter,
            "scorer": found.scorer,
            "notes": found.notes,
            "settings": found.settings,
        }
        for prompt, found in labels.items()
    }
    texts = {
        "labels": entries,
        "details": details,
        "checked": sorted(prompt for prompt, found in labels.items() if found.checked),
    }
    packed = pack_regions(tuple(regions.values()), image.height, image.width)
    return packed | {name: np.array(json.dumps(value)) for name, value in texts.items()}


def _at(regions: tuple[Region, ...], index: int) -> Region:
    if not 0 <= index < len(regions):
        raise ValueError(f"there is no region {index}")
    return regions[int(index)]


def _finite(number: float) -> float:
    if not np.isfinite(number):
        raise ValueError("a score is not finite")
    return number
