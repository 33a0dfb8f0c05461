"""One question about many images as a table: a row for each, with what was answered and where the model looked."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from a3tune.types import WeakLabels

TABLE_NAME = "images.csv"

# A spreadsheet takes a cell that begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class TableRow:
    """What came of one image.

    Attributes:
        image: its name.
        answers: the answer of each adapter, by name; empty where the image could not be asked about.
        inside: the attention mass of each adapter, 0 to 1: the share of the critical heads' attention on the image,
            mean over the answer's words, that falls inside the regions. NaN where it is not defined, empty where there
            are no regions.
        regions: which regions, in words.
        note: what is to be known of the image, or why it has no regions.
        error: why the image could not be asked about; "" where it was.
    """

    image: str
    answers: Mapping[str, str] = field(default_factory=dict)
    inside: Mapping[str, float] = field(default_factory=dict)
    regions: str = ""
    note: str = ""
    error: str = ""


def region_words(labels: WeakLabels, last: int, area: float) -> str:
    """Which regions attention is measured inside: weak labels, no ground truth.

    Args:
        labels: all that were ranked.
        last: the rank of the last one that counts.
        area: the share of the image that they cover, 0 to 1.
    """
    made = f"found by {labels.segmenter}, ranked by {labels.scorer}"
    return f"weak labels of ranks 1 to {last}, {100 * area:.1f} % of the image; {made}"


def table_csv(question: str, model: str, adapters: Sequence[str], rows: Iterable[TableRow]) -> str:
    """The rows as a table with a header, in CSV.

    A text that a spreadsheet would take for a formula gets an apostrophe in front.

    Args:
        question, model: what was asked of which model.
        adapters: those that were asked, in their order.
        rows: one for each image.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    answers, inside = ([f"{name} {adapter}" for adapter in adapters] for name in ("answer", "attention inside"))
    writer.writerow(map(_text, ("image", "question", "model", *answers, *inside, "regions", "note", "error")))
    for row in rows:
        texts = [row.image, question, model, *(row.answers.get(adapter, "") for adapter in adapters)]
        numbers = [row.inside.get(adapter, math.nan) for adapter in adapters]
        shares = ["" if math.isnan(number) else f"{number:.6f}" for number in numbers]
        writer.writerow([*map(_text, texts), *shares, *map(_text, (row.regions, row.note, row.error))])
    return stream.getvalue()


def _text(value: str) -> str:
    return f"'{value}" if value.startswith(_FORMULA) else value
