"""What a browser asks to have as a file: read, and written as a ZIP archive, a PDF page or DICOM files."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom import Dataset

from a3tune.bundle import DEMO, demo_adapters
from a3tune.errors import RequestError
from a3tune.images.measures import KINDS, Measure
from a3tune.inspection.dicom_study import DICOM_OBJECTS
from a3tune.wording import counted
from app.access.identity import audit
from app.engine import library
from app.engine.ids import RegionSessionId, ResultId
from app.inspect.export.current_view import Shown
from app.inspect.export.dicom import as_file, dicom_objects
from app.inspect.export.pdf_page import pdf_page
from app.inspect.export.zip_archive import zip_archive
from app.inspect.faithfulness import chosen_heads
from app.inspect.service import InspectService
from app.inspect.sessions.results import Result
from app.inspect.viewer.values import view_rows

if TYPE_CHECKING:
    from a3tune.inspection.report import Side

MOST_MEASURES = 50
"""How many measures go into one file."""
_FORMS = {"zip": ("application/zip", zip_archive), "pdf": ("application/pdf", pdf_page)}


def export(service: InspectService, request: dict[str, Any]) -> tuple[str, str, bytes]:
    """What is on show as a file: its name, its media type, its bytes.

    Args:
        service: where the results are.
        request: ``form`` ("zip", "pdf" or "dicom", with ``objects`` and ``identity`` as :func:`_dicom` says),
            ``sides``, ``heads``, ``words``, ``session``, ``regions``, ``measures`` and ``look`` as
            :func:`_read_shown` says.

    Raises:
        RequestError: a part of the request is not known, or a result was removed.
    """
    form = request.get("form")
    if form not in (*_FORMS, "dicom") or not 1 <= len(request["sides"]) <= 2:
        raise RequestError(
            expected="a ZIP archive, a PDF page or DICOM files of one or two maps",
            got=f"{form!r}",
            remedy="Choose again",
        )
    shown = _read_shown(service, request)
    if form == "dicom":
        made = _dicom(service, shown, request)
        audit("result-export", form="dicom", identity=request.get("identity") is True)
        return as_file(shown.name, str(request["objects"]), made)
    audit("result-export", form=form)
    kind, write = _FORMS[form]
    return f"{shown.name}.{form}", kind, write(shown)


def store(service: InspectService, request: dict[str, Any]) -> str:
    """Store what is on show as DICOM objects in the archive; says how that went.

    Args:
        service, request: as :func:`export`.

    Raises:
        RequestError: there is no archive that may be written to, the objects are of nobody, or as :func:`export`.
        DicomWebError: the archive did not take them.
    """
    if service.archive is None or request.get("identity") is not True or not 1 <= len(request["sides"]) <= 2:
        raise RequestError(
            expected="an archive, and objects of the patient and study of the opened file",
            got="There is none, or they are of nobody",
            remedy="Tick the box that puts patient and study into the files, or save them",
        )
    made = _dicom(service, _read_shown(service, request), request)
    audit("archive-store", objects=len(made))
    service.archive.store(list(made.values()))
    return f"{counted(len(made), 'object')} stored in {service.archive.server.name}."


def _dicom(service: InspectService, shown: Shown, request: dict[str, Any]) -> dict[str, Dataset]:
    """What is on show as DICOM objects by the names of their files.

    Args:
        service: says whether patient and study may go into a file.
        shown: what is on show.
        request: ``objects`` ("pictures", "maps" or "regions"), and ``identity``, whether patient and study of the
            opened file go into them.
    """
    objects, identity = request.get("objects"), request.get("identity") is True
    if objects not in DICOM_OBJECTS:
        raise RequestError(
            expected=f"one of {', '.join(DICOM_OBJECTS)}", got=f"The DICOM objects {objects!r}", remedy="Choose again"
        )
    if identity and not service.keeps_source:
        raise RequestError(
            expected="files of nobody",
            got="On a public Space no patient and no study goes into a file",
            remedy="Leave them out, or run the application yourself",
        )
    return dicom_objects(shown, objects, identity=identity)


def command_line(result: Result, adapters: Sequence[str], measures: Sequence[Measure] = ()) -> str:
    """The command that makes the same inspection again; the name of an own image's file is not known here."""
    opened, image = result.opened, result.opened.image
    parts = ["python", "-m", "a3tune", "inspect", "--image", opened.source or "IMAGE_FILE"]
    # Where nobody chose one, the file's own or the values' own is found again; as numbers it would round otherwise.
    if isinstance(opened.window, str):
        parts += ["--window", opened.window]
    elif opened.window is not None:
        parts += _option("--window", ",".join(_number(value) for value in opened.window))
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
    parts += [part for measure in measures for part in ("--measure", measure.text())]
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


