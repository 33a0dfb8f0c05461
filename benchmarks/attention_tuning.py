"""What alignment gives and costs the demo model: answers against attention, for every ratio, number of heads and seed.

    python -m benchmarks.attention_tuning --runs .cache/attention_tuning --sets validation
    python -m benchmarks.attention_tuning --report

Finished runs are kept in the runs folder, and what was measured with them in benchmarks/measured, so that the work may
be stopped and started again, on another machine too; several processes may share it, each takes runs that nobody has
taken. The report is written from what was measured, and needs no run.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import torch

from a3tune.adapters.switch import BASE, AdapterSet
from a3tune.bundle import DEMO, DEMO_MODEL, DEMO_SAMPLE, model_source
from a3tune.demo.sample import PHANTOMS as PHANTOMS_OF_SAMPLE
from a3tune.demo.sample import build_sample
from a3tune.demo.sample_data import TABLE, write_sample
from a3tune.evaluation.alignment import KnownQuestion, PreparedQuestion, prepare_questions, read_questions
from a3tune.models.fingerprint import weights_fingerprint
from a3tune.models.load import load_model
from a3tune.phantom.questions import ask
from a3tune.phantom.scene import make_phantom
from a3tune.phantom.structures import HELD_OUT_SEEDS, KINDS, VALIDATION_SEEDS, PhantomStyle
from a3tune.prefixes.batch import PrefixReader
from a3tune.training.config_file import load_config
from a3tune.training.run_folder import RunFolder
from a3tune.training.tuning import tune
from benchmarks.attention_report import EQUAL, EXPERTS, LORA, write_report
from benchmarks.learning_curve import IMAGES, PHANTOMS, learning_section, on_images, write_table
from benchmarks.measured import Measurements

DOCUMENT = Path("docs/attention_tuning.md")
MEASURED = Path("benchmarks/measured/attention_tuning")
PRESET = "demo"
RATIOS = (0.02, 0.06, 0.1, 0.2, 0.5, 1.0)
HEADS = (2, 4)
SEEDS = (4, 5, 6)
KNEE = (0.2, 4)

# Every method with the same steps and no validation in between, which would choose each adapter by its loss.
SAME_STEPS: dict[str, object] = {"evaluate_every": None}
_KNEE_SETTINGS: dict[str, object] = {"method": "a3", "ratio": KNEE[0], "top_heads": KNEE[1]}


def a3_name(ratio: float, heads: int) -> str:
    """The name of A3Tune with that ratio and number of heads."""
    return f"a3, ratio {ratio:g}, {heads} heads"


PLAIN: dict[str, dict[str, object]] = {
    LORA: {"method": "lora"},
    # 174,080 trained numbers; A3MoE has 170,032 and LoRA of rank 8 has 81,920.
    EQUAL: {"method": "lora", "lora_rank": 17, "lora_alpha": 17.0},
    EXPERTS: {"method": "a3moe"},
}
CURVE: dict[str, dict[str, object]] = {
    a3_name(ratio, heads): {"method": "a3", "ratio": ratio, "top_heads": heads} for heads in HEADS for ratio in RATIOS
}
AT_THE_KNEE: dict[str, dict[str, object]] = {
    "loss mass": {"alignment": "mass"},
    "loss kl": {"alignment": "kl"},
    "all rows of the text": {"align_rows": "text"},
    "true masks": {"targets": "truth"},
    "no query experts": {"no_query_experts": True},
    "no key experts": {"no_key_experts": True},
    "no head selection": {"no_head_selection": True},
    "fixed heads": {"head_choice": "fixed"},
    "lora + alignment": {"method": "lora+align"},
    "as published": {
        "align_rows": "text",
        "align_negative_answers": True,
        "label_min_score": None,
        "alignment": "mass",
        "masks": "each",
    },
}
LEARNING = (LORA, EXPERTS, a3_name(*KNEE))
"""The variants that are tuned on other numbers of images too."""
ON_IMAGES = {on_images(variant, count): (variant, count) for count in IMAGES for variant in LEARNING}

VARIANTS = PLAIN | CURVE | {name: _KNEE_SETTINGS | settings for name, settings in AT_THE_KNEE.items()}
VARIANTS |= {name: VARIANTS[variant] for name, (variant, _) in ON_IMAGES.items()}


@dataclass(frozen=True)
class PhantomSet:
    """Phantoms to measure on: their seeds and style."""

    seeds: Sequence[int]
    style: PhantomStyle


SETS = {
    "validation": PhantomSet(VALIDATION_SEEDS[50_000:], "standard"),
    "standard": PhantomSet(HELD_OUT_SEEDS, "standard"),
    "shifted": PhantomSet(HELD_OUT_SEEDS, "shifted"),
}


@dataclass(frozen=True)
class Job:
    """One run: a variant with one seed; the base model has one run and no seed."""

    variant: str
    seed: int | None

    @property
    def name(self) -> str:
        words = self.variant.replace(",", "").replace("+", "and").replace(" ", "-")
        return words if self.seed is None else f"{words}-{self.seed}"

    @property
    def sets(self) -> tuple[str, ...]:
        """What it is measured on: what nothing is chosen by, on test phantoms alone."""
        return ("standard",) if self.variant in ON_IMAGES else tuple(SETS)


def jobs() -> Iterator[Job]:
    """All runs, the most important ones first: the base, what is compared at the knee, the curve, its variations, other
    numbers of images."""
    yield Job(BASE, None)
    for seed in SEEDS:
        for variant in (*PLAIN, a3_name(*KNEE)):
            yield Job(variant, seed)
    for seed in SEEDS:
        for variant in sorted(CURVE, key=lambda name: CURVE[name]["top_heads"] != KNEE[1]):
            if variant != a3_name(*KNEE):
                yield Job(variant, seed)
    for variant in AT_THE_KNEE:
        yield Job(variant, SEEDS[0])
    for seed in SEEDS:
        for variant in ON_IMAGES:
            yield Job(variant, seed)


def origin(variant: str) -> dict[str, object]:
    """What a measurement with a variant has to come from to be put beside the others: base model and settings."""
    config = load_config(PRESET)
    recipe = {"steps": config.max_steps, "batch": config.batch_size, "learning rate": config.learning_rate}
    settings = {} if variant == BASE else {**recipe, **VARIANTS[variant]}
    if variant in ON_IMAGES:
        settings["images"] = ON_IMAGES[variant][1]
    return {"model": weights_fingerprint(DEMO_MODEL), "settings": settings}


def write_masked_sample(folder: Path) -> Path:
    """Write the bundled sample with the true mask of every question about something in its image.

    Args:
        folder: a new one; it appears once it is complete.

    Returns:
        The table, with a column ``mask`` beside those of the sample's.
    """
    with TemporaryDirectory(dir=folder.parent, prefix=".true_masks-") as work:
        sample = write_sample(Path(work) / "sample", PHANTOMS_OF_SAMPLE, masks=True)
        with cast(Path, sample.truth).open(newline="", encoding="utf-8") as stream:
            masks = {(row["image"], row["question"]): row["mask"] for row in csv.DictReader(stream)}
        with sample.table.open(newline="", encoding="utf-8") as stream:
            rows = [row | {"mask": masks.get((row["image"], row["question"]), "")} for row in csv.DictReader(stream)]
        with sample.table.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        sample.folder.rename(folder)
    return folder / TABLE


class Bench:
    """Does one run after the other, and measures; the questions of a set are prepared once.

    Args:
        runs: where runs are kept.
        measured: where that is kept what was measured with them.
        data: the data to tune on.
        phantoms: on how many phantoms of each set.
    """

    def __init__(self, runs: Path, measured: Measurements, data: Path, phantoms: int) -> None:
        self.runs, self.measured, self.data, self.phantoms = runs, measured, data, phantoms
        self.model = load_model(model_source(DEMO), device="cpu")
        self._reader = PrefixReader(self.model)
        self._asked: dict[str, tuple[list[dict[str, object]], list[PreparedQuestion]]] = {}

    def work(self, todo: Sequence[Job], sets: Sequence[str]) -> None:
        """Do what is not there yet."""
        for job in todo:
            wanted = [name for name in sets if name in job.sets]
            if all(self._is_measured(job, name) for name in wanted):
                continue
            folder = self.runs / job.name
            folder.mkdir(parents=True, exist_ok=True)
            with _claimed(folder / "claim") as mine:
                if mine:
                    if not self._tune(job, folder):
                        return
                    for name in wanted:
                        self._measure(job, folder, name)

    def _tune(self, job: Job, folder: Path) -> bool:
        """Whether the run is finished: one that was stopped has an adapter that must not be measured."""
        run = RunFolder(folder / "run")
        if job.seed is None or (run.read() or {}).get("status") == "finished":
            return True
        began = time.process_time()
        settings = {**SAME_STEPS, **VARIANTS[job.variant], "seed": job.seed}
        tune(load_config(PRESET, settings), self._training_data(job), run.path, DEMO, device="cpu")
        print(f"{job.name}: tuned, {time.process_time() - began:.0f} s", file=sys.stderr, flush=True)
        return (run.read() or {}).get("status") == "finished"

    def _training_data(self, job: Job) -> Path:
        if VARIANTS[job.variant].get("targets") == "truth":
            folder = self.runs / "true_masks"
            return folder / TABLE if folder.is_dir() else write_masked_sample(folder)
        if job.seed is None or job.variant not in ON_IMAGES:
            return self.data
        folder = self.runs / "phantoms"
        if not folder.is_dir():
            build_sample(folder, count=PHANTOMS)
        return write_table(folder, ON_IMAGES[job.variant][1], job.seed)

    def _is_measured(self, job: Job, name: str) -> bool:
        found = self.measured.get(job.name, name)
        return found is not None and found.about["phantoms"] >= self.phantoms

    def _measure(self, job: Job, folder: Path, name: str) -> None:
        if self._is_measured(job, name):
            return
        began = time.process_time()
        adapters = AdapterSet(self.model.model)
        used = BASE
        if job.seed is not None:
            used = "tuned"
            adapters.add(used, RunFolder(folder / "run").adapter)
        facts, questions = self._questions(name)
        readings = read_questions(self.model, questions, adapter_set=adapters, adapter=used, reader=self._reader)
        if job.seed is not None:
            adapters.remove(used)
        rows = [
            fact
            | {"right": reading.right}
            | {key: _number(getattr(reading, key)) for key in ("mass", "touched", "pointing")}
            for fact, reading in zip(facts, readings, strict=True)
        ]
        about = {"variant": job.variant, "seed": job.seed, "phantoms": self.phantoms}
        self.measured.keep(job.name, name, about, origin(job.variant), rows)
        right = sum(reading.right for reading in readings) / len(readings)
        took = time.process_time() - began
        print(f"{job.name}: {name}, {right:.3f} right, {took:.0f} s", file=sys.stderr, flush=True)

    def _questions(self, name: str) -> tuple[list[dict[str, object]], list[PreparedQuestion]]:
        if name not in self._asked:
            facts: list[dict[str, object]] = []
            known: list[KnownQuestion] = []
            chosen = SETS[name]
            for number, seed in enumerate(chosen.seeds[: self.phantoms]):
                phantom = make_phantom(seed, KINDS[number % len(KINDS)], chosen.style)
                for item in ask(phantom):
                    target = phantom.mask_of(item.targets) if item.targets else None
                    known.append(KnownQuestion(phantom.image, item.question, item.answer, item.answer_type, target))
                    facts.append({"phantom": seed, "topic": item.topic, "type": item.answer_type})
            self._asked[name] = facts, prepare_questions(self.model, known)
        return self._asked[name]


def _number(value: float) -> float | None:
    return None if value != value else round(value, 5)


@contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    """Whether this process may do a run: no other one that still lives has it."""
    # Linked into place whole: a claim that is being written would look like one of a process that is gone.
    mine = path.with_name(f".{path.name}.{os.getpid()}")
    mine.write_text(str(os.getpid()), encoding="ascii")
    taken = False
    try:
        for _ in range(2):
            try:
                os.link(mine, path)
                taken = True
                break
            except FileExistsError:
                with suppress(OSError, ValueError):
                    os.kill(int(path.read_text(encoding="ascii")), 0)
                    break
                path.unlink(missing_ok=True)
        yield taken
    finally:
        mine.unlink()
        if taken:
            path.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, metavar="DIR", help="where finished runs are kept")
    parser.add_argument("--measured", type=Path, default=MEASURED, metavar="DIR", help=f"measurements ({MEASURED})")
    parser.add_argument("--data", type=Path, default=DEMO_SAMPLE, help="data to tune on (default: the bundled sample)")
    parser.add_argument("--phantoms", type=int, default=200, help="phantoms of each set (default 200)")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=["validation"], help="what to measure on")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--variants", nargs="+", choices=[BASE, *VARIANTS], default=[BASE, *VARIANTS], metavar="NAME")
    parser.add_argument("--report", action="store_true", help="write the report of what is there, do no run")
    parser.add_argument("--write", type=Path, default=DOCUMENT, help=f"the report (default {DOCUMENT})")
    options = parser.parse_args()
    todo = [job for job in jobs() if job.variant in options.variants and job.seed in (None, *options.seeds)]
    measured = Measurements(options.measured)
    if options.report:
        curves = {heads: [(ratio, a3_name(ratio, heads)) for ratio in RATIOS] for heads in HEADS}
        tuned = [job for job in jobs() if job.seed is not None]
        there = sum(measured.path(job.name, job.sets[0]).is_file() for job in tuned)
        origins = {variant: origin(variant) for variant in (BASE, *VARIANTS)}
        order = [variant for variant in origins if variant not in ON_IMAGES]
        last = partial(learning_section, variants=LEARNING, pictures=options.write.parent / "images")
        varied = (a3_name(*KNEE), list(AT_THE_KNEE))
        return write_report(measured, options.write, origins, curves, order, (there, len(tuned)), varied, last)
    if options.runs is None:
        parser.error("--runs DIR: where are finished runs to be kept?")
    torch.set_num_threads(1)
    Bench(options.runs, measured, options.data, options.phantoms).work(todo, options.sets)
    return 0


if __name__ == "__main__":
    sys.exit(main())
