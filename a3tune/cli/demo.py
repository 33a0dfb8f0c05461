"""``python -m a3tune demo``: makes what is bundled again, part by part. Each part is imported when it is asked for."""

from __future__ import annotations

import argparse
from pathlib import Path

from a3tune.bundle import EXAMPLES
from a3tune.errors import RequestError
from a3tune.progress import SteadyProgress

HELP = "the bundled demo model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="action")
    build = actions.add_parser("build", help="train the demo bundle from its fixed seed (about 20 minutes on 2 cores)")
    build.add_argument("--out", type=Path, metavar="DIR", help="folder for the bundle (default assets/demo)")
    build.add_argument("--seed", type=int, default=0)
    build.add_argument("--quick", action="store_true", help="a few steps only: tries the way, not the result")
    build.set_defaults(act=_build)

    scorer = actions.add_parser("scorer", help="train the demo scorer from its seed (about 17 minutes on 2 cores)")
    scorer.add_argument("--out", type=Path, metavar="DIR", help="folder for the scorer (default assets/demo/scorer)")
    scorer.add_argument("--seed", type=int, default=0)
    scorer.add_argument("--quick", action="store_true", help="a few steps only: tries the way, not the result")
    scorer.set_defaults(act=_scorer)

    examples = actions.add_parser(
        "examples", help="draw the page's example phantoms again and ask the demo model about them"
    )
    examples.add_argument("--out", type=Path, metavar="DIR", default=EXAMPLES, help="folder (default assets/examples)")
    examples.set_defaults(act=_examples)

    sample = actions.add_parser("sample", help="draw the bundled sample data again and label it (about 10 minutes)")
    sample.add_argument("--out", type=Path, metavar="DIR", help="folder (default assets/demo/sample)")
    sample.add_argument("--count", type=int, default=200, metavar="N", help="how many phantoms (default 200)")
    sample.add_argument("--seed", type=int, default=0)
    sample.set_defaults(act=_sample)

    adapters = actions.add_parser("adapters", help="tune the demo adapters lora and a3 again (about 5 minutes)")
    adapters.add_argument("--out", type=Path, metavar="DIR", help="folder (default assets/demo/adapters)")
    adapters.add_argument("--data", type=Path, metavar="PATH", help="data (default: the bundled sample)")
    adapters.add_argument("--describe", action="store_true", help="write cards and settings anew, without training")
    adapters.set_defaults(act=_adapters)


def run(options: argparse.Namespace) -> int:
    """Run the action; returns 0."""
    print(options.act(options))
    return 0


def _build(options: argparse.Namespace) -> str:
    from a3tune.demo.build import build_bundle

    with SteadyProgress() as progress:
        return build_bundle(options.out, seed=options.seed, quick=options.quick, on_progress=progress)


def _scorer(options: argparse.Namespace) -> str:
    from a3tune.demo.scorer.build import build_scorer

    return build_scorer(options.out, seed=options.seed, quick=options.quick)


def _examples(options: argparse.Namespace) -> str:
    from a3tune.demo.examples import write_examples

    return f"{len(write_examples(options.out))} files in {options.out}"


def _sample(options: argparse.Namespace) -> str:
    from a3tune.demo.sample import build_sample

    with SteadyProgress() as progress:
        return build_sample(options.out, count=options.count, seed=options.seed, on_progress=progress)


def _adapters(options: argparse.Namespace) -> str:
    from a3tune.demo.adapters import build_adapters, describe_adapters

    if options.describe:
        if options.data is not None:
            raise RequestError(
                expected="--data for tuning",
                got="--data is given with --describe, which tunes nothing",
                remedy="Leave --data out",
            )
        return describe_adapters(options.out)
    with SteadyProgress() as progress:
        return build_adapters(options.out, data=options.data, on_progress=progress)
