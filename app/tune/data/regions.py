"""Weak labels of a handful of rows, shown before a run and corrected by hand; the run uses the corrections.

One of the modules of the application that call a3tune; nothing here knows of Gradio.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from a3tune.encoding import data_url
from a3tune.errors import RequestError
from a3tune.figures.regions import outlines
from a3tune.images import load_image
from a3tune.labels.filters import PAPER_RULES, FilterRules
from a3tune.labels.store import LabelStore
from a3tune.recently_used import RecentlyUsed
from a3tune.types import MedicalImage, ScoredRegion, WeakLabels
from app.common.pictures import thumbnail
from app.common.widgets import json_text
from app.engine import library
from app.engine.background import Step, Task, run
from app.engine.ids import DataSetId, OwnerId
from app.engine.model_lock import turn
from app.engine.region_slot import RegionSlot
from app.engine.stop import StopEvents
from app.tune.data.service import DataService

if TYPE_CHECKING:
    from a3tune.data.dataset import Dataset, TrainingItem
    from a3tune.labels.pipeline import LabelMaker
    from a3tune.training.attention_targets import TargetPlan
    from a3tune.training.config import TuneConfig

ROWS = 6
"""How many rows are shown."""

_SIDE = 512
_REMEMBERED = 8
_LOADING, _WAITING = "Loading what finds regions", "Waiting for what finds regions"


@dataclass(frozen=True, eq=False)
class LabelledRow:
    """One question with its regions.

    Attributes:
        item: the question.
        image: its image.
        prompt: what the regions were ranked for.
        labels: the labels that the regions come from.
        regions: key -> region, best first.
        chosen: keys of those that make the target.
        drawn: keys of those drawn by hand.
        corrected: whether a person chose them.
    """

    item: TrainingItem
    image: MedicalImage
    prompt: str
    labels: WeakLabels
    regions: dict[str, ScoredRegion]
    chosen: tuple[str, ...]
    drawn: frozenset[str] = frozenset()
    corrected: bool = False


@dataclass(frozen=True, eq=False)
class LabelPreview:
    """The rows on show.

    Attributes:
        rows: the rows.
        most: how many regions make a target at most.
        note: why there is nothing to see or to correct; "" where there is.
    """

    rows: tuple[LabelledRow, ...]
    most: int
    note: str = ""


@dataclass(eq=False)
class _Shown:
    preview: LabelPreview
    store: Any
    settings: dict[str, Any]
    guard: threading.Lock = field(default_factory=threading.Lock)


class RegionPreviewService:
    """Previews of weak labels, each for one visitor's data set.

    Args:
        data: the data sets.
        slot: what finds and ranks regions.
    """

    def __init__(self, data: DataService, slot: RegionSlot) -> None:
        self._data, self._slot = data, slot
        self._shown: RecentlyUsed[_Shown] = RecentlyUsed(_REMEMBERED)
        # Digests of the images, and what their regions were ranked for, as long as the parts may keep anything of them.
        self._seen: dict[OwnerId, tuple[set[str], set[str]]] = {}
        self._cancel = StopEvents()

    def preview(self, owner: OwnerId, name: DataSetId | None, config: TuneConfig) -> Iterator[Step | LabelPreview]:
        """Find and rank the regions of a handful of rows: steps while it works, the rows last.

        Raises:
            LabelError: a part is missing.
            RequestError: the data was not checked.
            Cancelled: another preview of this visitor began, or the page left.
        """
        data = self._data.sets.get(owner, name)
        checked = self._data.known(data)
        if checked is None:
            raise RequestError(
                expected="data that was checked", got="It was not yet", remedy="Choose the data set again"
            )

        def work(task: Task) -> LabelPreview:
            plan = library.target_plan(config)
            most = plan.top_k
            if not config.aligns:
                return LabelPreview((), most, "This method does not align attention: it needs no regions.")
            items = choose_rows(checked.dataset)
            store = LabelStore(checked.dataset.root / library.LABELS_NAME)
            with turn(task, self._slot, _LOADING, _WAITING) as maker:
                cache = library.RegionCache(data.cache / "regions")
                labeller = library.LabelMaker(maker.segmenter, maker.scorer, cache=cache, rules=_filter_rules(config))
                rows = []
                for number, item in enumerate(items):
                    task.progress("Finding regions", number / len(items))
                    rows.append(self._row(owner, item, plan, store, labeller))
            faults = [row.labels.notes[0] for row in rows if not (row.regions or row.corrected)]
            preview = LabelPreview(tuple(rows), most, faults[0] if faults else _unsure(rows, plan, config))
            self._shown.put((owner, data.id), _Shown(preview, store, labeller.settings))
            return preview

        return run(work, self._cancel.renew(owner), self._slot.generation, kind="labels")

    def forget(self, owner: OwnerId) -> None:
        """End a visitor's preview, and drop those that were made."""
        self.stop(owner)
        self._shown.forget(lambda key: key[0] == owner)
        self._slot.forget(*self._seen.pop(owner, ((), ())))

    def stop(self, owner: OwnerId) -> None:
        """End a visitor's preview that is being made."""
        self._cancel.stop(owner)

    def draw(self, owner: OwnerId, name: DataSetId, number: int, box: Sequence[float]) -> LabelledRow:
        """Make a region from a drawn box and choose it, before those that were chosen.

        Raises:
            LabelError: the box is empty, outside, or holds nothing that stands out.
            RequestError: there is no such row.
        """
        shown, row = self._find(owner, name, number)

        def work(task: Task) -> ScoredRegion:
            with turn(task, self._slot, _LOADING, _WAITING) as maker:
                region = maker.segmenter.segment_box(row.image, cast("tuple[int, int, int, int]", box))
                return maker.scorer.score(row.image, (region,), row.prompt)[0]

        *_, scored = run(work, None, self._slot.generation, kind="labels")
        key = scored.region.key
        self._replace(shown, number, replace(row, regions={**row.regions, key: scored}, drawn=row.drawn | {key}))
        return self.choose(owner, name, number, (key, *row.chosen)[: shown.preview.most])

    def choose(self, owner: OwnerId, name: DataSetId, number: int, keys: Sequence[str]) -> LabelledRow:
        """Make these regions a row's target and write it where the next run finds it; none at all is a choice too.

        Raises:
            RequestError: there is no such row or region, or more regions than count.
        """
        shown, row = self._find(owner, name, number)
        if not isinstance(keys, (list, tuple)) or any(key not in row.regions for key in keys):
            raise RequestError(
                expected="regions of this row", got="There is no such region", remedy="Show the rows again"
            )
        if len(keys) > shown.preview.most:
            raise RequestError(
                expected=f"at most {shown.preview.most} regions (label_top_k)",
                got=f"{len(keys)} are chosen",
                remedy="Drop some, or raise label_top_k",
            )
        made = replace(row, chosen=tuple(keys), corrected=True)
        self._replace(shown, number, made)
        if shown.store.settings is None:
            shown.store.describe(shown.settings)
        labels = replace(row.labels, regions=tuple(row.regions[key] for key in keys), checked=True)
        shown.store.put(row.image, {row.prompt: labels})
        return made

    def _find(self, owner: OwnerId, name: DataSetId, number: int) -> tuple[_Shown, LabelledRow]:
        self._data.sets.get(owner, name)
        shown = self._shown.get((owner, name))
        if shown is None or not isinstance(number, int) or not 0 <= number < len(shown.preview.rows):
            raise RequestError(expected="a row on show", got="There is no such row", remedy="Show the rows again")
        return shown, shown.preview.rows[number]

    def _row(
        self, owner: OwnerId, item: TrainingItem, plan: TargetPlan, store: LabelStore, labeller: LabelMaker
    ) -> LabelledRow:
        image = load_image(item.image)
        prompt = library.item_prompt(item, plan.template_set)
        images, prompts = self._seen.setdefault(owner, (set(), set()))
        images.add(image.sha256)
        prompts.add(prompt)
        found, _ = library.safe_rank(labeller, image, (prompt,))
        labels = store.get(image).get(prompt, found)
        regions = {scored.region.key: scored for scored in (*labels.regions, *found.regions)}
        chosen = tuple(scored.region.key for scored in plan.counting(labels, item.answer))
        return LabelledRow(item, image, prompt, labels, regions, chosen, corrected=labels.checked)

    @staticmethod
    def _replace(shown: _Shown, number: int, row: LabelledRow) -> None:
        with shown.guard:
            rows = list(shown.preview.rows)
            rows[number] = row
            shown.preview = replace(shown.preview, rows=tuple(rows))


