"""``python -m a3tune inspect``: a question about an image, several, or each of a folder, asked of each adapter."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from a3tune.bundle import DEMO
from a3tune.cli.adapter_options import adapter_folders, add_together_option
from a3tune.cli.image_options import add_image_options, image_choice, parse_window, refuse_ineffective_choice
from a3tune.cli.ineffective_options import refuse_ineffective
from a3tune.cli.model_options import add_device_option, add_dtype_option
from a3tune.errors import RequestError
from a3tune.images import CONVENTIONS, load_image
from a3tune.images.dicom_source import read_source
from a3tune.images.measures import KINDS, Measure, measure_words
from a3tune.images.target_mask import load_target
from a3tune.images.values import read_values
from a3tune.inspection.dicom_study import DICOM_OBJECTS
from a3tune.inspection.table import TABLE_NAME, table_csv
from a3tune.progress import ItemProgress, SteadyProgress
from a3tune.storage import write_text
from a3tune.wording import counted

NO_TARGET = "none"
"""What stands for the target of one of several images that has none."""
HELP = "ask a question about an image, several together, or each of a folder, and save where every head looks"


class _One(argparse.Action):
    """Takes an option once: of two questions the last would be asked, and the first left out without a word."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option_string} is given twice: inspect asks one question")
        setattr(namespace, self.dest, values)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument(
        "--image",
        action="append",
        type=Path,
        metavar="FILE",
        help="an image: PNG, JPEG, TIFF, DICOM, NIfTI ..., or a folder, ZIP or DICOMDIR with the slices of a DICOM "
        "series; given several times, one question is asked about all of them in one prompt, in this order, of models "
        "whose class takes several: each gets its own maps and numbers",
    )
    given.add_argument(
        "--images",
        action=_One,
        type=Path,
        metavar="DIR",
        help="all pictures in a folder and those below it, each asked the question: each gets a folder in --out, and a "
        f"line in {TABLE_NAME}, with the attention inside its weak labels where --labels is given",
    )
    parser.add_argument("--question", action=_One, required=True, metavar="TEXT")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--model", default=DEMO, help="demo, a checkpoint folder or a hub id (default demo)")
    parser.add_argument(
        "--adapters",
        default="base",
        metavar="LIST",
        help='"base" and adapters as NAME=FOLDER, separated by commas: each gets its answer and maps (default base); '
        "with the demo model also lora and a3",
    )
    parser.add_argument(
        "--allow-other-base",
        action="store_true",
        help="use adapters that were made for other weights of the same shapes all the same",
    )
    add_together_option(parser, "inspect.json")
    parser.add_argument("--critical-heads", type=int, metavar="K", help="how many (default: heads of one layer)")
    parser.add_argument("--max-new-tokens", type=int, default=64, metavar="N", help="longest answer (default 64)")
    add_device_option(parser)
    add_dtype_option(parser, "precision of the model")
    parser.add_argument(
        "--quantization",
        choices=("none", "8bit", "4bit"),
        default="none",
        help="keep the language model's matrices in 8 or 4 bit, through the package bitsandbytes (default none)",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--target",
        "--mask",
        action="append",
        type=Path,
        metavar="FILE",
        help="where the model should look (adds attention mass, pointing game and overlap): a picture of the image's "
        "size that is not black there, or a NIfTI volume, DICOM segmentation or DICOM structure set in the image's "
        f"coordinates; of several images once for each, in their order, {NO_TARGET} for one without",
    )
    where.add_argument("--labels", type=int, metavar="K", help="the same with the K regions that fit the question best")
    parser.add_argument(
        "--segment",
        metavar="S",
        help="of a target with several: the segment's or structure's number or name, or grey value",
    )
    add_image_options(parser, each=True)
    parser.add_argument(
        "--measure",
        action="append",
        default=[],
        metavar="M",
        help=f"measure on the image, in its units where the file has them: {', '.join(KINDS)} as KIND:X0,Y0,X1,Y1 with "
        "two ends or corners in stored pixels; may be given several times",
    )
    parser.add_argument(
        "--dicom",
        choices=("anonymous", "source"),
        help="write DICOM files too: of nobody, in a study of their own (anonymous), or of the patient and study of "
        "the DICOM file that is inspected, referring to its image (source)",
    )
    parser.add_argument(
        "--dicom-objects",
        default="pictures",
        metavar="LIST",
        help="which, separated by commas (default pictures): pictures as secondary captures in colour, maps as "
        "Parametric Maps, regions as a Segmentation of those of --labels or --target, else of where the maps are high",
    )
    parser.add_argument(
        "--convention",
        choices=("auto", "none", *CONVENTIONS),
        default="auto",
        help="how the model is given computed tomography: as it was trained to see it, where that is known and the "
        "values are Hounsfield units (default auto), as it is shown (none), or by the named convention, for sure",
    )


