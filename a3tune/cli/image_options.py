"""Options that several commands share, and what their texts mean."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from a3tune.cli.ineffective_options import refuse_ineffective
from a3tune.errors import RequestError
from a3tune.images import WINDOW_PRESETS
from a3tune.images.series import holds_series
from a3tune.types import MedicalImage, Window


def add_image_options(parser: argparse.ArgumentParser, *, each: bool = False) -> None:
    """Declare how an image is shown: ``--window``, ``--frame``, ``--axis``, ``--volume`` and ``--series``.

    Args:
        each: ``--frame`` may be given for each of several images; it is a list then, or None.
    """
    parser.add_argument(
        "--window",
        metavar="W",
        help=f"grey-value window: {', '.join(WINDOW_PRESETS)}, or centre,width in the file's units",
    )
    parser.add_argument(
        "--frame",
        action="append" if each else "store",
        type=int,
        metavar="N",
        help="frame or slice, from 0 (default: first, middle)" + "; of several images once for all or for each" * each,
    )
    parser.add_argument("--axis", type=int, choices=(0, 1, 2), default=2, help="of a volume (default 2, axial)")
    parser.add_argument("--series", type=int, metavar="N", help="of a folder or ZIP with several DICOM series, from 1")
    parser.add_argument("--volume", type=int, default=0, metavar="N", help="of a file with several, from 0 (default 0)")


def image_choice(options: argparse.Namespace) -> dict[str, Any]:
    """Which picture of a file is meant, as the image loader takes it: all of these options but the window."""
    return {name: getattr(options, name) for name in ("frame", "axis", "volume", "series")}


def refuse_ineffective_choice(options: argparse.Namespace, path: Path, image: MedicalImage) -> None:
    """Refuse what chooses among what the image's file does not have.

    Raises:
        RequestError: ``--axis`` or ``--volume`` for anything but a NIfTI volume; ``--series`` for a single file.
    """
    if image.format != "NIfTI":
        refuse_ineffective(options, ("axis", "volume"), f"for {path.name} ({image.format})", "a NIfTI volume for it")
    if not holds_series(path):
        refuse_ineffective(options, ("series",), f"for {path.name}", "a folder, ZIP or DICOMDIR with series")


def parse_window(text: str | None) -> str | Window | None:
    """The window option as the image loader takes it.

    Raises:
        RequestError: a comma, but not two numbers around it.
    """
    if text is None or "," not in text:
        return text
    try:
        centre, width = (float(part) for part in text.split(","))
    except ValueError:
        raise RequestError(
            expected="two numbers, as in --window 40,400",
            got=f"The window is {text!r}",
            remedy="Mend it or leave it out",
        ) from None
    return Window(centre, width)
