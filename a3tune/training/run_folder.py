"""The run folder: what a tuning run writes down while it works, and what it needs to go on after a stop.

``run.json`` says what is tuned on what and how far it got, ``events.jsonl`` tells everything that happened (one JSON
object a line), ``checkpoints/`` holds all that the next step depends on, ``adapter/`` the adapter in PEFT's format,
``validation/`` the answers of the base model and of the best steps, question by question, ``batch/`` the first batch,
``examples/`` the questions that the best step answers best and worst. What a run goes on with is written beside its
place and renamed into it, so that a full disk or a killed process never leaves a half-written one.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a3tune.errors import DataError
from a3tune.storage import place_folder, read_json, read_json_or_empty, write_json
from a3tune.training.event_log import EVENTS_NAME, EventLog, now, plain
from a3tune.training.run_identity import FORMER_SETTINGS, OLDER, RunIdentity, is_older

if TYPE_CHECKING:
    from a3tune.training.config import TuneConfig

RUN_NAME = "run.json"
CHECKPOINTS_NAME = "checkpoints"
ADAPTER_NAME = "adapter"
STOP_NAME = "stop"
TARGETS_NAME = "targets.npz"
TALLIES_NAME = "validation"
BATCH_NAME = "batch"
EXAMPLES_NAME = "examples"
IDENTITY_NAME = "run_identity.json"
# As the Trainer of transformers calls it, which takes seconds to load.
STATE_NAME = "trainer_state.json"

_FORMAT = 1
_CHECKPOINT = re.compile(r"checkpoint-(\d+)$")
_OWN = {RUN_NAME, EVENTS_NAME, CHECKPOINTS_NAME, ADAPTER_NAME, STOP_NAME, TARGETS_NAME, TALLIES_NAME}
# What a log of a job that was started with this folder may have put there before.
_HARMLESS = (".log", ".out", ".err", ".pid")


class RunFolder:
    """One run's folder. Only the main process of a run writes to it; reading is safe at any time.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / CHECKPOINTS_NAME
        self.adapter = self.path / ADAPTER_NAME
        self.targets = self.path / TARGETS_NAME
        self.batch = self.path / BATCH_NAME
        self.examples = self.path / EXAMPLES_NAME
        self.event_log = EventLog(self.path / EVENTS_NAME)

    def tally(self, step: int | None) -> Path:
        """Where the answers of the validation of a step lie, question by question; those of the base model for None."""
        return self.path / TALLIES_NAME / f"{'base' if step is None else step}.npy"

    # The record

    def read(self) -> dict[str, Any] | None:
        """``run.json``; None when there is no run here.

        Raises:
            DataError: the file is damaged.
        """
        path = self.path / RUN_NAME
        try:
            record = read_json(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise DataError(
                expected=f"{RUN_NAME} as JSON", got=f"{RUN_NAME} is damaged ({error})", remedy="Choose another folder"
            ) from error
        if record.get("format") != _FORMAT:
            raise DataError(
                expected=f"{RUN_NAME} of format {_FORMAT}",
                got=f"{RUN_NAME} has another format",
                remedy="Choose another folder, or the version of this program that wrote it",
            )
        return record

    def check(self, identity: RunIdentity, *, resume: bool = False) -> bool:
        """Whether an unfinished run of exactly this kind waits here; False for a fresh folder, and for one whose run
        has made no step and is to begin with other settings.

        Args:
            identity: the run that is to be made.
            resume: take no other settings, even where no step has been made.

        Raises:
            DataError: the folder holds a finished run, a run of another model, data set or configuration, or
                something else.
        """
        record = self.read()
        if record is None:
            self._check_free()
            return False
        for part, name in (("model", "another model"), ("data", "other data"), ("config", "another configuration")):
            found = identity.differences(part, record)
            if found and part == "config" and not resume and not self.has_steps:
                return False
            if found:
                raise DataError(
                    expected="a new folder, or one with an unfinished run of the same model, data and configuration",
                    got=f"{self.path} holds a run of {name}: {'; '.join(found)}",
                    remedy="Choose another folder for this run, or give the settings of the run that is there",
                )
        if record.get("status") == "finished":
            raise DataError(
                expected="a new folder, or one with an unfinished run",
                got=f"The run in {self.path} is finished",
                remedy=f"Use its {ADAPTER_NAME} folder, or choose another folder for a new run",
            )
        return True

    def saved_by_this_run(self, step: int, identity: RunIdentity) -> bool:
        """Whether a checkpoint is one of a run of this model, data and configuration."""
        record = read_json_or_empty(self.checkpoint(step) / IDENTITY_NAME)
        return not any(identity.differences(part, record) for part in identity.record())

    def as_begun(self, config: TuneConfig) -> TuneConfig:
        """The settings with which a run that an earlier version began goes on: it took weak labels alone."""
        older = config.targets == "auto" and is_older(self.read() or {})
        return replace(config, targets=FORMER_SETTINGS["targets"]) if older else config

    def start(self, identity: RunIdentity, facts: Mapping[str, Any]) -> None:
        """Make the folder and write its first record; called by the main process once `check` passed.

        Args:
            facts: what else is known at the start (versions, process id, counts).
        """
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        for left in self.path.glob("**/.*.part"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        old = self.read() or {}
        if old and identity.differences("config", old):
            self._forget_preparations()
            old = {}
        started = old.get("started", now())
        kept: dict[str, Any] = {key: old[key] for key in ("fixed_heads", "label_settings") if key in old}
        if is_older(old):
            kept[OLDER] = True
        record: dict[str, Any] = {
            "format": _FORMAT,
            "status": "preparing",
            "started": started,
            **identity.record(),
            **kept,
            **facts,
        }
        self._write(record)

    def update(self, **facts: Any) -> None:
        """Put facts into ``run.json``."""
        record = self.read() or {"format": _FORMAT}
        self._write({**record, **facts, "updated": now()})

    @property
    def has_steps(self) -> bool:
        """Whether the run has made a step, saved or not."""
        return bool(self.steps_saved()) or any(event.get("event") == "step" for event in self.event_log.each())

    # Stop requests

    def forget_stop_request(self) -> None:
        """Drop a request that an earlier start was given."""
        if (self.path / RUN_NAME).is_file():
            (self.path / STOP_NAME).unlink(missing_ok=True)

    @property
    def stop_requested(self) -> bool:
        return (self.path / STOP_NAME).exists()

    # Checkpoints

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint of a step lies, or would lie."""
        return self.checkpoints / f"checkpoint-{step}"

    def steps_saved(self) -> tuple[int, ...]:
        """The steps of which a (complete) checkpoint is there, ascending."""
        if not self.checkpoints.is_dir():
            return ()
        found = [_CHECKPOINT.match(entry.name) for entry in self.checkpoints.iterdir() if entry.is_dir()]
        return tuple(sorted(int(match[1]) for match in found if match))

    def last_step(self, identity: RunIdentity) -> int | None:
        """The step of the last checkpoint, from which a run goes on; None where there is none.

        Raises:
            DataError: it is damaged, or one of another run.
        """
        steps = self.steps_saved()
        if not steps:
            return None
        folder = self.checkpoint(steps[-1])
        if not (folder / STATE_NAME).is_file() or not self.saved_by_this_run(steps[-1], identity):
            raise DataError(
                expected=f"a checkpoint of this run in {folder}",
                got="It is damaged, or was copied from another run",
                remedy="Remove this checkpoint folder and start again: the run goes on from the one before",
            )
        return steps[-1]

    def part(self, step: int) -> Path:
        """An empty folder in which the checkpoint of a step is written before it takes its place."""
        folder = self.checkpoints / f".checkpoint-{step}.part"
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        return folder

    def keep(self, part: Path, step: int, best_step: int | None, latest: int = 1) -> None:
        """Move a finished `part` into place, then remove all checkpoints but the ``latest`` and the best one."""
        place_folder(part, self.checkpoint(step))
        for other in self.steps_saved()[:-latest]:
            if other != best_step:
                shutil.rmtree(self.checkpoint(other))

    def publish_adapter(self, step: int, files: Iterable[str]) -> None:
        """Put the adapter of a checkpoint into ``adapter/``, replacing the one before in a single rename."""
        part = self.path / f".{ADAPTER_NAME}.part"
        if part.exists():
            shutil.rmtree(part)
        part.mkdir()
        for name in files:
            shutil.copyfile(self.checkpoint(step) / name, part / name)
        place_folder(part, self.adapter)

    def _write(self, record: Mapping[str, Any]) -> None:
        write_json(self.path / RUN_NAME, plain(record))

    def _forget_preparations(self) -> None:
        """Drop what a run without a step has measured and told: other settings may hold out other questions. Targets
        say themselves what they were made for."""
        self.event_log.path.unlink(missing_ok=True)
        if (self.path / TALLIES_NAME).is_dir():
            shutil.rmtree(self.path / TALLIES_NAME)

    def _check_free(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise DataError(
                expected="a folder for the run", got=f"{self.path} is a file", remedy="Choose another name for the run"
            )
        if not self.path.is_dir():
            return
        others = [entry.name for entry in self.path.iterdir() if entry.name not in _OWN]
        others = [name for name in others if not name.endswith(_HARMLESS)]
        if others:
            raise DataError(
                expected="a new or empty folder for the run",
                got=f"{self.path} holds other files ({sorted(others)[0]})",
                remedy="Choose another folder",
            )
