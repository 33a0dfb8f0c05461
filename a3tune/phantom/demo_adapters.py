"""Trains the demo's adapters: the same questions, steps and seed, once with LoRA and once with A3Tune."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from a3tune.adapters.switch import BASE, AdapterSet
from a3tune.bundle import DEMO, DEMO_ADAPTERS, DEMO_SAMPLE, model_source
from a3tune.evaluation.alignment import KnownQuestion, Reading, prepare_questions, read_questions
from a3tune.models.load import load_model
from a3tune.models.model import VisionLanguageModel
from a3tune.phantom.demo_sample import replace_folder
from a3tune.phantom.questions import ask
from a3tune.phantom.scene import make_phantom
from a3tune.phantom.structures import HELD_OUT_SEEDS, KINDS, PhantomStyle
from a3tune.training.config import load_config
from a3tune.training.tuning import tune

METHODS = ("lora", "a3")
PRESET = "demo"
MEASURED = 60
FIGURES_NAME = "figures.json"
CARD_NAME = "README.md"

# Nothing but these makes an adapter; a run's checkpoints and PEFT's card to fill in stay behind.
_FILES = ("adapter_config.json", "adapter_model.safetensors")

_CARD = """---
license: apache-2.0
library_name: peft
base_model: demo
tags: [synthetic, demo, not-for-medical-use]
---

# Demo adapter `{name}`

{what} for the phantom demo model of A3Tune Studio, tuned with

    python -m a3tune demo adapters

on the bundled sample data ({questions} questions about synthetic phantoms, {steps} steps, seed {seed}) with weak labels
of the label pipeline, never with true masks. The other adapter beside it saw the same questions in the same order.

On {measured} held-out phantoms, measured when it was made:

| | base | `{name}` |
| --- | ---: | ---: |
| closed questions exactly right | {base[closed]:.1%} | {own[closed]:.1%} |
| open questions exactly right | {base[open]:.1%} | {own[open]:.1%} |
| critical heads' attention inside what is asked about | {base[mass]:.1%} | {own[mass]:.1%} |
| their highest point lies in it | {base[pointing]:.1%} | {own[pointing]:.1%} |

It knows synthetic phantoms only: not for diagnosis, not for any use on patients.
"""
_WHAT = {"lora": "Plain LoRA, cross-entropy only,", "a3": "A3MoE experts with attention alignment (A3Tune, ACL 2025)"}


@dataclass(frozen=True)
class Figures:
    """Means over questions; see `a3tune.evaluation.alignment.Reading`."""

    closed: float
    open: float
    mass: float
    relative: float
    pointing: float
    questions: int
    asked_about: int

    @classmethod
    def of(cls, readings: Sequence[Reading]) -> Figures:
        right = {kind: [item.right for item in readings if item.answer_type == kind] for kind in ("closed", "open")}
        placed = [item for item in readings if not np.isnan(item.mass)]
        return cls(
            float(np.mean(right["closed"])),
            float(np.mean(right["open"])),
            *(float(np.mean([getattr(item, name) for item in placed])) for name in ("mass", "relative", "pointing")),
            len(readings),
            len(placed),
        )


def phantom_questions(seeds: Sequence[int], style: PhantomStyle = "standard") -> Iterator[tuple[int, KnownQuestion]]:
    """(seed, question) for every question about the phantoms of ``seeds``; chest, brain and abdomen take turns."""
    for number, seed in enumerate(seeds):
        phantom = make_phantom(seed, KINDS[number % len(KINDS)], style)
        for item in ask(phantom):
            target = phantom.mask_of(item.targets) if item.targets else None
            yield seed, KnownQuestion(phantom.image, item.question, item.answer, item.answer_type, target)


def build_adapters(
    out: Path | None = None,
    *,
    data: Path | None = None,
    methods: Sequence[str] = METHODS,
    settings: dict[str, object] | None = None,
    measured: int = MEASURED,
    on_progress: Callable[[str, float], None] | None = None,
) -> str:
    """Tune, measure and save the demo's adapters; returns a summary in words.

    Adapters that are already in ``out`` stay as they are until the new ones are complete.

    Args:
        out: folder of the adapters; the project's own when None.
        data: the data; the bundled sample when None.
        methods: which adapters, by the name of their method.
        settings: settings that differ from the preset "demo".
        measured: on how many held-out phantoms.
        on_progress: called with what is being done and the share done.

    Raises:
        DataError, LabelError, ModelError: as `tune`.
    """
    out = DEMO_ADAPTERS if out is None else out
    data = DEMO_SAMPLE if data is None else data
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    with TemporaryDirectory(dir=out.parent, prefix=".adapters-") as work:
        made = Path(work) / "adapters"
        for number, method in enumerate(methods):
            config = load_config(PRESET, {**(settings or {}), "method": method})
            summary = tune(
                config,
                data,
                Path(work) / f"run-{method}",
                DEMO,
                device="cpu",
                on_progress=_part(on_progress, method, number, len(methods) + 1),
            )
            folder = made / method
            folder.mkdir(parents=True)
            for name in _FILES:
                shutil.copyfile(summary.adapter / name, folder / name)
        model = load_model(model_source(DEMO), device="cpu")
        figures = measure_adapters(
            model,
            AdapterSet(model.model, {method: made / method for method in methods}),
            HELD_OUT_SEEDS[:measured],
            on_progress=_part(on_progress, "measuring", len(methods), len(methods) + 1),
        )
        for method in methods:
            own, base = figures[method], figures[BASE]
            facts = {"seed": config.seed, "steps": summary.steps, "measured": measured}
            record = {**facts, "questions": sum(summary.targets.values()), "base": asdict(base), method: asdict(own)}
            (made / method / FIGURES_NAME).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            card = _CARD.format(
                name=method,
                what=_WHAT.get(method, f"The method {method}"),
                **{name: record[name] for name in ("questions", "steps", "seed", "measured")},
                base=asdict(base),
                own=asdict(own),
            )
            (made / method / CARD_NAME).write_text(card, encoding="utf-8")
            lines.append(_line(method, own))
        lines.insert(0, _line(BASE, figures[BASE]))
        replace_folder(made, out)
    return "\n".join([f"Adapters in {out}, measured on {measured} held-out phantoms:", *lines])


def measure_adapters(
    model: VisionLanguageModel,
    adapters: AdapterSet,
    seeds: Sequence[int],
    style: PhantomStyle = "standard",
    on_progress: Callable[[str, float], None] | None = None,
) -> dict[str, Figures]:
    """The base model and every adapter of the set, asked every question about the phantoms of ``seeds``."""
    questions = prepare_questions(model, [question for _, question in phantom_questions(seeds, style)])
    figures = {}
    for number, name in enumerate(adapters.names):
        if on_progress is not None:
            on_progress(name, number / len(adapters.names))
        figures[name] = Figures.of(read_questions(model, questions, adapter_set=adapters, adapter=name))
    return figures


def _line(name: str, figures: Figures) -> str:
    return (
        f"{name}: closed {figures.closed:.1%}, open {figures.open:.1%}, attention inside what is asked about "
        f"{figures.mass:.1%}, pointing {figures.pointing:.1%}"
    )


def _part(
    on_progress: Callable[[str, float], None] | None, name: str, number: int, count: int
) -> Callable[[str, float], None] | None:
    """The progress of one of ``count`` equal parts as progress of the whole."""
    if on_progress is None:
        return None
    return lambda what, share: on_progress(f"{name}: {what}", (number + share) / count)
