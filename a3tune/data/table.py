"""Questions as a table that is read back as they were."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping

from a3tune.data.dataset import TrainingItem

TABLE_NAME = "data.csv"
COLUMNS = (
    "image",
    "question",
    "answer",
    "answer_type",
    "split",
    "id",
    "organ",
    "modality",
    "mask",
    "boxes",
    "context",
    "mask_values",
    "segment",
)


def table_row(item: TrainingItem, image: str, mask: str) -> dict[str, str]:
    """A question about one image as a row of the table, by column.

    Args:
        item: the question.
        image, mask: the names of its files, relative to the folder of the images and to that of the table; "" for no
            mask.
    """
    return {
        "image": image,
        "question": item.question,
        "answer": item.answer,
        "answer_type": item.answer_type,
        "split": item.split or "",
        "id": item.identifier,
        "organ": item.organ,
        "modality": item.modality,
        "mask": mask,
        "boxes": json.dumps([list(box) for box in item.boxes]) if item.boxes else "",
        "mask_values": json.dumps(item.mask_values) if item.mask_values else "",
        "segment": item.segment,
        "context": json.dumps(item.context, ensure_ascii=False) if item.context else "",
    }


def table_text(rows: Iterable[Mapping[str, str]]) -> str:
    """The table of such rows as the text of a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
