"""What is on show as a file: all of it in an archive, or one page as PDF."""

from __future__ import annotations

import io
import json
import shlex
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from a3tune.errors import RequestError
from a3tune.types import WeakLabels
from a3tune.wording import counted
from app.engine import library
from app.engine.ids import RegionSessionId, ResultId
from app.inspect.faithfulness import chosen_heads
from app.inspect.results import Result
from app.inspect.service import InspectService
from app.inspect.values import view_rows

if TYPE_CHECKING:
    from a3tune.inspection.inspect import Inspection
    from a3tune.inspection.report import MapStyle, Side

_TYPES = {"zip": "application/zip", "pdf": "application/pdf"}


@dataclass(frozen=True, eq=False)
class Shown:
    """What is on show.

    Attributes:
        sides: one or two maps.
        numbers: for each side its rows of key, name, value and meaning.
        labels: the regions that are switched on.
        style: how the maps are coloured.
        command: what makes the same inspection again.
        settings: the viewer's.
    """

    sides: list[Side]
    numbers: list[list[list[str]]]
    labels: WeakLabels | None
    style: MapStyle
    command: str
    settings: dict[str, Any]

    @property
    def masks(self) -> list[np.ndarray]:
        """Bool [height, width] of each region, in source pixels."""
        return [] if self.labels is None else [item.region.mask for item in self.labels.regions]


def export(service: InspectService, request: dict[str, Any]) -> tuple[str, str, bytes]:
    """What is on show as a file.

    Args:
        service: where the results are.
        request: ``form`` ("zip" or "pdf"), ``sides`` (one or two of ``result``, ``adapter`` and ``rows``), ``heads``
            ("critical", "mean" or a layer and a head), ``words`` ("answer", "question" or "own"), ``session`` (the
            region session), ``regions`` (keys of those switched on), ``look`` (the viewer's settings).

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
    regions, keys = RegionSessionId(str(request["session"])), request["regions"]
    results = [service.results.get(ResultId(str(side["result"]))) for side in request["sides"]]
    sides = [_side(result, side, request) for result, side in zip(results, request["sides"], strict=True)]
    target = service.measure(regions, keys, [result.id for result in results]) if keys else None
    adapters = list(dict.fromkeys(side.view.adapter for side in sides))
    style = request["look"]
    shown = Shown(
        sides,
        [view_rows(side.view, target, result.id) for result, side in zip(results, sides, strict=True)],
        service.regions.labels(regions, keys) if keys else None,
        library.MapStyle(min(1.0, max(0.0, float(style["opacity"]))), str(style["colours"]), bool(style["smooth"])),
        command_line(results[0], adapters),
        {
            "heads": request["heads"],
            "words": request["words"],
            "look": {name: style[name] for name in sorted(style) if isinstance(style[name], (str, int, float, bool))},
        },
    )
    stem = f"a3tune-{results[0].opened.image.sha256[:8]}-{'-'.join(adapters)}"
    return f"{stem}.{form}", _TYPES[form], (_archive if form == "zip" else _page)(shown)


def command_line(result: Result, adapters: Sequence[str]) -> str:
    """The command that makes the same inspection again; the name of an own image's file is not known here."""
    opened, image = result.opened, result.opened.image
    parts = ["python", "-m", "a3tune", "inspect", "--image", opened.source or "IMAGE_FILE"]
    if image.window is not None:
        parts += _option("--window", ",".join(_number(value) for value in image.window))
    if image.convention is not None:
        parts += ["--convention", image.convention]
    if len(opened.series) > 1 and opened.choices.series is not None:
        parts += ["--series", str(opened.series.index(opened.choices.series) + 1)]
    if image.frame_count > 1:
        parts += ["--frame", str(image.frame)]
    if opened.axis != 2:
        parts += ["--axis", str(opened.axis)]
    if opened.volume:
        parts += ["--volume", str(opened.volume)]
    # The visitor has an adapter of their own as a download: where it was unpacked is not known here.
    places = {**result.generation.folders, **dict.fromkeys(result.own, "ADAPTER_FOLDER")}
    named = [f"{name}={places[name]}" if name in places else name for name in adapters]
    parts += ["--model", result.generation.source, "--adapters", ",".join(named)]
    parts += [*_option("--question", result.inspection.question), "--out", "result"]
    return shlex.join(parts)


