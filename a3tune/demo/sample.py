"""The bundled sample data: phantoms with questions, and weak labels that are ready to use."""

from __future__ import annotations

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory

from a3tune.bundle import DEMO_SAMPLE
from a3tune.data.read import read_dataset
from a3tune.demo.sample_data import write_sample
from a3tune.errors import LabelError
from a3tune.images import load_image
from a3tune.labels.batch import label_all
from a3tune.labels.pipeline import Labeller
from a3tune.labels.segmenters_and_scorers import load_label_maker
from a3tune.labels.sources import LABELS_NAME, LabelSource
from a3tune.labels.store import LabelStore
from a3tune.labels.tasks import TaskList, item_tasks
from a3tune.progress import Progress, no_progress, part_of
from a3tune.storage import place_folder

PHANTOMS = 200
TEMPLATE_SET = "plain"
CARD_NAME = "README.md"

_CARD = """# Sample data: synthetic radiology images with questions

{images} phantoms (chest radiographs, brain MR and abdominal CT slices that are drawn, not taken) with {questions}
questions and answers in `data.csv`, and the weak labels of the questions to train and validate on in `labels/`: the
{kept} best regions of each, found by {segmenter} and ranked by the demo scorer. Nothing here comes from a patient.

    python -m a3tune tune --data assets/demo/sample --config quick --out runs/first

Made by

    python -m a3tune demo sample

Apache-2.0, as the rest of the project.
"""


def build_sample(
    out: Path | None = None,
    *,
    count: int = PHANTOMS,
    seed: int = 0,
    labeller: Labeller | None = None,
    on_progress: Progress = no_progress,
) -> str:
    """Draw the phantoms, ask the questions, label them; returns a summary in words.

    The labels come from the label pipeline as it is; true masks are neither used nor written. Data that is already
    in ``out`` stays as it is until the new data is complete.

    Args:
        out: the folder; the project's own when None.
        count: how many phantoms, 3 to 1000.
        seed: another number, other phantoms (see `write_sample`).
        labeller: makes the labels; LiteMedSAM with the demo scorer when None.
        on_progress: called with what is being done and the share done.

    Raises:
        LabelError: segmenter or scorer cannot be loaded.
        RequestError: a number is out of range, or the folder cannot be written.
    """
    out = DEMO_SAMPLE if out is None else out
    out.parent.mkdir(parents=True, exist_ok=True)

    with TemporaryDirectory(dir=out.parent, prefix=".sample-") as work:
        folder = Path(work) / "sample"
        written = write_sample(folder, count, seed=seed, on_progress=part_of(on_progress, 0.0, 0.1))
        items = [item for item in read_dataset(written.table).items if item.split != "test"]
        labeller = labeller or load_label_maker(template=TEMPLATE_SET, device="cpu")
        source = LabelSource(load=lambda: (labeller, [LabelStore(folder / LABELS_NAME)]))
        done = itertools.count(1)
        outcomes = label_all(
            TaskList(item_tasks(items)),
            source,
            TEMPLATE_SET,
            load_image,
            on_done=lambda _: on_progress("finding and ranking regions", 0.1 + 0.9 * next(done) / len(items)),
        )
        if source.faults:
            raise LabelError(
                expected="labels for every question",
                got=f"{len(source.faults)} could not be labelled, the first with: {source.faults[0]}",
                remedy="Start the command again once that is mended; the sample of before is as it was",
            )
        empty = sum(outcome.status == "failed" for outcome in outcomes)
        settings = labeller.settings
        card = _CARD.format(
            images=written.images,
            questions=written.questions,
            kept=settings.get("top_k", "few"),
            segmenter=settings.get("segmenter", "the segmenter"),
        )
        (folder / CARD_NAME).write_text(card, encoding="utf-8")
        place_folder(folder, out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return (
        f"{out}: {written.images} phantoms, {written.questions} questions, {len(items)} of them labelled "
        f"({empty} without any region), {size / 1e6:.1f} MB."
    )
