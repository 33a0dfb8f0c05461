"""Weak labels for a data set: made once for each question, kept on disk, found again by image and prompt."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from a3tune.data.dataset import TrainingItem
from a3tune.errors import Cancelled, LabelError
from a3tune.images import load_image
from a3tune.labels import RegionCache, RegionScorer, Segmenter, build_prompt, make_labels
from a3tune.labels.segmenters.segmentation import region_from_mask
from a3tune.storage import DAMAGED_ARRAYS
from a3tune.types import MedicalImage, ScoredRegion

SETTINGS_NAME = "settings.json"
KEPT_REGIONS = 8
"""How many of the best regions are kept for each question: the most that the method's data sets use."""

_FORMAT = 1


class Labeller(Protocol):
    """Ranks the regions of an image for a question.

    Attributes:
        settings: everything that the labels depend on, as plain JSON values.
    """

    @property
    def settings(self) -> Mapping[str, Any]: ...

    def rank(self, image: MedicalImage, prompt: str) -> tuple[ScoredRegion, ...]:
        """The best regions, best first; none when the image has no usable region."""
        ...


class PipelineLabeller:
    """The label pipeline as a labeller: segment, filter, score.

    Args:
        segmenter: finds the regions.
        scorer: ranks them.
        cache: keeps what the segmenter found, on disk.
        kept: how many of the best regions are kept.
    """

    def __init__(
        self, segmenter: Segmenter, scorer: RegionScorer, cache: RegionCache | None = None, kept: int = KEPT_REGIONS
    ) -> None:
        self.segmenter, self.scorer, self.cache, self.kept = segmenter, scorer, cache, kept

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "segmenter": self.segmenter.name,
            "segmenter_weights": self.segmenter.digest,
            "segmenter_parameters": json.loads(json.dumps(self.segmenter.parameters, default=str)),
            "scorer": self.scorer.name,
            "scorer_weights": self.scorer.digest,
            "kept": self.kept,
        }

    def rank(self, image: MedicalImage, prompt: str) -> tuple[ScoredRegion, ...]:
        # Both raise LabelError: an unusable prompt must reach the user, an image without regions is a plain fact.
        self.scorer.embed_texts([prompt])
        try:
            labels = make_labels(image, prompt, self.segmenter, self.scorer, cache=self.cache, top_k=self.kept)
        except LabelError:
            return ()
        return labels.regions