def run(options: argparse.Namespace) -> int:
    """Run the command.

    Returns:
        0, or 1 when some of several images could not be asked about.

    Raises:
        A3TuneError: bad input.
        OSError: the output folder cannot be written.
    """
    folders = adapter_folders(options.adapters, options.model)
    images = [options.images] if options.image is None else options.image
    if options.dicom is None:
        refuse_ineffective(options, ("dicom_objects",), "without --dicom", "--dicom, which writes them")
    if all(str(target) == NO_TARGET and not target.is_file() for target in options.target or ()):
        refuse_ineffective(options, ("segment",), "without --target", "--target, of which it chooses a part")
    if len(images) > 1:
        return _run_several(options, folders)
    for name in ("target", "frame"):
        given = getattr(options, name)
        if given is not None and len(given) > 1:
            raise RequestError(
                expected=f"--{name} once",
                got=f"It is given {len(given)} times for {'one image' if options.images is None else 'a folder'}",
                remedy="Give --image as many times, in the same order, to ask about several images together",
            )
        setattr(options, name, given and given[0])
    if options.images is not None:
        return _run_many(options, folders)
    options.image = images[0]
    return _run_one(options, folders)


def _run_one(options: argparse.Namespace, folders: Mapping[str, Path | None]) -> int:
    choice = image_choice(options)
    named = None if options.convention in ("auto", "none") else options.convention
    image = load_image(options.image, window=parse_window(options.window), convention=named, insist=True, **choice)
    refuse_ineffective_choice(options, options.image, image)
    measures = tuple(
        Measure.parse(text).record(image, read_values(options.image, **choice)) for text in options.measure
    )
    target = None
    if options.target is not None:
        target = load_target(options.target, image, options.image, segment=options.segment, **choice)
    # Told before the model is loaded, as what is wrong with the image is.
    if options.dicom is not None:
        read_source(options.image, **choice, identity=options.dicom == "source")
    # Bad images are the common fault and are told within a second: torch and transformers, which take several
    # seconds to import, come only after the image was read.
    from a3tune.cli.inspector import Inspector
    from a3tune.inspection.record import metrics_table

    with SteadyProgress(at_once=False) as progress:
        inspector = Inspector(options, folders, _objects(options.dicom_objects), progress)
        if options.convention == "auto" and inspector.model.convention is not None:
            image = inspector.read(options.image)
        inspection, written = inspector.inspect(options.image, image, options.out, target, measures)
    for view in inspection.views:
        print(f"{view.adapter}: {view.answer}")
    if len(inspection.views) > 1 or target is not None or inspection.labels is not None:
        print(metrics_table(inspection.views))
    print(
        *map(measure_words, measures),
        *image.notes,
        *inspector.model.notes,
        *(note for view in inspection.views for note in view.notes),
        *(f"{view.adapter}: {view.mode}" for view in inspection.views if view.mode != "alone"),
        f"{written} files in {options.out}",
        sep="\n",
    )
    return 0


