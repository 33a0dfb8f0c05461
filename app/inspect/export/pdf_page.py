"""One page as PDF."""

from __future__ import annotations

import io

from app.engine import library
from app.inspect.export.shown import Shown


def pdf_page(shown: Shown) -> bytes:
    """The maps on show, their numbers in a table and the command, as a PDF file."""
    rows = [{key: (name, value) for key, name, value, _ in side} for side in shown.numbers]
    names = {key: name for side in rows for key, (name, _) in side.items()}
    table = [(name, [side.get(key, ("", "–"))[1] for side in rows]) for key, name in names.items()]
    buffer = io.BytesIO()
    figure = library.page_figure(
        shown.sides, shown.masks, table, shown.style, shown.command, shown.measures, shown.reference
    )
    # No creation date and no producer's user name: the file tells of the image and the model only.
    figure.savefig(buffer, format="pdf", metadata={"Title": "A3Tune Studio", "CreationDate": None})
    return buffer.getvalue()
