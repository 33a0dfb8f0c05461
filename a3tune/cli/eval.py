"""``python -m a3tune eval``: every question of a data set, asked of the model with each adapter, counted and compared;
or somebody else's answers scored; or two finished evaluations compared."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a3tune.bundle import DEMO, DEMO_NAME, DEMO_SAMPLE, is_demo, model_source
from a3tune.cli.adapter_options import ADAPTERS_HELP, TOGETHER, adapter_folders, add_together_option
from a3tune.cli.ineffective_options import refuse_ineffective
from a3tune.cli.model_options import add_device_option
from a3tune.data.hub import dataset_place
from a3tune.demo.benchmark_data import phantom_benchmark
from a3tune.errors import A3TuneError, RequestError
from a3tune.evaluation.items import ITEMS_NAME, read_items
from a3tune.evaluation.systems import CONTROLS, MASKS
from a3tune.evaluation.tuning_run import tuning_run
from a3tune.progress import Progress, TimedProgress, no_progress
from a3tune.storage import cache_folder, named_path
from a3tune.training.launch import check_processes, is_first_process
from a3tune.training.options import print_answer

if TYPE_CHECKING:
    from a3tune.evaluation.estimate import EvaluationEstimate
    from a3tune.evaluation.questions import EvaluationData
    from a3tune.evaluation.report import Report
    from a3tune.evaluation.run import EvaluationPlan
    from a3tune.models.model import VisionLanguageModel

HELP = "measure answers and attention over a data set, and compare adapters"
PHANTOM = "phantom"
EXPORTS = ("markdown", "latex", "lmms-eval", "radeval", "figures")
_OF_DATA = ("data", "split", "held_out_by", "limit", "images", "layout")
_OF_ASKING = (
    *("model", "adapters", "allow_other_base", "masks", "decoding", "controls", "batch_size", "max_new_tokens"),
    *("critical_heads", "heads", "device", "together"),
)
_OF_RESULTS = ("predictions", "export")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.epilog = (
        "eval compare A B compares two finished evaluations of the same questions. Several processes: accelerate "
        "launch --num_processes 2 -m a3tune eval --data ...; an evaluation that was stopped goes on when the same "
        "command is started again."
    )
    parser.add_argument("action", nargs="*", metavar="compare A B", help="compare the evaluations in two folders")
    parser.add_argument(
        "--data",
        metavar="PATH",
        help=f"file of rows, folder of a data set, hub id, demo for the sample, or {PHANTOM} for the phantom benchmark",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument("--split", help="train, validation, test or all (default: test, else validation, else all)")
    parser.add_argument(
        "--held-out-by",
        type=Path,
        metavar="RUN",
        help="divide rows without a split as this tuning run did; asked are those that it validated on",
    )
    parser.add_argument("--model", default=DEMO, help="demo, a checkpoint folder or a hub id (default demo)")
    parser.add_argument("--adapters", default="base", metavar="LIST", help=ADAPTERS_HELP)
    parser.add_argument(
        "--allow-other-base", action="store_true", help="use adapters that were made for other weights all the same"
    )
    parser.add_argument(
        "--masks",
        choices=MASKS,
        help="what attention is measured against: the data's own masks, weak labels of the pipeline, or nothing "
        "(default: true where the data has any, else none)",
    )
    parser.add_argument(
        "--decoding", default="", metavar="LIST", help="ways of decoding to try on the first adapter besides greedy"
    )
    parser.add_argument(
        "--controls",
        default="",
        metavar="LIST",
        help=f"{', '.join(CONTROLS)}: also without the image, and with another's",
    )
    parser.add_argument("--predictions", type=Path, metavar="FILE", help="score the answers in a file instead")
    parser.add_argument(
        "--export", default="", metavar="LIST", help=f"also write {', '.join(EXPORTS)} (separated by commas)"
    )
    parser.add_argument(
        "--estimate", action="store_true", help="ask one batch and print what all would take, as lines of JSON"
    )
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="questions in one pass (default 16)")
    parser.add_argument("--max-new-tokens", type=int, default=64, metavar="N", help="longest answer (default 64)")
    parser.add_argument("--critical-heads", type=int, metavar="K", help="how many (default: heads of one layer)")
    parser.add_argument(
        "--heads",
        nargs="+",
        default=(),
        metavar="SET",
        help="further sets of heads that attention is read in, beside the critical ones: all, critical:K for another "
        "number of them, aligned=RUN or aligned:NAME=RUN for those that a tuning run aligned",
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="ask no more than N questions, drawn by a hash, the same every time"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of sampling and of the intervals' draws")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the images, where it lies elsewhere")
    parser.add_argument("--layout", default="auto", help="layout of the data (default: told from its keys)")
    add_device_option(parser)
    add_together_option(parser, "report.json")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns 0.

    Raises:
        A3TuneError: bad input; of several processes only the first raises, the others end quietly with 2.
    """
    if options.action:
        names = (*_OF_DATA, *_OF_ASKING, *_OF_RESULTS, "estimate")
        refuse_ineffective(
            options, names, "with compare", "compare, two folders, and of options --out and --seed alone"
        )
        return _compare(options)
    if options.estimate:
        refuse_ineffective(
            options, (*_OF_RESULTS, "out"), "with --estimate", "what is asked of what; nothing is written"
        )
        return _estimate(options)
    if options.predictions is not None:
        refuse_ineffective(options, _OF_ASKING, "with --predictions", "data and answers to score; no model is asked")
    missing = [f"--{name}" for name in ("data", "out") if getattr(options, name) is None]
    if missing:
        raise RequestError(
            expected="--data and --out, or compare A B", got=f"{missing[0]} is not given", remedy="See eval --help"
        )
    if options.limit is not None and options.limit < 1:
        raise RequestError(expected="a limit of at least 1", got=f"{options.limit}", remedy="Leave --limit out for all")
    check_processes(os.environ)
    exports = _list(options.export, "exports", EXPORTS)
    try:
        report = _score(options, exports) if options.predictions is not None else _evaluate(options, exports)
    except A3TuneError:
        if is_first_process():
            raise
        return 2
    if is_first_process():
        print(report)
    return 0


