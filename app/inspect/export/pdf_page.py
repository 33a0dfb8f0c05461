"""One page as PDF."""

from __future__ import annotations

import io
import time
from pathlib import Path

from a3tune import __version__
from a3tune.errors import A3TuneError
from app.engine import library
from app.inspect.export.current_view import Shown


def pdf_page(shown: Shown) -> bytes:
    """The maps on show, their numbers in a table and the command, as a PDF file."""
    rows = [{key: (name, value) for key, name, value, _ in side} for side in shown.numbers]
    names = {key: name for side in rows for key, (name, _) in side.items()}
    table = [(name, [side.get(key, ("", "–"))[1] for side in rows]) for key, name in names.items()]
    buffer = io.BytesIO()
    ranks = [] if shown.labels is None else [item.rank for item in shown.labels.regions]
    figure = library.page_figure(
        shown.sides,
        shown.masks,
        table,
        shown.style,
        shown.command,
        shown.measures,
        shown.reference,
        ranks,
        _made(shown),
    )
    # No creation date and no producer's user name: the file tells of the image and the model only.
    figure.savefig(buffer, format="pdf", metadata={"Title": "A3Tune Studio", "CreationDate": None})
    return buffer.getvalue()


def _made(shown: Shown) -> str:
    """The day, the version, and the fingerprints of what answered, as far as its weights are still where they were."""
    told = []
    for name, place in shown.weights.items():
        model = name == "model"
        try:
            digest = library.weights_fingerprint(place) if model else library.adapter_fingerprint(Path(place))
            told.append(f"{name} {digest[:16]}")
        except (A3TuneError, OSError):
            told.append(f"{name} not there any more")
    day = time.strftime("%Y-%m-%d", time.gmtime())
    return f"Made on {day} (UTC) with A3Tune {__version__} · SHA-256 of the weights: {', '.join(told)}"
