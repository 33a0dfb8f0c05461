"""Fingerprints of data sets, and of models as former versions made them: short texts that change with what a run rests
on. Those of models are made in `a3tune.models.fingerprint`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from a3tune.data.dataset import Dataset, TrainingItem
from a3tune.errors import ModelError
from a3tune.models.conversion import model_folder

_SAMPLE = 1 << 20


def former_model_fingerprint(source: str) -> str:
    """16 hex digits of a checkpoint's configuration and of the size and both ends of each weight file: what run folders
    of former versions hold. It does not tell all weights apart; only unfinished runs are compared by it.

    Raises:
        ModelError: there is no such checkpoint.
    """
    folder = model_folder(source)
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    try:
        for path in sorted(folder.glob("*.safetensors")):
            size = path.stat().st_size
            digest.update(f"{path.name}:{size}".encode())
            with path.open("rb") as stream:
                digest.update(stream.read(_SAMPLE))
                stream.seek(max(0, size - _SAMPLE))
                digest.update(stream.read(_SAMPLE))
    except OSError as error:
        raise ModelError(
            expected="weight files that can be read",
            got=f"{error.filename}: {error.strerror}",
            remedy="Check the folder and its permissions",
        ) from error
    return digest.hexdigest()[:16]


def data_fingerprint(dataset: Dataset) -> str:
    """16 hex digits of a data set: every question with its answer, split and marks, and the content of its images."""
    digest = hashlib.sha256()
    for item in dataset.items:
        digest.update(json.dumps(_facts(item, dataset.digests), ensure_ascii=False).encode())
    return digest.hexdigest()[:16]


def _facts(item: TrainingItem, digests: Mapping[Path, str]) -> list[Any]:
    mask = None if item.mask is None else digests[item.mask]
    texts = [item.question, item.answer, item.answer_type, item.split, item.organ]
    facts: list[Any] = [digests[item.image], *texts, mask, [list(box) for box in item.boxes]]
    # Data without them keeps the fingerprint that earlier runs of it wrote down.
    if item.context or item.mask_values or item.segment:
        facts += [list(item.context), list(item.mask_values)]
    facts = [*facts, item.segment] if item.segment else facts
    others = [
        [digests[other.image], other.mask and digests[other.mask], [list(box) for box in other.boxes]]
        for other in item.others
    ]
    return [*facts, others] if others else facts
