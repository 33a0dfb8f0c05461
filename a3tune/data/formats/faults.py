"""What is wrong in a data set, row by row, kept within bounds however much is wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]

FAULT_LIMIT = 200
"""How many faults of each severity are kept in words; the others are counted."""


class RowNumber(int):
    """The number of a row, from 1, where a file has no lines that could be counted: Parquet, Excel, JSON on one line.

    Attributes:
        identifier: the row's own id; "" where it has none.
    """

    identifier: str

    def __new__(cls, number: int, identifier: object = "") -> RowNumber:
        made = super().__new__(cls, number)
        made.identifier = "" if identifier is None else " ".join(str(identifier).split())[:80]
        return made


def place_of(file: str, line: int) -> str:
    """Where something stands, in words: "qa.csv, line 7", "train.json, row 3 (id 1622)", or the file alone for 0."""
    if not line:
        return file
    if not isinstance(line, RowNumber):
        return f"{file}, line {line}"
    return f"{file}, row {int(line)}" + (f" (id {line.identifier})" if line.identifier else "")


@dataclass(frozen=True, slots=True)
class DataFault:
    """One fault of a data set.

    Attributes:
        kind: short name of the fault, the same for all faults of its sort ("missing-image").
        file: the file as the reader of a message knows it: relative to the data folder.
        line: line of the file from 1, or its row (:class:`RowNumber`); 0 for the file as a whole.
        field: the column or key; "" for the row as a whole.
        what: what is wrong, without a full stop.
        remedy: what the reader can do, without a full stop.
        severity: "error" keeps a run from starting, "warning" does not.
    """

    kind: str
    file: str
    line: int
    field: str
    what: str
    remedy: str
    severity: Severity = "error"

    def __str__(self) -> str:
        return f"{place_of(self.file, self.line)}{f', {self.field}' if self.field else ''}: {self.what}"


class FaultLog:
    """Collects faults: the first of each severity in words, all of them as numbers.

    Args:
        limit: how many faults of each severity are kept in words.
    """

    def __init__(self, limit: int = FAULT_LIMIT) -> None:
        self.limit = limit
        self.kinds: Counter[str] = Counter()
        self.totals: Counter[Severity] = Counter()
        self._kept: list[DataFault] = []
        self._kept_by: Counter[Severity] = Counter()

    def add(
        self, kind: str, file: str, line: int, field: str, what: str, remedy: str, severity: Severity = "error"
    ) -> None:
        """Note one fault; beyond the limit it is only counted."""
        self.kinds[kind] += 1
        self.totals[severity] += 1
        if self._kept_by[severity] < self.limit:
            self._kept_by[severity] += 1
            self._kept.append(DataFault(kind, file, line, field, what, remedy, severity))

    def extend(self, other: FaultLog) -> None:
        """Take over everything that another log holds."""
        for fault in other._kept:
            if self._kept_by[fault.severity] < self.limit:
                self._kept_by[fault.severity] += 1
                self._kept.append(fault)
        self.kinds.update(other.kinds)
        self.totals.update(other.totals)

    @property
    def kept(self) -> tuple[DataFault, ...]:
        """The faults kept in words: errors first, each severity by file and line."""
        return tuple(sorted(self._kept, key=lambda fault: (fault.severity, fault.file, fault.line)))