class LabelStore:
    """A folder of ranked regions, one file per image.

    Several processes may share a folder: files are written beside their place and renamed into it. A damaged file
    counts as missing.

    Args:
        folder: where the files lie; made when something is put into it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @property
    def settings(self) -> dict[str, Any] | None:
        """What the labels were made with; None for an empty store."""
        try:
            record = json.loads((self.folder / SETTINGS_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) and record.get("format") == _FORMAT else None

    def describe(self, settings: Mapping[str, Any]) -> None:
        """Write down what the labels are made with."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format": _FORMAT, **settings}, indent=1, sort_keys=True) + "\n"
        self._replace(self.folder / SETTINGS_NAME, text.encode())

    def get(self, image: MedicalImage) -> dict[str, tuple[ScoredRegion, ...]]:
        """prompt -> regions, best first, of one image; prompts whose regions were never ranked are not in it."""
        return self._read(image)[0]

    def checked(self, image: MedicalImage) -> frozenset[str]:
        """The prompts whose regions a person chose."""
        return self._read(image)[1]

    def put(
        self, image: MedicalImage, labels: Mapping[str, Sequence[ScoredRegion]], checked: Collection[str] | None = None
    ) -> None:
        """Store the labels of an image in the place of those that were there.

        Args:
            checked: the prompts whose regions a person chose; None for those that were chosen before.

        Raises:
            OSError: the folder cannot be written.
        """
        checked = self.checked(image) if checked is None else checked
        path = self._path(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as stream:
            try:
                np.savez_compressed(stream, **_pack(image, labels), checked=np.array(json.dumps(sorted(checked))))
                stream.close()
                os.replace(stream.name, path)
            except OSError:
                with suppress(OSError):
                    os.unlink(stream.name)
                raise

    def _read(self, image: MedicalImage) -> tuple[dict[str, tuple[ScoredRegion, ...]], frozenset[str]]:
        try:
            # Opened here, because numpy leaves a damaged file open.
            with self._path(image).open("rb") as stream, np.load(stream, allow_pickle=False) as entry:
                # Files that no person has touched need not say so.
                checked = json.loads(str(entry["checked"])) if "checked" in entry.files else ()
                return _unpack(entry, image), frozenset(checked)
        except DAMAGED_ARRAYS:
            return {}, frozenset()

    def _path(self, image: MedicalImage) -> Path:
        return self.folder / image.sha256[:2] / f"{image.sha256}.npz"

    @staticmethod
    def _replace(path: Path, content: bytes) -> None:
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.write_bytes(content)
        os.replace(part, path)


def label_items(
    items: Sequence[TrainingItem],
    labeller: Labeller,
    store: LabelStore,
    template_set: str,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> int:
    """Rank the regions of every image for every question about it; what the store already holds is left as it is.

    A store in the folder ``labels`` beside a data set's images is used by every run on that data.

    Args:
        items: the questions.
        labeller: makes the labels.
        store: where they go.
        template_set: how questions are put to the scorer.
        on_progress: called with the number of items done and of all items.
        should_stop: asked between images; True ends the work, what was labelled stays.

    Returns:
        How many questions have no region at all.

    Raises:
        Cancelled: ``should_stop`` said so.
    """
    store.describe(labeller.settings)
    by_image: dict[Path, list[TrainingItem]] = defaultdict(list)
    for item in items:
        by_image[item.image].append(item)
    done = empty = 0
    for path, group in by_image.items():
        if should_stop is not None and should_stop():
            raise Cancelled
        image = load_image(path)
        prompts = [label_prompt(item, template_set) for item in group]
        stored = store.get(image)
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in stored]
        stored.update((prompt, labeller.rank(image, prompt)) for prompt in missing)
        if missing:
            store.put(image, stored)
        empty += sum(not stored[prompt] for prompt in prompts)
        done += len(group)
        if on_progress is not None:
            on_progress(done, len(items))
    return empty


def settings_digest(settings: Mapping[str, Any]) -> str:
    """16 hex digits that change with every setting."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def label_prompt(item: TrainingItem, template_set: str) -> str:
    """The text that an item's regions are ranked for; the plain question where the wording needs an unknown organ."""
    if not item.organ.strip():
        with suppress(LabelError):
            return build_prompt(item.question, template_set=template_set)
        return build_prompt(item.question, template_set="plain")
    return build_prompt(item.question, template_set=template_set, organ=item.organ)


def _pack(image: MedicalImage, labels: Mapping[str, Sequence[ScoredRegion]]) -> dict[str, np.ndarray]:
    masks: dict[bytes, int] = {}
    entries: dict[str, list[list[float]]] = {}
    for prompt, regions in labels.items():
        entries[prompt] = []
        for scored in regions:
            bits = np.packbits(scored.region.mask.ravel()).tobytes()
            entries[prompt].append([masks.setdefault(bits, len(masks)), float(scored.score), float(scored.weight)])
    width = -(-image.height * image.width // 8)
    packed = np.frombuffer(b"".join(masks), dtype=np.uint8).reshape(len(masks), width)
    return {"shape": np.array([image.height, image.width]), "masks": packed, "labels": np.array(json.dumps(entries))}


def _unpack(entry: np.lib.npyio.NpzFile, image: MedicalImage) -> dict[str, tuple[ScoredRegion, ...]]:
    height, width = (int(size) for size in entry["shape"])
    if (height, width) != (image.height, image.width):
        raise ValueError("the entry belongs to an image of another size")
    masks = np.unpackbits(entry["masks"], axis=1, count=height * width).astype(bool).reshape(-1, height, width)
    regions = [region_from_mask(mask) for mask in masks]
    return {
        prompt: tuple(
            ScoredRegion(regions[int(index)], score, rank, weight, prompt)
            for rank, (index, score, weight) in enumerate(found, start=1)
        )
        for prompt, found in json.loads(str(entry["labels"])).items()
    }
