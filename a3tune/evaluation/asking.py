"""One batch of an evaluation: the questions as the model sees them, its answers, and where it looks meanwhile."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from a3tune.adapters.mixed_batch import mixed_rows
from a3tune.adapters.switch import AdapterSet
from a3tune.device import beside
from a3tune.encoding import base64_halves
from a3tune.errors import DataError, ImageError, ModelError, RequestError
from a3tune.evaluation.answering import Answer, answer_batch
from a3tune.evaluation.controls import blank_image, other_images
from a3tune.evaluation.decoding.registry import decoding_named
from a3tune.evaluation.head_sets import HeadSet
from a3tune.evaluation.questions import EvaluationData, EvaluationQuestion
from a3tune.evaluation.reading import measured, read_attention_of, readable_while_writing
from a3tune.evaluation.systems import GREEDY, Control, System
from a3tune.evaluation.targets import Targets
from a3tune.images import load_image
from a3tune.lack_of_memory import in_halves, memory_for
from a3tune.memory_advice import TO_EVALUATE
from a3tune.models.model import VisionLanguageModel
from a3tune.models.prompt import EncodedBatch, EncodedPrompt
from a3tune.prefixes.batch import PrefixReader
from a3tune.prefixes.cache import MOST_BYTES
from a3tune.types import MedicalImage

if TYPE_CHECKING:
    from a3tune.evaluation.run import EvaluationPlan

_MOST_PIXELS = 256 * 1024 * 1024
"""Bytes of images that are kept for the next questions about them."""

# Faults of one question: it becomes a gap, the others go on.
_OF_ONE = (ImageError, DataError, RequestError)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A question as the model sees it: the prompt; coverage, or why there is none; where its patches lie."""

    question: EvaluationQuestion
    prompt: EncodedPrompt
    coverage: np.ndarray | None
    gap: str
    place: dict[str, Any] = field(default_factory=dict)


