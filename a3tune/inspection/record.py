"""Writes an inspection to a folder: numbers as JSON, maps as NPZ, pictures as PNG and SVG."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from a3tune import __version__
from a3tune.attention.comparison import common_tokens, compared_maps, head_changes
from a3tune.attention.critical_heads import head_set_map
from a3tune.attention.metrics import measure_head_set
from a3tune.encoding import finite
from a3tune.figures.plots import (
    Caption,
    attention_figure,
    comparison_figure,
    difference_figure,
    head_grid_figure,
    save_figure,
)
from a3tune.geometry.patch_grid import to_patches, to_source
from a3tune.images.frames import boxes_to_stored, image_record, labels_to_stored, mask_to_stored, region_record
from a3tune.inspection.image_set import ImageSetInspection
from a3tune.inspection.inspect import Inspection
from a3tune.inspection.views import AdapterView, answer_rows
from a3tune.storage import files_together

RECORD_NAME = "inspect.json"
COMPARISON_NAME = "comparison"
MODEL_INPUT_NAME = "model_input.png"
MOVED_HEADS = 10
"""How many of the heads that moved most the record names."""


def record(
    inspection: Inspection, target: np.ndarray | None = None, reference: np.ndarray | None = None
) -> dict[str, Any]:
    """The inspection as plain JSON values: everything but the maps themselves; boxes are in stored pixels.

    Numbers that are not defined (NaN) become None, since JSON has no word for them.

    Args:
        inspection: what to write down.
        target: bool [height, width], source pixels: where the model should look, if that is known; the heads that
            moved most then also get their attention mass inside it.
        reference: bool [height, width], source pixels: where the answer lies, if that is known; its box and area are
            told, and the critical heads' attention mass inside it over the words of each answer.
    """
    return {
        "a3tune": __version__,
        "model": inspection.model,
        "image": image_record(inspection.image),
        "question": inspection.question,
        **_image_facts(inspection),
        **({} if reference is None else {"reference_mask": _reference(inspection, reference)}),
        **({"measures": list(inspection.measures)} if inspection.measures else {}),
        **_made(inspection),
        "adapters": {view.adapter: {**_view(view), "grid": list(inspection.grid.shape)} for view in inspection.views},
        "comparisons": _comparisons(inspection, target),
    }


def image_set_record(
    inspection: ImageSetInspection, targets: Sequence[np.ndarray | None] | None = None
) -> dict[str, Any]:
    """The same of several images: "images" lists them in their order, each with its own patches, regions, grid and
    comparisons, and by adapter the numbers of its own map; "adapters" holds answers and numbers over all images.

    Args:
        inspection: what to write down.
        targets: for each image as in :func:`record`.
    """
    pairs = zip(inspection.parts, targets or [None] * len(inspection.parts), strict=True)
    return {
        "a3tune": __version__,
        "model": inspection.model,
        "images": [
            {
                "number": number,
                **image_record(part.image),
                **_image_facts(part),
                "grid": list(part.grid.shape),
                "adapters": {view.adapter: {"metrics": _numbers(view)} for view in part.views},
                "comparisons": _comparisons(part, target),
            }
            for number, (part, target) in enumerate(pairs, 1)
        ],
        "question": inspection.question,
        **_made(inspection),
        "adapters": {view.adapter: _view(view) for view in inspection.views},
    }


def _image_facts(inspection: Inspection) -> dict[str, Any]:
    boxes = boxes_to_stored(inspection.grid.boxes, inspection.image)
    return {"patches": boxes.round(3).tolist(), "labels": _labels(inspection)}


def _made(inspection: Inspection | ImageSetInspection) -> dict[str, Any]:
    made = {"made_with": inspection.made_with} if inspection.made_with else {}
    return {**made, "seconds": {name: round(value, 4) for name, value in inspection.seconds.items()}}


def metrics_table(views: Sequence[AdapterView]) -> str:
    """The views' answers and metrics as a small table of plain text, one line a view."""
    names = list(dict.fromkeys(name for view in views for name in view.metrics))
    rows = [["adapter", *names, "answer"]]
    for view in views:
        numbers = (finite(view.metrics.get(name, math.nan)) for name in names)
        rows.append([view.adapter, *("-" if value is None else f"{value:.3f}" for value in numbers), view.answer])
    widths = [max(len(row[column]) for row in rows) for column in range(len(names) + 1)]
    lines = []
    for row in rows:
        cells = (cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:], strict=True))
        lines.append("  ".join([row[0].ljust(widths[0]), *cells, row[-1]]).rstrip())
    return "\n".join(lines)


