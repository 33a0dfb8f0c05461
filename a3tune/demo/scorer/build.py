"""Trains, measures and describes the bundled demo scorer: ``python -m a3tune demo scorer``."""

from __future__ import annotations

from pathlib import Path

from a3tune.bundle import DEMO_SCORER
from a3tune.demo.scorer.figures import Measured, measure, question_table
from a3tune.demo.scorer.training import Recipe, train_scorer
from a3tune.labels.scorers.open_clip import load_scorer
from a3tune.labels.segmenters.lite_medsam import LiteMedSamSegmenter
from a3tune.phantom.structures import VALIDATION_SEEDS
from a3tune.progress import Progress, TimedProgress, part_of

CARD_NAME = "README.md"
QUICK = Recipe(phantoms=4, segmented=1, steps=2, closing_steps=1, measured=1)
_TRAINING_SHARE = 0.9


def build_scorer(
    out: Path | None = None, *, seed: int = 0, quick: bool = False, on_progress: Progress | None = None
) -> str:
    """Train the demo scorer from its seed, measure it on phantoms that it has not seen and write its card.

    Args:
        out: the folder; the bundled scorer's when None. It is replaced when training is done.
        seed: of phantoms, weights and batches.
        quick: a few steps only: tries the way, not the result.
        on_progress: called with what is being done and the share done, 0 to 1; a line with the time left when None.

    Returns:
        a line that says what was written, and how good it is.
    """
    folder = DEMO_SCORER if out is None else Path(out)
    report = on_progress or TimedProgress()
    recipe = QUICK if quick else Recipe()
    train_scorer(folder, seed=seed, recipe=recipe, on_progress=part_of(report, 0.0, _TRAINING_SHARE))
    seeds = VALIDATION_SEEDS[-recipe.measured :]
    done = iter(range(1, len(seeds) + 1))
    measured = measure(
        seeds,
        LiteMedSamSegmenter(device="cpu"),
        load_scorer(folder, device="cpu"),
        on_image=lambda _: report("measuring", _TRAINING_SHARE + (1 - _TRAINING_SHARE) * next(done) / len(seeds)),
    )
    (folder / CARD_NAME).write_text(_card(seed, recipe, measured), encoding="utf-8")
    named = [rank for names, rank in measured.questions if names]
    share = sum(rank is not None and rank <= 4 for rank in named) / max(len(named), 1)
    return f"Demo scorer in {folder}: {share:.0%} of {len(named)} questions find what they name in the top 4"


def _card(seed: int, recipe: Recipe, measured: Measured) -> str:
    table = "\n".join(question_table(measured.questions))
    return f"""---
license: apache-2.0
library_name: open_clip
tags: [synthetic, demo, not-for-medical-use]
---

# Phantom scorer (demo)

A CLIP of 2 million parameters in open_clip's form (a small ResNet and a text transformer, float16) that says how
well a region of an image fits a text. It is shown each region with its surroundings (`a3tune_crop` in the
configuration): the region on black, the square around it, and its place in the whole image.

**It knows synthetic phantoms only.** It was trained on drawings made by this project and on no patient's image. On
anything else its ranking means nothing: use BiomedCLIP there. Research and teaching only; not for diagnosis.

## Training

`python -m a3tune demo scorer --seed {seed}`: {recipe.phantoms} phantoms with region proposals, {recipe.segmented} with
the regions that LiteMedSAM draws; {recipe.steps} and {recipe.closing_steps} steps.

## Measured

On {recipe.measured} phantoms that were not trained on: whether a region with an IoU of 0.5 or more is among the first.
`docs/weak_labels.md` has the figures on 200 others, by structure.

{table}
"""
