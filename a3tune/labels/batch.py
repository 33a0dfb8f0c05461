"""Labels many images one after the other: bad ones are noted and passed over, finished ones are not made again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from a3tune.labels.scorers.templates import TEMPLATE_SETS, build_prompt
from a3tune.labels.sources import LabelSource, describe_fault, item_prompt
from a3tune.labels.tasks import LabelTask, TaskList
from a3tune.types import MedicalImage, WeakLabels

Status = Literal["labelled", "kept", "failed"]


@dataclass(frozen=True, eq=False)
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
    source: LabelSource,
    template: str,
    load: Callable[[Path], MedicalImage],
    *,
    export: Callable[[LabelTask, MedicalImage, WeakLabels, Sequence[str]], object] | None = None,
    on_done: Callable[[Outcome], None] | None = None,
) -> tuple[Outcome, ...]:
    """Label every task, image by image.

    The work may be stopped at any time and started again: labels that were made of the same image for the same
    prompts with the same settings are kept, as is what a person chose.

    Args:
        work: what to label.
        source: finds, makes and keeps the labels.
        template: the wording of the prompts; see `a3tune.labels.scorers.templates.build_prompt`.
        load: reads an image.
        export: called with each task that has labels, and the texts that they were ranked for.
        on_done: called after each task.

    Returns:
        what became of the rows that are no tasks, then of the tasks in their order.

    Raises:
        OSError: a store or an export cannot be written.
    """
    by_image: dict[Path, list[int]] = defaultdict(list)
    for index, task in enumerate(work.tasks):
        by_image[task.image].append(index)
    outcomes: dict[int, Outcome] = {}
    for path, indices in by_image.items():
        labelled = _label_image(path, [work.tasks[index] for index in indices], source, template, load, export)
        for index, outcome in zip(indices, labelled, strict=True):
            outcomes[index] = outcome
            if on_done is not None:
                on_done(outcome)
    faults = [Outcome(None, name, "failed", error=error) for name, error in work.faults]
    return (*faults, *(outcomes[index] for index in range(len(work.tasks))))


def _label_image(
    path: Path,
    tasks: Sequence[LabelTask],
    source: LabelSource,
    template: str,
    load: Callable[[Path], MedicalImage],
    export: Callable[[LabelTask, MedicalImage, WeakLabels, Sequence[str]], object] | None,
) -> Iterator[Outcome]:
    try:
        image = load(path)
    except Exception as error:  # see LabelSource.make
        yield from (Outcome(task, task.name, "failed", error=describe_fault(error)) for task in tasks)
        return
    texts = {task: _texts(task, template) for task in tasks}
    wanted = {_prompt(task, template): texts[task] for task in tasks}
    found = source.find(image, wanted)
    made = source.make(image, {prompt: words for prompt, words in wanted.items() if prompt not in found})
    for task in tasks:
        prompt = _prompt(task, template)
        labels = found.get(prompt) or made[prompt]
        if not labels.regions and not labels.checked:
            yield Outcome(task, task.name, "failed", error=labels.notes[0])
            continue
        if export is not None:
            export(task, image, labels, texts[task])
        yield Outcome(task, task.name, "kept" if prompt in found else "labelled", len(labels.regions))


def _texts(task: LabelTask, template: str) -> tuple[str, ...]:
    """What a task's regions are ranked for."""
    return tuple(
        build_prompt(question, template, task.organ, needs_organ=task.item is None) for question in task.questions
    )


def _prompt(task: LabelTask, template: str) -> str:
    """What a task's labels lie under in a store: for a question of a data set the prompt by which tuning looks."""
    if task.item is None:
        return "; ".join(_texts(task, template))
    return item_prompt(task.item, template if template in TEMPLATE_SETS else "plain")
