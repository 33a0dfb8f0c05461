"""What runs were measured to do, question by question, kept so that tables and intervals can be made of it again.

A file for each run and set of questions, JSON packed by gzip: some tens of kilobytes, where the runs themselves take
hours to make again. What a run came from stands in its file, and figures of different origins are never put together.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from a3tune.storage import write_bytes

SUFFIX = ".json.gz"


@dataclass(frozen=True, eq=False)
class Measurement:
    """One run on one set.

    Attributes:
        run: what the run is called among those of its benchmark.
        about: what it is: the set's name, the run's variant and seed, the number of images.
        origin: what it came from: the base model's fingerprint and the run's settings.
        columns: by name one value for each question, all of one length.
    """

    run: str
    about: dict[str, Any]
    origin: dict[str, Any]
    columns: dict[str, list[Any]]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A dictionary for each question."""
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]


class Measurements:
    """A folder of them.

    Args:
        folder: made when the first is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, run: str, name: str) -> Path:
        """Where the measurement of a run on a set is kept."""
        return self.folder / f"{run}.{name}{SUFFIX}"

    def keep(self, run: str, name: str, about: dict[str, Any], origin: dict[str, Any], rows: list[Any]) -> None:
        """Keep what was measured; ``rows`` are dictionaries with the same keys."""
        columns = {key: [row[key] for row in rows] for key in rows[0]}
        content = {"run": run, "about": {"set": name, **about}, "origin": origin, "columns": columns}
        self.folder.mkdir(parents=True, exist_ok=True)
        words = json.dumps(content, separators=(",", ":")).encode()
        write_bytes(self.path(run, name), gzip.compress(words, mtime=0))

    def get(self, run: str, name: str) -> Measurement | None:
        """That of one run; None where there is none."""
        path = self.path(run, name)
        return Measurement(**json.loads(gzip.decompress(path.read_bytes()))) if path.is_file() else None

    def of_set(self, name: str) -> Iterator[Measurement]:
        """Those on a set, in the order of their runs' names."""
        for path in sorted(self.folder.glob(f"*.{name}{SUFFIX}")):
            found = self.get(path.name.removesuffix(f".{name}{SUFFIX}"), name)
            if found is not None:
                yield found
