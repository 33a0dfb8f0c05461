"""What one question about many images is, and what came of it so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from a3tune.inspection.table import TableRow
from a3tune.progress import duration
from a3tune.wording import counted
from app.engine.background import Task
from app.engine.ids import BatchId, RegionSessionId, ResultId, SessionId
from app.engine.model_generation import ModelGeneration


@dataclass(frozen=True, eq=False)
class BatchRow:
    """One image of a batch, once it was asked about.

    Attributes:
        table: what the table says.
        chance: by adapter, how many times the attention inside is what an even map would have there.
        picture: a small picture as a data URL; "" where there is none.
        content: the file, to open it again.
        result: what names its result as long as that is kept, and what names it once it was opened.
    """

    table: TableRow
    chance: Mapping[str, float] = field(default_factory=dict)
    picture: str = ""
    content: bytes = b""
    result: tuple[ResultId, ResultId] | None = None


@dataclass(eq=False)
class Batch:
    """One question about many images.

    Attributes:
        id: the unguessable name.
        visit: whose it is.
        pages: the pages that show it; it goes with the last of them.
        question, adapters, own: what is asked, and whom; folders by name of the visitor's own adapters.
        paths: the files, each of which is deleted once it was read.
        size: how many bytes they hold together.
        generation: the model that is asked.
        rows: what came of those that were asked about, in the order of ``paths``.
        seconds: how long these took.
        task: the work.
        region: what names the regions that are being found.
        ended: why it ended early, in words.
    """

    id: BatchId
    visit: str
    pages: set[SessionId]
    question: str
    adapters: tuple[str, ...]
    own: Mapping[str, Path]
    paths: tuple[Path, ...]
    size: int
    generation: ModelGeneration
    task: Task[None] = field(init=False)
    rows: list[BatchRow] = field(default_factory=list)
    seconds: float = 0.0
    region: RegionSessionId | None = None
    ended: str = ""

    @property
    def live(self) -> bool:
        """Whether more is to come."""
        return not (self.task.over or self.task.cancel.is_set())

    @property
    def left(self) -> float:
        """Seconds until its end, by what those before took; 0 where that is not known."""
        return self.seconds / len(self.rows) * (len(self.paths) - len(self.rows)) if self.rows else 0.0


def chip_value(batch: Batch) -> dict[str, Any]:
    """A batch at work as the page's head tells it on every tab (see `app.ui`)."""
    done, total = len(batch.rows), len(batch.paths)
    rest = f"about {duration(batch.left)} left" if done else batch.task.step.what
    return {
        "address": "inspect", "batch": batch.id, "title": f"{counted(total, 'image')}: {batch.question}",
        "share": round(done / total, 3), "left": ", ".join(filter(None, [f"{done:,} of {total:,}", rest])),
    }  # fmt: skip


def row_value(place: int, row: BatchRow) -> dict[str, Any]:
    """A row as plain JSON values."""
    table = row.table
    inside = {adapter: mass for adapter, mass in table.inside.items() if mass == mass}
    return {
        "number": place,
        "name": table.image,
        "picture": row.picture,
        "answers": dict(table.answers),
        "inside": inside,
        "chance": {adapter: row.chance[adapter] for adapter in inside},
        "regions": table.regions,
        "note": table.note,
        "error": table.error,
    }
