"""Everything that the Tune tab asks of the library: plans, estimates, runs, and adapters to use and give away.

With :mod:`app.tune.data.service` and :mod:`app.tune.data.regions` the tab's own services; nothing here knows of Gradio.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from a3tune.bundle import DEMO
from a3tune.errors import AdapterError, RequestError
from a3tune.storage import read_json_or_empty, write_json
from a3tune.wording import counted
from app.engine.background import Step
from app.engine.model_slot import ModelSlot
from app.engine.region_slot import RegionSlot
from app.engine.subprocess_tasks import SubprocessTasks
from app.tune.adapters.service import CONFIG_NAME, TITLE_LENGTH, AdapterService
from app.tune.data.regions import RegionPreviewService
from app.tune.data.service import DataService, DataSet, remove_upload
from app.tune.runs.jobs import PROJECT, RUNS, Job, JobQueue, studio_folder
from app.tune.runs.runs import EventReader, RunView, view_run

if TYPE_CHECKING:
    from a3tune.training.config import TuneConfig

Read = TypeVar("Read")

QUICK = "quick"
"""The preset of a quick look."""

DEVICE_FILES = Path("/dev")

_RESERVE = 1 << 30
_REMEMBERED = 64


@dataclass(frozen=True)
class Plan:
    """What a run is to be.

    Attributes:
        preset: the name of a preset.
        method: "a3", "lora", "lora+align" or "a3moe".
        ablations: names of the paper's ablations that are switched on.
        settings: single settings that differ from the preset's, as text.
    """

    preset: str = QUICK
    method: str = "a3"
    ablations: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def overrides(self) -> dict[str, object]:
        """All that differs from the preset."""
        return {**self.settings, "method": self.method, **dict.fromkeys(self.ablations, True)}


class TuneService:
    """The Tune tab's state: the queue, the data sets, the adapters.

    Args:
        slot: the base model, which runs tune.
        region_slot: what finds and ranks regions for the preview.
        root: where everything is kept; the library's own place when None.
    """

    def __init__(self, slot: ModelSlot, region_slot: RegionSlot, root: Path | None = None) -> None:
        self.slot = slot
        self.jobs = JobQueue(studio_folder() if root is None else root, devices)
        self.data = DataService(self.jobs)
        self.labels = RegionPreviewService(self.data, region_slot)
        self._reader = EventReader()
        self.adapters = AdapterService(slot, self.jobs)
        self._subprocess_tasks = SubprocessTasks()
        self._guard = threading.Lock()
        # What the last measurement of a plan found: (visitor, data, settings) -> its result.
        self._measured: OrderedDict[tuple[str, Path, str], Mapping[str, Any]] = OrderedDict()

    # ---- plans -------------------------------------------------------------------------------

    def presets(self) -> tuple[str, ...]:
        """Names of the presets, the quick one first."""
        folder = PROJECT / "a3tune" / "training" / "presets"
        names = sorted(path.stem for path in folder.glob("*.yaml"))
        return (QUICK, *(name for name in names if name != QUICK))

    def config(self, plan: Plan) -> TuneConfig:
        """The settings of a plan.

        Raises:
            DataError: unknown settings, or values out of range.
        """
        # Imported here: it loads torch, and plans are made when that has come.
        from a3tune.training.config import load_config

        return load_config(plan.preset, plan.overrides)

    def settings(self, preset: str) -> dict[str, object]:
        """Every setting of a preset."""
        from a3tune.training.config import load_config  # see config

        return vars(load_config(preset)).copy()

    def steps(self, plan: Plan, questions: int) -> int:
        """Optimiser steps of a plan for so many training questions."""
        config = self.config(plan)
        return config.max_steps or max(1, -(-round(config.epochs * questions) // config.effective_batch()))

    def measure(self, owner: str, name: str, plan: Plan) -> dict[str, Any]:
        """What a plan takes on this machine, from one measured step.

        Returns:
            the fields of `a3tune.training.estimate.Estimate`, and "busy": whether a run disturbed the measurement.

        Raises:
            A3TuneError: the step cannot be made, with the reason.
            Cancelled: another measurement of this visitor began, or the page left.
        """
        data, text = self.data.get(owner, name), self._yaml(plan)
        busy = bool(self.jobs.busy())
        with tempfile.TemporaryDirectory(prefix="a3tune-") as folder:
            config = Path(folder) / CONFIG_NAME
            config.write_text(text, encoding="utf-8")
            arguments = ["--out", str(Path(folder) / "run"), *self._arguments(data, config)]
            found = self._subprocess_tasks.run(owner, "a3tune.training.estimate", arguments, _environment(data))
        self._measured[owner, data.path, text] = found
        if len(self._measured) > _REMEMBERED:
            self._measured.popitem(last=False)
        return {**found, "busy": busy}

    # ---- runs --------------------------------------------------------------------------------

    def start(self, owner: str, name: str, plan: Plan, title: str = "") -> Job:
        """Put a run into the queue.

        Raises:
            DataError: the settings are wrong, or the disk is almost full.
            RequestError: this machine cannot train, the plan was measured and does not fit, or too many runs wait.
        """
        from a3tune.data.intake import check_room  # pyarrow: see app.tune.data.service

        _check_place()
        data, text = self.data.get(owner, name), self._yaml(plan)
        checked = self.data.known(data)
        if checked is not None and checked.dataset.counts.errors:
            raise RequestError(
                expected="data without faults",
                got=f"{data.title} has {counted(checked.dataset.counts.errors, 'fault')}",
                remedy="Repair it under Data, or correct it and upload it again",
            )
        measured = self._measured.get((owner, data.path, text))
        if measured is not None and not measured["fits"]:
            raise RequestError(
                expected="a plan that fits into memory",
                got="Its measured step does not",
                remedy=f"To make it fit: {measured['remedy']}; or measure again when more memory is free",
            )
        check_room(self.jobs.root, _RESERVE)

        def build(folder: Path) -> Sequence[str]:
            (folder / CONFIG_NAME).write_text(text, encoding="utf-8")
            return ["--out", str(folder / "run"), *self._arguments(data, folder / CONFIG_NAME)]

        words = title.strip()[:TITLE_LENGTH] or f"{plan.method} on {data.title}"
        return self.jobs.submit(
            owner,
            build,
            device=devices()[0].split(":")[0],
            facts={
                "title": words,
                "data": data.title,
                "data_name": data.name,
                "method": plan.method,
                "model": self.slot.profile,
            },
            environment=_environment(data),
        )

    def view(self, owner: str, name: str) -> RunView:
        """Where one of the visitor's runs stands."""
        job = self.jobs.job(owner, name)
        with self._guard:
            return view_run(job, self._reader)

    def look(self, owner: str, name: str, read: Callable[[RunView], Read]) -> Read:
        """What is read of one of the visitor's runs while nobody else reads on in its events."""
        job = self.jobs.job(owner, name)
        with self._guard:
            return read(view_run(job, self._reader))

    def views(self, owner: str) -> tuple[RunView, ...]:
        """All runs of a visitor, the newest first."""
        jobs = self.jobs.jobs(owner)
        with self._guard:
            return tuple(view_run(job, self._reader) for job in jobs)

    def picture(self, owner: str, name: str, number: int) -> bytes:
        """A watched image of a run, as PNG."""
        path = self.jobs.job(owner, name).run / "watch" / f"{int(number)}.png"
        return path.read_bytes() if path.is_file() else b""

    def take_run(self, owner: str, archive: Path, title: str) -> Job:
        """Open a run folder that was made on another machine, from a ZIP archive.

        Raises:
            DataError, AdapterError: it is no run folder, or is refused.
        """
        from a3tune.training.foreign_run import unpack_run  # pyarrow: see app.tune.data.service

        try:
            name = secrets.token_hex(6)
            folder = self.jobs.home(owner, RUNS) / name
            folder.mkdir(parents=True, mode=0o700)
            try:
                unpack_run(archive, folder / "run")
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            record = read_json_or_empty(folder / "run" / "run.json")
            facts = {"title": title[:TITLE_LENGTH], "elsewhere": True, "created": time.time(), "queued": None}
            facts["method"] = str(record.get("config", {}).get("method", ""))
            facts["model"] = self._base_of(folder / "run" / "adapter", record)
            write_json(folder / "job.json", facts)
        finally:
            remove_upload(archive)
        return self.jobs.job(owner, name)

    # ---- other machines ----------------------------------------------------------------------

    def launch_text(self, plan: Plan) -> tuple[str, str]:
        """(configuration as YAML, command lines) to make the same run on a bigger machine or several nodes."""
        command = "-m a3tune tune --data DATA --out RUN --config config.yaml"
        if self.slot.profile != DEMO:
            command += f" --model {shlex.quote(self.slot.profile)}"
        config = self.config(plan)
        each = config.batch_size * config.gradient_accumulation
        launch = "accelerate launch --multi_gpu --mixed_precision no --dynamo_backend no"
        lines = [
            "# one machine, one GPU or none",
            f"python {command}",
            f"# one machine, 4 GPUs: a step holds 4 x {each} questions; for as many as here divide batch_size or",
            "# gradient_accumulation in config.yaml by 4",
            f"{launch} --num_machines 1 --num_processes 4 {command}",
            f"# 2 machines with 8 GPUs each (16 x {each}): start this on both, with --machine_rank 0 and 1",
            f"{launch} --num_machines 2 --num_processes 16 --machine_rank 0 \\",
            "    --main_process_ip ADDRESS_OF_THE_FIRST --main_process_port 29500 \\",
            f"    {command}",
            "# then pack the run folder and open it here",
            "cd RUN && zip -r ../run.zip run.json events.jsonl adapter watch",
        ]
        return self._yaml(plan), "\n".join(lines)

    # ---- adapters ----------------------------------------------------------------------------

    def compare(self, owner: str, name: str, data: str | None, plan: Plan) -> Iterator[Step | dict[str, Any]]:
        """Ask base and adapter the held-out questions: of the data that the adapter's run was tuned on while it is
        there, else of the chosen data set; see `app.tune.adapters.service.AdapterService.compare`.

        Raises:
            RequestError: there is no such adapter or data set.
        """
        folder = self.adapters.of(owner).get(name)
        known = read_json_or_empty(folder.parent.parent / "job.json").get("data_name") if folder else None
        there = {found.name: found for found in self.data.all(owner)}
        chosen = there.get(str(known)) or self.data.get(owner, str(data))
        return self.adapters.compare(owner, name, chosen, self._yaml(plan), _environment(chosen))

    def _base_of(self, adapter: Path, record: Mapping[str, Any]) -> str:
        """The base model of a run that was made elsewhere: the one at work here when the adapter fits it."""
        from a3tune.training.adapter_intake import check_fit  # peft

        named = str(record.get("model", {}).get("source", ""))
        if not adapter.is_dir():
            return named
        try:
            check_fit(adapter, self.slot.profile)
        except AdapterError:
            return named
        return self.slot.profile

    # ---- parts -------------------------------------------------------------------------------

    def _yaml(self, plan: Plan) -> str:
        from a3tune.training.config import to_yaml  # see config

        return to_yaml(self.config(plan))

    def _arguments(self, data: DataSet, config: Path) -> list[str]:
        return [*data.arguments, "--config", str(config), "--model", self.slot.profile]