def _evaluate(options: argparse.Namespace, exports: tuple[str, ...]) -> str:
    with _told() as progress:
        plan, data, model = _prepare(options, progress)
        from a3tune.evaluation.run import evaluate

        report = evaluate(plan, data, model, options.out, model_name=options.model, on_progress=progress)
    return _summary(report, options.out, exports)


def _estimate(options: argparse.Namespace) -> int:
    """Lines of JSON: progress as "what" and "share", then the fields of
    `a3tune.evaluation.estimate.EvaluationEstimate`, or "error" in words."""

    def report(what: str, share: float) -> None:
        print(json.dumps({"what": what, "share": round(share, 3)}), flush=True)

    def find() -> EvaluationEstimate:
        if options.data is None:
            raise RequestError(expected="--data", got="It is not given", remedy="See eval --help")
        report("Reading the data", 0.0)
        plan, data, model = _prepare(options, report)
        from a3tune.evaluation.estimate import estimate_evaluation

        return estimate_evaluation(plan, data, model, model_name=options.model, on_progress=report)

    return print_answer(find)


def _prepare(
    options: argparse.Namespace, progress: Progress
) -> tuple[EvaluationPlan, EvaluationData, VisionLanguageModel]:
    """What is asked of what: slips in the options are told before anything is loaded."""
    folders = adapter_folders(options.adapters, options.model)
    controls = _list(options.controls, "controls", CONTROLS)
    from a3tune.evaluation.head_sets import parse_head_sets

    head_sets = parse_head_sets(",".join(options.heads))
    data = _data(options, progress)
    from transformers.utils.logging import disable_progress_bar

    from a3tune.evaluation.run import EvaluationPlan
    from a3tune.models.load import load_model

    disable_progress_bar()
    has_masks = any(question.item.mask is not None or question.item.boxes for question in data.questions)
    plan = EvaluationPlan(
        adapters=folders,
        masks=options.masks or ("true" if has_masks else "none"),
        decodings=_list(options.decoding, "decoding", None),
        controls=controls,  # type: ignore[arg-type]
        batch_size=options.batch_size,
        max_new_tokens=options.max_new_tokens,
        critical_count=options.critical_heads,
        head_sets=head_sets,
        seed=options.seed,
        allow_other_base=options.allow_other_base,
        together=TOGETHER[options.together],
    )
    name = DEMO_NAME if is_demo(options.model) else None
    return plan, data, load_model(model_source(options.model), device=options.device, name=name)


def _score(options: argparse.Namespace, exports: tuple[str, ...]) -> str:
    with _told() as progress:
        data = _data(options, progress)
    from a3tune.evaluation.scoring import score_predictions

    report = score_predictions(options.predictions, data, options.out, seed=options.seed)
    return _summary(report, options.out, exports)


def _compare(options: argparse.Namespace) -> int:
    if len(options.action) != 3 or options.action[0] != "compare":
        raise RequestError(
            expected="compare and two folders", got=" ".join(options.action), remedy="Write: eval compare A B"
        )
    from a3tune.evaluation.scoring import compare_folders
    from a3tune.evaluation.summary import comparison_text

    print(comparison_text(compare_folders(*map(named_path, options.action[1:]), out=options.out, seed=options.seed)))
    return 0


def _data(options: argparse.Namespace, progress: Progress) -> EvaluationData:
    from a3tune.evaluation.questions import read_evaluation_data

    unpack = None
    if options.data == DEMO:
        path = DEMO_SAMPLE
    elif options.data == PHANTOM:
        path = phantom_benchmark(on_progress=progress)
    else:
        path = dataset_place(options.data, progress, with_images=options.images is None)
    if path.is_dir() or path.suffix == ".parquet":
        unpack = cache_folder() / "pictures" / hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    return read_evaluation_data(
        path,
        options.split,
        name=options.data,
        layout=options.layout,
        images=options.images,
        unpack_to=unpack,
        most=options.limit,
        held_out=None if options.held_out_by is None else _held_out(options.held_out_by),
    )


def _held_out(run: Path) -> tuple[float, int]:
    """Validation share and seed of a tuning run."""
    with tuning_run(run) as record:
        config: Any = record["config"]
        return float(config["validation_share"]), int(config["seed"])


def _summary(report: Report, out: Path, exports: tuple[str, ...]) -> str:
    """The report in words, its exports written by the first process."""
    from a3tune.evaluation.export import export
    from a3tune.evaluation.summary import report_text

    empty = []
    if exports and is_first_process():
        items = read_items(out / ITEMS_NAME)
        empty = [kind for kind in exports if not export(kind, report, items, out)]
    nothing = f"\nNothing to export as {', '.join(empty)}: the data has nothing of that kind." if empty else ""
    return f"{report_text(report)}{nothing}\nItems, report and table in {out}"


def _list(text: str, name: str, known: tuple[str, ...] | None) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [part for part in parts if known is not None and part not in known]
    if unknown or len(set(parts)) < len(parts):
        raise RequestError(
            expected=f"{name} out of {', '.join(known or ('those known',))}, each once",
            got=f"{(unknown or parts)[0]!r}",
            remedy=f"See eval --help for --{name}",
        )
    return parts


def _told() -> AbstractContextManager[Progress]:
    """Progress on stderr; of several processes the first one's alone."""
    return TimedProgress() if is_first_process() else nullcontext(no_progress)
