"""``events.jsonl``: everything that happens in a run, one JSON object a line."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from a3tune.storage import whole_lines, write_text

EVENTS_NAME = "events.jsonl"
LONGEST_LINE = 1 << 20
"""Most bytes of a line that is read: what a run tells is far smaller."""


class EventLog:
    """The file to which a run tells what happens; only its main process writes, reading is safe at any time.

    Args:
        path: the file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, kind: str, **facts: Any) -> None:
        """Append one line; numbers that are not finite become null."""
        line = json.dumps({"event": kind, "time": now(), **plain(facts)}, ensure_ascii=False)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def read(self) -> list[dict[str, Any]]:
        """All events so far, oldest first; a line that is still being written is left out."""
        return list(self.each())

    def each(self) -> Iterator[dict[str, Any]]:
        """The same one by one: those of a run that came from elsewhere may be more than memory holds."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as stream:
            for _, line in whole_lines(stream, LONGEST_LINE):
                with suppress(ValueError, RecursionError):
                    event = json.loads(line)
                    if isinstance(event, dict):
                        yield event

    def forget_after(self, step: int) -> None:
        """Drop what happened after a checkpoint from which the run goes on: these steps will be made again."""
        events = self.read()
        kept = [event for event in events if not isinstance(event.get("step"), int) or event["step"] <= step]
        if len(kept) < len(events) or self._cut_off():
            write_text(self.path, "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in kept))

    def _cut_off(self) -> bool:
        """Whether the last line was still being written when the process was killed: the next would go on it."""
        return self.path.is_file() and self.path.stat().st_size > 0 and not self.path.read_bytes().endswith(b"\n")


def now() -> float:
    """Seconds since 1970, to the millisecond."""
    return round(time.time(), 3)


def plain(value: Any) -> Any:
    """The value in JSON's own types; what is not a finite number becomes None, since JSON has no word for it."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
