"""What a finished evaluation found, as plain JSON values for the page; read from its folder, with no model at hand."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from a3tune.data.masks import true_mask
from a3tune.data.read import read_dataset
from a3tune.encoding import base64_text, data_url
from a3tune.errors import A3TuneError, RequestError
from a3tune.evaluation.items import ITEMS_NAME, EvaluatedItem, read_items
from a3tune.evaluation.right_reason import CELLS, SWEEP, THRESHOLD, cell_of, reason_table, transitions
from a3tune.evaluation.statistics import is_told_apart
from a3tune.images import load_image
from a3tune.recently_used import RecentlyUsed
from a3tune.storage import read_json, read_json_or_empty
from app.common.pictures import thumbnail
from app.jobs.job import MOST_DOWNLOADED

PAGE = 12
"""How many questions a page of the browser shows."""
FILES = {
    "report.csv": "report.csv",
    "report.md": "report.md",
    "report.tex": "report.tex",
    "report.json": "report.json",
    "items.jsonl": "items.jsonl",
    "figures.zip": "figures",
    "lmms_eval.zip": "lmms_eval",
}
"""Name of a download -> the file or folder of the run that it holds."""
_SIDE = 256
_REMEMBERED, _PICTURES = 4, 400


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A finished evaluation.

    Attributes:
        folder: its folder.
        report: ``report.json``.
        by_system: system -> its items by number, in order.
        folders: where the images lie.
        lines: where the line of each question begins in ``maps.jsonl``.
    """

    folder: Path
    report: Mapping[str, Any]
    by_system: Mapping[str, Mapping[int, EvaluatedItem]]
    folders: tuple[Path, ...]
    lines: tuple[int, ...]


class ItemFilter(NamedTuple):
    """Which questions are on show.

    Attributes:
        kind: "all", "fixed", "broken", "place" (right answer, wrong place), "wrong", "cell", "flow", "group" or
            "gap".
        before, after: the systems that stand beside each other.
        threshold: relative mass from which attention counts as inside.
        cell, cell_after: of the systems before and after, for "cell" (of ``after``) and "flow".
        group, value: only questions of a group; "" for all.
        text: only questions whose words or answers hold this; "" for all.
    """

    kind: str
    before: str
    after: str
    threshold: float = THRESHOLD
    cell: str = ""
    cell_after: str = ""
    group: str = ""
    value: str = ""
    text: str = ""

    def keeps(self, before: EvaluatedItem, after: EvaluatedItem) -> bool:
        """Whether a question is on show, by what both systems made of it."""
        if self.group and after.groups.get(self.group) != self.value:
            return False
        words = f"{after.question}\n{after.answer}\n{after.prediction or ''}".casefold()
        return self.text.casefold() in words and _KINDS[self.kind](self, before, after)

    def cell_of(self, item: EvaluatedItem) -> str | None:
        """The cell of an item at the threshold."""
        return cell_of(item, self.threshold)


_KINDS: dict[str, Callable[[ItemFilter, EvaluatedItem, EvaluatedItem], bool]] = {
    "all": lambda chosen, before, after: True,
    "fixed": lambda chosen, before, after: after.right and not before.right and before.prediction is not None,
    "broken": lambda chosen, before, after: before.right and not after.right and after.prediction is not None,
    "place": lambda chosen, before, after: chosen.cell_of(after) == CELLS[1],
    "wrong": lambda chosen, before, after: not after.right and after.prediction is not None,
    "cell": lambda chosen, before, after: chosen.cell_of(after) == chosen.cell,
    "flow": lambda chosen, before, after: (
        chosen.cell_of(before) == chosen.cell and chosen.cell_of(after) == chosen.cell_after
    ),
    "group": lambda chosen, before, after: True,
    "gap": lambda chosen, before, after: bool(before.gap or after.gap),
}


