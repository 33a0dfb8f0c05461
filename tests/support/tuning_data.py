"""A tiny data set on disk for tuning: coloured noise, a bright box in each picture, questions about it, its mask."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

from a3tune.training.config import TuneConfig

TINY = {
    "label_segmenter": "data",
    "masks": "union",
    "lora_rank": 2,
    "expert_rank": 2,
    "query_experts": 2,
    "key_experts": 3,
    "dropout": 0.1,
    "learning_rate": 2e-2,
    "batch_size": 2,
    "gradient_accumulation": 1,
    "max_steps": 6,
    "evaluate_every": 3,
    "save_every": 2,
    "ratio": 1.0,
    "balance": 0.01,
    "top_heads": 3,
    "max_length": 200,
    "keep": 1,
}
"""Settings for a run of a few seconds on a tiny model."""


def tiny_config(**settings: object) -> TuneConfig:
    """`TINY` with some settings replaced."""
    return TuneConfig(**{**TINY, **settings})


def write_data(folder: Path, images: int = 6, validation: int = 2, *, masks: bool = True) -> Path:
    """A CSV with two questions for each of ``images`` pictures; the last ``validation`` pictures are held out."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(images):
        generator = np.random.default_rng(number)
        pixels = generator.integers(0, 90, (30 + number % 2 * 6, 36, 3), dtype=np.uint8)
        mask = np.zeros(pixels.shape[:2], np.uint8)
        row, column = generator.integers(2, 18, 2)
        mask[row : row + 9, column : column + 9] = 255
        pixels[mask > 0] += 120
        Image.fromarray(pixels).save(folder / f"image{number}.png")
        Image.fromarray(mask).save(folder / f"mask{number}.png")
        left = column + 4 < 18
        split = "validation" if number >= images - validation else "train"
        named = f"mask{number}.png" if masks else ""
        rows.append((f"image{number}.png", "Is there a mass in the left half?", "yes" if left else "no", split, named))
        rows.append((f"image{number}.png", "Where is the mass?", "left lung" if left else "right kidney", split, named))
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("image", "question", "answer", "split", "mask"))
        writer.writerows(rows)
    return folder / "rows.csv"


def write_pairs(folder: Path) -> Path:
    """A JSON file with questions about two pictures each, of which the second, the first or both have a mask."""
    write_data(folder, images=4, validation=0)
    rows = [
        {
            "image": [f"image{number}.png", f"image{3 - number}.png"],
            "question": "Is the mass larger in the second image?",
            "answer": ("yes", "no")[number % 2],
            "mask": [f"mask{number}.png" if number else None, f"mask{3 - number}.png" if number < 3 else None],
        }
        for number in range(4)
    ]
    (folder / "rows.csv").unlink()
    path = folder / "pairs.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path
