"""The examples that come with the application: a picture, what it is, and questions to ask about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parent.parent / "assets" / "examples"


class Example(NamedTuple):
    """One example.

    Attributes:
        key: its name in events.
        path: the picture's file.
        title: two or three words under the thumbnail.
        about: one sentence on what it is and where it comes from.
        questions: suggestions, the first of which is filled in.
    """

    key: str
    path: Path
    title: str
    about: str
    questions: tuple[str, ...]


def read_examples(folder: Path = FOLDER) -> tuple[Example, ...]:
    """The examples listed in ``examples.json``, in its order."""
    entries = json.loads((folder / "examples.json").read_text(encoding="utf-8"))
    return tuple(
        Example(entry["key"], folder / entry["file"], entry["title"], entry["about"], tuple(entry["questions"]))
        for entry in entries
    )
