"""What a visitor takes away: figures, numbers, settings and maps in an archive, or one page as PDF."""

from __future__ import annotations

import io
import json
import shlex
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from a3tune.errors import RequestError
from a3tune.images.frames import masks_to_stored
from a3tune.types import WeakLabels
from a3tune.wording import counted
from app.engine import library
from app.inspect.faithfulness import chosen_heads
from app.inspect.results import Kept
from app.inspect.service import InspectService
from app.inspect.values import view_rows

if TYPE_CHECKING:
    from a3tune.inspection.inspect import Inspection
    from a3tune.inspection.report import Look, Side

_TYPES = {"zip": "application/zip", "pdf": "application/pdf"}


def take_away(studio: InspectService, request: dict[str, Any]) -> tuple[str, str, bytes]:
    """What is on show as a file.

    Args:
        studio: the application's state.
        request: ``form`` ("zip" or "pdf"), ``sides`` (one or two of ``result``, ``adapter`` and ``rows``), ``heads``
            ("critical", "mean" or a layer and a head), ``words`` ("answer", "question" or "own"), ``board``,
            ``regions`` (keys of those switched on), ``look`` (the viewer's settings).

    Returns:
        the file's name, its media type, its bytes.

    Raises:
        RequestError: a part of the request is not known, or a result was removed.
    """
    form = request.get("form")
    if form not in _TYPES or not 1 <= len(request["sides"]) <= 2:
        raise RequestError(
            expected="a ZIP archive or a PDF page of one or two maps", got=f"{form!r}", remedy="Choose again"
        )
    labels = studio.regions.labels(str(request["board"]), request["regions"]) if request["regions"] else None
    sides = [_side(studio, side, request) for side in request["sides"]]
    kept = studio.results.get(str(request["sides"][0]["result"]))
    adapters = list(dict.fromkeys(side.view.adapter for side in sides))
    command = command_line(kept, adapters, studio.slot.profile, studio.slot.folders)
    look = _look(request["look"])
    content = (_archive if form == "zip" else _page)(studio, request, sides, labels, look, command)
    stem = f"a3tune-{kept.opened.image.sha256[:8]}-{'-'.join(adapters)}"
    return f"{stem}.{form}", _TYPES[form], content


def command_line(kept: Kept, adapters: Sequence[str], profile: str, folders: dict[str, Path]) -> str:
    """The command that makes the same inspection again; the name of an own image's file is not known here."""
    opened, inspection = kept.opened, kept.finished.inspection
    image = opened.image
    parts = ["python", "-m", "a3tune", "inspect", "--image", opened.source or "IMAGE_FILE"]
    if image.window is not None:
        parts += _option("--window", ",".join(_number(value) for value in image.window))
    if image.frame_count > 1:
        parts += ["--frame", str(image.frame)]
    if opened.axis != 2:
        parts += ["--axis", str(opened.axis)]
    if opened.volume:
        parts += ["--volume", str(opened.volume)]
    # The visitor has an adapter of their own as a download: where it was unpacked is not known here.
    places = {**folders, **dict.fromkeys(kept.own, "ADAPTER_FOLDER")}
    named = [f"{name}={places[name]}" if name in places else name for name in adapters]
    parts += ["--model", profile, "--adapters", ",".join(named)]
    parts += [*_option("--question", inspection.question), "--out", "result"]
    return shlex.join(parts)


def _option(name: str, value: str) -> list[str]:
    # A value that begins like an option, such as the centre of a lung window, is taken for one if it stands alone.
    return [f"{name}={value}"] if value.startswith("-") else [name, value]


