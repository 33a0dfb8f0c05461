"""Finished batches on disk, so that an evaluation which ends at any point goes on from there.

Each process appends to a file of its own; a batch is a line. A line that was cut off by a crash, a kill or a full disk
is as if it had never been written: its batch is done again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO


class Journal:
    """One process's file of finished batches, and all that was finished before by whatever process.

    Args:
        folder: where the files of all processes lie.
        rank: this process's number.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._path = folder / f"{rank}.jsonl"
        self.done = self.read()
        self._stream: BinaryIO | None = None

    def __enter__(self) -> Journal:
        _cut_torn_line(self._path)
        self._stream = self._path.open("ab")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def read(self) -> dict[str, list[dict[str, Any]]]:
        """key -> results of every finished batch in the files of all processes."""
        done: dict[str, list[dict[str, Any]]] = {}
        for path in sorted(self._folder.glob("*.jsonl")):
            for line in path.read_bytes().split(b"\n"):
                try:
                    entry = json.loads(line)
                    done.setdefault(entry["key"], entry["results"])
                except (ValueError, KeyError, TypeError):
                    continue
        return done

    def add(self, key: str, results: list[dict[str, Any]]) -> None:
        """Keep a finished batch; it is on the disk when this returns.

        Raises:
            OSError: the disk does not take it; the file then ends with a torn line, which the next start leaves out.
        """
        if self._stream is None:
            raise RuntimeError("the journal is not open")
        line = json.dumps({"key": key, "results": results}, ensure_ascii=False, allow_nan=False)
        self._stream.write(line.encode("utf-8", "backslashreplace") + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self.done[key] = results


def _cut_torn_line(path: Path) -> None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    if content and not content.endswith(b"\n"):
        with path.open("r+b") as stream:
            stream.truncate(content.rfind(b"\n") + 1)
