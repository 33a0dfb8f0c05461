"""What an evaluation takes on this machine, from a batch that is asked of every system."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass

import torch

from a3tune.attention.capture import prepare_capture
from a3tune.errors import RequestError
from a3tune.evaluation.asking import Asker
from a3tune.evaluation.questions import EvaluationData
from a3tune.evaluation.run import EvaluationPlan, adapters_of, plan_batches
from a3tune.models.model import VisionLanguageModel
from a3tune.progress import Progress, no_progress


@dataclass(frozen=True)
class EvaluationEstimate:
    """What an evaluation takes.

    Attributes:
        split: the split that is asked.
        questions, images: how many are asked, about how many images.
        systems: what is compared, by name.
        answers: how many answers are written: questions times systems.
        seconds: all of it, without loading the model and making the report.
        sampled: how many answers were measured.
        peak_bytes: most memory that the measured batches took, of the device (of the process, on the CPU).
        notes: what is known of the data beforehand, in words: faults, what is trained on.
    """

    split: str
    questions: int
    images: int
    systems: tuple[str, ...]
    answers: int
    seconds: float
    sampled: int
    peak_bytes: int
    notes: tuple[str, ...] = ()


def estimate_evaluation(
    plan: EvaluationPlan,
    data: EvaluationData,
    model: VisionLanguageModel,
    *,
    model_name: str = "",
    on_progress: Progress = no_progress,
) -> EvaluationEstimate:
    """Ask the batch of middle length of every system, after a first one that warms up, and reckon from it.

    Args: as `a3tune.evaluation.run.evaluate`.

    Raises:
        RequestError: the device's memory does not hold a batch.
        AdapterError, LabelError: as `evaluate`.
    """
    asker = Asker(plan, data, model, adapters_of(plan, model), model_name)
    prepare_capture(model.model)
    batches = plan_batches(data.questions, plan.batch_size)
    systems = plan.systems
    sample = batches[len(batches) // 2]
    try:
        asker.ask(systems[:1], batches[0][:1], seed=plan.seed)
        began, before = time.perf_counter(), asker.seconds_of_images
        groups = asker.together(systems)
        for place, group in enumerate(groups):
            names = ", ".join(system.name for system in group)
            on_progress(f"Asking {len(sample)} of the questions: {names}", place / len(groups))
            asker.ask(group, sample, seed=plan.seed)
        on_images = asker.seconds_of_images - before
        on_questions = time.perf_counter() - began - on_images
    except torch.OutOfMemoryError as error:
        raise RequestError(
            expected=f"memory for {plan.batch_size} questions at once",
            got="The device ran out of memory",
            remedy="Ask fewer at once (--batch-size), or on a larger device",
        ) from error
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if model.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated()
    images, seen = (len({question.image_digest for question in some}) for some in (data.questions, sample))
    seconds = on_questions * len(data.questions) / len(sample) + on_images * images / seen
    return EvaluationEstimate(
        data.split,
        len(data.questions),
        images,
        tuple(system.name for system in systems),
        len(data.questions) * len(systems),
        round(seconds, 1),
        len(sample) * len(systems),
        int(peak),
        data.notes(),
    )
