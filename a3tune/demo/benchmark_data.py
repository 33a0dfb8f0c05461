"""The phantom benchmark: a fixed test set of phantoms with true masks, drawn here, so that nothing is downloaded.

Its parts, by which results are broken down: "plain" phantoms as in training; "hard" questions about structures smaller
than 0.5 % of the picture; "shifted" acquisitions; "absent" findings and devices that are asked after and not there;
"shortcut" questions after a finding on a picture that shows a device or marker, where these must not be taken for the
answer.
"""

from __future__ import annotations

import csv
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from a3tune.phantom.questions import PhantomQuestion, ask
from a3tune.phantom.scene import make_phantom
from a3tune.phantom.structures import HELD_OUT_SEEDS, KINDS, Phantom, PhantomStyle
from a3tune.progress import Progress, no_progress
from a3tune.storage import cache_folder, place_folder

VERSION = 1
"""Another number, other pictures or questions: results of different versions are not compared."""
PHANTOMS = 60
"""Phantoms of each acquisition."""
PARTS = ("plain", "hard", "shifted", "absent", "shortcut")
_FIRST_SEED = 50_000  # far from the seeds that samples and figures draw from
_HARD_SHARE = 0.005
_PER_PART = 3
_TABLE = ("id", "image", "question", "answer", "answer_type", "split", "organ", "modality", "mask")
_GROUPS = ("image", "question", "topic", "structure", "part")
_ORGANS = {"chest": "chest", "brain": "brain", "abdomen": "abdomen"}


def phantom_benchmark(
    out: Path | None = None, *, phantoms: int = PHANTOMS, on_progress: Progress = no_progress
) -> Path:
    """The benchmark's folder, drawn when it is not there: the same pictures and questions on every machine.

    Args:
        out: the folder; one in the cache folder when None.
        phantoms: how many of each acquisition; `PHANTOMS` for the benchmark itself.
        on_progress: told how far it is.
    """
    folder = cache_folder() / "benchmarks" / f"phantom-{VERSION}" if out is None else out
    if (folder / "data.csv").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".phantom-") as work:
        part = Path(work) / "benchmark"
        for name in ("images", "masks", "groups"):
            (part / name).mkdir(parents=True)
        rows: list[dict[str, str]] = []
        groups: list[dict[str, str]] = []
        styles: tuple[PhantomStyle, ...] = ("standard", "shifted")
        for number in range(phantoms * len(styles)):
            on_progress("Drawing phantoms", number / (phantoms * len(styles)))
            style = styles[number // phantoms]
            seed = HELD_OUT_SEEDS[_FIRST_SEED + number % phantoms]
            _add(part, make_phantom(seed, KINDS[number % len(KINDS)], style), rows, groups)
        _write(part / "groups" / "groups.csv", _GROUPS, groups)
        _write(part / "data.csv", _TABLE, rows)
        place_folder(part, folder)
    return folder


def part_of_question(phantom: Phantom, item: PhantomQuestion) -> str:
    """Which of `PARTS` a question belongs to."""
    if phantom.style == "shifted":
        return "shifted"
    if item.topic == "presence" and item.answer == "no":
        distracting = phantom.of_kind("device") or phantom.of_kind("marker")
        return "shortcut" if distracting and not phantom.lesions else "absent"
    if item.topic == "presence" and item.targets and phantom.of_kind("device"):
        devices = {device.name for device in phantom.of_kind("device")}
        if not devices & set(item.targets):
            return "shortcut"
    if item.targets and phantom.mask_of(item.targets).mean() < _HARD_SHARE:
        return "hard"
    return "plain"


def _add(folder: Path, phantom: Phantom, rows: list[dict[str, str]], groups: list[dict[str, str]]) -> None:
    name = f"{phantom.kind}_{phantom.seed}_{phantom.style}"
    image = f"images/{name}.png"
    Image.fromarray(phantom.image.pixels[:, :, 0]).save(folder / image, "PNG")
    taken: dict[str, int] = {}
    for number, item in enumerate(ask(phantom)):
        part = part_of_question(phantom, item)
        taken[part] = taken.get(part, 0) + 1
        if taken[part] > _PER_PART:
            continue
        mask = ""
        if item.targets:
            mask = f"masks/{name}_{number}.png"
            Image.fromarray(phantom.mask_of(item.targets).astype(np.uint8) * 255).save(folder / mask, "PNG")
        organ, modality = _ORGANS[phantom.kind], phantom.modality
        values = (
            f"{name}_{number}",
            image,
            item.question,
            item.answer,
            item.answer_type,
            "test",
            organ,
            modality,
            mask,
        )
        rows.append(dict(zip(_TABLE, values, strict=True)))
        structure = item.targets[0].rstrip("0123456789 ") if item.targets else ""
        groups.append(dict(zip(_GROUPS, (image, item.question, item.topic, structure, part), strict=True)))


def _write(path: Path, columns: tuple[str, ...], rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
