"""Options of several commands about where and how precisely a model computes."""

from __future__ import annotations

import argparse


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """``--device``."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default auto)")


def add_dtype_option(parser: argparse.ArgumentParser, what: str) -> None:
    """``--dtype``; ``what`` says the precision of what it is."""
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help=f"{what} (default auto: float32 on a processor, half on a GPU)",
    )