class EvaluationReader:
    """Reads finished evaluations; the last few stay in memory."""

    def __init__(self) -> None:
        self._known: RecentlyUsed[Evaluation] = RecentlyUsed(_REMEMBERED)
        self._pictures: RecentlyUsed[str] = RecentlyUsed(_PICTURES)

    def read(self, folder: Path) -> Evaluation:
        """One evaluation.

        Raises:
            DataError: it is not finished, or damaged.
            OSError, ValueError: its report cannot be read.
        """
        items = folder / ITEMS_NAME
        key = (str(folder), items.stat().st_mtime_ns if items.is_file() else 0)
        known = self._known.get(key)
        if known is None:
            by_system: dict[str, dict[int, EvaluatedItem]] = {}
            for item in read_items(items):
                by_system.setdefault(item.system, {})[item.number] = item
            record = read_json_or_empty(folder / "evaluation.json")
            folders = tuple(Path(str(name)) for name in record.get("images", ()))
            known = Evaluation(
                folder, read_json(folder / "report.json"), by_system, folders, _lines(folder / "maps.jsonl")
            )
            self._known.put(key, known)
        return known

    def forget(self, place: Path) -> None:
        """Drop what is known of evaluations in a folder."""
        self._known.forget(lambda key: Path(key[0]).is_relative_to(place))
        self._pictures.forget(lambda key: Path(key[0]).is_relative_to(place))

    def page(self, found: Evaluation, chosen: ItemFilter, offset: int) -> dict[str, Any]:
        """The questions on show from an offset on: "count" of all that the filter keeps, and "items"."""
        if chosen.kind not in _KINDS:
            raise RequestError(
                expected=f"one of {', '.join(_KINDS)}", got=f"{chosen.kind!r}", remedy="Choose one of these"
            )
        before, after = (_system(found, name) for name in (chosen.before, chosen.after))
        kept = [number for number, item in after.items() if number in before and chosen.keeps(before[number], item)]
        shown = kept[max(0, offset) : max(0, offset) + PAGE]
        return {
            "count": len(kept),
            "offset": max(0, offset),
            "page": PAGE,
            "items": [self._item(found, chosen, number) for number in shown],
        }

    def picture(self, found: Evaluation, item: EvaluatedItem) -> Path:
        """The file of an item's image.

        Raises:
            RequestError: it is not there any more.
        """
        for folder in found.folders:
            path = (folder / item.image).resolve()
            if path.is_relative_to(folder.resolve()) and path.is_file():
                return path
        raise RequestError(
            expected="the image of the question", got="It is gone with its data set", remedy="Upload it again"
        )

    def reference_mask(self, found: Evaluation, item: EvaluatedItem) -> np.ndarray | None:
        """bool [height, width], source pixels: the data's own mask and boxes of a question together; None where it has
        none, or its row is gone.

        Raises:
            A3TuneError: the image is gone, or the mask cannot be read or does not fit it.
        """
        picture = self.picture(found, item)
        for row in read_dataset(found.folders[0], check_images=False).items:
            if (row.question, row.answer) == (item.question, item.answer) and row.image.resolve() == picture:
                return true_mask(row, load_image(picture)) if row.mask is not None or row.boxes else None
        return None

    def _item(self, found: Evaluation, chosen: ItemFilter, number: int) -> dict[str, Any]:
        sides = []
        told = _map_of(found, number)
        for name in dict.fromkeys((chosen.before, chosen.after)):
            item = found.by_system[name][number]
            mass = item.value("generated.attention_mass")
            sides.append(
                {
                    "system": name,
                    "prediction": item.prediction,
                    "right": item.right,
                    "gap": item.gap,
                    "mass": mass if mass == mass else None,
                    "cell": chosen.cell_of(item),
                    "map": told["maps"].get(name),
                }
            )
        item = found.by_system[chosen.after][number]
        facts = {"id": item.id, "number": number, "question": item.question, "answer": item.answer}
        return {
            **facts,
            "groups": dict(item.groups),
            "place": told["place"],
            "picture": self._thumbnail(found, item),
            "sides": sides,
        }

    def _thumbnail(self, found: Evaluation, item: EvaluatedItem) -> str:
        """A data URL; "" where the image is gone or cannot be read."""
        try:
            path = self.picture(found, item)
            key = (str(path), path.stat().st_mtime_ns)
            known = self._pictures.get(key)
            if known is None:
                known = data_url(thumbnail(load_image(path), _SIDE), "jpeg")
                self._pictures.put(key, known)
        except (A3TuneError, OSError):
            return ""
        return known