def choose_rows(dataset: Dataset, count: int = ROWS) -> list[TrainingItem]:
    """A handful of training rows of different images, spread over the data; open questions first, which ask where."""
    items = [item for item in dataset.items if item.split in (None, "train")] or list(dataset.items)
    first: dict[Path, TrainingItem] = {}
    for item in sorted(items, key=lambda item: (not item.question.lower().startswith("where"), item.answer_type)):
        first.setdefault(item.image, item)
    chosen = list(first.values())
    return [chosen[number * len(chosen) // count] for number in range(count)] if len(chosen) > count else chosen


def _unsure(rows: Sequence[LabelledRow], plan: TargetPlan, config: TuneConfig) -> str:
    """What to do where the scorer is sure of no region of any of these rows; "" where it is of one."""
    if plan.min_score is None or any(row.chosen or row.corrected for row in rows):
        return ""
    if not any(row.regions and plan.counts_for(row.item.answer) for row in rows):
        return ""
    found = f"Not one of these questions has a region with a score of {plan.min_score:g} (label_min_score)."
    if config.allow_unsure_regions:
        return (
            f"{found} Where that is so of all questions, a run takes the best ones whatever their score, and says so."
        )
    return f"{found} Lower it, or write label_min_score=null under Advanced; else a run finds nothing to look at."


def labels_value(preview: LabelPreview, visitor: str, data: DataSetId | None) -> str:
    """What the part that corrects regions gets: a JSON text."""
    rows = [row_value(number, row) for number, row in enumerate(preview.rows)]
    return json_text({"visitor": visitor, "data": data, "most": preview.most, "note": preview.note, "rows": rows})


def row_value(number: int, row: LabelledRow) -> dict[str, Any]:
    """A row as the browser receives it: outlines are flat lists x, y, x, y, ... in source pixels."""
    return {
        "number": number,
        "question": row.item.question,
        "answer": row.item.answer,
        "place": row.item.place,
        "width": row.image.width,
        "height": row.image.height,
        "picture": data_url(thumbnail(row.image, _SIDE), "jpeg"),
        "corrected": row.corrected,
        "regions": [
            {
                "key": key,
                "score": round(scored.score, 2),
                "chosen": key in row.chosen,
                "drawn": key in row.drawn,
                "outlines": [line.ravel().tolist() for line in outlines(scored.region)],
            }
            for key, scored in row.regions.items()
        ],
    }


def _filter_rules(config: TuneConfig) -> FilterRules:
    """The filter of regions that a plan names; as published where it names none."""
    side = config.label_minimum_side
    return PAPER_RULES if side is None else FilterRules(minimum_side=side)
