"""The command line: ``python -m a3tune <command>``. Each command prints a short summary and exits non-zero on bad
input with one clear line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from a3tune import __version__
from a3tune.bundle import DEMO, DEMO_NAME, EXAMPLES, demo_adapters, is_demo, model_source
from a3tune.cli.image_options import add_image_options, parse_window
from a3tune.cli.labels import add_labels_arguments, run_labels
from a3tune.cli.tune import run_tune
from a3tune.demo.examples import write_examples
from a3tune.errors import A3TuneError, RequestError
from a3tune.images import load_image
from a3tune.images.frames import mask_to_source
from a3tune.progress import show_progress
from a3tune.training.options import add_tune_arguments
from a3tune.types import MedicalImage

BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 for a check that failed, 2 for bad input."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except A3TuneError as error:
        print(f"a3tune {options.command}: {error}", file=sys.stderr)
    except OSError as error:
        print(f"a3tune {options.command}: {_system_error(error)}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"a3tune {options.command}: stopped.", file=sys.stderr)
        return 130
    return BAD_INPUT


def _system_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}. Check the path, its permissions and the free space."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m a3tune", description=__doc__.split("\n")[0])
    parser.add_argument("--version", action="version", version=f"a3tune {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    app = commands.add_parser("app", help="serve the app in the browser")
    app.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    app.add_argument("--port", type=int, help="port to listen on (default 7860)")
    app.add_argument("--profile", help="demo, a checkpoint folder or a hub id (default demo)")
    app.add_argument("--scorer", help="what ranks regions: demo, biomedclip, an open_clip folder or a hub id")
    app.add_argument("--segmenter", help="what finds regions: litemedsam, a checkpoint file or hub:OWNER/NAME/FILE")
    app.add_argument(
        "--models", metavar="LIST", help="what visitors may load under Models (default: all known by name)"
    )
    app.add_argument("--any-model", action="store_true", help="let visitors load any hub id or folder of this machine")
    app.add_argument(
        "--adapter", action="append", metavar="NAME=FOLDER", help="an adapter to compare with; can be repeated"
    )
    app.set_defaults(run=_app)

    inspect = commands.add_parser("inspect", help="ask a question about an image and save where every head looks")
    inspect.add_argument("--image", type=Path, required=True, metavar="FILE", help="PNG, JPEG, TIFF, DICOM, NIfTI ...")
    inspect.add_argument("--question", required=True, metavar="TEXT")
    inspect.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    inspect.add_argument("--model", default=DEMO, help="demo, a checkpoint folder or a hub id (default demo)")
    inspect.add_argument(
        "--adapters",
        default="base",
        metavar="LIST",
        help='"base" and adapters as NAME=FOLDER, separated by commas: each gets its answer and maps (default base); '
        "with the demo model also lora and a3",
    )
    inspect.add_argument("--critical-heads", type=int, metavar="K", help="how many (default: heads of one layer)")
    inspect.add_argument("--max-new-tokens", type=int, default=64, metavar="N", help="longest answer (default 64)")
    inspect.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default auto)")
    where = inspect.add_mutually_exclusive_group()
    where.add_argument(
        "--mask",
        type=Path,
        metavar="FILE",
        help="picture of the image's size: where it is not black the model should look (adds attention mass, pointing "
        "game and overlap)",
    )
    where.add_argument("--labels", type=int, metavar="K", help="the same with the K regions that fit the question best")
    add_image_options(inspect)
    inspect.set_defaults(run=_inspect)

    labels = commands.add_parser("labels", help="find regions, rank them for a prompt and save them with their masks")
    add_labels_arguments(labels)
    labels.set_defaults(run=run_labels)

    tune = commands.add_parser("tune", help="tune adapters so that attention falls where it matters")
    add_tune_arguments(tune)
    tune.set_defaults(run=lambda options: run_tune(options, show_progress))

    demo = commands.add_parser("demo", help="the bundled demo model")
    actions = demo.add_subparsers(dest="action", required=True, metavar="action")
    build = actions.add_parser("build", help="train the demo bundle from its fixed seed (about 20 minutes on 2 cores)")
    build.add_argument("--out", type=Path, metavar="DIR", help="folder for the bundle (default assets/demo)")
    build.add_argument("--seed", type=int, default=0)
    build.add_argument("--quick", action="store_true", help="a few steps only: tries the way, not the result")
    build.set_defaults(run=_demo_build)

    scorer = actions.add_parser("scorer", help="train the demo scorer from its seed (about 17 minutes on 2 cores)")
    scorer.add_argument("--out", type=Path, metavar="DIR", help="folder for the scorer (default assets/demo/scorer)")
    scorer.add_argument("--seed", type=int, default=0)
    scorer.add_argument("--quick", action="store_true", help="a few steps only: tries the way, not the result")
    scorer.set_defaults(run=_demo_scorer)

    examples = actions.add_parser("examples", help="draw the page's example phantoms again")
    examples.add_argument("--out", type=Path, metavar="DIR", default=EXAMPLES, help="folder (default assets/examples)")
    examples.set_defaults(run=_demo_examples)

    sample = actions.add_parser("sample", help="draw the bundled sample data again and label it (about 10 minutes)")
    sample.add_argument("--out", type=Path, metavar="DIR", help="folder (default assets/demo/sample)")
    sample.add_argument("--count", type=int, default=200, metavar="N", help="how many phantoms (default 200)")
    sample.add_argument("--seed", type=int, default=0)
    sample.set_defaults(run=_demo_sample)

    adapters = actions.add_parser("adapters", help="tune the demo adapters lora and a3 again (about 5 minutes)")
    adapters.add_argument("--out", type=Path, metavar="DIR", help="folder (default assets/demo/adapters)")
    adapters.add_argument("--data", type=Path, metavar="PATH", help="data (default: the bundled sample)")
    adapters.add_argument("--describe", action="store_true", help="write cards and settings anew, without training")
    adapters.set_defaults(run=_demo_adapters)

    parity = commands.add_parser("parity", help="compare this program's arithmetic with independent results")
    parity.add_argument("--golden", type=Path, metavar="DIR", help="the method's arithmetic against published numbers")
    parity.add_argument("--checkpoint", type=Path, metavar="DIR", help="capture against eager attention on this model")
    parity.add_argument("--llava-med", type=Path, metavar="DIR", help="an original LLaVA-Med folder, golden numbers")
    parity.add_argument("--vision-tower", type=Path, metavar="DIR", help="the CLIP folder that --llava-med's names")
    parity.set_defaults(run=_parity)

    doctor = commands.add_parser("doctor", help="say what this machine has and what is missing")
    doctor.set_defaults(run=_doctor)
    return parser


def _app(options: argparse.Namespace) -> int:
    script = Path(__file__).resolve().parents[2] / "app.py"
    if not script.is_file():
        raise RequestError(
            expected=f"the app beside the library, at {script}",
            got="app.py is not there",
            remedy="Run this from a full checkout of the project",
        )
    chosen = [
        (f"--{name}", getattr(options, name)) for name in ("host", "port", "profile", "scorer", "segmenter", "models")
    ]
    chosen += [("--adapter", pair) for pair in options.adapter or ()]
    extra = [str(part) for name, value in chosen if value is not None for part in (name, value)]
    extra += ["--any-model"] if options.any_model else []
    # The library never imports the page's packages, so the app takes this process's place.
    os.execv(sys.executable, [sys.executable, str(script), *extra])


def _adapter_folders(text: str, model: str) -> dict[str, Path | None]:
    """``base,NAME=FOLDER,...`` as folders by name, in order; None for the base.

    Args:
        text: as given; the names of bundled adapters need no folder where ``model`` is the demo model.
        model: the model as the user named it.

    Raises:
        RequestError: a part is neither "base" nor a bundled adapter nor NAME=FOLDER, or a name comes twice.
    """
    bundled: dict[str, Path | None] = {"base": None, **(demo_adapters() if is_demo(model) else {})}
    folders: dict[str, Path | None] = {}
    for part in (part.strip() for part in text.split(",")):
        name, equals, folder = (piece.strip() for piece in part.partition("="))
        known = name in bundled and not equals
        if name in folders or not (known or (name and folder)):
            raise RequestError(
                expected=f"adapters out of {', '.join(bundled)}, or NAME=FOLDER, each name once, separated by commas",
                got=f"There is no adapter {part!r}" if name not in folders else f"The adapter {name!r} is named twice",
                remedy="Write for instance --adapters base,tuned=runs/first/adapter",
            )
        folders[name] = bundled[name] if known else Path(folder)
    return folders


def _read_mask(path: Path, image: MedicalImage) -> np.ndarray:
    """bool [height, width], source pixels: where the picture, drawn in stored pixels, is not black.

    Raises:
        ImageError: it cannot be read.
        RequestError: it has another size than the image, or is black all over.
    """
    mask = load_image(path, square=False).pixels.any(axis=2)
    if not mask.any():
        raise RequestError(
            expected="a mask with something in it",
            got=f"{path.name} is black all over",
            remedy="Draw the mask on the image itself and save it in its size",
        )
    return mask_to_source(mask, image, path.name)


def _inspect(options: argparse.Namespace) -> int:
    folders = _adapter_folders(options.adapters, options.model)
    image = load_image(
        options.image,
        window=parse_window(options.window),
        frame=options.frame,
        axis=options.axis,
        volume=options.volume,
    )
    target = None if options.mask is None else _read_mask(options.mask, image)
    # Bad images are the common fault and are told within a second: torch and transformers, which take several
    # seconds to import, come only after the image was read.
    from transformers.utils.logging import disable_progress_bar

    from a3tune.adapters.switch import AdapterSet
    from a3tune.inspection.inspect import inspect_image
    from a3tune.inspection.record import metrics_table, write_inspection
    from a3tune.labels.fuse import union
    from a3tune.labels.maker import build_maker
    from a3tune.models.load import load_model

    if not sys.stderr.isatty():
        disable_progress_bar()
    name = DEMO_NAME if is_demo(options.model) else None
    model = load_model(model_source(options.model), device=options.device, name=name, on_progress=show_progress)
    labels = None
    if options.labels is not None:
        maker = build_maker(scorer=DEMO if is_demo(options.model) else "biomedclip", top_k=options.labels)
        labels = maker.make(image, maker.prompts((options.question,)))
        target = union(labels.regions)
    inspection = inspect_image(
        model,
        image,
        options.question,
        adapters=tuple(folders),
        adapter_set=AdapterSet(model.model, {name: folder for name, folder in folders.items() if folder is not None}),
        critical_count=options.critical_heads,
        max_new_tokens=options.max_new_tokens,
        target=target,
        on_progress=show_progress,
    )
    inspection = replace(inspection, labels=labels)
    written = write_inspection(inspection, options.out, target)
    for view in inspection.views:
        print(f"{view.adapter}: {view.answer}")
    if len(inspection.views) > 1 or target is not None:
        print(metrics_table(inspection))
    print(*image.notes, *model.notes, f"{len(written)} files in {options.out}", sep="\n")
    return 0


def _demo_build(options: argparse.Namespace) -> int:
    from a3tune.demo.build import build_bundle  # torch: see _inspect

    print(build_bundle(options.out, seed=options.seed, quick=options.quick, on_progress=show_progress))
    return 0


def _demo_scorer(options: argparse.Namespace) -> int:
    from a3tune.demo.scorer.build import build_scorer  # torch: see _inspect

    print(build_scorer(options.out, seed=options.seed, quick=options.quick))
    return 0


def _demo_examples(options: argparse.Namespace) -> int:
    print(f"{len(write_examples(options.out))} files in {options.out}")
    return 0


def _demo_sample(options: argparse.Namespace) -> int:
    from a3tune.demo.sample import build_sample  # torch: see _inspect

    print(build_sample(options.out, count=options.count, seed=options.seed, on_progress=show_progress))
    return 0


def _demo_adapters(options: argparse.Namespace) -> int:
    from a3tune.demo.adapters import build_adapters, describe_adapters  # torch: see _inspect

    if options.describe:
        print(describe_adapters(options.out))
        return 0
    print(build_adapters(options.out, data=options.data, on_progress=show_progress))
    return 0


def _parity(options: argparse.Namespace) -> int:
    from a3tune.parity.eager import check_checkpoint, format_rows  # torch: see _inspect
    from a3tune.parity.golden import check_golden
    from a3tune.parity.llava_med import check_llava_med

    rows = []
    if options.golden is not None:
        rows += check_golden(options.golden)
    if options.checkpoint is not None:
        rows += check_checkpoint(options.checkpoint)
    if options.llava_med is not None:
        rows += check_llava_med(options.llava_med, vision_tower=options.vision_tower)
    if not rows:
        raise RequestError(
            expected="something to compare with",
            got="Nothing was named",
            remedy="Give --golden DIR, --checkpoint DIR or --llava-med DIR",
        )
    print(format_rows(rows))
    return 0 if all(row.ok for row in rows) else 1


def _doctor(options: argparse.Namespace) -> int:
    from a3tune.cli.doctor import examine, format_findings  # torch: see _inspect

    findings = examine()
    print(format_findings(findings))
    return 0 if all(finding.ok for finding in findings) else 1
