"""How many questions an evaluation asks in a second of processor time, with attention, one by one and in batches.

    python -m benchmarks.evaluation_speed --questions 500 --batch-sizes 1,16 --write docs/evaluation.md

One by one each prompt is read whole, and once more behind the beginnings that questions about an image have in common,
as batches are. Processor time of this process on one thread: what others do on the machine meanwhile does not count.
Reading the data, loading the model, a first, warming pass and the report are not in it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import torch

from a3tune.adapters.switch import BASE
from a3tune.attention.capture import prepare_capture
from a3tune.bundle import DEMO, DEMO_NAME, DEMO_SAMPLE, model_source
from a3tune.evaluation.asking import Asker
from a3tune.evaluation.questions import EvaluationData, read_evaluation_data
from a3tune.evaluation.run import EvaluationPlan, adapters_of, plan_batches
from a3tune.evaluation.systems import System
from a3tune.models.load import load_model
from a3tune.models.model import VisionLanguageModel
from a3tune.prefixes.cache import MOST_BYTES
from benchmarks.document import write_between


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=500, metavar="N", help="of the demo's sample (default 500)")
    parser.add_argument("--batch-sizes", default="1,16", metavar="LIST", help="questions in one pass (default 1,16)")
    parser.add_argument("--repeats", type=int, default=3, help="how often each is measured (default 3)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between the marks of this page")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = read_evaluation_data(DEMO_SAMPLE, "all", name=DEMO, most=options.questions)
    model = load_model(model_source(DEMO), device="cpu", name=DEMO_NAME)
    prepare_capture(model.model)
    sizes = [int(size) for size in options.batch_sizes.split(",")]
    _seconds(model, read_evaluation_data(DEMO_SAMPLE, "all", name=DEMO, most=max(sizes)), max(sizes))
    ways = [("1, each read whole", 1, 0), *((f"{size}", size, MOST_BYTES) for size in sizes)]
    seconds: dict[str, list[float]] = {name: [] for name, _, _ in ways}
    for _ in range(options.repeats):
        for name, size, kept in ways:
            seconds[name].append(_seconds(model, data, size, kept))
    rates = {name: len(data.questions) / median(taken) for name, taken in seconds.items()}
    lines = ["| questions in one pass | a second of processor time | times the first |", "| ---: | ---: | ---: |"]
    lines += [f"| {name} | {rate:.1f} | {rate / rates[ways[0][0]]:.1f} |" for name, rate in rates.items()]
    images = len({question.image_digest for question in data.questions})
    about = f"{len(data.questions)} questions of the demo about {images} images, base model, greedy, with attention"
    text = f"{about}, median of {options.repeats}:\n\n" + "\n".join(lines)
    print(text)
    if options.write is not None:
        write_between(options.write, text, "speed")


def _seconds(model: VisionLanguageModel, data: EvaluationData, batch_size: int, kept: int = MOST_BYTES) -> float:
    plan = EvaluationPlan({BASE: None}, batch_size=batch_size)
    asker = Asker(plan, data, model, adapters_of(plan, model), DEMO, kept_bytes=kept)
    batches = plan_batches(data.questions, batch_size)
    began = time.process_time()
    for batch in batches:
        asker.ask([System(BASE)], batch, seed=plan.seed)
    return time.process_time() - began


if __name__ == "__main__":
    main()