def results_value(found: Evaluation) -> dict[str, Any]:
    """All but the single questions: what ``report.json`` says, with the table of right reasons at every threshold."""
    report = found.report
    names = ("systems", "metrics", "comparisons", "controls", "hallucination", "reports", "notes", "data")
    settings = report.get("provenance", {}).get("settings", {})
    # Reports of earlier builds have no spread over seeds.
    numbers = {**{name: report[name] for name in names}, "seeds": report.get("seeds", [])}
    comparisons = with_told(report["comparisons"])
    return {**numbers, "comparisons": comparisons, "settings": settings, "reasons": _reasons(found)}


def with_told(comparisons: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Records of `a3tune.evaluation.comparisons.Comparison`, each with "told": whether the two are told apart."""
    ends = [(one["p_holm"], one["difference"]["low"], one["difference"]["high"]) for one in comparisons]
    return [
        {**one, "told": None not in numbers and is_told_apart(*numbers)}
        for one, numbers in zip(comparisons, ends, strict=True)
    ]


def _reasons(found: Evaluation) -> list[dict[str, Any]]:
    """For each threshold: "counts" by system, and "flows" from the first system to each other."""
    shown = [list(items.values()) for items in found.by_system.values() if not next(iter(items.values())).control]
    steps = []
    for threshold in SWEEP:
        tables = [table for items in shown if (table := reason_table(items[0].system, items, threshold)) is not None]
        if not tables:
            return []
        moved = [flow for items in shown[1:] if (flow := transitions(shown[0], items, threshold)) is not None]
        steps.append(
            {
                "threshold": threshold,
                "counts": {table.system: table.counts for table in tables},
                "flows": [
                    {"before": one.before, "after": one.after, "flows": [flow[:3] for flow in one.flows]}
                    for one in moved
                ],
            }
        )
    return steps


def download(found: Evaluation, name: str) -> str:
    """A file of the evaluation in base64; a folder as a ZIP archive.

    Raises:
        RequestError: there is no such file, or it is too large.
    """
    path = found.folder / FILES.get(name, "")
    if name not in FILES or not path.exists():
        raise RequestError(
            expected=f"one of {', '.join(FILES)}", got=f"There is no {name!r}", remedy="Choose one of these"
        )
    content = path.read_bytes() if path.is_file() else _zip(path)
    if len(content) > MOST_DOWNLOADED:
        raise RequestError(
            expected=f"a file of at most {MOST_DOWNLOADED >> 20} MiB",
            got=f"It has {len(content) >> 20} MiB",
            remedy="Copy it from the server's disk",
        )
    return base64_text(content)


def _zip(folder: Path) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return stream.getvalue()


def _system(found: Evaluation, name: str) -> Mapping[int, EvaluatedItem]:
    if name not in found.by_system:
        raise RequestError(expected="a system of this evaluation", got=f"There is no {name!r}", remedy="Choose another")
    return found.by_system[name]


def _lines(path: Path) -> tuple[int, ...]:
    """Where each line of a file begins."""
    starts, place = [], 0
    if path.is_file():
        with path.open("rb") as stream:
            for line in stream:
                starts.append(place)
                place += len(line)
    return tuple(starts)


def _map_of(found: Evaluation, number: int) -> dict[str, Any]:
    """The line of a question in ``maps.jsonl``; empty where there is none."""
    nothing: dict[str, Any] = {"place": None, "maps": {}}
    if not 0 <= number < len(found.lines):
        return nothing
    with (found.folder / "maps.jsonl").open("rb") as stream:
        stream.seek(found.lines[number])
        told = json.loads(stream.readline())
    return told if isinstance(told, dict) and told.get("number") == number else nothing
