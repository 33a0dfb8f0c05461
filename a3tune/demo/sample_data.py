"""A small data set of phantoms on disk, in the plain layout that tuning and evaluation read."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from a3tune.errors import Cancelled, RequestError
from a3tune.phantom.questions import ask
from a3tune.phantom.scene import make_phantom
from a3tune.phantom.structures import (
    HELD_OUT_SEEDS,
    KINDS,
    STYLES,
    TRAINING_SEEDS,
    VALIDATION_SEEDS,
    PhantomKind,
    PhantomStyle,
)
from a3tune.progress import Progress, no_progress

TABLE = "data.csv"
TRUTH = "truth"
COLUMNS = ("image", "question", "answer", "answer_type", "split")
TRUTH_COLUMNS = ("image", "question", "mask")

MOST_PHANTOMS = 1000
MOST_SEED = 99

# Half of the training seeds are kept for samples, so that a model which was trained on the first half has not seen
# the images that it is tuned on.
_SEEDS = {
    "train": TRAINING_SEEDS[len(TRAINING_SEEDS) // 2 :],
    "validation": VALIDATION_SEEDS,
    "test": HELD_OUT_SEEDS,
}
_HELD_SHARE = 0.15


@dataclass(frozen=True)
class SampleData:
    """What was written.

    Attributes:
        folder: the data folder.
        table: its table, ``data.csv``, with the columns image, question, answer, answer_type and split.
        truth: ``truth/masks.csv`` with the columns image, question and mask, or None. No layout of training data
            reads it, so the true masks can be used to measure and not to train.
        images: how many images.
        questions: how many questions.
    """

    folder: Path
    table: Path
    truth: Path | None
    images: int
    questions: int


def write_sample(
    folder: str | Path,
    count: int = 150,
    *,
    seed: int = 0,
    style: PhantomStyle = "standard",
    test_style: PhantomStyle | None = None,
    questions: int | None = None,
    masks: bool = False,
    on_progress: Progress = no_progress,
    should_stop: Callable[[], bool] | None = None,
) -> SampleData:
    """Write phantoms as PNG pictures with a table of questions and answers.

    The same arguments give the same pictures and the same table everywhere. Training, validation and test images
    (70, 15 and 15 in a hundred) come from seeds that never meet; chest, brain and abdomen take turns.

    Args:
        folder: a new or empty folder.
        count: how many phantoms, 3 to 1000.
        seed: another number from 0 to 99, other phantoms.
        style: of the phantoms: "standard" or "shifted".
        test_style: of the test images, where it differs.
        questions: most questions of one image, from 1; None for all.
        masks: also write the true mask of every question that asks about something in the image, as 0 and 255.
        on_progress: told how far it is.
        should_stop: asked before each phantom; True ends the work.

    Raises:
        RequestError: a number or style is out of range, or the folder is not empty or cannot be written.
        Cancelled: ``should_stop`` said so.
    """
    folder = Path(folder)
    _check(folder, count, seed, questions, (style, test_style or style))
    try:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        if masks:
            (folder / TRUTH).mkdir()
        rows: list[dict[str, str]] = []
        truths: list[dict[str, str]] = []
        plan = list(_plan(count, seed))
        for number, (split, kind, phantom_seed) in enumerate(plan):
            if should_stop is not None and should_stop():
                raise Cancelled
            on_progress("drawing phantoms", number / count)
            phantom = make_phantom(phantom_seed, kind, (test_style or style) if split == "test" else style)
            image = f"images/{kind}_{phantom_seed}.png"
            _write_png(folder / image, phantom.image.pixels[:, :, 0])
            drawn: dict[tuple[str, ...], str] = {}
            for item in ask(phantom)[:questions]:
                rows.append(
                    dict(zip(COLUMNS, (image, item.question, item.answer, item.answer_type, split), strict=True))
                )
                if not masks or not item.targets:
                    continue
                if item.targets not in drawn:
                    drawn[item.targets] = f"{TRUTH}/{kind}_{phantom_seed}_{len(drawn)}.png"
                    _write_png(folder / drawn[item.targets], phantom.mask_of(item.targets).astype(np.uint8) * 255)
                truths.append(dict(zip(TRUTH_COLUMNS, (image, item.question, drawn[item.targets]), strict=True)))
        truth = _write_table(folder / TRUTH / "masks.csv", TRUTH_COLUMNS, truths) if masks else None
        # Last, so that a folder with a table is complete.
        table = _write_table(folder / TABLE, COLUMNS, rows)
    except OSError as error:
        raise RequestError(
            expected="a folder that can be written, with room for the pictures",
            got=f"{folder} cannot be written ({error.strerror})",
            remedy="Make room, or choose another folder",
        ) from error
    on_progress("drawing phantoms", 1.0)
    return SampleData(folder, table, truth, len(plan), len(rows))


def _check(folder: Path, count: int, seed: int, questions: int | None, styles: tuple[str, ...]) -> None:
    ranges = (
        ("count", count, 3, MOST_PHANTOMS),
        ("seed", seed, 0, MOST_SEED),
        ("questions", questions, 1, MOST_PHANTOMS),
    )
    for name, value, least, most in ranges:
        if value is not None and not least <= value <= most:
            raise RequestError(expected=f"{name} from {least} to {most}", got=f"{name} is {value}", remedy="Change it")
    for style in styles:
        if style not in STYLES:
            raise RequestError(
                expected="a style of phantoms", got=f"'{style}'", remedy=f"Choose of: {', '.join(STYLES)}"
            )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RequestError(
            expected="a new or empty folder",
            got=f"{folder} is there already and not empty",
            remedy="Choose another one",
        )


def _plan(count: int, seed: int) -> Iterator[tuple[str, PhantomKind, int]]:
    """(split, kind, phantom seed) of every phantom."""
    held = max(1, round(count * _HELD_SHARE))
    sizes = {"train": count - 2 * held, "validation": held, "test": held}
    for split, seeds in _SEEDS.items():
        for number in range(sizes[split]):
            yield split, KINDS[number % len(KINDS)], seeds[seed * MOST_PHANTOMS + number]


def _write_png(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(path, "PNG")


def _write_table(path: Path, columns: tuple[str, ...], rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path
