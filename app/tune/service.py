"""Everything that the Tune tab does beside taking data in: measuring and starting runs, following and comparing them.

Nothing here knows of Gradio.
"""

from __future__ import annotations

import math
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a3tune.data.intake import check_room
from a3tune.errors import AdapterError, RequestError
from a3tune.recently_used import RecentlyUsed
from a3tune.storage import read_json_or_empty, write_json
from a3tune.wording import counted
from app.access.deployment import LOCAL, Deployment
from app.access.identity import audit, require
from app.access.uploads import fresh_folder
from app.common.studio_folder import StudioFolder, default_studio_folder, passing_studio_folder, remove_upload
from app.engine import library
from app.engine.background import Step, Task, run
from app.engine.ids import DataSetId, JobId, OwnerId
from app.engine.model_slot import ModelSlot
from app.engine.region_slot import RegionSlot
from app.engine.stop import StopEvents
from app.engine.subprocess_tasks import run_module
from app.jobs.hardware import check_machine, devices
from app.jobs.job import RESERVE, TITLE_LENGTH
from app.jobs.jobs import CONFIG_NAME, Job, JobQueue, end_runs
from app.jobs.sources import DataSource
from app.tune.adapters.service import AdapterService
from app.tune.data.regions import RegionPreviewService
from app.tune.data.service import DataService
from app.tune.data.sets import DataSet, DataSetStore
from app.tune.plans import Plan
from app.tune.runs.comparison import run_comparison
from app.tune.runs.event_reader import EventReader
from app.tune.runs.updates import run_news
from app.tune.runs.view import RunView, view_run

if TYPE_CHECKING:
    from a3tune.catalogue import Kind
    from a3tune.training.config import TuneConfig
    from app.kept.kept_folders import KeptFolders

_REMEMBERED = 64


