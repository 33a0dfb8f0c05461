"""``python -m a3tune labels``: the options, and what is printed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from a3tune.bundle import DEMO
from a3tune.cli.image_options import add_image_options, image_choice, parse_window, refuse_ineffective_choice
from a3tune.cli.ineffective_options import refuse_ineffective
from a3tune.data.hub import dataset_place
from a3tune.errors import RequestError
from a3tune.images import load_image
from a3tune.images.dicom_source import read_source
from a3tune.images.frames import labels_to_stored
from a3tune.inspection.dicom_study import DicomStudy
from a3tune.labels.scorers.templates import TEMPLATE_SETS, check_prompts, takes_organ
from a3tune.labels.store import LabelStore
from a3tune.progress import ItemProgress, SteadyProgress
from a3tune.storage import write_bytes
from a3tune.training.launch import check_processes
from a3tune.types import MedicalImage, WeakLabels

if TYPE_CHECKING:
    from accelerate import PartialState

    from a3tune.labels.batch import Outcome
    from a3tune.labels.pipeline import LabelMaker
    from a3tune.labels.tasks import LabelTask, TaskList

EXPORTS = ("coco", "masks")
SEGMENTATION_NAME = "labels.dcm"
_LISTED = 20


HELP = "find regions, rank them for a prompt and save them with their masks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.epilog = (
        "Several GPUs: accelerate launch --multi_gpu --num_processes 2 -m a3tune labels --data ...; the same "
        "with --device cpu at its end needs no GPU. Each labels its share of the images, into one folder."
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--image", type=Path, metavar="F", help="PNG, JPEG, TIFF, DICOM, NIfTI ..., or a folder of them"
    )
    source.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="data set, a path or owner/name on the hub: every question of it",
    )
    parser.add_argument(
        "--prompt",
        action="append",
        metavar="P",
        help="what to look for, e.g. the question; several descriptions of one thing may be given by repeating it "
        "(with --data the data's own questions, when left out)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--segmenter",
        default="litemedsam",
        metavar="S",
        help="litemedsam (default), sam-vit-b, sam-vit-l, sam-vit-h or medsam from the hub, or such a checkpoint of "
        "yours: its path, or hub:OWNER/REPOSITORY/FILE",
    )
    parser.add_argument(
        "--scorer",
        default=DEMO,
        metavar="S",
        help="demo (default; knows synthetic images only), biomedclip, the folder of an open_clip model or a hub id",
    )
    parser.add_argument(
        "--template",
        default="plain",
        metavar="T",
        help=f"wording of the prompt: {', '.join(TEMPLATE_SETS)}, or a text with {{question}} and {{organ}} in it",
    )
    parser.add_argument("--organ", default="", metavar="TEXT", help="organ or location, for templates that name it")
    parser.add_argument(
        "--top-k", metavar="N", help="how many regions to keep, or all (default: the template's, 4 or 8)"
    )
    parser.add_argument(
        "--minimum-side",
        type=int,
        metavar="N",
        help="leave out regions whose box is this long or shorter, in pixels of a 256 x 256 frame (default: 12 as "
        "published; 0 keeps every small structure that was found)",
    )
    parser.add_argument("--layout", default="auto", help="layout of the data set (default: told from its keys)")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the data set's images, if elsewhere")
    parser.add_argument(
        "--export",
        action="append",
        default=[],
        choices=EXPORTS,
        help="coco: coco.json with all regions; masks: a PNG for each record with all its regions, and with --data "
        "the table data.csv that names them in its column mask (may be given twice)",
    )
    parser.add_argument(
        "--dicom",
        choices=("anonymous", "source"),
        help=f"write the regions of each record as a DICOM Segmentation too ({SEGMENTATION_NAME}): of nobody, in a "
        "study of its own, for any image that says where it lies in the patient (anonymous); or of the patient and "
        "study of the image's DICOM file, referring to it (source)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default auto)")
    add_image_options(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command.

    Returns:
        0, or 1 when some of several images failed.

    Raises:
        A3TuneError: bad input; nothing was written then.
        OSError: the output folder cannot be written.
    """
    questions = _questions(options)
    if options.data is None:
        refuse_ineffective(options, ("layout", "images"), "without --data", "--data, which they belong to")
    else:
        refuse_ineffective(options, ("series",), "with --data", "one --image that holds several series")
    if not takes_organ(options.template):
        why = f"with the template {options.template}"
        refuse_ineffective(options, ("organ",), why, "a --template that names the organ or goes by it")
    window = parse_window(options.window)

    def load(path: Path) -> MedicalImage:
        image = load_image(path, window=window, **image_choice(options))
        _study(path, options)  # what cannot be written is told before labels are made
        return image

    if options.image is not None and (not options.image.is_dir() or options.series is not None):
        image = load(options.image)
        refuse_ineffective_choice(options, options.image, image)
        return _label_one(image, questions, options)
    # A folder without pictures or a data set with a slip is told before the models are loaded.
    from a3tune.labels.processes import launched
    from a3tune.labels.tasks import tasks_in_data, tasks_in_folder

    if options.data is None:
        work = tasks_in_folder(options.image, questions, options.organ, out=options.out)
        return _label_many(work, questions, options, load)
    check_processes(os.environ)
    # Pictures that are packed inside the data are needed during the work only.
    with TemporaryDirectory(prefix="a3tune-") as unpacked, launched(options.device) as state:
        with nullcontext() if state is None else state.main_process_first():
            place = dataset_place(options.data, with_images=options.images is None)
        work = tasks_in_data(
            place,
            questions,
            options.organ,
            layout=options.layout,
            images=options.images,
            unpack_to=Path(unpacked),
        )
        return _label_many(work, questions, options, load, state)