def write_inspection(
    inspection: Inspection, folder: Path, target: np.ndarray | None = None, reference: np.ndarray | None = None
) -> list[Path]:
    """Write ``inspect.json``, ``attention_<adapter>.npz`` and the figures; returns what was written.

    The NPZ holds ``maps`` float32 [layers, heads, text tokens, patches], ``visual_ratio`` float32 [layers, heads],
    ``rows`` int64 [text tokens] (positions of the text tokens) and ``image_share`` float32 [layers, heads, text
    tokens]. Where the model was given another picture than the one that is shown, ``model_input.png`` is that picture,
    on its square pixels. All adapters' pictures share one colour scale, so that they can be compared by eye. Of several
    adapters, ``comparison`` and ``difference_...`` show each one's critical heads at the tokens that all views share
    (see :func:`a3tune.attention.comparison.common_tokens`).

    Args:
        inspection: what to write.
        folder: made when missing; files of the same names are replaced. ``inspect.json`` comes last: where it is, the
            rest is whole and belongs to it.
        target: as in :func:`record`; it is outlined in the pictures.
        reference: as in :func:`record`.

    Raises:
        OSError: the folder cannot be written.
    """
    with files_together(folder, RECORD_NAME) as scratch:
        written = [_write_record(record(inspection, target, reference), scratch)]
        written += _write_pictures(inspection, scratch, target, _answer_maps(inspection))
        written += _write_heads(inspection.model, inspection.views, scratch)
        return [folder / path.name for path in written]


def write_image_set(
    inspection: ImageSetInspection, folder: Path, targets: Sequence[np.ndarray | None] | None = None
) -> list[Path]:
    """The same of several images: the files of image N have ``_image_N`` at the end of their names.

    ``maps`` and ``image_share`` of an NPZ are over the tokens of that image alone, ``visual_ratio`` is over all images;
    the pictures of all images share one colour scale.

    Args:
        targets: for each image as in :func:`record`.

    Raises:
        OSError: the folder cannot be written.
    """
    maps = [_answer_maps(part) for part in inspection.parts]
    upper = max(float(picture.max()) for pictures in maps for picture in pictures.values())
    with files_together(folder, RECORD_NAME) as scratch:
        written = [_write_record(image_set_record(inspection, targets), scratch)]
        triples = zip(inspection.parts, targets or [None] * len(maps), maps, strict=True)
        for number, (part, target, pictures) in enumerate(triples, 1):
            place = f", image {number} of {len(maps)}"
            written += _write_pictures(part, scratch, target, pictures, upper, f"_image_{number}", place)
        written += _write_heads(inspection.model, inspection.views, scratch)
        return [folder / path.name for path in written]


def _write_record(facts: dict[str, Any], folder: Path) -> Path:
    path = folder / RECORD_NAME
    path.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _write_heads(model: str, views: Sequence[AdapterView], folder: Path) -> list[Path]:
    written: list[Path] = []
    for view in views:
        grid = head_grid_figure(view.visual_ratio, view.critical_heads, Caption(model, view.adapter))
        written += save_figure(grid, folder / f"heads_{view.adapter}")
    return written


def _answer_maps(inspection: Inspection) -> dict[str, np.ndarray]:
    """Adapter -> its map of the answer in the source frame."""
    return {view.adapter: _answer_map(inspection, view) for view in inspection.views}


def _write_pictures(
    inspection: Inspection,
    folder: Path,
    target: np.ndarray | None,
    pictures: dict[str, np.ndarray],
    upper: float | None = None,
    suffix: str = "",
    place: str = "",
) -> list[Path]:
    """Maps and pictures of one image.

    Args:
        upper: end of the colour scale; None for the highest of ``pictures``.
        suffix: at the end of the files' names.
        place: which image it is, added to the captions.
    """
    written: list[Path] = []
    if inspection.image.model_pixels is not None:
        written.append(folder / MODEL_INPUT_NAME.replace(".", f"{suffix}."))
        Image.fromarray(inspection.image.model_pixels).save(written[-1])
    if upper is None:
        upper = max(float(picture.max()) for picture in pictures.values())
    masks = [item.region.mask for item in inspection.labels.regions] if inspection.labels else []
    masks += [target] if target is not None else []
    for view in inspection.views:
        path = folder / f"attention_{view.adapter}{suffix}.npz"
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
            f"mean of the answer{place}",
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
        written += [path, *save_figure(figure, folder / f"attention_{view.adapter}{suffix}")]
    if len(inspection.views) > 1:
        written += _write_comparisons(inspection, folder, masks, suffix, place)
    return written


