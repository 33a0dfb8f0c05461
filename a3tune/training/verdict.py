"""Whether tuning made a model better: two validations of the same questions, compared pair by pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from a3tune.data.read import image_groups
from a3tune.evaluation.statistics import paired_difference
from a3tune.training.collate import Questions
from a3tune.training.run_folder import RunFolder
from a3tune.training.validation import Tally

# From here on attention is said to have changed; below it is noise of a few questions.
_SAME_RATIO = 1.05


@dataclass(frozen=True)
class Verdict:
    """The tuned model against the base model on the validation questions.

    Attributes:
        questions, images: how many questions about how many images.
        gain: exactly right answers, tuned less base, in points (per cent).
        low, high: its 95 % interval over images (see `a3tune.evaluation.statistics`); None with fewer than three.
        attention: attention mass inside the regions, tuned by base; None where no question has a region.
        step: of the adapter that is kept, the one with the lowest validation loss.
    """

    questions: int
    images: int
    gain: float
    low: float | None
    high: float | None
    attention: float | None
    step: int

    @property
    def worse(self) -> bool:
        """Whether answers are below the base model's beyond what other images would change."""
        return self.high is not None and self.high < 0

    def record(self) -> dict[str, Any]:
        """As plain JSON values, with the "words"."""
        return {**asdict(self), "worse": self.worse, "words": self.words()}

    def words(self) -> str:
        """One or two sentences: "Beside the base model: answers 0.4 points up (-1.0 to +2.0), attention ..."."""
        way = "up" if self.gain > 0 else "down" if self.gain < 0 else "changed"
        reach = "too few images for an interval"
        if self.low is not None and self.high is not None:
            reach = f"{self.low:+.1f} to {self.high:+.1f}"
        text = f"answers {abs(self.gain):.1f} points {way} ({reach})"
        if self.attention is not None:
            text += f", attention inside the regions {self.attention:.1f} x"
        text = f"Beside the base model on {self.questions} validation questions: {text}."
        if self.worse:
            text += " This adapter answers worse than the base model."
        elif self.low is None or self.low <= 0:
            text += " So many questions cannot tell the answers from the base model's."
        if self.attention is not None and 1 / _SAME_RATIO < self.attention < _SAME_RATIO:
            text += " Attention is as it was."
        return f"{text} Kept: step {self.step}, the one with the lowest validation loss."


def verdict_of(run: RunFolder, questions: Questions, best_step: int | None) -> Verdict | None:
    """The verdict on a run by the validations in its folder; None where one of them is missing.

    Args:
        run: the run.
        questions: its validation questions.
        best_step: the step whose adapter is kept.
    """
    base, tuned = (Tally.load(run.tally(step), questions) for step in (None, best_step))
    if best_step is None or base is None or tuned is None:
        return None
    files = {path: str(path) for item in questions.items for path in item.images}
    groups = image_groups(questions.items, files)
    return judge(base, tuned, [groups[item.image] for item in questions.items], best_step)


def judge(base: Tally, tuned: Tally, images: Sequence[object], step: int) -> Verdict | None:
    """Compare two validations of the same questions.

    Args:
        base, tuned: what both models did.
        images: of each question what tells its image from others; the same for images that are asked about together.
        step: the step of the tuned model.

    Returns:
        The verdict; None without a question.
    """
    if not len(images):
        return None
    change = paired_difference(100 * base.right.numpy(), 100 * tuned.right.numpy(), images)
    before, after = (tally.metrics().get("attention_mass") for tally in (base, tuned))
    return Verdict(
        questions=change.questions,
        images=change.images,
        gain=round(change.value, 2),
        low=round(change.low, 2) if math.isfinite(change.low) else None,
        high=round(change.high, 2) if math.isfinite(change.high) else None,
        attention=round(after / before, 3) if before and after is not None else None,
        step=step,
    )
