"""One evaluation: every question of a split, asked of every system, kept batch by batch and reported at the end."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from a3tune.adapters.mixed_batch import reason_against_mixing
from a3tune.adapters.switch import BASE, AdapterSet
from a3tune.attention.capture import prepare_capture
from a3tune.errors import AdapterError, Cancelled, RequestError
from a3tune.evaluation.asking import Asker
from a3tune.evaluation.decoding.registry import decoding_named
from a3tune.evaluation.head_sets import HeadSet
from a3tune.evaluation.items import ITEMS_NAME, EvaluatedItem, read_items, write_items
from a3tune.evaluation.journal import Journal
from a3tune.evaluation.provenance import provenance, settings_digest
from a3tune.evaluation.questions import EvaluationData, EvaluationQuestion
from a3tune.evaluation.report import Report, make_report, write_report
from a3tune.evaluation.systems import Control, Masks, System, systems_of
from a3tune.evaluation.vqa import scores_of
from a3tune.models.model import VisionLanguageModel
from a3tune.progress import Progress, no_progress
from a3tune.storage import read_json_or_empty, write_bytes, write_json, write_text

PLAN_NAME, STOP_NAME, MAPS_NAME = "evaluation.json", "stop", "maps.jsonl"
WORK, PROGRESS_NAME = "work", "progress.json"
"""Folder in the run folder that holds finished batches until the report is written, and a file in it that says how far
the work is."""

# Images whose questions are asked side by side: what was read of so many is kept even of large models.
_IMAGES_TOGETHER = 8


@dataclass(frozen=True)
class EvaluationPlan:
    """What is asked of what.

    Attributes:
        adapters: name -> folder; "base" has None. The first is what ways of decoding are tried on.
        masks: what attention is measured against.
        decodings: names of ways of decoding besides greedy, tried on the first adapter.
        controls: what every adapter is shown besides the image.
        batch_size: questions in one pass.
        max_new_tokens: longest answer.
        critical_count: K; None for the number of heads of one layer.
        head_sets: what attention is read in beside the critical heads.
        seed: of sampling, of the images of other patients, and of the report's draws.
        given: whether attention is also read while the right answer is written.
        allow_other_base: take adapters that were made for other weights.
        together: whether adapters answer as the rows of one batch where they can share it; None for on a GPU alone,
            where words of several adapters take hardly longer than those of one.
    """

    adapters: dict[str, Path | None]
    masks: Masks = "none"
    decodings: tuple[str, ...] = ()
    controls: tuple[Control, ...] = ()
    batch_size: int = 16
    max_new_tokens: int = 64
    critical_count: int | None = None
    seed: int = 0
    given: bool = True
    allow_other_base: bool = False
    together: bool | None = None
    head_sets: tuple[HeadSet, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("max_new_tokens", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise RequestError(
                    expected=f"{name} of at least {least}", got=f"{name} is {getattr(self, name)}", remedy="Raise it"
                )
        if not self.adapters:
            raise RequestError(expected="at least one adapter", got="none", remedy='Choose "base"')
        for name in self.decodings:
            decoding_named(name)

    @property
    def read_in(self) -> tuple[HeadSet, ...]:
        """The sets of heads that attention is read in, the critical heads first."""
        return (HeadSet("critical heads", self.critical_count), *self.head_sets)

    @property
    def systems(self) -> tuple[System, ...]:
        """What is compared, the first adapter first."""
        return tuple(systems_of(tuple(self.adapters), self.decodings, self.controls))

    def mode(self, device: torch.device, held: AdapterSet) -> str:
        """How several adapters answer on a device: "one batch", "one by one", or "one by one: <why not in a batch>"."""
        wanted = device.type == "cuda" if self.together is None else self.together
        if not wanted or len(self.adapters) == 1:
            return "one by one"
        reason = reason_against_mixing(held, tuple(self.adapters))
        return f"one by one: {reason}" if reason else "one batch"


def evaluate(
    plan: EvaluationPlan,
    data: EvaluationData,
    model: VisionLanguageModel,
    out: str | Path,
    *,
    model_name: str = "",
    on_progress: Progress = no_progress,
    should_stop: Callable[[], bool] | None = None,
) -> Report:
    """Ask every question of every system and write ``items.jsonl``, ``report.json``, ``report.csv`` and ``maps.jsonl``:
    for each question about one image where the patches lie and each system's map while it writes its own answer.

    A folder in which the same evaluation was begun is gone on with: batches that were finished are not asked again, and
    the result is that of an unbroken run, bit for bit on the same machine. Several processes (``accelerate launch``)
    share the batches; each calls this, and the first writes the report. A file ``stop`` in the folder ends the work
    as ``should_stop`` does.

    Args:
        plan: what is asked of what.
        data: the questions.
        model: the base model; nothing of it is changed.
        out: the run folder.
        model_name: the model as the user named it.
        on_progress: told how far it is.
        should_stop: asked between batches; True ends the work, which can be gone on with.

    Returns:
        The report; of several processes those but the first get the same.

    Raises:
        RequestError: the folder holds another evaluation, or the model has not the heads of a set.
        AdapterError: an adapter does not fit the model.
        LabelError: what makes weak labels cannot be loaded.
        Cancelled: ``should_stop``, or a file ``stop`` in the folder, said so.
    """
    out = Path(out)
    state = PartialState(cpu=model.device.type == "cpu") if "WORLD_SIZE" in os.environ else None
    rank, world = (0, 1) if state is None else (state.process_index, state.num_processes)
    for heads in plan.read_in:
        heads.check(model)
    adapters = adapters_of(plan, model)
    facts = provenance(plan, data, model, adapters)
    if rank == 0:
        _begin(out, facts)
    if state is not None:
        state.wait_for_everyone()
    if read_json_or_empty(out / PLAN_NAME).get("status") == "finished":
        return make_report(read_items(out / ITEMS_NAME), data.record(), facts, seed=plan.seed)
    prepare_capture(model.model)
    asker = Asker(plan, data, model, adapters, model_name)
    batches = plan_batches(data.questions, plan.batch_size)
    try:
        with Journal(out / WORK, rank) as journal:
            groups = asker.together(plan.systems)
            # Questions about an image lie side by side: each process takes a run of batches.
            share = range(len(batches) * rank // world, len(batches) * (rank + 1) // world)
            mine = [(index, systems) for index in share for systems in groups]
            clock = _Clock(out / WORK / PROGRESS_NAME if rank == 0 else None)
            for place, (index, systems) in enumerate(mine):
                if (out / STOP_NAME).exists() or (should_stop is not None and should_stop()):
                    raise Cancelled
                keys = [_key(system, batches[index]) for system in systems]
                on_progress("Asking", place / len(mine))
                clock.tell(place, len(mine), ", ".join(system.name for system in systems))
                if not journal.done.keys() >= set(keys):
                    # All of them again where one is missing: the words of a row may hang on those beside it.
                    for key, results in zip(
                        keys, asker.ask(systems, batches[index], seed=plan.seed + index), strict=True
                    ):
                        if key not in journal.done:
                            journal.add(key, results)
                    clock.asked += 1
    except Cancelled:
        if rank == 0:
            write_json(out / PLAN_NAME, {**facts, "status": "stopped"})
        raise
    if state is not None:
        state.wait_for_everyone()
    on_progress("Writing the report", 1.0)
    done = Journal(out / WORK, rank).done
    items = tuple(_items(plan, data, batches, done))
    report = make_report(items, data.record(), facts, seed=plan.seed)
    if rank == 0:
        write_items(out / ITEMS_NAME, items)
        write_text(out / MAPS_NAME, "".join(_maps(plan, data, batches, done)))
        write_report(report, out)
        write_json(out / PLAN_NAME, {**facts, "images": image_folders(data), "status": "finished"})
    if state is not None:
        state.wait_for_everyone()
    if rank == 0:
        with suppress(OSError):
            shutil.rmtree(out / WORK)
    return report


def plan_batches(questions: Sequence[EvaluationQuestion], size: int) -> list[tuple[EvaluationQuestion, ...]]:
    """Questions about a few images after one another, which are then read once for all of them; among these, questions
    of like length together: they need little padding, and answers of like length leave few steps idle. The same on
    every machine."""
    numbered = sorted(questions, key=lambda question: question.number)
    images = {digest: place for place, digest in enumerate(dict.fromkeys(each.image_digest for each in numbered))}

    def order(question: EvaluationQuestion) -> tuple[int, int, int, str, int]:
        item, group = question.item, images[question.image_digest] // _IMAGES_TOGETHER
        return group, sum(map(len, item.context)), len(item.question), item.question, question.number

    ordered = sorted(questions, key=order)
    return [tuple(ordered[start : start + size]) for start in range(0, len(ordered), size)]


def _key(system: System, batch: Sequence[EvaluationQuestion]) -> str:
    """The name of a batch's results: of these very questions, so that those which another version asked together are
    asked anew."""
    numbers = ",".join(str(question.number) for question in batch)
    return f"{system.name}/{hashlib.sha256(numbers.encode()).hexdigest()[:16]}"


def image_folders(data: EvaluationData) -> list[str]:
    """Where the images lie whose paths `EvaluatedItem.image` gives: the data folder first."""
    images = (path for question in data.questions for path in question.item.images)
    outside = (path.parent for path in images if not path.resolve().is_relative_to(data.root.resolve()))
    return list(dict.fromkeys(str(folder.resolve()) for folder in (data.root, *outside)))


def adapters_of(plan: EvaluationPlan, model: VisionLanguageModel) -> AdapterSet:
    """The plan's adapters beside the model.

    Raises:
        AdapterError: one does not fit the model; which is said.
    """
    folders = {name: folder for name, folder in plan.adapters.items() if folder is not None}
    if BASE in folders:
        raise AdapterError(
            expected='the name "base" for the model without adapter', got=f"{BASE}=FOLDER", remedy="Rename"
        )
    held = AdapterSet(model.model, {}, identity=model, allow_other_base=plan.allow_other_base)
    for name, folder in folders.items():
        try:
            held.add(name, folder)
        except AdapterError as error:
            got = f"{name} ({folder}) does not fit: {error.got}"
            raise AdapterError(expected=error.expected, got=got, remedy=error.remedy) from error
    return held


def _begin(out: Path, facts: dict[str, Any]) -> None:
    known = read_json_or_empty(out / PLAN_NAME)
    if not known and out.exists() and any(out.iterdir()):
        raise RequestError(
            expected="a new or empty folder, or that of an evaluation",
            got=f"{out} holds something else",
            remedy="Choose another folder with --out",
        )
    digest = settings_digest(facts)
    if known and known.get("digest") != digest:
        raise RequestError(
            expected="the evaluation that was begun in the folder",
            got=f"{out} holds one with other questions, models or settings",
            remedy="Choose another folder with --out, or take the old one away",
        )
    facts["digest"] = digest
    (out / STOP_NAME).unlink(missing_ok=True)
    if known.get("status") != "finished" or not (out / ITEMS_NAME).is_file():
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / PLAN_NAME, {**facts, "status": "running"})


def _items(
    plan: EvaluationPlan,
    data: EvaluationData,
    batches: Sequence[Sequence[EvaluationQuestion]],
    done: dict[str, list[dict[str, Any]]],
) -> Iterator[EvaluatedItem]:
    for system in plan.systems:
        results = {result["number"]: result for batch in batches for result in done[_key(system, batch)]}
        for question in data.questions:
            result = results[question.number]
            item, said = question.item, result.get("prediction")
            scores = (
                {} if said is None else scores_of(item.answer_type, item.answer, said, question.options, item.question)
            )
            yield EvaluatedItem(
                id=question.identifier,
                number=question.number,
                system=system.name,
                image="; ".join(_relative(path, data.root) for path in item.images),
                image_sha256=question.image_digest,
                question=item.question,
                answer=item.answer,
                answer_type=item.answer_type,
                prediction=said,
                options=question.options,
                groups=dict(question.groups),
                scores=dict(scores),
                attention=result.get("attention", {}),
                adapter=system.adapter,
                decoding=system.decoding,
                control=system.control,
                masks=plan.masks,
                ending=result.get("ending", "end"),
                margin=result.get("margin"),
                gap=result.get("gap", ""),
            )


def _maps(
    plan: EvaluationPlan,
    data: EvaluationData,
    batches: Sequence[Sequence[EvaluationQuestion]],
    done: dict[str, list[dict[str, Any]]],
) -> Iterator[str]:
    """A line of JSON for each question, in order: "number", its "place" (see `Asker.ask`; None where there is none) and
    "maps" by the systems' names."""
    places: dict[int, Any] = {}
    maps: dict[int, dict[str, str]] = {}
    for system in plan.systems:
        for batch in batches:
            for result in done[_key(system, batch)]:
                if "map" in result:
                    places.setdefault(result["number"], result["place"])
                    maps.setdefault(result["number"], {})[system.name] = result["map"]
    for question in data.questions:
        number = question.number
        yield json.dumps({"number": number, "place": places.get(number), "maps": maps.get(number, {})}) + "\n"


class _Clock:
    """Writes down how far an evaluation is, at most once a second: "share" (0 to 1), "seconds_left" (None before
    anything was asked), "at" (which system is asked) and "updated".

    Args:
        path: the file; nothing is written when None.
    """

    def __init__(self, path: Path | None) -> None:
        self.asked = 0
        self._path, self._began, self._told = path, time.monotonic(), -math.inf

    def tell(self, place: int, count: int, system: str) -> None:
        """Say that the batch at a place is asked next."""
        now = time.monotonic()
        if self._path is None or now - self._told < 1:
            return
        self._told = now
        left = (now - self._began) * (count - place) / self.asked if self.asked else None
        facts = {"share": place / count, "seconds_left": left, "at": system, "updated": time.time()}
        # It may be lost with the machine: nothing depends on it.
        write_bytes(self._path, json.dumps(facts).encode(), sync=False)


def _relative(path: Path, root: Path) -> str:
    with suppress(ValueError):
        return path.resolve().relative_to(root.resolve()).as_posix()
    return path.name
