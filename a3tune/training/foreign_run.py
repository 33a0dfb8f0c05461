"""A run folder that was made on another machine, out of a ZIP archive: what is shown and used of it, nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME

from a3tune.data.archive import unpack_members
from a3tune.data.intake import LIMITS, IntakeLimits, cannot_write, new_folder
from a3tune.errors import DataError
from a3tune.training.adapter_intake import MAX_WEIGHTS, check_files
from a3tune.training.attention_watch import WATCH_NAME
from a3tune.training.event_log import EVENTS_NAME
from a3tune.training.run_folder import ADAPTER_NAME, BATCH_NAME, EXAMPLES_NAME, RUN_NAME, RunFolder

_EXPECTED = f"a run folder packed as ZIP: {RUN_NAME}, {EVENTS_NAME}, {ADAPTER_NAME}/ and {WATCH_NAME}/"
_LARGEST = {
    re.escape(RUN_NAME): 4 << 20,
    re.escape(EVENTS_NAME): 64 << 20,
    rf"{ADAPTER_NAME}/{re.escape(CONFIG_NAME)}": 1 << 20,
    rf"{ADAPTER_NAME}/{re.escape(SAFETENSORS_WEIGHTS_NAME)}": MAX_WEIGHTS,
    rf"({WATCH_NAME}|{BATCH_NAME})/\d\.png": 4 << 20,
    rf"{EXAMPLES_NAME}/\d+-\d\.png": 1 << 20,
}
"""Every file that is taken out of the archive -> its largest size in bytes."""


def unpack_run(archive: str | Path, folder: str | Path, limits: IntakeLimits = LIMITS) -> Path:
    """Take a run folder out of an archive.

    Args:
        archive: the ZIP file, with ``run.json`` at its top or in one folder.
        folder: a folder that does not exist yet.

    Returns:
        ``folder``.

    Raises:
        DataError: it is no archive, holds no run folder, or one of its files is too large or damaged.
        AdapterError: its adapter is damaged.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        with new_folder(folder) as part:
            unpack_members(
                archive, part, RUN_NAME, _LARGEST, what="run", expected=_EXPECTED, error=DataError, limits=limits
            )
            _check(part)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return folder


def _check(folder: Path) -> None:
    run = RunFolder(folder)
    record = run.read()
    parts = ("model", "data", "config")
    if record is None or not all(isinstance(record.get(part), dict) for part in parts):
        raise DataError(expected=_EXPECTED, got=f"{RUN_NAME} is no record of a run", remedy="Pack the run folder again")
    if run.adapter.is_dir():
        check_files(run.adapter)
