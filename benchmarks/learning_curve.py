"""The same runs on fewer and on more images than the sample's: whether alignment saves data.

Part of `benchmarks.attention_tuning`, which tunes and measures them like its others. Images of one data set of
phantoms, of which the sample's are the first; each seed draws its own order of them, the same for all methods, of which
the smaller numbers of images are the beginning. Regions are made once for all images. Nothing is chosen by these runs,
so that they are measured on test phantoms alone.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from a3tune.demo.sample_data import TABLE
from benchmarks.attention_report import EXPERTS, LORA, Measured, difference, in_words

IMAGES = (25, 50, 100, 200)
OF_THE_SAMPLE = 140
PICTURE = "learning_curve.png"

PHANTOMS = 286
"""Of the whole data set: 200 to train on, 43 and 43 held out."""


def on_images(variant: str, count: int) -> str:
    """The name of a variant that is tuned on so many images."""
    return f"{variant}, {count} images"


def write_table(folder: Path, count: int, seed: int) -> Path:
    """A table of the questions about ``count`` of the training images, drawn by ``seed``, and about those held out.

    Args:
        folder: with all images, as `a3tune.demo.sample.build_sample` writes it.

    Returns:
        Beside the table of all.
    """
    with (folder / TABLE).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    images = sorted({row["image"] for row in rows if row["split"] == "train"})
    chosen = set(random.Random(seed).sample(images, len(images))[:count])
    path = folder / f"images-{count}-{seed}.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row in rows if row["split"] != "train" or row["image"] in chosen)
    return path


def _named(variant: str, count: int) -> str:
    return variant if count == OF_THE_SAMPLE else on_images(variant, count)


def learning_section(measured: Mapping[str, Measured], variants: Sequence[str], pictures: Path) -> list[str]:
    """The section of the report about numbers of images, and its picture; nothing where nothing was measured.

    Args:
        measured: on the test phantoms.
        variants: those that were tuned on other numbers of images.
        pictures: the folder of the picture.
    """
    counts = sorted((*IMAGES, OF_THE_SAMPLE))
    there = {count: [name for name in variants if _named(name, count) in measured] for count in counts}
    if not any(there[count] for count in IMAGES):
        return []
    lines = [
        "## Other numbers of training images: test phantoms",
        "",
        f"![Answers and attention against the number of training images](images/{PICTURE})",
        "",
        "| images | | seeds | all | closed | open | mass | all, less lora | all, less experts, no alignment |",
        "|---:|---|---|---:|---:|---:|---:|---|---|",
    ]
    for count in counts:
        for variant in there[count]:
            own = measured[_named(variant, count)]
            cells = [f"{own.mean(column):.1f}" for column in ("all", "closed", "open", "mass")]
            for other in (LORA, EXPERTS):
                against = measured.get(_named(other, count))
                change = difference(own, against, "all") if against is not None and other != variant else None
                cells.append("" if change is None else in_words(change))
            seeds = " ".join(str(seed) for seed in own.seeds)
            lines.append(f"| {count} | {variant} | {seeds} | {' | '.join(cells)} |")
    pictures.mkdir(exist_ok=True)
    draw(measured, variants, pictures / PICTURE)
    return [*lines, ""]


def draw(measured: Mapping[str, Measured], variants: Sequence[str], path: Path) -> None:
    """Answers exactly right, and attention mass, against the number of images; bars are intervals over images."""
    figure = Figure(figsize=(7.2, 3.4), dpi=110, layout="constrained")
    for axes, column, title in zip(
        figure.subplots(1, 2), ("all", "mass"), ("answers exactly right, %", "attention mass, %"), strict=True
    ):
        for variant, mark, colour in zip(variants, "s^o", ("#555555", "#2e7d32", "#0b6e99"), strict=True):
            known = [count for count in sorted((*IMAGES, OF_THE_SAMPLE)) if _named(variant, count) in measured]
            parts = [measured[_named(variant, count)].interval(column) for count in known]
            middle = [part.value for part in parts]
            bars = [[part.value - part.low for part in parts], [part.high - part.value for part in parts]]
            axes.errorbar(known, middle, bars, fmt=f"{mark}-", color=colour, label=variant, capsize=3, elinewidth=0.8)
        axes.set_xlabel("training images")
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path)
