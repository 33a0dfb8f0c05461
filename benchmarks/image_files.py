"""Which of the imaging libraries' own test files open, and whether DCMTK shows the DICOM files among them alike.

    python -m benchmarks.image_files pydicom=FOLDER nibabel=FOLDER ... [--write docs/image_files.md]

Prints Markdown. Every file in a folder counts, in whatever folder inside it, source code left out; files of the same
contents count once. Where DCMTK's dcmj2pnm is installed, the first frame of each DICOM file that opens is compared with
its output, with the same window and before any resampling: they agree where no pixel differs by more than 2 of 255
greys. JPEG-LS goes through dcmdjpls first.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom import uid

from a3tune.errors import A3TuneError
from a3tune.images import load_image
from a3tune.images.content import Content
from a3tune.images.dicom import read_dicom
from a3tune.images.series import holds_series
from a3tune.images.silence_decoders import silence_decoders
from a3tune.types import MedicalImage
from benchmarks.document import write_between

TOLERANCE = 2
SLOW = 3.0
_SOURCE = (".py", ".pyc")
_JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
# Longer reasons list what is in a folder.
_LONG = 200
_SIZES = re.compile(r"\d+ x \d+|\d+(?= megapixels)")
_NEW_NAMES = {"1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression"}
# What was found on looking at each file that differs.
_EXPLAINED = {
    "rtdose_expb.dcm": "DCMTK swaps the halves of 32-bit values of a big endian file; the little endian twin agrees",
    "rtdose_expb_1frame.dcm": "as rtdose_expb.dcm",
}


@dataclass(frozen=True)
class Outcome:
    """One file: what became of it, how long it took, and how it compares ("" without a comparison)."""

    name: str
    refused: str
    seconds: float
    compared: str = ""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="[NAME=]FOLDER", help="a folder of files, and what to call it")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into this document")
    options = parser.parse_args(arguments)
    tables = []
    for item in options.sets:
        name, _, folder = item.rpartition("=")
        if not Path(folder).is_dir():
            parser.error(f"{folder} is no folder")
        tables.append((name or Path(folder).name, [judge(path) for path in files_of(Path(folder))]))
    text = report(tables)
    print(text)
    if options.write:
        write_between(options.write, text)


def files_of(folder: Path) -> Iterator[Path]:
    """Every file inside, the same contents once, in the order of their names."""
    seen = set()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in _SOURCE:
            digest = hashlib.sha256(path.read_bytes()).digest()
            if digest not in seen:
                seen.add(digest)
                yield path


def judge(path: Path) -> Outcome:
    """Open a file as the application does, and compare it with DCMTK."""
    start = time.perf_counter()
    try:
        image = load_image(path, square=False)
    except A3TuneError as error:
        words = error.got if len(error.got) <= _LONG else error.got.partition(" (")[0]
        return Outcome(path.name, _SIZES.sub("N", words), time.perf_counter() - start)
    except Exception as error:
        return Outcome(path.name, f"TRACEBACK: {type(error).__name__}", time.perf_counter() - start)
    seconds = time.perf_counter() - start
    single = image.format == "DICOM" and not holds_series(path)
    compared = compare(path, image) if single and shutil.which("dcmj2pnm") else ""
    return Outcome(path.name, "", seconds, compared)


def compare(path: Path, image: MedicalImage) -> str:
    """ "agrees", "differs: ..." or "not shown by DCMTK: ..."."""
    with path.open("rb") as stream, silence_decoders():
        content = read_dicom(stream, None)
        syntax = _transfer_syntax(path)
    with tempfile.TemporaryDirectory() as folder:
        source = path
        if syntax in _JPEG_LS:
            source = Path(folder) / "plain.dcm"
            subprocess.run(["dcmdjpls", "-q", str(path), str(source)], check=False, capture_output=True)
        command = [
            "dcmj2pnm",
            "-q",
            "-O",
            "-S",
            "+Ma",
            "--write-raw-pnm",
            *_window_options(content, image),
            str(source),
        ]
        ran = subprocess.run(command, check=False, capture_output=True)
    if not ran.stdout:
        return f"not shown by DCMTK: {_encoding(syntax)}"
    shown = np.asarray(Image.open(io.BytesIO(ran.stdout)).convert("RGB")).astype(int)
    if shown.shape != image.pixels.shape:
        return f"differs: {shown.shape[1]} x {shown.shape[0]} pixels"
    difference = np.abs(shown - image.pixels)
    if difference.max() <= TOLERANCE:
        return "agrees"
    return f"differs: {(difference.max(axis=2) > TOLERANCE).mean():.0%} of the pixels, by up to {difference.max()}"


def _window_options(content: Content, image: MedicalImage) -> list[str]:
    """DCMTK's options for the window that the picture was shown with.

    DCMTK has no LINEAR_EXACT, but its LINEAR is the same with half a unit more for the centre and one for the width
    (PS3.3 C.11.2.1.2). It rounds rescaled values to whole numbers, so a fractional rescale is left out and the window
    given in stored values.
    """
    grey, window = content.grey, image.window
    if grey is None:
        return []
    if window is None:
        return ["+Wl", "1"]
    named = grey.header_window is not None and not image.notes
    sigmoid, exact = named and grey.function == "SIGMOID", not named or grey.function == "LINEAR_EXACT"
    centre, width = (window.centre, window.width) if exact or sigmoid else (window.centre - 0.5, window.width - 1)
    options = []
    if grey.slope > 0 and grey.slope != 1:
        centre, width = (centre - grey.intercept) / grey.slope, width / grey.slope
        options = ["-M"]
    if not sigmoid:
        centre, width = centre + 0.5, width + 1
    return [*options, "+Wfs" if sigmoid else "+Wfl", "+Ww", str(centre), str(width)]


def _transfer_syntax(path: Path) -> uid.UID | None:
    try:
        return pydicom.dcmread(path, force=True, stop_before_pixels=True).file_meta.get("TransferSyntaxUID")
    except OSError:
        # Sequences of unknown type in a big endian file, which pydicom alone does not read.
        return None


def _encoding(syntax: uid.UID | None) -> str:
    return "no transfer syntax" if syntax is None else _NEW_NAMES.get(syntax, syntax.name)


def report(tables: list[tuple[str, list[Outcome]]]) -> str:
    """Everything as Markdown."""
    lines = ["| files of | files | open | refused | slowest | agree with DCMTK |", "|---|---:|---:|---:|---:|---:|"]
    for name, outcomes in tables:
        opened = sum(not outcome.refused for outcome in outcomes)
        agree = sum(outcome.compared == "agrees" for outcome in outcomes)
        both = sum(outcome.compared.startswith(("agrees", "differs")) for outcome in outcomes)
        slowest = max((outcome.seconds for outcome in outcomes), default=0.0)
        told = f"{agree} of {both}" if both else "none to compare"
        lines.append(f"| {name} | {len(outcomes)} | {opened} | {len(outcomes) - opened} | {slowest:.1f} s | {told} |")
    every = [outcome for _, outcomes in tables for outcome in outcomes]
    slow = sum(outcome.seconds > SLOW for outcome in every)
    broken = sum(outcome.refused.startswith("TRACEBACK") for outcome in every)
    lines += ["", f"Over {SLOW:.0f} s: {slow or 'none'}. Ended in a traceback: {broken or 'none'}."]
    for name, outcomes in tables:
        lines += ["", f"## {name}", "", *_details(outcomes)]
    return "\n".join(lines)


def _details(outcomes: list[Outcome]) -> Iterator[str]:
    refused = [outcome for outcome in outcomes if outcome.refused]
    if refused:
        yield from ("| refused because | files |", "|---|---:|")
        for reason, count in Counter(outcome.refused for outcome in refused).most_common():
            yield f"| {reason} | {count} |"
    missing = Counter(outcome.compared for outcome in outcomes if outcome.compared.startswith("not shown"))
    if missing:
        yield from ("", "| not shown by DCMTK, whose files are stored as | files |", "|---|---:|")
        for words, count in missing.most_common():
            yield f"| {words.partition(': ')[2]} | {count} |"
    differing = [outcome for outcome in outcomes if outcome.compared.startswith("differs")]
    if differing:
        yield from ("", "| differs from DCMTK | how | why |", "|---|---|---|")
        for outcome in differing:
            why = _EXPLAINED.get(outcome.name, "not explained")
            yield f"| {outcome.name} | {outcome.compared.partition(': ')[2]} | {why} |"
    slow = [outcome for outcome in outcomes if outcome.seconds > SLOW]
    if slow:
        yield from ("", f"Over {SLOW:.0f} s: " + ", ".join(outcome.name for outcome in slow))


if __name__ == "__main__":
    main()