def _option(name: str, value: str) -> list[str]:
    # A value that begins like an option, such as the centre of a lung window, is taken for one if it stands alone.
    return [f"{name}={value}"] if value.startswith("-") else [name, value]


def _number(value: float) -> str:
    """All digits that the number has, and no more: a window that was measured has many."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _side(result: Result, asked: dict[str, Any], request: dict[str, Any]) -> Side:
    view = result.view(str(asked["adapter"]))
    rows = tuple(int(row) for row in asked["rows"])
    heads = chosen_heads(view, request["heads"])
    # The answer comes last, so its first word has the name of the row that it shares with the prompt's last token.
    texts = {
        int(place): token.text for token in view.tokens for place in np.flatnonzero(view.maps.rows == token.read_at)
    }
    if not rows or not texts.keys() >= set(rows):
        raise RequestError(
            expected="words that both sides have",
            got=f"{view.adapter} has no such word",
            remedy="Choose the mean of the answer, or a word of the question",
        )
    head_words = {"critical": counted(len(heads), "critical head"), "mean": f"mean of all {len(heads)} heads"}
    one_head = f"layer {heads[0].layer}, head {heads[0].head}"
    own = " + ".join(f"“{texts[row].strip()}”" for row in rows)
    words = {"answer": "mean of the answer", "question": "mean of the question"}.get(request["words"], own)
    return library.Side(result.inspection, view, heads, rows, head_words.get(str(request["heads"]), one_head), words)


def _archive(shown: Shown) -> bytes:
    """All that ``python -m a3tune inspect`` writes for the views on show, the pictures of the page at full resolution
    under ``view/``, ``settings.json``, ``command.txt``, and the masks of the regions as ``regions.npz``."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bundle, tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for number, inspection in enumerate(_inspections(shown)):
            target = np.logical_or.reduce(shown.masks) if shown.masks else None
            library.write_inspection(inspection, place if number == 0 else place / "other_question", target)
        (place / "view").mkdir()
        for name, picture in library.full_size_pictures(shown.sides, shown.style).items():
            Image.fromarray(picture).save(place / "view" / f"{name}.png")
        library.save_figure(library.shown_figure(shown.sides, shown.masks, shown.style), place / "view" / "figure")
        told = json.dumps(_settings(shown), indent=1, ensure_ascii=False)
        (place / "settings.json").write_text(f"{told}\n", encoding="utf-8")
        (place / "command.txt").write_text(f"{shown.command}\n", encoding="utf-8")
        if shown.masks:
            np.savez_compressed(place / "regions.npz", masks=np.stack(shown.masks))
        for path in sorted(place.rglob("*")):
            if path.is_file():
                bundle.write(path, path.relative_to(place))
    return packed.getvalue()


def _page(shown: Shown) -> bytes:
    rows = [{key: (name, value) for key, name, value, _ in side} for side in shown.numbers]
    names = {key: name for side in rows for key, (name, _) in side.items()}
    table = [(name, [side.get(key, ("", "–"))[1] for side in rows]) for key, name in names.items()]
    buffer = io.BytesIO()
    figure = library.page_figure(shown.sides, shown.masks, table, shown.style, shown.command)
    # No creation date and no producer's user name: the file tells of the image and the model only.
    figure.savefig(buffer, format="pdf", metadata={"Title": "A3Tune Studio", "CreationDate": None})
    return buffer.getvalue()


def _settings(shown: Shown) -> dict[str, Any]:
    return {
        **shown.settings,
        "regions": [] if shown.labels is None else [item.rank for item in shown.labels.regions],
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
        found[id(side.inspection)] = replace(side.inspection, views=views, labels=shown.labels)
    return list(found.values())