def _number(value: float) -> str:
    """All digits that the number has, and no more: a window that was measured has many."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _side(studio: InspectService, asked: dict[str, Any], request: dict[str, Any]) -> Side:
    result, adapter = str(asked["result"]), str(asked["adapter"])
    view = studio.results.view(result, adapter)
    rows = tuple(int(row) for row in asked["rows"])
    heads = chosen_heads(view, request["heads"])
    # The answer comes last, so its first word has the name of the row that it shares with the prompt's last token.
    texts = {
        int(place): token.text for token in view.tokens for place in np.flatnonzero(view.maps.rows == token.read_at)
    }
    if not rows or not texts.keys() >= set(rows):
        raise RequestError(
            expected="words that both sides have",
            got=f"{adapter} has no such word",
            remedy="Choose the mean of the answer, or a word of the question",
        )
    head_words = {"critical": counted(len(heads), "critical head"), "mean": f"mean of all {len(heads)} heads"}
    one_head = f"layer {heads[0].layer}, head {heads[0].head}"
    own = " + ".join(f"“{texts[row].strip()}”" for row in rows)
    words = {"answer": "mean of the answer", "question": "mean of the question"}.get(request["words"], own)
    inspection = studio.results.get(result).finished.inspection
    return library.Side(inspection, view, heads, rows, head_words.get(str(request["heads"]), one_head), words)


def _look(look: dict[str, Any]) -> Look:
    return library.Look(min(1.0, max(0.0, float(look["opacity"]))), str(look["colours"]), bool(look["smooth"]))


def _archive(
    studio: InspectService,
    request: dict[str, Any],
    sides: list[Side],
    labels: WeakLabels | None,
    look: Look,
    command: str,
) -> bytes:
    """All that ``python -m a3tune inspect`` writes for the views on show, the pictures of the page at full resolution
    under ``view/``, ``settings.json``, ``command.txt``, and the masks of the regions, in stored pixels, as
    ``regions.npz``."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bundle, tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for number, inspection in enumerate(_inspections(sides, labels)):
            target = None if labels is None else np.logical_or.reduce(_masks(labels))
            library.write_inspection(inspection, place if number == 0 else place / "other_question", target)
        (place / "view").mkdir()
        for name, picture in library.full_size_pictures(sides, look).items():
            Image.fromarray(picture).save(place / "view" / f"{name}.png")
        library.save_figure(library.shown_figure(sides, _masks(labels), look), place / "view" / "figure")
        told = _settings(studio, request, sides, labels, command)
        (place / "settings.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (place / "command.txt").write_text(command + "\n", encoding="utf-8")
        if labels is not None:
            image = sides[0].inspection.image
            np.savez_compressed(place / "regions.npz", masks=masks_to_stored(_masks(labels), image))
        for path in sorted(place.rglob("*")):
            if path.is_file():
                bundle.write(path, path.relative_to(place))
    return packed.getvalue()


def _page(
    studio: InspectService,
    request: dict[str, Any],
    sides: list[Side],
    labels: WeakLabels | None,
    look: Look,
    command: str,
) -> bytes:
    measured = _measured(studio, request, sides)
    rows = [{key: (name, value) for key, name, value, _ in side} for side in measured]
    names = {key: name for side in rows for key, (name, _) in side.items()}
    table = [(name, [side.get(key, ("", "–"))[1] for side in rows]) for key, name in names.items()]
    buffer = io.BytesIO()
    figure = library.page_figure(sides, _masks(labels), table, look, command)
    # No creation date and no producer's user name: the file tells of the image and the model only.
    figure.savefig(buffer, format="pdf", metadata={"Title": "A3Tune Studio", "CreationDate": None})
    return buffer.getvalue()


def _measured(studio: InspectService, request: dict[str, Any], sides: list[Side]) -> list[list[list[str]]]:
    """Rows of key, name, value and meaning for each side."""
    results = [str(side["result"]) for side in request["sides"]]
    numbers = studio.measure(str(request["board"]), request["regions"], results) if request["regions"] else None
    return [view_rows(side.view, numbers, result) for side, result in zip(sides, results, strict=True)]


def _settings(
    studio: InspectService, request: dict[str, Any], sides: list[Side], labels: WeakLabels | None, command: str
) -> dict[str, Any]:
    look = request["look"]
    return {
        "heads": request["heads"],
        "words": request["words"],
        "look": {name: look[name] for name in sorted(look) if isinstance(look[name], (str, int, float, bool))},
        "regions": [item.rank for item in labels.regions] if labels is not None else [],
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
            for side, rows in zip(sides, _measured(studio, request, sides), strict=True)
        ],
        "command": command,
    }


def _inspections(sides: list[Side], labels: WeakLabels | None) -> list[Inspection]:
    """The inspections of the sides, each once, with the views on show only, and with the regions."""
    found: dict[int, Inspection] = {}
    for side in sides:
        known = found.get(id(side.inspection))
        views = (side.view,) if known is None else (*known.views, *(() if side.view in known.views else (side.view,)))
        found[id(side.inspection)] = replace(side.inspection, views=views, labels=labels)
    return list(found.values())


def _masks(labels: WeakLabels | None) -> list[np.ndarray]:
    return [] if labels is None else [item.region.mask for item in labels.regions]
