"""Labels many images one after the other: bad ones are noted and passed over, finished ones are not made again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from a3tune import __version__
from a3tune.errors import A3TuneError
from a3tune.labels.maker import LabelMaker
from a3tune.labels.record import finished_regions, write_json, write_labels
from a3tune.labels.tasks import LabelTask, TaskList
from a3tune.types import MedicalImage

INDEX_NAME = "index.json"
Status = Literal["labelled", "kept", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of one task.

    Attributes:
        task: the task; None for a row of the data that never became one.
        name: what messages call it.
        status: "labelled", "kept" (it was there already) or "failed".
        regions: how many regions its labels hold; 0 when it failed.
        error: one line; "" unless it failed.
    """

    task: LabelTask | None
    name: str
    status: Status
    regions: int = 0
    error: str = ""


def label_all(
    work: TaskList,
    maker: LabelMaker,
    out: Path,
    load: Callable[[Path], MedicalImage],
    *,
    on_done: Callable[[Outcome], None] | None = None,
) -> tuple[Outcome, ...]:
    """Label every task into its folder below ``out``, and write ``index.json`` with what became of each.

    The work may be stopped at any time and started again: labels that were made of the same image for the same
    prompts with the same settings are kept.

    Args:
        work: what to label.
        maker: labels an image.
        out: the output folder.
        load: reads an image.
        on_done: called after each task.

    Raises:
        OSError: the output folder cannot be written.
    """
    settings = maker.settings
    outcomes = [Outcome(None, name, "failed", error=error) for name, error in work.faults]
    images = _LastImage(load)
    for task in work.tasks:
        outcome = _label(task, maker, out, images, settings)
        outcomes.append(outcome)
        if on_done is not None:
            on_done(outcome)
    write_json(out / INDEX_NAME, _index(outcomes, settings))
    return tuple(outcomes)


class _LastImage:
    """Reads an image once for all questions about it that follow each other."""

    def __init__(self, load: Callable[[Path], MedicalImage]) -> None:
        self._load = load
        self._path: Path | None = None
        self._image: MedicalImage | None = None

    def __call__(self, path: Path) -> MedicalImage:
        if self._image is None or path != self._path:
            # Forgotten first: a file that cannot be read must not leave the image before it in its place.
            self._image = None
            self._path, self._image = path, self._load(path)
        return self._image


def _label(task: LabelTask, maker: LabelMaker, out: Path, load: _LastImage, settings: dict) -> Outcome:
    folder = out / task.folder
    try:
        image = load(task.image)
        prompts = maker.prompts(task.questions, task.organ)
        count = finished_regions(folder, image, prompts, settings)
        if count is not None:
            return Outcome(task, task.name, "kept", count)
        labels = maker.make(image, prompts)
    except A3TuneError as error:
        return Outcome(task, task.name, "failed", error=str(error))
    write_labels(labels, image, folder, prompts, settings)
    return Outcome(task, task.name, "labelled", len(labels.regions))


def _index(outcomes: list[Outcome], settings: dict) -> dict:
    items = []
    for outcome in outcomes:
        item: dict[str, object] = {"name": outcome.name, "status": outcome.status}
        if outcome.status == "failed":
            item["error"] = outcome.error
        else:
            item |= {"folder": outcome.task.folder, "regions": outcome.regions}
        if outcome.task is not None:
            item["questions"] = list(outcome.task.questions)
        items.append(item)
    return {
        "a3tune": __version__,
        "settings": settings,
        "labelled": sum(outcome.status != "failed" for outcome in outcomes),
        "failed": sum(outcome.status == "failed" for outcome in outcomes),
        "items": items,
    }
