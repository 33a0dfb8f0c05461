"""What a visitor has that a run may read, as one tab tells it to another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from app.engine.ids import DataSetId


class DataSource(NamedTuple):
    """Data of a visitor's.

    Attributes:
        key: what it is asked for by, unique among the visitor's.
        title: what the visitor knows it by.
        data_set: the data set that it comes from.
        arguments: what names it on the command line of ``python -m a3tune eval``.
        environment: variables of a process that reads it.
    """

    key: str
    title: str
    data_set: DataSetId
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
