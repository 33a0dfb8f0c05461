"""The demo's adapters, ways of decoding and controls on the phantom benchmark, with intervals.

    accelerate launch --multi_gpu --num_processes 2 -m benchmarks.results --out .cache/results --write docs/results.md

shares the questions among two processes; ``python -m benchmarks.results`` does the same with one.

Adapters are taken as they are kept: those of the bundle, and with ``--runs`` a folder of more in PEFT's format, by the
names of their folders; those called NAME-seed0, NAME-seed1, ... are runs of one recipe, told with mean and spread. An
interrupted evaluation goes on. Prints Markdown.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from a3tune.adapters.switch import BASE
from a3tune.bundle import DEMO, DEMO_NAME, demo_adapters, model_source
from a3tune.demo.benchmark_data import PARTS, VERSION, phantom_benchmark
from a3tune.evaluation.decoding.registry import DECODINGS
from a3tune.evaluation.questions import read_evaluation_data
from a3tune.evaluation.report import Report
from a3tune.evaluation.run import EvaluationPlan, evaluate
from a3tune.evaluation.systems import CONTROLS, GREEDY
from a3tune.models.load import load_model
from a3tune.progress import TimedProgress
from benchmarks.document import write_between

COLUMNS = (
    ("closed accuracy", "accuracy", "strict"),
    ("open recall", "recall", "strict"),
    ("exact match", "exact_match", "strict"),
    ("mass", "attention_mass", "given answer"),
    ("touched", "touched_mass", "given answer"),
    ("pointing", "pointing_game", "given answer"),
)


def main() -> None:
    """Evaluate and print, or write the tables into a document."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--out", type=Path, required=True, help="folder for the evaluation")
    options.add_argument("--runs", type=Path, help="folder of adapters; NAME-seed0, NAME-seed1, ... are runs of one")
    options.add_argument("--questions", type=int, help="ask no more of the benchmark's questions")
    options.add_argument(
        "--decodings", default=",".join(name for name in DECODINGS if name != GREEDY), help="which ways, by commas"
    )
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--write", type=Path, metavar="FILE", help="put the tables between the marks of this document")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    began, used = time.perf_counter(), time.process_time()
    adapters: dict[str, Path | None] = {BASE: None, **demo_adapters()}
    if chosen.runs is not None:
        found = sorted(path.parent for path in chosen.runs.glob("*/adapter_config.json"))
        adapters.update((folder.name, folder) for folder in found)
    plan = EvaluationPlan(
        adapters=adapters,
        masks="true",
        decodings=tuple(chosen.decodings.split(",")),
        controls=CONTROLS,
    )
    data = read_evaluation_data(phantom_benchmark(), name=f"phantom benchmark {VERSION}", most=chosen.questions)
    model = load_model(model_source(DEMO), device="cpu", name=DEMO_NAME)
    report = evaluate(plan, data, model, chosen.out, model_name=DEMO, on_progress=TimedProgress())
    state = PartialState(cpu=True)
    processor = gather_object([time.process_time() - used])
    if not state.is_main_process:
        return
    text = describe(report, time.perf_counter() - began, processor)
    print(text)
    if chosen.write is not None:
        write_between(chosen.write, text)


def describe(report: Report, seconds: float, processor: Sequence[float]) -> str:
    """The tables in Markdown.

    Args:
        report: what was measured.
        seconds: of wall time.
        processor: seconds of processor time of each process.
    """
    shown = [name for name in report.systems if "," not in name]
    greedy = [name for name in shown if "+" not in name]
    data = report.data
    parts = [
        f"{data['questions']:,} questions about {data['images']:,} images ({data['name']}, split {data['split']}); "
        f"strict normalisation; in per cent with 95 % intervals over images. {_minutes(seconds)} of wall time, "
        f"{_minutes(sum(processor))} of processor time in {len(processor)} "
        f"process{'es' if len(processor) > 1 else ''}.",
        "### Adapters",
        _rows(("", *(title for title, _, _ in COLUMNS)), [(name, *_values(report, name)) for name in greedy]),
    ]
    if spreads := _spreads(report):
        parts += ["Mean and standard deviation over runs with other seeds:", spreads]
    parts += [
        "### Against the base model",
        "\n".join(
            f"- {c.after}, {c.name} ({c.mode}): {c.verdict} (p {c.p_holm:.3g} by Holm)."
            for c in report.comparisons
            if c.after in greedy
        ),
        "### Closed accuracy by part of the benchmark",
        _rows(
            ("", *PARTS),
            [(name, *(_value(report, name, "accuracy", "strict", "part", part) for part in PARTS)) for name in greedy],
        ),
        "### Right for the right reason",
        _rows(
            ("", *report.reasons[0].counts),
            [(t.system, *(str(count) for count in t.counts.values())) for t in report.reasons if t.system in greedy],
        ),
        f"Attention is inside from {report.reasons[0].threshold:g} times chance on.",
        "### Ways of decoding, on the base model",
        _rows(
            ("", *(title for title, _, _ in COLUMNS[:3]), "absent affirmed", "yes-bias"),
            [
                (name, *_values(report, name)[:3], *_pope(report, name))
                for name in shown
                if name == BASE or name.startswith(f"{BASE}+")
            ],
        ),
        "### Controls",
        _rows(
            ("", "control", "number", "with the image", "without", "right ones that need it"),
            [
                (c.adapter, c.control, c.name, f"{c.with_image:.1%}", f"{c.without_image:.1%}", f"{c.needed_image:.1%}")
                for c in report.controls
                if c.name == "strict.accuracy"
            ],
        ),
    ]
    if report.notes:
        parts += ["### Notes", "\n".join(f"- {note}" for note in report.notes)]
    return "\n\n".join(parts)


def _spreads(report: Report) -> str:
    rows = []
    for recipe, members in dict.fromkeys((seeds.recipe, seeds.systems) for seeds in report.seeds):
        found = {(seeds.name, seeds.mode): seeds.spread for seeds in report.seeds if seeds.recipe == recipe}
        spreads = [found.get((name, mode)) for _, name, mode in COLUMNS]
        cells = [f"{one.mean * 100:.1f} ± {one.deviation * 100:.1f}" if one else "" for one in spreads]
        rows.append((f"{recipe} ({len(members)} seeds)", *cells))
    return _rows(("", *(title for title, _, _ in COLUMNS)), rows) if rows else ""


def _values(report: Report, system: str) -> list[str]:
    return [_value(report, system, name, mode) for _, name, mode in COLUMNS]


def _value(report: Report, system: str, name: str, mode: str, group: str = "", value: str = "") -> str:
    metric = report.metric(system, name, mode, group, value)
    if metric is None:
        return ""
    found = metric.interval
    reach = f" ({found.low * 100:.1f} to {found.high * 100:.1f})" if math.isfinite(found.low) else ""
    return f"{found.value * 100:.1f}{reach}"


def _pope(report: Report, system: str) -> tuple[str, str]:
    found = next((entry for entry in report.hallucination if entry.system == system), None)
    return ("", "") if found is None else (f"{found.affirmed.value:.1%}", f"{found.yes_bias:+.1%}")


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"


if __name__ == "__main__":
    main()