def devices() -> tuple[str, ...]:
    """The devices that runs can have, one run each."""
    torch = sys.modules.get("torch")
    # While torch is still being loaded there is no run to start either.
    count = torch.cuda.device_count() if torch is not None and hasattr(torch, "cuda") else 0
    return tuple(f"cuda:{number}" for number in range(count)) or ("cpu",)


def place_notice() -> str:
    """What cannot be done where the application runs, and what to do about it; "" where all can."""
    if os.environ.get("SPACES_ZERO_GPU"):
        return (
            "This Space runs on ZeroGPU, which lends a GPU for seconds at a time: a tuning run does not fit. Look "
            "through your data and make a plan here, then duplicate the Space with a GPU of its own, or take the "
            "command under Scale to a machine with a GPU and open the run folder here."
        )
    # The page is built before torch has come, which alone could say what it can use: the system knows the devices.
    if os.environ.get("SPACE_ID") and devices() == ("cpu",) and not any(DEVICE_FILES.glob("nvidia[0-9]*")):
        return (
            "This Space has no GPU: the demo model can be tuned, larger ones would take days. Duplicate the Space with "
            "a GPU, or take the command under Scale to a machine with one. The disk of a Space is emptied when it "
            "restarts: download what you want to keep."
        )
    return ""


def _check_place() -> None:
    if os.environ.get("SPACES_ZERO_GPU"):
        raise RequestError(
            expected="a machine that can train for minutes or hours",
            got="ZeroGPU lends a GPU for seconds at a time",
            remedy="Duplicate the Space with a GPU of its own, or use the command under Scale on another machine",
        )


def _environment(data: DataSet) -> dict[str, str]:
    """Variables of a run: what is derived from a visitor's images stays in the visitor's folder."""
    return {"A3TUNE_CACHE": str(data.cache), "TOKENIZERS_PARALLELISM": "false"}
