"""``python -m a3tune parity``: a row for each check of this program's arithmetic."""

from __future__ import annotations

import argparse
from pathlib import Path

from a3tune.cli.ineffective_options import refuse_ineffective
from a3tune.errors import RequestError

HELP = "compare this program's arithmetic with independent results"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--golden", type=Path, metavar="DIR", help="the method's arithmetic against published numbers")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="capture against eager attention on this model")
    parser.add_argument("--llava-med", type=Path, metavar="DIR", help="an original LLaVA-Med folder, golden numbers")
    parser.add_argument("--vision-tower", type=Path, metavar="DIR", help="the CLIP folder that --llava-med's names")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns 1 when a check failed."""
    if not (options.golden or options.checkpoint or options.llava_med):
        raise RequestError(
            expected="something to compare with",
            got="Nothing was named",
            remedy="Give --golden DIR, --checkpoint DIR or --llava-med DIR",
        )
    if options.llava_med is None:
        refuse_ineffective(options, ("vision_tower",), "without --llava-med", "--llava-med, whose vision tower it is")
    # torch: only once there is something to compare.
    from a3tune.parity.eager import check_checkpoint, format_rows
    from a3tune.parity.golden import check_golden
    from a3tune.parity.llava_med import check_llava_med

    rows = [] if options.golden is None else check_golden(options.golden)
    if options.checkpoint is not None:
        rows += check_checkpoint(options.checkpoint)
    if options.llava_med is not None:
        rows += check_llava_med(options.llava_med, vision_tower=options.vision_tower)
    print(format_rows(rows))
    return 0 if all(row.ok for row in rows) else 1