def _write_comparisons(
    inspection: Inspection, folder: Path, masks: list[np.ndarray], suffix: str, place: str
) -> list[Path]:
    """The views side by side, and each one's difference from the first, at the tokens that all share."""
    before, *others = inspection.views
    positions, where = _shared(inspection)
    where += place
    pictures = {}
    for view in inspection.views:
        own, _, _ = compared_maps(view.maps, view.maps, positions, view.critical_heads)
        pictures[view.adapter] = to_source(own, inspection.grid, smooth=True)
    figure = comparison_figure(
        inspection.image.pixels,
        list(pictures.values()),
        [f"{view.adapter}: {_short(view.answer)}" for view in inspection.views],
        Caption(inspection.model, list(pictures), "each one's critical heads", where, inspection.question),
        masks=masks,
    )
    written = [*save_figure(figure, folder / f"{COMPARISON_NAME}{suffix}")]
    for after in others:
        caption = Caption(inspection.model, f"{before.adapter} and {after.adapter}", "each one's critical heads", where)
        figure = difference_figure(
            inspection.image.pixels,
            pictures[before.adapter],
            pictures[after.adapter],
            caption,
            names=(before.adapter, after.adapter),
            masks=masks,
        )
        written += save_figure(figure, folder / f"difference_{before.adapter}_{after.adapter}{suffix}")
    return written


def _shared(inspection: Inspection) -> tuple[tuple[int, ...], str]:
    """The positions to compare the views at, and what they are in words."""
    first = inspection.views[0]
    positions = common_tokens([view.tokens for view in inspection.views], first.maps)
    answers = {view.answer for view in inspection.views}
    if len(answers) == 1:
        return positions, f"mean of the answer: {_short(first.answer)}"
    return positions, "mean of the answer up to the first word that differs"


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"


def _comparisons(inspection: Inspection, target: np.ndarray | None) -> list[dict[str, Any]]:
    """Each view after the first against the first, at the tokens that all share."""
    if len(inspection.views) < 2:
        return []
    before, *others = inspection.views
    positions, where = _shared(inspection)
    coverage = None if target is None else to_patches(target, inspection.grid)
    found = []
    for after in others:
        changes = head_changes(before.maps, after.maps, positions, coverage)
        heads = [
            {
                "head": list(change.head),
                **{
                    name: finite(getattr(change, name))
                    for name in ("moved", "share_before", "share_after", "mass_before", "mass_after")
                },
            }
            for change in changes[:MOVED_HEADS]
        ]
        found.append(
            {
                "before": before.adapter,
                "after": after.adapter,
                "positions": list(positions),
                "tokens": where,
                "heads_moved_most": heads,
            }
        )
    return found


def _answer_map(inspection: Inspection, view: AdapterView) -> np.ndarray:
    values = head_set_map(view.maps, view.critical_heads, answer_rows(view.tokens, view.maps))
    return to_source(values, inspection.grid, smooth=True)


def _numbers(view: AdapterView) -> dict[str, float | None]:
    return {name: finite(value) for name, value in view.metrics.items()}


def _view(view: AdapterView) -> dict[str, Any]:
    return {
        "answer": view.answer,
        "tokens": [
            {"position": token.position, "id": token.id, "text": token.text, "role": token.role}
            for token in view.tokens
            if token.role != "image"
        ],
        "layers": view.maps.layers,
        "heads": view.maps.heads,
        "critical_heads": [list(head) for head in view.critical_heads],
        "metrics": _numbers(view),
        "notes": list(view.notes),
        "mode": view.mode,
    }


def _reference(inspection: Inspection, mask: np.ndarray) -> dict[str, Any]:
    stored, coverage = mask_to_stored(mask, inspection.image), to_patches(mask, inspection.grid)
    inside = {
        view.adapter: measure_head_set(view.maps, view.critical_heads, coverage, answer_rows(view.tokens, view.maps))
        for view in inspection.views
    }
    return {
        "box": list(cv2.boundingRect(stored.astype(np.uint8))),
        "area": int(stored.sum()),
        "attention_mass": {adapter: finite(measured["attention_mass"]) for adapter, measured in inside.items()},
    }


def _labels(inspection: Inspection) -> list[dict[str, Any]]:
    if inspection.labels is None:
        return []
    labels = labels_to_stored(inspection.labels, inspection.image)
    return [region_record(item) for item in labels.regions]