def _questions(options: argparse.Namespace) -> tuple[str, ...]:
    questions = tuple(options.prompt or ())
    if not questions and options.data is None:
        raise RequestError(
            expected="what to look for, such as --prompt 'Is there a mass in the liver?'",
            got="No prompt was given",
            remedy="Add --prompt",
        )
    if questions:
        check_prompts(questions)
    return questions


def _build_maker(options: argparse.Namespace) -> LabelMaker:
    from a3tune.labels.segmenters_and_scorers import load_label_maker  # torch: see run

    return load_label_maker(
        options.segmenter,
        options.scorer,
        template=options.template,
        top_k=options.top_k,
        **({} if options.minimum_side is None else {"minimum_side": options.minimum_side}),
        device=options.device,
    )


def _label_one(image: MedicalImage, questions: tuple[str, ...], options: argparse.Namespace) -> int:
    # A bad image is told before torch is loaded, which takes some seconds.
    from a3tune.labels.export import write_coco, write_labels, write_masks

    with SteadyProgress(at_once=False) as progress:
        progress("loading segmenter and scorer", 0.0)
        maker = _build_maker(options)
        prompts = maker.prompts(questions, options.organ)
        progress("finding and ranking regions", 0.5)
        labels = maker.make(image, prompts)
        progress("done", 1.0)
    written = write_labels(labels, image, options.out, prompts, maker.settings)
    written += _write_segmentation(labels, image, options.image, options.out, options)
    if "coco" in options.export:
        written = (*written, write_coco(options.out, {options.out: options.image.name}))
    if "masks" in options.export:
        written = (*written, *write_masks(options.out, [""]))
    print(describe(labels_to_stored(labels, image)), *image.notes, sep="\n")
    print(f"{len(written)} files in {options.out}")
    return 0


def _label_many(
    work: TaskList,
    questions: tuple[str, ...],
    options: argparse.Namespace,
    load: Callable[[Path], MedicalImage],
    state: PartialState | None = None,
) -> int:
    from a3tune.labels.batch import label_all  # torch: see run
    from a3tune.labels.export import INDEX_NAME, write_index, write_labels
    from a3tune.labels.processes import share_of
    from a3tune.labels.sources import LABELS_NAME, LabelSource, kept_store

    with nullcontext() if state is None else state.main_process_first():
        maker = _build_maker(options)
    if options.data is None:
        # The same for all images: a fault of the prompt is one fault, and no image needs to be tried.
        maker.scorer.embed_texts(maker.prompts(questions, options.organ))
    # What tuning kept, or a person chose beside the data, need not be made again.
    stores = [LabelStore(options.out), LabelStore(work.root / LABELS_NAME), kept_store(maker)]
    source = LabelSource(load=lambda: (maker, stores))

    def export(task: LabelTask, image: MedicalImage, labels: WeakLabels, prompts: Sequence[str]) -> None:
        write_labels(labels, image, options.out / task.folder, prompts, maker.settings)
        _write_segmentation(labels, image, task.image, options.out / task.folder, options)

    def label(part: TaskList, *, told: bool = True) -> Sequence[Outcome]:
        with ItemProgress(max(1, len(part.tasks))) if told else nullcontext() as progress:
            return label_all(
                part,
                source,
                options.template,
                load,
                export=export,
                on_done=lambda done: progress.advance(done.name, skipped=done.status == "kept") if progress else None,
            )

    if state is not None:
        label(share_of(work, state.process_index, state.num_processes), told=state.is_main_process)
        state.wait_for_everyone()
        if not state.is_main_process:
            return 0
    # After several processes everything is there, and is listed: only what failed is tried once more.
    outcomes = label(work, told=state is None)
    write_index(options.out, outcomes, maker.settings)
    _export(work, outcomes, options)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    noun = "images" if options.data is None else "questions"
    print(_totals(outcomes, work.passed_over, noun, together=state is not None))
    print(f"Results and {INDEX_NAME} in {options.out}")
    for outcome in failed[:_LISTED]:
        print(f"{outcome.name}: {outcome.error}", file=sys.stderr)
    if len(failed) > _LISTED:
        print(f"and {len(failed) - _LISTED} more, see {options.out / INDEX_NAME}", file=sys.stderr)
    return 1 if failed else 0


