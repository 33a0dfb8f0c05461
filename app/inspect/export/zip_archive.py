"""The ZIP archive of an inspection."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from app.engine import library

if TYPE_CHECKING:
    from a3tune.inspection.inspect import Inspection

from app.inspect.export.current_view import Shown


def zip_archive(shown: Shown) -> bytes:
    """All that ``python -m a3tune inspect`` writes for the views on show, the pictures of the page at full resolution
    under ``view/``, ``settings.json``, ``command.txt``, the masks of the regions as ``regions.npz``, and the reference
    mask, where it is drawn, as ``reference_mask.png``."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bundle, tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for number, inspection in enumerate(_inspections(shown)):
            target = np.logical_or.reduce(shown.masks) if shown.masks else None
            # The mask is of one question: an answer to another one is not measured inside it.
            asked = shown.opened.reference_mask(inspection.question) is not None
            reference = shown.reference if asked else None
            library.write_inspection(inspection, place if number == 0 else place / "other_question", target, reference)
        (place / "view").mkdir()
        for name, picture in library.full_size_pictures(shown.sides, shown.style).items():
            Image.fromarray(picture).save(place / "view" / f"{name}.png")
        figure = library.shown_figure(shown.sides, shown.masks, shown.style, shown.measures, shown.reference)
        library.save_figure(figure, place / "view" / "figure")
        told = json.dumps(_settings(shown), indent=1, ensure_ascii=False)
        (place / "settings.json").write_text(f"{told}\n", encoding="utf-8")
        (place / "command.txt").write_text(f"{shown.command}\n", encoding="utf-8")
        if shown.masks:
            np.savez_compressed(place / "regions.npz", masks=np.stack(shown.masks))
        if shown.reference is not None:
            Image.fromarray(shown.reference).save(place / "reference_mask.png")
        for path in sorted(place.rglob("*")):
            if path.is_file():
                bundle.write(path, path.relative_to(place))
    return packed.getvalue()


def _settings(shown: Shown) -> dict[str, Any]:
    return {
        **shown.settings,
        "regions": [] if shown.labels is None else [item.rank for item in shown.labels.regions],
        "measures": shown.measures,
        "reference_mask": None if shown.reference is None else {"area": int(shown.reference.sum())},
        "sides": [
            {
                "caption": side.caption(),
                "adapter": side.view.adapter,
                "question": side.inspection.question,
                "answer": side.view.answer,
                "heads": [list(head) for head in side.heads],
                "rows": list(side.rows),
                "map": [float(f"{weight:.6g}") for weight in side.values()],
                "numbers": {key: value for key, _, value, _ in rows},
            }
            for side, rows in zip(shown.sides, shown.numbers, strict=True)
        ],
        "command": shown.command,
    }


def _inspections(shown: Shown) -> list[Inspection]:
    """The inspections of the sides, each once, with the views on show only, and with the regions."""
    found: dict[int, Inspection] = {}
    for side in shown.sides:
        known = found.get(id(side.inspection))
        views = (side.view,) if known is None else (*known.views, *(() if side.view in known.views else (side.view,)))
        found[id(side.inspection)] = replace(
            side.inspection, views=views, labels=shown.labels, measures=(*shown.measures,)
        )
    return list(found.values())
