"""Which files of a folder hold the rows, and which split a file's name stands for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

TEXT_SUFFIXES = (".json", ".jsonl", ".csv", ".tsv")
EXCEL_SUFFIXES = (".xlsx", ".xlsm", ".xls")
PARQUET_SUFFIX = ".parquet"
ROW_SUFFIXES = (*TEXT_SUFFIXES, *EXCEL_SUFFIXES, PARQUET_SUFFIX)
"""Endings of the files that hold rows."""
PICKLE_SUFFIXES = (".pkl", ".pickle", ".p")
ARCHIVE_SUFFIXES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")

_PAIR_LIST = re.compile(
    r"(.*(qa[_ -]?pairs|questions|vqanswering).*|c[1-4]_(modality|plane|organ|abnormality).*)\.txt", re.IGNORECASE
)
_TABBED_LIST = re.compile(r"vqa[_ -]?med[_ -]?2018.*qa.*\.csv", re.IGNORECASE)

MAX_DEPTH = 3
MAX_FOLDERS = 5_000
MAX_FILES = 400

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

SPLIT_NAMES: dict[str, Split] = {
    "train": "train", "training": "train", "trainval": "train", "traindev": "train",
    "validation": "validation", "validate": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "devel": "validation", "development": "validation",
    "eval": "validation", "evaluation": "validation",
    "test": "test", "testing": "test", "holdout": "test", "heldout": "test",
}  # fmt: skip
"""Every name of a split that data sets use, in one word -> "train", "validation" or "test". "trainval" is what a run
trains on where the test set alone is kept back, and a "holdout" is what is kept back."""

_CAMEL_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_TWO_WORDS = re.compile(r"(train)[ _-]?(?:and[ _-]?)?(val)(?:id|idation)?(?![a-z])|(hold|held)[ _-]?(out)(?![a-z])")
_SPLIT_SUFFIX = re.compile(r"(?<=.)(set|data|split|questions?|qa)$")


def files_by_depth(root: Path) -> Iterator[list[Path]]:
    """Files that may hold rows, a list for each depth from the folder itself downwards, sorted.

    Hidden files, what macOS adds to archives, and links to folders are left out; very wide or deep folders are
    walked up to a limit, because rows stand near the top of every known layout.
    """
    folders = [root]
    for _ in range(MAX_DEPTH + 1):
        found: list[Path] = []
        below: list[Path] = []
        for folder in folders:
            for entry in _entries(folder):
                if entry.is_dir(follow_symlinks=False):
                    below.append(Path(entry.path))
                elif Path(entry.name).suffix.lower() in (*ROW_SUFFIXES, *PICKLE_SUFFIXES) or is_pair_list(entry.name):
                    found.append(Path(entry.path))
        yield found[:MAX_FILES]
        folders = below[:MAX_FOLDERS]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            kept = [entry for entry in entries if not entry.name.startswith((".", "__MACOSX"))]
    except OSError:
        # A folder that may not be looked into is as good as empty: what lies in it is then told as missing.
        return []
    return sorted(kept, key=lambda entry: entry.name)


def is_pair_list(name: str) -> bool:
    """Whether a file's name is one that VQA-Med gives its lists of questions and answers."""
    return _PAIR_LIST.fullmatch(name) is not None


def is_tabbed_list(name: str) -> bool:
    """Whether a file's name is one that VQA-Med 2018 gives its lists of questions and answers."""
    return _TABBED_LIST.fullmatch(name) is not None


def split_named(text: str) -> Split | None:
    """The split that a value of a row names ("val", "Test set", "hold-out"); None for any other text."""
    word = re.sub(r"[ _-]+", "", _in_one_word(text.strip().lower()))
    return SPLIT_NAMES.get(word) or SPLIT_NAMES.get(_SPLIT_SUFFIX.sub("", word))


def _in_one_word(text: str) -> str:
    return _TWO_WORDS.sub(lambda match: "".join(part for part in match.groups() if part), text)


def split_of_path(file: str) -> Split | None:
    """The split that a file's name, or else its folder's name, stands for ("qas/train/train_qa.json"); None where a
    name tells none, or several."""
    for part in reversed(file.split("/")[-2:]):
        words = re.split(r"[^a-z]+", _in_one_word(_CAMEL_HUMP.sub("_", part).lower()))
        told = {SPLIT_NAMES[name] for word in words if (name := _SPLIT_SUFFIX.sub("", word)) in SPLIT_NAMES}
        if told:
            return told.pop() if len(told) == 1 else None
    return None