def _run_several(options: argparse.Namespace, folders: Mapping[str, Path | None]) -> int:
    """One question about several images, in one prompt."""
    _refuse(options, ("measure", "series", "dicom"))
    count = len(options.image)
    frames, targets = options.frame or [None], options.target or [Path(NO_TARGET)] * count
    if len(frames) not in (1, count) or len(targets) != count:
        name, given = ("target", targets) if len(targets) != count else ("frame", frames)
        raise RequestError(
            expected=f"--{name} {'once for all images or ' if name == 'frame' else ''}once for each, in their order",
            got=f"It is given {len(given)} times for {count} images",
            remedy=f"Write {NO_TARGET} for an image without a target" if name == "target" else "Name the others too",
        )
    frames = frames * count if len(frames) == 1 else frames
    named = None if options.convention in ("auto", "none") else options.convention
    window, images, masks = parse_window(options.window), [], []
    for path, frame, target in zip(options.image, frames, targets, strict=True):
        choice = image_choice(options) | {"frame": frame}
        images.append(load_image(path, window=window, convention=named, insist=True, **choice))
        refuse_ineffective_choice(options, path, images[-1])
        there = None
        if target != Path(NO_TARGET) or target.is_file():
            there = load_target(target, images[-1], path, segment=options.segment, **choice)
        masks.append(there)
    from a3tune.cli.inspector import Inspector  # torch: see above
    from a3tune.inspection.record import metrics_table

    with SteadyProgress(at_once=False) as progress:
        inspector = Inspector(options, folders, (), progress)
        if options.convention == "auto" and inspector.model.convention is not None:
            images = [inspector.read(path, frame) for path, frame in zip(options.image, frames, strict=True)]
        inspection, written = inspector.inspect_together(images, options.out, masks)
    for view in inspection.views:
        print(f"{view.adapter}: {view.answer}")
    rows = [
        replace(view, adapter=f"{view.adapter}, image {number}")
        for number, part in enumerate(inspection.parts, 1)
        for view in part.views
    ]
    print(metrics_table(rows))
    print(
        *(f"image {number}: {note}" for number, image in enumerate(images, 1) for note in image.notes),
        *inspector.model.notes,
        *dict.fromkeys(note for view in inspection.views for note in view.notes),
        *(f"{view.adapter}: {view.mode}" for view in inspection.views if view.mode != "alone"),
        f"{written} files in {options.out}",
        sep="\n",
    )
    return 0


def _refuse(options: argparse.Namespace, names: Sequence[str]) -> None:
    for name in names:
        if getattr(options, name) not in (None, []):
            raise RequestError(
                expected="options that mean the same for every image",
                got=f"--{name} belongs to one image",
                remedy="Leave it out, or inspect the images one by one with --image",
            )


def _run_many(options: argparse.Namespace, folders: Mapping[str, Path | None]) -> int:
    """The question about every picture in a folder; what is wrong with one of them ends nothing."""
    _refuse(options, ("target", "segment", "measure", "series"))
    from a3tune.labels.tasks import tasks_in_folder

    work = tasks_in_folder(options.images, (options.question,), out=options.out)
    from a3tune.cli.inspector import Inspector  # torch: see above

    with SteadyProgress(at_once=False) as loading:
        inspector = Inspector(options, folders, _objects(options.dicom_objects), loading)
    rows = []
    try:
        with ItemProgress(len(work.tasks)) as progress:
            for task in work.tasks:
                rows.append(inspector.row(task.name, task.image, options.out / task.folder))
                progress.advance(task.name)
    finally:
        if rows:
            table = table_csv(options.question, inspector.model.name, inspector.adapters, rows)
            write_text(options.out / TABLE_NAME, table)
    failed = [row for row in rows if row.error]
    passed_over = f"; {counted(work.passed_over, 'other file')} passed over" if work.passed_over else ""
    print(f"{counted(len(rows) - len(failed), 'image')} of {len(rows):,} asked about{passed_over}")
    print(f"Results and {TABLE_NAME} in {options.out}")
    for row in failed:
        print(f"{row.image}: {row.error}", file=sys.stderr)
    return 1 if failed else 0


def _objects(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in DICOM_OBJECTS]
    if unknown:
        raise RequestError(
            expected=f"of {', '.join(DICOM_OBJECTS)}, separated by commas",
            got=f"--dicom-objects names {unknown[0]!r}",
            remedy="Correct it",
        )
    return list(dict.fromkeys(names))
