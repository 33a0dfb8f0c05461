"""Adapters as they are named on a command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from a3tune.bundle import demo_adapters, is_demo
from a3tune.errors import RequestError

ADAPTERS_HELP = (
    '"base" and adapters as NAME=FOLDER, separated by commas; with the demo model also lora and a3 (default base)'
)

TOGETHER: dict[str, bool | None] = {"auto": None, "yes": True, "no": False}
"""What is chosen by ``--together``; None for on a GPU alone."""


def add_together_option(parser: argparse.ArgumentParser, where: str) -> None:
    """``--together``: whether several adapters answer in one batch; ``where`` is the file that says how they did."""
    parser.add_argument(
        "--together",
        choices=tuple(TOGETHER),
        default="auto",
        help="whether several adapters answer as the rows of one batch: on a GPU (default auto), yes or no; adapters "
        f"other than plain LoRA and A3MoE and quantized models answer one by one all the same, and {where} says which",
    )


def adapter_folders(text: str, model: str) -> dict[str, Path | None]:
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
