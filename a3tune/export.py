"""Writes an inspection to a folder: numbers as JSON, maps as NPZ, pictures as PNG and SVG."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from a3tune import __version__
from a3tune.attention.heads import head_set_map
from a3tune.geometry import to_source
from a3tune.inspection import AdapterView, Inspection, answer_rows
from a3tune.render import Caption, attention_figure, difference_figure, head_grid_figure, save_figure

RECORD_NAME = "inspect.json"


def record(inspection: Inspection) -> dict[str, Any]:
    """The inspection as plain JSON values: everything but the maps themselves.

    Numbers that are not defined (NaN) become None, since JSON has no word for them.
    """
    image = inspection.image
    return {
        "a3tune": __version__,
        "model": inspection.model,
        "image": {
            "width": image.width,
            "height": image.height,
            "sha256": image.sha256,
            "format": image.format,
            "modality": image.modality,
            "window": list(image.window) if image.window else None,
            "frame": image.frame,
        },
        "question": inspection.question,
        "patches": inspection.grid.boxes.round(3).tolist(),
        "labels": _labels(inspection),
        "seconds": {name: round(value, 4) for name, value in inspection.seconds.items()},
        "adapters": {view.adapter: _view(view, inspection.grid.shape) for view in inspection.views},
    }


def write_inspection(inspection: Inspection, folder: Path) -> list[Path]:
    """Write ``inspect.json``, ``attention_<adapter>.npz`` and the figures; returns what was written.

    The NPZ holds ``maps`` float32 [layers, heads, text tokens, patches], ``visual_ratio`` float32 [layers, heads],
    ``rows`` int64 [text tokens] (positions of the text tokens) and ``image_share`` float32 [layers, heads, text
    tokens]. All adapters' pictures share one colour scale, so that they can be compared by eye.

    Args:
        folder: made when missing; files of the same names are replaced.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / RECORD_NAME]
    written[0].write_text(json.dumps(record(inspection), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    pictures = {view.adapter: _answer_map(inspection, view) for view in inspection.views}
    upper = max(float(picture.max()) for picture in pictures.values())
    masks = [item.region.mask for item in inspection.labels.regions] if inspection.labels else []
    for view in inspection.views:
        path = folder / f"attention_{view.adapter}.npz"
        np.savez_compressed(
            path,
            maps=view.maps.weights,
            visual_ratio=view.visual_ratio,
            rows=view.maps.rows,
            image_share=view.maps.image_share,
        )
        caption = Caption(
            inspection.model,
            view.adapter,
            f"mean of {len(view.critical_heads)} critical heads",
            "whole answer",
            inspection.question,
        )
        figure = attention_figure(
            inspection.image.pixels,
            pictures[view.adapter],
            caption,
            masks=masks,
            title=f"Answer: {view.answer}",
            upper=upper,
        )
        written += [path, *save_figure(figure, folder / f"attention_{view.adapter}")]
        grid = head_grid_figure(view.visual_ratio, view.critical_heads, Caption(inspection.model, view.adapter))
        written += save_figure(grid, folder / f"heads_{view.adapter}")
    before, *others = inspection.views
    for after in others:
        caption = Caption(inspection.model, f"{before.adapter} and {after.adapter}", "each one's critical heads")
        figure = difference_figure(
            inspection.image.pixels,
            pictures[before.adapter],
            pictures[after.adapter],
            caption,
            names=(before.adapter, after.adapter),
            masks=masks,
        )
        written += save_figure(figure, folder / f"difference_{before.adapter}_{after.adapter}")
    return written


def _answer_map(inspection: Inspection, view: AdapterView) -> np.ndarray:
    values = head_set_map(view.maps, view.critical_heads, answer_rows(view.tokens, view.maps))
    return to_source(values, inspection.grid, smooth=True)


def _view(view: AdapterView, grid: tuple[int, int]) -> dict[str, Any]:
    return {
        "answer": view.answer,
        "tokens": [
            {"position": token.position, "id": token.id, "text": token.text, "role": token.role}
            for token in view.tokens
            if token.role != "image"
        ],
        "grid": list(grid),
        "layers": view.maps.layers,
        "heads": view.maps.heads,
        "critical_heads": [list(head) for head in view.critical_heads],
        "metrics": {name: _number(value) for name, value in view.metrics.items()},
    }


def _labels(inspection: Inspection) -> list[dict[str, Any]]:
    if inspection.labels is None:
        return []
    return [
        {
            "box": list(item.region.box),
            "area": item.region.area,
            "score": _number(item.score),
            "rank": item.rank,
            "weight": _number(item.weight),
            "phrase": item.phrase,
        }
        for item in inspection.labels.regions
    ]


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
