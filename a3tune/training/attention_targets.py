"""Where each question's attention should go, as shares of the model's patches: from weak labels or true masks."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from a3tune.data.dataset import TrainingItem
from a3tune.data.masks import true_mask
from a3tune.errors import Cancelled, LabelError
from a3tune.geometry.patch_grid import to_patches
from a3tune.images import load_image
from a3tune.labels.fuse import soft_target, union_mask
from a3tune.labels.scorers.templates import TEMPLATE_SETS
from a3tune.labels.sources import LabelSource, data_source, item_prompt
from a3tune.models.prompt import PromptEncoder
from a3tune.progress import Progress, no_progress
from a3tune.storage import DAMAGED_ARRAYS, whole_file
from a3tune.training.config import TuneConfig
from a3tune.types import MedicalImage, PatchGrid, ScoredRegion, WeakLabels

Combination = Literal["union", "soft", "each"]
Source = Literal["weak", "truth", "auto"]

DATA = "data"
"""What ``label_segmenter`` is for targets from the data's own masks."""
_NONE, _WEAK, _TRUTH = 0, 1, 2
_NEGATIVE = re.compile(r"\W*(no|none|zero|0)(?![\w'’-]|\.\d)", re.IGNORECASE)


@dataclass(frozen=True)
class TargetPlan:
    """How targets are made.

    Attributes:
        source: "weak" labels, the data's own masks and boxes ("truth"), or "auto": these where an item has them, else
            weak labels.
        combine: "union" of the best regions (the paper's masks as one), "soft" (weighted by how well each region fits
            the question), or "each" on its own (the published loss, in which the masks compete).
        top_k: how many of the best regions count.
        template_set: how a question is put to the scorer (see `a3tune.labels.scorers.templates`).
        negative_answers: whether ranked regions count for a question whose answer says that nothing is there: some
            region is ranked first even then.
        min_score: ranked regions with a lower score do not count; None for no limit. What a person chose counts
            whatever its score and the answer.
    """

    source: Source = "auto"
    combine: Combination = "union"
    top_k: int = 4
    template_set: str = "plain"
    negative_answers: bool = True
    min_score: float | None = None

    def counting(self, labels: WeakLabels | None, answer: str) -> Sequence[ScoredRegion]:
        """Those of a question's ranked regions that make its target.

        Args:
            labels: the question's labels; None where nothing is known.
            answer: the question's right answer.
        """
        if labels is None or not (labels.checked or self.counts_for(answer)):
            return ()
        least = -math.inf if labels.checked or self.min_score is None else self.min_score
        return [scored for scored in labels.regions[: self.top_k] if scored.score >= least]

    def counts_for(self, answer: str) -> bool:
        """Whether ranked regions count for a question with this answer."""
        return self.negative_answers or not says_nothing_is_there(answer)


def target_plan(config: TuneConfig, *, validation: bool = False) -> TargetPlan:
    """How a configuration makes the targets of training or of held-out questions."""
    source = (config.validation_targets if validation else None) or config.targets
    return TargetPlan(
        source="truth" if config.label_segmenter == DATA else source,
        # The loss joins masks by itself; as one target they take less room.
        combine="union" if config.masks == "union" else "each",
        top_k=config.label_top_k or TEMPLATE_SETS[config.label_template].top_k,
        template_set=config.label_template,
        negative_answers=config.align_negative_answers,
        min_score=config.label_min_score,
    )


def label_source(config: TuneConfig, root: Path, model: str, device: str, *, make: bool = True) -> LabelSource | None:
    """Where a configuration's weak labels come from; None when it takes the data's own masks.

    Args:
        root: the data folder.
        model: the base model as the user named it.
        device: "auto", "cpu" or "cuda".
        make: whether labels that are missing are made.
    """
    if all(target_plan(config, validation=validation).source == "truth" for validation in (False, True)):
        return None
    top_k = target_plan(config).top_k
    parts = config.label_segmenter, config.label_scorer
    side = config.label_minimum_side
    return data_source(root, *parts, model=model, top_k=top_k, minimum_side=side, device=device, make=make)


