"""What the folder of a tuning run says of itself to an evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from a3tune.errors import RequestError
from a3tune.storage import read_json_or_empty


def aligns(config: Mapping[str, Any]) -> bool:
    """Whether a run with these settings draws the attention of heads to regions.

    Raises:
        KeyError: they are no run's settings.
    """
    return config["method"] in ("a3", "lora+align") and not config["no_alignment"] and config["ratio"] > 0


def has_aligned(run: Path) -> bool:
    """Whether a folder is that of a tuning run that aligns attention heads."""
    try:
        with tuning_run(run) as record:
            return aligns(record["config"])
    except RequestError:
        return False


@contextmanager
def tuning_run(run: Path) -> Iterator[dict[str, Any]]:
    """For the length of a ``with`` block, the run's record, ``run.json``.

    Raises:
        RequestError: what is read in the block is not there, or is of another kind: the folder is of no run.
    """
    try:
        yield read_json_or_empty(run / "run.json")
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(
            expected="the folder of a tuning run, with run.json",
            got=f"{run} is none",
            remedy="Name the folder that was given to tune --out",
        ) from error