def _read_shown(service: InspectService, request: dict[str, Any]) -> Shown:
    """What a browser says that it shows.

    Args:
        service: where the results are.
        request: ``sides`` (one or two of ``result``, ``adapter`` and ``rows``), ``heads`` ("critical", "mean" or a
            layer and a head), ``words`` ("answer", "question" or "own"), ``session`` (the region session),
            ``regions`` (keys of those switched on), ``measures`` (what was drawn to be measured: ``kind``, ``from``
            and ``to`` in source pixels), ``look`` (the viewer's settings).

    Raises:
        RequestError: a part of the request is not known, or a result was removed.
    """
    regions, keys = RegionSessionId(str(request["session"])), request["regions"]
    results = [service.results.get(ResultId(str(side["result"]))) for side in request["sides"]]
    sides = [_side(result, side, request) for result, side in zip(results, request["sides"], strict=True)]
    target = service.measure(regions, keys, [result.id for result in results]) if keys else None
    adapters = list(dict.fromkeys(side.view.adapter for side in sides))
    style = request["look"]
    reference = next((one.reference_mask for one in results if one.reference_mask is not None), None)
    measures = _measures(results[0], request["measures"])
    return Shown(
        f"a3tune-{results[0].opened.image.sha256[:8]}-{'-'.join(adapters)}",
        sides,
        [view_rows(result, side.view, target) for result, side in zip(results, sides, strict=True)],
        service.regions.labels(regions, keys) if keys else None,
        reference if style.get("reference") is True else None,
        _measured(service, regions, results[0], measures),
        library.MapStyle(
            _share(style["opacity"]),
            str(style["colours"]),
            bool(style["smooth"]),
            _share(style["dim"]),
            bool(style["each"]),
        ),
        command_line(results[0], adapters, measures),
        {
            "heads": request["heads"],
            "words": request["words"],
            "look": {name: style[name] for name in sorted(style) if isinstance(style[name], (str, int, float, bool))},
        },
        results[0].opened,
        _weights(results[0], adapters),
    )


def _weights(result: Result, adapters: Sequence[str]) -> dict[str, str | Path]:
    generation = result.generation
    bundled = demo_adapters() if generation.source == DEMO else {}
    folders = {**bundled, **generation.folders, **result.own}
    named = {name: folders[name] for name in adapters if name in folders}
    return {"model": generation.source, **named}


def _measures(result: Result, drawn: Any) -> list[Measure]:
    """What was drawn on the image of a result, in stored pixels."""
    image = result.opened.image
    across, down = image.stored_size[1] / image.width, image.stored_size[0] / image.height
    if not isinstance(drawn, list) or len(drawn) > MOST_MEASURES or any(one["kind"] not in KINDS for one in drawn):
        raise RequestError(
            expected=f"at most {MOST_MEASURES} rulers, rectangles and ellipses",
            got="More or others were drawn",
            remedy="Take some away",
        )
    points = [[(float(x) * across, float(y) * down) for x, y in (one["from"], one["to"])] for one in drawn]
    return [Measure(one["kind"], start, end) for one, (start, end) in zip(drawn, points, strict=True)]


def _measured(
    service: InspectService, regions: RegionSessionId, result: Result, measures: Sequence[Measure]
) -> list[dict[str, Any]]:
    """The records of measures; they are drawn on what is on show, which has to be what the result is about."""
    if not measures:
        return []
    opened, values = service.pixel_values(regions)
    if (opened.place, opened.image.frame) != (result.opened.place, result.opened.image.frame):
        raise RequestError(
            expected="measures on the image of the answer", got="Another image is on show", remedy="Ask again"
        )
    return [measure.record(opened.image, values) for measure in measures]


def _share(value: object) -> float:
    return min(1.0, max(0.0, float(str(value))))


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
    name = head_words.get(str(request["heads"]), one_head)
    right = result.opened.reference_answer(result.inspection.question)
    return library.Side(result.inspection, view, heads, rows, name, words, right)
