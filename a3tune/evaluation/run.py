"""One evaluation: every question of a split, asked of every system, kept batch by batch and reported at the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState

from a3tune.adapters.switch import BASE, AdapterSet
from a3tune.attention.capture import prepare_capture
from a3tune.errors import AdapterError, Cancelled, DataError, ImageError, RequestError
from a3tune.evaluation.answering import Answer, answer_batch
from a3tune.evaluation.controls import blank_image, other_images
from a3tune.evaluation.decoding.registry import decoding_named
from a3tune.evaluation.items import ITEMS_NAME, EvaluatedItem, read_items, scores_of, write_items
from a3tune.evaluation.journal import Journal
from a3tune.evaluation.provenance import provenance, settings_digest
from a3tune.evaluation.questions import EvaluationData, EvaluationQuestion
from a3tune.evaluation.reading import read_attention_of
from a3tune.evaluation.report import Report, make_report, write_report
from a3tune.evaluation.systems import GREEDY, Control, System, systems_of
from a3tune.evaluation.targets import Masks, Targets
from a3tune.images import load_image
from a3tune.models.model import VisionLanguageModel
from a3tune.models.prompt import EncodedPrompt
from a3tune.progress import Progress, no_progress
from a3tune.storage import read_json_or_empty, write_json
from a3tune.types import MedicalImage

PLAN_NAME = "evaluation.json"
WORK = "work"
"""Folder in the run folder that holds finished batches until the report is written."""

# Faults of one question: it becomes a gap, the others go on.
_OF_ONE = (ImageError, DataError, RequestError)


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
        seed: of sampling, of the images of other patients, and of the report's draws.
        given: whether attention is also read while the right answer is written.
        allow_other_base: take adapters that were made for other weights.
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
    def systems(self) -> tuple[System, ...]:
        """What is compared, the first adapter first."""
        return tuple(systems_of(tuple(self.adapters), self.decodings, self.controls))


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
    """Ask every question of every system and write ``items.jsonl``, ``report.json`` and ``report.csv``.

    A folder in which the same evaluation was begun is gone on with: batches that were finished are not asked again, and
    the result is that of an unbroken run, bit for bit on the same machine. Several processes (``accelerate launch``)
    share the batches; each calls this, and the first writes the report.

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
        RequestError: the folder holds another evaluation.
        AdapterError: an adapter does not fit the model.
        LabelError: what makes weak labels cannot be loaded.
        Cancelled: ``should_stop`` said so.
    """
    out = Path(out)
    state = PartialState(cpu=model.device.type == "cpu") if "WORLD_SIZE" in os.environ else None
    rank, world = (0, 1) if state is None else (state.process_index, state.num_processes)
    adapters = _adapters(plan, model)
    facts = provenance(plan, data, model, adapters)
    if rank == 0:
        _begin(out, facts)
    if state is not None:
        state.wait_for_everyone()
    if read_json_or_empty(out / PLAN_NAME).get("status") == "finished":
        return make_report(read_items(out / ITEMS_NAME), data.record(), facts, seed=plan.seed)
    prepare_capture(model.model)
    asker = _Asker(plan, data, model, adapters, model_name)
    batches = plan_batches(data.questions, plan.batch_size)
    with Journal(out / WORK, rank) as journal:
        mine = [index for index in range(len(batches)) if index % world == rank]
        for place, index in enumerate(mine):
            on_progress("Asking", place / len(mine))
            for system in plan.systems:
                if should_stop is not None and should_stop():
                    raise Cancelled
                key = f"{system.name}/{index}"
                if key not in journal.done:
                    journal.add(key, asker.ask(system, batches[index], seed=plan.seed + index))
    if state is not None:
        state.wait_for_everyone()
    on_progress("Writing the report", 1.0)
    done = Journal(out / WORK, rank).done
    items = tuple(_items(plan, data, batches, done))
    report = make_report(items, data.record(), facts, seed=plan.seed)
    if rank == 0:
        write_items(out / ITEMS_NAME, items)
        write_report(report, out)
        facts_of_run = {**facts, "status": "finished"}
        write_json(out / PLAN_NAME, facts_of_run)
    if state is not None:
        state.wait_for_everyone()
    if rank == 0:
        with suppress(OSError):
            shutil.rmtree(out / WORK)
    return report


def plan_batches(questions: Sequence[EvaluationQuestion], size: int) -> list[tuple[EvaluationQuestion, ...]]:
    """Questions of like length together, the same questions about other images first of all: they need little padding,
    and answers of like length leave few steps idle. The same on every machine."""

    def order(question: EvaluationQuestion) -> tuple[int, int, str, int]:
        item = question.item
        return sum(map(len, item.context)), len(item.question), item.question, question.number

    ordered = sorted(questions, key=order)
    return [tuple(ordered[start : start + size]) for start in range(0, len(ordered), size)]


def _adapters(plan: EvaluationPlan, model: VisionLanguageModel) -> AdapterSet:
    folders = {name: folder for name, folder in plan.adapters.items() if folder is not None}
    if BASE in folders:
        raise AdapterError(
            expected='the name "base" for the model without adapter', got=f"{BASE}=FOLDER", remedy="Rename"
        )
    return AdapterSet(model.model, folders, identity=model, allow_other_base=plan.allow_other_base)


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
        results = {
            result["number"]: result for index in range(len(batches)) for result in done[f"{system.name}/{index}"]
        }
        for question in data.questions:
            result = results[question.number]
            item, said = question.item, result.get("prediction")
            scores = {} if said is None else scores_of(item.answer_type, item.answer, said, question.options)
            yield EvaluatedItem(
                id=question.identifier,
                number=question.number,
                system=system.name,
                image=_relative(item.image, data.root),
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


def _relative(path: Path, root: Path) -> str:
    with suppress(ValueError):
        return path.resolve().relative_to(root.resolve()).as_posix()
    return path.name


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A question as the model sees it: prompts with the image, and without it; coverage, or why there is none."""

    question: EvaluationQuestion
    image: MedicalImage
    prompt: EncodedPrompt
    coverage: np.ndarray | None
    gap: str