def _export(work: TaskList, outcomes: Sequence[Outcome], options: argparse.Namespace) -> None:
    from a3tune.labels.export import image_names, write_coco, write_masks, write_table  # torch: see run

    tasks = [outcome.task for outcome in outcomes if outcome.task is not None and outcome.status != "failed"]
    root = work.root if options.images is None else options.images
    if "coco" in options.export:
        names = image_names(tasks, root)
        write_coco(options.out, {options.out / task.folder: names[task.image] for task in tasks})
    if "masks" in options.export:
        write_masks(options.out, [task.folder for task in tasks])
        if options.data is not None:
            write_table(options.out, tasks, root)


def _study(path: Path, options: argparse.Namespace) -> DicomStudy | None:
    """Where the Segmentation of an image's regions belongs; None where none is wanted.

    Raises:
        ImageError, RequestError: the image's file does not say what it needs.
    """
    if options.dicom is None:
        return None
    source = read_source(path, **image_choice(options), identity=options.dicom == "source")
    if source.placement is None and source.identity is None:
        raise RequestError(
            expected="an image whose file says where its pixels lie in the patient, for a DICOM Segmentation of nobody",
            got="This one does not",
            remedy="Leave --dicom out; or, of a DICOM file, give --dicom source; --export takes any image",
        )
    return DicomStudy(source)


def _write_segmentation(
    labels: WeakLabels, image: MedicalImage, path: Path, folder: Path, options: argparse.Namespace
) -> tuple[Path, ...]:
    """Write the regions as a DICOM Segmentation, where one is wanted: a segment for each, best first."""
    study, target = _study(path, options), folder / SEGMENTATION_NAME
    if study is None or not labels.regions:
        # One of other labels would pass for theirs.
        target.unlink(missing_ok=True)
        return ()
    from a3tune.inspection.dicom_export import dicom_bytes  # torch: see run
    from a3tune.inspection.dicom_maps import region_segments, segmentation

    write_bytes(target, dicom_bytes(segmentation(region_segments(labels), image, labels.prompt, study)))
    return (target,)


def describe(labels: WeakLabels) -> str:
    """The ranked regions as a small table, and what was dropped."""
    lines = [f"Regions by {labels.segmenter}, ranked by {labels.scorer}:"]
    for item in labels.regions:
        x, y, width, height = item.region.box
        line = f"{item.rank:>3}  score {item.score:6.2f}  weight {item.weight:.3f}  {width} x {height} at {x}, {y}"
        several = item.phrase != labels.prompt
        lines.append(f"{line}  {item.region.area} pixels{f'  {item.phrase}' if several else ''}")
    return "\n".join([*lines, *labels.notes])


def _totals(outcomes: Sequence[Outcome], passed_over: int, noun: str, *, together: bool = False) -> str:
    kept = sum(outcome.status == "kept" for outcome in outcomes)
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    text = f"{len(outcomes) - failed} of {len(outcomes)} {noun} labelled"
    if kept and not together:
        text += f", {kept} of them before"
    if failed:
        text += f"; {failed} failed"
    if passed_over:
        text += f"; {passed_over} other {'file' if passed_over == 1 else 'files'} passed over"
    return f"{text}."
