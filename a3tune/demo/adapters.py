"""Trains the demo's adapters: the same questions, steps and seed, once with LoRA and once with A3Tune."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from peft import PeftConfig
from peft.utils import CONFIG_NAME

from a3tune.adapters.a3moe import A3MoeConfig
from a3tune.adapters.switch import BASE, AdapterSet
from a3tune.bundle import DEMO, DEMO_ADAPTERS, DEMO_SAMPLE, model_source
from a3tune.demo.threads import one_thread
from a3tune.evaluation.alignment import KnownQuestion, Reading, prepare_questions, read_questions
from a3tune.models.load import load_model
from a3tune.models.model import VisionLanguageModel
from a3tune.phantom.questions import ask
from a3tune.phantom.scene import make_phantom
from a3tune.phantom.structures import HELD_OUT_SEEDS, KINDS, PhantomStyle
from a3tune.progress import Progress, no_progress, part_of
from a3tune.storage import place_folder, write_json
from a3tune.training.config_file import load_config
from a3tune.training.methods import a3moe_config
from a3tune.training.run_folder import RunFolder
from a3tune.training.run_summary import RunSummary
from a3tune.training.tuning import tune

METHODS = ("lora", "a3")
PRESET = "demo"
MEASURED = 100
FIGURES_NAME = "figures.json"
CARD_NAME = "README.md"

# A validation in between would choose each adapter by its loss: both are compared after the same steps.
SAME_STEPS = {"evaluate_every": None, "save_every": None}
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
| the same, every patch that it touches counted whole | {base[touched]:.1%} | {own[touched]:.1%} |
| their highest point lies in it | {base[pointing]:.1%} | {own[pointing]:.1%} |

With PEFT, on the model in `assets/demo/model`, PATH being this folder:

```python
{use}from peft import PeftModel

model = PeftModel.from_pretrained(base_model, "PATH")
```

It knows synthetic phantoms only: not for diagnosis, not for any use on patients.
"""
_WHAT = {"lora": "Plain LoRA, cross-entropy only,", "a3": "A3MoE experts with attention alignment (A3Tune, ACL 2025)"}


_PLACED = ("mass", "touched", "relative", "pointing")


@dataclass(frozen=True)
class Figures:
    """Means over questions; see `a3tune.evaluation.alignment.Reading`."""

    closed: float
    open: float
    mass: float
    touched: float
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
            **{name: float(np.mean([getattr(item, name) for item in placed])) for name in _PLACED},
            questions=len(readings),
            asked_about=len(placed),
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
    on_progress: Progress = no_progress,
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
    out.parent.mkdir(parents=True, exist_ok=True)
    with one_thread(), TemporaryDirectory(dir=out.parent, prefix=".adapters-") as work:
        runs, parts = {}, len(methods) + 1
        for number, method in enumerate(methods):
            runs[method] = tune(
                load_config(PRESET, {**SAME_STEPS, **(settings or {}), "method": method}),
                DEMO_SAMPLE if data is None else data,
                Path(work) / f"run-{method}",
                DEMO,
                device="cpu",
                on_progress=part_of(on_progress, number / parts, (number + 1) / parts, f"{method}: "),
            )
        last = part_of(on_progress, len(methods) / parts, 1.0, "measuring: ")
        return publish_adapters(runs, out, measured, on_progress=last)


def publish_adapters(
    runs: Mapping[str, RunSummary],
    out: Path,
    measured: int = MEASURED,
    on_progress: Progress = no_progress,
) -> str:
    """Measure the adapters of finished runs and put them, with cards and figures, in the place of those in ``out``.

    Args:
        runs: name of the adapter (its method) -> the finished run of the demo model.
        out, measured, on_progress: as in `build_adapters`.

    Returns:
        A summary in words.
    """
    model = load_model(model_source(DEMO), device="cpu")
    with TemporaryDirectory(dir=out.parent, prefix=".adapters-") as work:
        made = Path(work) / "adapters"
        for name, summary in runs.items():
            (made / name).mkdir(parents=True)
            for file in _FILES:
                shutil.copyfile(RunFolder(summary.folder).adapter / file, made / name / file)
        adapters = AdapterSet(model.model, {name: made / name for name in runs}, identity=model)
        figures = measure_adapters(model, adapters, HELD_OUT_SEEDS[:measured], on_progress=on_progress)
        base = figures[BASE]
        for name, summary in runs.items():
            record = {
                "seed": (RunFolder(summary.folder).read() or {})["config"]["seed"],
                "steps": summary.steps,
                "questions": sum(summary.targets.values()),
                "measured": measured,
                "base": asdict(base),
                name: asdict(figures[name]),
            }
            write_json(made / name / FIGURES_NAME, record)
            (made / name / CARD_NAME).write_text(_card(name, record), encoding="utf-8")
        place_folder(made, out)
    lines = [_line(name, figures[name]) for name in (BASE, *runs)]
    return "\n".join([f"Adapters in {out}, measured on {measured} held-out phantoms:", *lines])


def describe_adapters(out: Path | None = None) -> str:
    """Write what is said about the adapters in ``out`` anew, without training: their cards, and in the settings of
    those with experts the ids around a question in the demo model's template. Returns a summary in words."""
    out = DEMO_ADAPTERS if out is None else out
    model = load_model(model_source(DEMO), device="cpu")
    names = sorted(folder.parent.name for folder in out.glob(f"*/{CONFIG_NAME}"))
    for name in names:
        config = PeftConfig.from_pretrained(str(out / name))
        if isinstance(config, A3MoeConfig):
            fresh = a3moe_config(model)
            config.question_before, config.question_after = fresh.question_before, fresh.question_after
            config.save_pretrained(str(out / name))
        record = json.loads((out / name / FIGURES_NAME).read_text(encoding="utf-8"))
        (out / name / CARD_NAME).write_text(_card(name, record), encoding="utf-8")
    return f"{len(names)} adapters in {out} described: {', '.join(names)}"


def _card(name: str, record: dict) -> str:
    facts = {key: record[key] for key in ("questions", "steps", "seed", "measured", "base")}
    facts["use"] = "import a3tune  # tells PEFT this kind of adapter\n" if name == "a3" else ""
    return _CARD.format(name=name, what=_WHAT.get(name, f"The method {name}"), own=record[name], **facts)


def measure_adapters(
    model: VisionLanguageModel,
    adapters: AdapterSet,
    seeds: Sequence[int],
    style: PhantomStyle = "standard",
    on_progress: Progress = no_progress,
) -> dict[str, Figures]:
    """The base model and every adapter of the set, asked every question about the phantoms of ``seeds``."""
    questions = prepare_questions(model, [question for _, question in phantom_questions(seeds, style)])
    figures = {}
    for number, name in enumerate(adapters.names):
        on_progress(name, number / len(adapters.names))
        figures[name] = Figures.of(read_questions(model, questions, adapter_set=adapters, adapter=name))
    return figures


def _line(name: str, figures: Figures) -> str:
    return (
        f"{name}: closed {figures.closed:.1%}, open {figures.open:.1%}, attention inside what is asked about "
        f"{figures.mass:.1%}, pointing {figures.pointing:.1%}"
    )