class PatchTargets:
    """The targets of a list of items, packed.

    Args:
        values: float16 [total], all targets one after the other, row by row.
        shapes: int64 [items, 2], masks and patches of each item; no mask where nothing is known.
        kinds: uint8 [items], 0 for nothing, 1 for weak labels, 2 for ground truth.
    """

    def __init__(self, values: np.ndarray, shapes: np.ndarray, kinds: np.ndarray) -> None:
        self._values, self._shapes, self._kinds = values, shapes, kinds
        self._ends = np.cumsum(shapes.prod(axis=1))

    def __len__(self) -> int:
        return len(self._kinds)

    def masks(self, index: int) -> np.ndarray:
        """float16 [masks, patches], 0 to 1: the share of each patch that each mask covers."""
        masks, patches = self._shapes[index]
        end = self._ends[index]
        return self._values[end - masks * patches : end].reshape(masks, patches)

    def known(self, index: int) -> bool:
        """Whether the target comes from the data's own masks instead of weak labels."""
        return bool(self._kinds[index] == _TRUTH)

    def part(self, start: int, stop: int) -> PatchTargets:
        """The targets of the items from ``start`` up to ``stop``."""
        ends = np.concatenate([[0], self._ends])
        values = self._values[ends[start] : ends[stop]]
        return PatchTargets(values, self._shapes[start:stop], self._kinds[start:stop])

    @classmethod
    def joined(cls, first: PatchTargets, second: PatchTargets) -> PatchTargets:
        """The targets of two lists of items, one behind the other."""
        return cls(*(np.concatenate(pair) for pair in zip(first._arrays, second._arrays, strict=True)))

    @property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._values, self._shapes, self._kinds

    @property
    def any_known(self) -> bool:
        """Whether one item at least has a target."""
        return bool((self._kinds != _NONE).any())

    @property
    def counts(self) -> dict[str, int]:
        """How many items have a "weak" target, a "truth" target, "none"."""
        names = {"weak": _WEAK, "truth": _TRUTH, "none": _NONE}
        return {name: int((self._kinds == kind).sum()) for name, kind in names.items()}

    def save(self, path: Path, digest: str) -> None:
        """Write to an NPZ file, atomically. ``digest`` says what the targets were made from."""
        with whole_file(path) as stream:
            np.savez_compressed(
                stream, values=self._values, shapes=self._shapes, kinds=self._kinds, digest=np.array(digest)
            )

    @classmethod
    def load(cls, path: Path, digest: str) -> PatchTargets | None:
        """Read what `save` wrote; None when there is none of this digest, or it is damaged."""
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as entry:
                if str(entry["digest"]) != digest:
                    return None
                return cls(entry["values"], entry["shapes"], entry["kinds"])
        except DAMAGED_ARRAYS:
            return None

    @classmethod
    def pack(cls, targets: Sequence[tuple[np.ndarray | None, bool]]) -> PatchTargets:
        """From one (float [masks, patches] or None, whether it is ground truth) per item."""
        empty = np.zeros((0, 0), np.float16)
        arrays = [empty if values is None else values.astype(np.float16) for values, _ in targets]
        kinds = [_NONE if values is None else _TRUTH if known else _WEAK for values, known in targets]
        values = np.concatenate([array.ravel() for array in arrays]) if arrays else np.zeros(0, np.float16)
        shapes = np.array([array.shape for array in arrays], np.int64).reshape(-1, 2)
        return cls(values, shapes, np.array(kinds, np.uint8))


class TargetMaker:
    """Makes targets item by item, image by image.

    Args:
        plan: how.
        encoder: the model's prompt encoder: tells how many patches an image takes.
        patch_grid: (height, width, patches) -> where they lie (`VisionLanguageModel.patch_grid`).
        source: finds or makes weak labels; None where only the data's own masks are wanted.
    """

    def __init__(
        self,
        plan: TargetPlan,
        encoder: PromptEncoder,
        patch_grid: Callable[[int, int, int], PatchGrid],
        source: LabelSource | None = None,
    ) -> None:
        self.plan, self._encoder, self._patch_grid = plan, encoder, patch_grid
        self._source = source or LabelSource()
        self._patch_counts: dict[tuple[tuple[int, int], ...], list[int]] = {}

    def make(
        self,
        items: Sequence[TrainingItem],
        on_progress: Progress = no_progress,
        should_stop: Callable[[], bool] | None = None,
    ) -> PatchTargets:
        """The targets of all items.

        Args:
            on_progress: told how far it is.
            should_stop: asked between images; True ends the work (what was labelled stays in the store).

        Raises:
            DataError: an image can no longer be read, or a mask has another size than its image.
            LabelError: what makes missing labels cannot be loaded, or failed at every image.
            Cancelled: ``should_stop`` said so.
        """
        by_images: dict[tuple[Path, ...], list[int]] = defaultdict(list)
        for index, item in enumerate(items):
            by_images[item.images].append(index)
        made: dict[int, tuple[np.ndarray | None, bool]] = {}
        for paths, indices in by_images.items():
            if should_stop is not None and should_stop():
                raise Cancelled
            images = [load_image(path) for path in paths]
            grids = self._grids(images, items[indices[0]].question)
            weak = [self._weak_labels(image, [items[index] for index in indices]) for image in images]
            for index in indices:
                made[index] = self._target(items[index], images, grids, weak)
            on_progress("Labelling", len(made) / len(items))
        faults = self._source.faults
        if faults and all(target is None for target, _ in made.values()):
            raise LabelError(
                expected="labels for at least one question",
                got=f"All {len(faults)} that were tried failed, the first with: {faults[0]}",
                remedy="Check label_segmenter, label_scorer and the device",
            )
        return PatchTargets.pack([made[index] for index in range(len(items))])

    def _target(
        self,
        item: TrainingItem,
        images: Sequence[MedicalImage],
        grids: Sequence[PatchGrid],
        weak: Sequence[Mapping[str, WeakLabels]],
    ) -> tuple[np.ndarray | None, bool]:
        known = _uses_truth(item, self.plan)
        found = []
        for part, image, grid, labels in zip(item.parts, images, grids, weak, strict=True):
            if known:
                mask = true_mask(part, image)
                masks = [mask] if mask is not None else []
            else:
                regions = self.plan.counting(labels.get(item_prompt(item, self.plan.template_set)), item.answer)
                masks = _combined(regions, image, self.plan.combine)
            found.append([values for mask in masks if (values := to_patches(mask, grid)).max() > 0])
        target = _joined(found, [grid.count for grid in grids], together=self.plan.combine != "each")
        return target, known

    def _weak_labels(self, image: MedicalImage, items: Sequence[TrainingItem]) -> dict[str, WeakLabels]:
        weak = [item for item in items if not _uses_truth(item, self.plan)]
        found = self._source.get(image) if weak else {}
        needed = [item_prompt(item, self.plan.template_set) for item in weak if self.plan.counts_for(item.answer)]
        return found | self._source.complete(image, [prompt for prompt in needed if prompt not in found])

    def _grids(self, images: Sequence[MedicalImage], question: str) -> list[PatchGrid]:
        sizes = tuple((image.height, image.width) for image in images)
        if sizes not in self._patch_counts:
            # Image processors look at the sizes alone, so images of the same sizes tell.
            self._patch_counts[sizes] = [len(group) for group in self._encoder.encode_placed(images, question).images]
        return [self._patch_grid(*size, count) for size, count in zip(sizes, self._patch_counts[sizes], strict=True)]