class TuneService:
    """The Tune tab's state: the queue, the data sets, the regions on show, the adapters.

    Args:
        slot: the base model, which runs tune.
        region_slot: what finds and ranks regions for the preview.
        root: where everything is kept; `default_studio_folder` when None, on a Space `passing_studio_folder`.
        deployment: how much may be kept, and whether it outlives a restart.
        key: what all of it is kept with beyond a visit, encrypted; None where nothing is, or all as it is.

    Attributes:
        kept: what is kept encrypted.
        check_part: refuses names of what finds or ranks regions that may not be loaded here.
    """

    def __init__(
        self,
        slot: ModelSlot,
        region_slot: RegionSlot,
        root: Path | None = None,
        deployment: Deployment = LOCAL,
        key: bytes | None = None,
    ) -> None:
        usual = passing_studio_folder if deployment.name == "space" else default_studio_folder
        studio = StudioFolder(usual().root if root is None else root, deployment)
        self.kept: KeptFolders | None = None
        if key is not None:
            from app.kept.kept_folders import KeptFolders

            self.kept = KeptFolders(studio.root / "encrypted", key, end_runs)
            studio = replace(studio, root=self.kept.open_root, sealed=self.kept.kept)
        elif not deployment.keeps:
            # What is kept elsewhere under the same name stays: of visits that are over nothing is left.
            studio = replace(studio, root=fresh_folder(studio.root / "visits", end_runs))
        self.slot = slot
        self.jobs = JobQueue(studio, devices)
        self.data = DataService(DataSetStore(studio))
        self.regions = RegionPreviewService(self.data, region_slot)
        self.adapters = AdapterService(slot, self.jobs)
        self.check_part: Callable[[Kind, str], None] = lambda kind, name: None
        self._reader = EventReader()
        self._guard = threading.Lock()
        self._cancel = StopEvents()
        # What the last measurement of a plan found: (visitor, data, settings) -> its result.
        self._measured: RecentlyUsed[Mapping[str, Any]] = RecentlyUsed(_REMEMBERED)

    def forget(self, owner: OwnerId) -> None:
        """End everything of a visitor's, and remove it from memory and disk."""
        self._drop(owner)
        for job in self.jobs.jobs(owner):
            self.jobs.cancel(owner, job.id)
        if self.kept is not None:
            self.kept.remove(owner)
        self.jobs.studio.remove(owner)

    def leave(self, owner: OwnerId) -> None:
        """A visitor's last page is over: what is kept encrypted is sealed, and everything else removed."""
        if self.kept is None:
            self.forget(owner)
        else:
            self._drop(owner)
            self.kept.close(owner)

    def close(self) -> None:
        """The server ends: what is kept encrypted is sealed, but what a run is at work with."""

        def running(owner: OwnerId) -> bool:
            return any(job.state == "running" for job in self.jobs.jobs(owner))

        if self.kept is not None:
            self.kept.close_all(running)

    def _drop(self, owner: OwnerId) -> None:
        """End what is being done for a visitor, and drop what is known of their things."""
        place = self.jobs.studio.root / owner
        self.stop_measuring(owner)
        self.regions.forget(owner)
        self.data.forget(owner, place)
        with self._guard:
            self._reader.forget(place)
        self._measured.forget(lambda key: key[0] == owner)

    def at_work(self, owner: OwnerId) -> bool:
        """Whether a run of a visitor's waits or is at work."""
        return any(job.state != "ended" for job in self.jobs.jobs(owner))

    # ---- plans -------------------------------------------------------------------------------

    def measure(self, owner: OwnerId, name: DataSetId | None, plan: Plan) -> Iterator[Step | dict[str, Any]]:
        """What a plan takes on this machine, from one measured step: the fields of
        `a3tune.training.estimate.Estimate`, and "busy": whether a run disturbed the measurement.

        Raises:
            A3TuneError: the step cannot be made, with the reason.
            Cancelled: another measurement of this visitor began, or the page left.
        """
        require("tuner", "measure a plan")
        data, text = self.data.sets.get(owner, name), library.to_yaml(self._config(plan), plan.preset)

        def work(task: Task) -> dict[str, Any]:
            task.progress("Making one step with your data, in a process of its own", 0.0)
            busy = bool(self.jobs.busy())
            with tempfile.TemporaryDirectory(prefix="a3tune-") as folder:
                config = Path(folder) / CONFIG_NAME
                config.write_text(text, encoding="utf-8")
                arguments = ["--out", str(Path(folder) / "run"), "--config", str(config)]
                arguments += [*data.arguments, "--model", self.slot.profile]
                found = run_module("a3tune.training.estimate", arguments, data.environment, task)
            self._measured.put((owner, data.path, text), found)
            return {**found, "busy": busy}

        return run(work, self._cancel.renew(owner), kind="estimate")

    def stop_measuring(self, owner: OwnerId) -> None:
        """End a visitor's measurement."""
        self._cancel.stop(owner)

    # ---- runs --------------------------------------------------------------------------------

    def start(self, owner: OwnerId, name: DataSetId | None, plan: Plan, title: str = "") -> Job:
        """Put a run into the queue.

        Raises:
            DataError: the settings are wrong, or the disk is almost full.
            RequestError: this machine cannot train, the plan was measured and does not fit, or too many runs wait.
        """
        data, config = self._ready(owner, name), self._config(plan)
        text = library.to_yaml(config, plan.preset)
        measured = self._measured.get((owner, data.path, text))
        if measured is not None and not measured["fits"]:
            raise RequestError(
                expected="a plan that fits into memory",
                got="Its measured step does not",
                remedy=f"To make it fit: {measured['remedy']}; or measure again when more memory is free",
            )
        self._check_steps(config, data)
        check_room(self.jobs.studio.root, RESERVE)
        self.jobs.studio.check_room(owner)
        facts = {
            "title": title.strip()[:TITLE_LENGTH] or f"{plan.method} on {data.title}",
            "data": data.title,
            "data_name": data.id,
            "method": plan.method,
            "model": self.slot.profile,
        }
        return self.jobs.submit(
            owner,
            text,
            [*data.arguments, "--model", self.slot.profile],
            device=devices()[0].split(":")[0],
            facts=facts,
            environment=data.environment,
        )

    def _config(self, plan: Plan) -> TuneConfig:
        """All settings of a plan.

        Raises:
            DataError: unknown settings, or values out of range.
            RequestError: they name what finds or ranks regions and may not be loaded here.
        """
        config = plan.config()
        self.check_part("segmenter", config.label_segmenter)
        self.check_part("scorer", config.label_scorer)
        return config

    def _check_steps(self, config: TuneConfig, data: DataSet) -> None:
        """Raises:
        RequestError: the run would make more steps than one may.
        """
        steps = config.max_steps
        if steps is None:
            checked = self.data.known(data)
            items = 1 if checked is None else len(checked.dataset.items)
            steps = math.ceil(config.epochs * items / config.effective_batch())
        remedy = "Set a smaller max_steps or fewer epochs"
        self.jobs.studio.deployment.check("run_steps", steps, f"The plan makes {steps:,}", remedy)

    def obstacle(self, owner: OwnerId, name: DataSetId | None) -> str:
        """Why no run can be started on a data set, in words; "" when one can."""
        try:
            self._ready(owner, name)
        except RequestError as error:
            return str(error)
        return ""

    def _ready(self, owner: OwnerId, name: DataSetId | None) -> DataSet:
        check_machine()
        data = self.data.sets.get(owner, name)
        checked = self.data.known(data)
        if checked is not None and checked.dataset.counts.errors:
            raise RequestError(
                expected="data without faults",
                got=f"{data.title} has {counted(checked.dataset.counts.errors, 'fault')}",
                remedy="Repair it under Data, or correct it and upload it again",
            )
        return data

    def views(self, owner: OwnerId, *, at_work: bool = False) -> tuple[RunView, ...]:
        """All runs of a visitor, the newest first; ``at_work``: those that wait or are at work."""
        jobs = [job for job in self.jobs.jobs(owner, "tune") if not at_work or job.state != "ended"]
        with self._guard:
            return tuple(view_run(job, self._reader) for job in jobs)

    def news(self, owner: OwnerId, name: JobId, seen: Mapping[str, Any]) -> dict[str, Any]:
        """What a page does not know yet of one of the visitor's runs; see `app.tune.runs.updates.run_news`."""
        job = self.jobs.job(owner, name)
        # What was read of a run's events must not grow while it is told.
        with self._guard:
            return run_news(view_run(job, self._reader), seen)

    def comparison(self, owner: OwnerId, name: JobId, others: Sequence[str]) -> dict[str, Any]:
        """One of the visitor's runs with others over it; see `app.tune.runs.comparison.run_comparison`."""
        job = self.jobs.job(owner, name)
        views = self.views(owner)
        with self._guard:
            return run_comparison(view_run(job, self._reader), views, others)

    def add_run(self, owner: OwnerId, archive: Path, title: str) -> Job:
        """Open a run folder that was made on another machine, from a ZIP archive; the upload is removed.

        Raises:
            DataError, AdapterError: it is no run folder, or is refused.
        """
        require("tuner", "take a run in")
        self.jobs.studio.check_room(owner)
        name = JobId(secrets.token_hex(6))
        audit("run-add", run=name)
        folder = self.jobs.studio.runs(owner) / name
        folder.mkdir(parents=True, mode=0o700)
        try:
            library.unpack_run(archive, folder / "run", self.jobs.studio.intake_limits(owner))
            self.jobs.studio.check_room(owner)  # another may have come meanwhile
            record = read_json_or_empty(folder / "run" / "run.json")
            facts = {"title": title[:TITLE_LENGTH], "elsewhere": True, "created": time.time(), "queued": None}
            facts["method"] = str(record.get("config", {}).get("method", ""))
            facts["model"] = self._base_of(folder / "run" / "adapter", record)
            write_json(folder / "job.json", facts)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            remove_upload(archive)
        return self.jobs.job(owner, name)

    def _base_of(self, adapter: Path, record: Mapping[str, Any]) -> str:
        """The base model of a run that was made elsewhere: the one at work here when the adapter fits it."""
        named = str(record.get("model", {}).get("source", ""))
        if not adapter.is_dir():
            return named
        try:
            library.check_fit(adapter, self.slot.profile)
        except AdapterError:
            return named
        return self.slot.profile

    # ---- for other tabs ----------------------------------------------------------------------

    def data_sources(self, owner: OwnerId) -> tuple[DataSource, ...]:
        """A visitor's data sets; then, for each run whose data set is there, the same divided as the run divided it."""
        sets = {data.id: data for data in self.data.sets.all(owner)}
        found = [_source(data, data.id, data.title) for data in sets.values()]
        for job in self.jobs.jobs(owner, "tune"):
            data = sets.get(DataSetId(str(job.record.get("data_name"))))
            if data is not None and (job.run / "run.json").is_file():
                title = f"{data.title}, as “{job.title}” held it out"
                found.append(_source(data, str(job.id), title, "--held-out-by", str(job.run)))
        return tuple(found)


def _source(data: DataSet, key: str, title: str, *more: str) -> DataSource:
    images = () if data.images is None else ("--images", str(data.images))
    return DataSource(key, title, data.id, ("--data", str(data.path), *images, *more), data.environment)