class _Asker:
    """Asks batches of one data set of one model."""

    def __init__(
        self,
        plan: EvaluationPlan,
        data: EvaluationData,
        model: VisionLanguageModel,
        adapters: AdapterSet,
        model_name: str,
    ) -> None:
        self._plan, self._model, self._adapters = plan, model, adapters
        device = "cpu" if model.device.type == "cpu" else "auto"
        self._targets = Targets(plan.masks, data.root, model_name, device)
        self._others = other_images(data.questions, plan.seed) if "other" in plan.controls else {}
        self._recent: tuple[tuple[str, tuple[int, ...]], list[_Prepared], dict[int, str]] | None = None

    def ask(self, system: System, questions: Sequence[EvaluationQuestion], *, seed: int) -> list[dict[str, Any]]:
        """The results of one batch, as plain JSON values, in the order of the questions."""
        prepared, gaps = self._prepare(system.control, questions)
        results: dict[int, dict[str, Any]] = {
            number: {"number": number, "prediction": None, "gap": gap} for number, gap in gaps.items()
        }
        if prepared:
            model = self._model
            with model.lock, self._adapters.using(system.adapter):
                answers = answer_batch(
                    model,
                    [entry.prompt for entry in prepared],
                    decoding_named(system.decoding),
                    text_only=lambda: [self._text_prompt(entry.question) for entry in prepared],
                    max_new_tokens=self._plan.max_new_tokens,
                    seed=seed,
                )
                attention: list[dict[str, Any]] = [{} for _ in prepared]
                if not system.control:
                    attention = self._attention(prepared, answers, system)
            for entry, answer, numbers in zip(prepared, answers, attention, strict=True):
                results[entry.question.number] = {
                    "number": entry.question.number,
                    "prediction": answer.text,
                    "ending": answer.ending,
                    "margin": answer.margin if np.isfinite(answer.margin) else None,
                    "attention": numbers,
                    "gap": entry.gap,
                }
        return [results[question.number] for question in questions]

    def _prepare(
        self, control: Control, questions: Sequence[EvaluationQuestion]
    ) -> tuple[list[_Prepared], dict[int, str]]:
        """The questions that can be asked, and why others cannot; the last batch is remembered, since one system after
        another asks it."""
        key = control, tuple(question.number for question in questions)
        if self._recent is None or self._recent[0] != key:
            prepared, gaps = [], {}
            for question in questions:
                try:
                    prepared.append(self._prepare_one(control, question))
                except _OF_ONE as error:
                    gaps[question.number] = str(error)
            self._recent = key, prepared, gaps
        return self._recent[1], self._recent[2]

    def _prepare_one(self, control: Control, question: EvaluationQuestion) -> _Prepared:
        model, item = self._model, question.item
        image = load_image(item.image, convention=model.convention)
        if control == "text":
            return _Prepared(question, image, self._text_prompt(question), None, "")
        if control == "other":
            other = self._others.get(question.image_digest)
            if other is None:
                raise DataError(
                    expected="another image in the data", got="There is only this one", remedy="Leave this control out"
                )
            image = load_image(other.item.image, convention=model.convention)
        if control == "blank":
            image = blank_image(image)
        prompt = model.encode(image, item.question, context=item.context)
        coverage, gap = None, ""
        if not control and self._targets.masks != "none":
            faults = len(self._targets.faults)
            try:
                grid = model.patch_grid(image.height, image.width, len(prompt.images[0]))
                coverage = self._targets.coverage(item, image, grid)
            except DataError as error:
                gap = f"Without attention: {error}"
            if len(self._targets.faults) > faults:
                gap = f"Without attention: {self._targets.faults[-1]}"
        return _Prepared(question, image, prompt, coverage, gap)

    def _text_prompt(self, question: EvaluationQuestion) -> EncodedPrompt:
        return self._model.encode_text(question.item.question, question.item.context)

    def _attention(
        self, prepared: Sequence[_Prepared], answers: Sequence[Answer], system: System
    ) -> list[dict[str, Any]]:
        """ "given" and "generated" of each; where both answers are the same words, one pass serves both."""
        model, count = self._model, self._plan.critical_count
        found: list[dict[str, Any]] = [{} for _ in prepared]
        jobs: list[tuple[int, tuple[str, ...], EncodedPrompt]] = []
        for place, (entry, answer) in enumerate(zip(prepared, answers, strict=True)):
            written = tuple(answer.token_ids)
            given: EncodedPrompt | None = None
            # What the model writes itself depends on how it decodes; where it looks for the right answer does not.
            if self._plan.given and system.decoding == GREEDY:
                with suppress(RequestError):  # longer than the model's context: there is no such number
                    given = model.append_answer(entry.prompt, entry.question.item.answer, close=True)
            if given is not None:
                same = tuple(given.ids[position] for position in given.answer[:-1]) == written
                jobs.append((place, ("given", "generated") if same else ("given",), given))
                if same:
                    continue
            if written:
                jobs.append((place, ("generated",), model.append_answer(entry.prompt, written)))
        if jobs:
            read = read_attention_of(
                model, [prompt for _, _, prompt in jobs], [prepared[place].coverage for place, _, _ in jobs], count
            )
            for (place, names, _), numbers in zip(jobs, read, strict=True):
                found[place].update(dict.fromkeys(names, numbers))
        return found