def make_targets(
    config: TuneConfig,
    encoder: PromptEncoder,
    patch_grid: Callable[[int, int, int], PatchGrid],
    source: LabelSource | None,
    parts: tuple[Sequence[TrainingItem], Sequence[TrainingItem]],
    on_progress: tuple[Progress, Progress],
    should_stop: Callable[[], bool] | None = None,
) -> tuple[PatchTargets, bool]:
    """The targets of training and then of held-out questions, and whether the best regions count whatever their score
    since not one training question would have one else (``allow_unsure_regions``).

    Args:
        config: what says how they are made.
        encoder, patch_grid, source: as `TargetMaker` takes them.
        parts, on_progress: training and held-out questions, and what is told how far each of them is.
        should_stop: as in `TargetMaker.make`.

    Raises:
        DataError, LabelError, Cancelled: as `TargetMaker.make`.
    """

    def make(plan: TargetPlan, items: Sequence[TrainingItem], progress: Progress = no_progress) -> PatchTargets:
        return TargetMaker(plan, encoder, patch_grid, source).make(items, progress, should_stop)

    plan, other = (target_plan(config, validation=validation) for validation in (False, True))
    training = make(plan, parts[0], on_progress[0])
    unsure = False
    if config.allow_unsure_regions and plan.min_score is not None and not training.any_known:
        # All labels are there by now: only the images are read again.
        plan, other = replace(plan, min_score=None), replace(other, min_score=None)
        training = make(plan, parts[0])
        unsure = training.any_known
    return PatchTargets.joined(training, make(other, parts[1], on_progress[1])), unsure


def says_nothing_is_there(answer: str) -> bool:
    """Whether an answer begins with "no", "none", "zero" or "0" as a word of its own, in upper or lower case."""
    return _NEGATIVE.match(answer) is not None


def _uses_truth(item: TrainingItem, plan: TargetPlan) -> bool:
    has = any(part.mask is not None or part.boxes for part in item.parts)
    return plan.source == "truth" or (plan.source == "auto" and has)


def _joined(found: Sequence[list[np.ndarray]], counts: Sequence[int], *, together: bool) -> np.ndarray | None:
    """float [masks, patches of all images]: each image's masks over its own patches and nothing over the others'.

    Args:
        found: for each image its masks, float [patches].
        counts: patches of each image.
        together: one mask over all images, of the one that each has at most.
    """
    if len(found) == 1 or not any(found):
        return np.stack(found[0]) if found[0] else None
    if together:
        return np.concatenate([masks[0] if masks else np.zeros(n) for masks, n in zip(found, counts, strict=True)])[
            None
        ]
    rows = []
    for place, masks in enumerate(found):
        before, after = sum(counts[:place]), sum(counts[place + 1 :])
        rows += [np.pad(values, (before, after)) for values in masks]
    return np.stack(rows)


def _combined(regions: Sequence[ScoredRegion], image: MedicalImage, combine: Combination) -> list[np.ndarray]:
    if not regions:
        return []
    if combine == "union":
        return [union_mask(regions)]
    if combine == "each":
        return [scored.region.mask for scored in regions]
    target = soft_target(regions, image.height, image.width)
    # Attention that lies wholly in the best region should count as wholly right.
    return [target / target.max()] if target.max() > 0 else []


def plan_digest(plan: TargetPlan, *parts: Mapping[str, Any] | str) -> str:
    """A text that changes when the plan or one of the other parts changes."""
    return json.dumps([vars(plan), *parts], sort_keys=True, default=str)