class Asker:
    """Asks batches of one data set of one model.

    Args:
        plan: what is asked of what.
        data: the questions.
        model: the base model.
        adapters: its adapters.
        model_name: the model as the user named it.
        kept_bytes: how much may be kept of images that were read, for further questions about them; 0 reads every
            prompt whole.
    """

    def __init__(
        self,
        plan: EvaluationPlan,
        data: EvaluationData,
        model: VisionLanguageModel,
        adapters: AdapterSet,
        model_name: str,
        *,
        kept_bytes: int = MOST_BYTES,
    ) -> None:
        self._plan, self._model, self._adapters = plan, model, adapters
        self._targets = Targets(plan.masks, data.root, model_name, beside(model.device))
        self._others = other_images(data.questions, plan.seed) if "other" in plan.controls else {}
        self._images: OrderedDict[Path, MedicalImage] = OrderedDict()
        self._reader = PrefixReader(model, kept_bytes)
        self._recent: tuple[tuple[str, tuple[int, ...]], list[_Prepared], dict[int, str]] | None = None

    @property
    def seconds_of_images(self) -> float:
        """How long was spent so far on what is read once for all questions about an image."""
        return self._reader.seconds

    def together(self, systems: Sequence[System]) -> list[tuple[System, ...]]:
        """Which systems are asked in one batch: those that decode greedily and see the same, where that is the plan's
        `EvaluationPlan.mode`; all others each alone."""
        if self._plan.mode(self._model.device, self._adapters) != "one batch":
            return [(system,) for system in systems]
        groups: dict[Control | System, list[System]] = {}
        for system in systems:
            groups.setdefault(system.control if system.decoding == GREEDY else system, []).append(system)
        return [tuple(group) for group in groups.values()]

    def ask(
        self, systems: Sequence[System], questions: Sequence[EvaluationQuestion], *, seed: int
    ) -> list[list[dict[str, Any]]]:
        """The results of one batch by each of several systems that are asked `together`, as plain JSON values, in the
        order of the questions.

        Each has "number", "prediction", "ending", "margin", "attention" and "gap" as `EvaluatedItem` has them; "map",
        base64 of little-endian float16 [patches]: shares of the attention while the model writes its own answer; and
        "place", where the patches lie: "width", "height", "tiles" and "target" (base64 as "map", or None).
        """
        with memory_for("one question", TO_EVALUATE):
            prepared, gaps = self._prepare(systems[0].control, questions)
        if not prepared:
            return [[_gap(question, gaps) for question in questions] for _ in systems]
        numbered = [(system, place, entry) for system in systems for place, entry in enumerate(prepared)]
        found = []
        with memory_for("one question", TO_EVALUATE), self._model.lock:
            answers = in_halves(lambda some: self._answer(some, seed), numbered)
            for place, system in enumerate(systems):
                own = answers[place * len(prepared) : (place + 1) * len(prepared)]
                with self._adapters.using(system.adapter):
                    found.append(self._results(system, prepared, own))
        return [[own.get(question.number) or _gap(question, gaps) for question in questions] for own in found]

    def _results(
        self, system: System, prepared: Sequence[_Prepared], answers: Sequence[Answer]
    ) -> dict[int, dict[str, Any]]:
        """By the questions' numbers; the system's adapter is at work."""
        results: dict[int, dict[str, Any]] = {}
        read = [_Read() for _ in prepared] if system.control else self._attention(prepared, answers, system)
        for entry, answer, found in zip(prepared, answers, read, strict=True):
            results[entry.question.number] = {
                "number": entry.question.number,
                "prediction": answer.text,
                "ending": answer.ending,
                "margin": answer.margin if np.isfinite(answer.margin) else None,
                "attention": found.numbers,
                "gap": entry.gap or found.gap,
                **({"map": found.map, "place": entry.place} if found.map and entry.place else {}),
            }
        return results

    def _answer(self, numbered: Sequence[tuple[System, int, _Prepared]], seed: int) -> list[Answer]:
        """The answers to a part of a batch, drawn as those of the whole where each is asked alone."""
        system, first, _ = numbered[0]
        entries, plan = [entry for _, _, entry in numbered], self._plan
        prompts = [entry.prompt for entry in entries]
        plain = system.decoding == GREEDY and not system.control
        names = [other.adapter for other, _, _ in numbered]
        rows = {name: slice(names.index(name), names.index(name) + names.count(name)) for name in names}
        at_work = self._adapters.using(names[0]) if len(rows) == 1 else mixed_rows(self._adapters, rows)
        with at_work:
            return answer_batch(
                self._model,
                prompts,
                decoding_named(system.decoding),
                text_only=lambda: [self._text_prompt(entry.question) for entry in entries],
                max_new_tokens=plan.max_new_tokens,
                seed=seed + first,
                head_sets=plan.read_in
                if plain and readable_while_writing(self._model, prompts, plan.max_new_tokens)
                else (),
                collate=self._collate(system, "left", mixed=len(rows) > 1),
            )

    def _collate(
        self, system: System, padding_side: Literal["left", "right"], *, mixed: bool = False
    ) -> Callable[[Sequence[EncodedPrompt]], EncodedBatch] | None:
        """What makes batches for a system; the ways of decoding that look into the model are to read the whole.

        Args:
            mixed: whether every row has an adapter of its own.
        """
        if system.decoding != GREEDY:
            return None
        return partial(self._reader.batch, name="" if mixed else system.adapter, padding_side=padding_side)

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
        shown = item
        if control == "text":
            return _Prepared(question, self._text_prompt(question), None, "")
        if control == "other":
            other = self._others.get(question.image_digest)
            if other is None or len(other.item.images) != len(item.images):
                raise DataError(
                    expected="another image in the data, or as many other ones",
                    got="There is only this one" if other is None else f"None has {len(item.images)} images",
                    remedy="Leave this control out",
                )
            shown = other.item
        images = [self._image(path) for path in shown.images]
        if control == "blank":
            images = [blank_image(image) for image in images]
        prompt = model.encode_placed(images, item.question, item.context)
        if control:
            return _Prepared(question, prompt, None, "")
        coverage, gap = None, ""
        try:
            pairs = zip(images, prompt.images, strict=True)
            grids = [model.patch_grid(image.height, image.width, len(group)) for image, group in pairs]
        except ModelError:
            if self._targets.masks != "none":
                raise
            return _Prepared(question, prompt, None, "")
        if self._targets.masks != "none":
            faults = len(self._targets.faults)
            try:
                coverage = self._targets.coverage(item, images, grids)
            except DataError as error:
                gap = f"Without attention: {error}"
            if len(self._targets.faults) > faults:
                gap = f"Without attention: {self._targets.faults[-1]}"
        if item.others:
            # A map has one place; several images have none in common.
            return _Prepared(question, prompt, coverage, gap)
        (image,), (grid,), target = images, grids, None if coverage is None else base64_halves(coverage)
        place = {"width": image.width, "height": image.height, "tiles": grid.tiles_record(), "target": target}
        return _Prepared(question, prompt, coverage, gap, place)

    def _image(self, path: Path) -> MedicalImage:
        """An image, the last ones from memory: questions about one image are spread over many batches."""
        image = self._images.pop(path, None) or load_image(path, convention=self._model.convention)
        self._images[path] = image
        while sum(kept.pixels.nbytes for kept in self._images.values()) > _MOST_PIXELS and len(self._images) > 1:
            self._images.popitem(last=False)
        return image

    def _text_prompt(self, question: EvaluationQuestion) -> EncodedPrompt:
        return self._model.encode_text(question.item.question, question.item.context)

    def _attention(self, prepared: Sequence[_Prepared], answers: Sequence[Answer], system: System) -> list[_Read]:
        """ "given" and "generated" of each. What was not read while the answer was written is read in another pass;
        where both answers are the same words, one serves both."""
        model, sets = self._model, self._plan.read_in
        found = [_Read() for _ in prepared]
        jobs: list[tuple[int, tuple[str, ...], EncodedPrompt]] = []
        for place, (entry, answer) in enumerate(zip(prepared, answers, strict=True)):
            names: tuple[str, ...] = ("generated",)
            # What the model writes itself depends on how it decodes; where it looks for the right answer does not.
            if self._plan.given and system.decoding == GREEDY:
                try:
                    given = model.append_answer(entry.prompt, entry.question.item.answer, close=True)
                except RequestError as error:
                    found[place].gap = f"Without attention while the right answer is given: {error}"
                else:
                    if tuple(given.ids[position] for position in given.answer[:-1]) == answer.token_ids:
                        names = ("given", "generated")
                    else:
                        jobs.append((place, ("given",), given))
            if answer.weights:
                read = [(measured(weights, entry.coverage), weights) for weights in answer.weights]
                found[place].keep(names, sets, read)
            else:
                jobs.append((place, names, model.append_answer(entry.prompt, answer.token_ids)))
        if jobs:
            prompts = [prompt for _, _, prompt in jobs]
            coverages = [prepared[place].coverage for place, _, _ in jobs]
            all_read = read_attention_of(model, prompts, coverages, sets, self._collate(system, "right"))
            for (place, names, _), read in zip(jobs, all_read, strict=True):
                found[place].keep(names, sets, read)
        return found


def _gap(question: EvaluationQuestion, gaps: Mapping[int, str]) -> dict[str, Any]:
    return {"number": question.number, "prediction": None, "gap": gaps[question.number]}


@dataclass
class _Read:
    """What was read off one question: numbers as `EvaluatedItem.attention` has them, the map of the critical heads
    while the model wrote its own answer, and what is missing."""

    numbers: dict[str, dict[str, float | None]] = field(default_factory=dict)
    map: str = ""
    gap: str = ""

    def keep(
        self,
        names: Sequence[str],
        sets: Sequence[HeadSet],
        read: Sequence[tuple[dict[str, float | None], np.ndarray]],
    ) -> None:
        for place, (one, (numbers, _)) in enumerate(zip(sets, read, strict=True)):
            self.numbers.update({f"{name}, {one.name}" if place else name: numbers for name in names})
        if "generated" in names:
            weights = read[0][1]
            self.map = base64_halves(weights / max(weights.sum(), 1e-12))
