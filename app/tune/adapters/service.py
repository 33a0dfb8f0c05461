"""The Tune tab's adapters: those that came out of a visitor's runs and those that they loaded, to use and give away.

One of the modules of the application that call a3tune; nothing here knows of Gradio.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a3tune.errors import AdapterError, RequestError
from a3tune.storage import read_json_or_empty, write_json
from app.engine.background import Step, in_steps
from app.engine.subprocess_tasks import SubprocessTasks
from app.tune.data.service import DataSet, remove_upload
from app.tune.runs.jobs import ADAPTERS, JobQueue

if TYPE_CHECKING:
    from a3tune.training.run import RunFolder
    from app.engine.model_slot import ModelSlot

TITLE_LENGTH = 60
CONFIG_NAME, LOADED_NAME = "config.yaml", "loaded.json"
_WEIGHTS = "adapter_model.safetensors"
# A name goes into PEFT's module names and into a list on a command line.
_UNUSABLE = re.compile(r"[.,=]")


@dataclass(frozen=True)
class BeforeAfter:
    """What Inspect needs to show a run's adapter beside the base.

    Attributes:
        name: the adapter's name among the visitor's.
        picture: a watched image of its run; None where nothing was watched.
        question: what was asked about it.
    """

    name: str
    picture: Path | None
    question: str


class AdapterService:
    """Visitors' adapters.

    Args:
        slot: the base model.
        jobs: whose folders hold them.
    """

    def __init__(self, slot: ModelSlot, jobs: JobQueue) -> None:
        self._slot, self._jobs = slot, jobs
        self._subprocess_tasks = SubprocessTasks()

    def of(self, owner: str) -> dict[str, Path]:
        """Name -> folder in PEFT's format of every adapter that a visitor can use with the base model: those of
        their runs (finished, stopped, and of runs that still go on), the newest first, and those that they loaded. No
        name is one of those that all visitors share."""
        found: dict[str, Path] = {}
        taken = set(self._slot.adapters)

        def take(title: str, folder: Path) -> None:
            if (folder / _WEIGHTS).is_file():
                name = _unused(_UNUSABLE.sub("-", title).strip() or "adapter", taken)
                taken.add(name)
                found[name] = folder

        for job in self._jobs.jobs(owner):
            if job.record.get("model", self._slot.profile) == self._slot.profile:
                take(str(job.record.get("title", job.name)), job.run / "adapter")
        for folder in self._loaded(owner):
            facts = read_json_or_empty(folder / LOADED_NAME)
            if facts.get("model", self._slot.profile) == self._slot.profile:
                take(str(facts.get("title", folder.name)), folder)
        return found

    def name_of(self, owner: str, run: str) -> str:
        """The name of a run's adapter; "" when it has none yet, or one of another base model."""
        folder = self._jobs.job(owner, run).run / "adapter"
        return next((name for name, place in self.of(owner).items() if place == folder), "")

    def before_after(self, owner: str, name: str) -> BeforeAfter:
        """What shows an adapter beside the base: a question that its run watched.

        Raises:
            RequestError: there is no such adapter.
        """
        run = self._folder(owner, name).parent
        picture = run / "watch" / "0.png"
        return BeforeAfter(name, picture if picture.is_file() else None, _watched_question(run))

    def zip(self, owner: str, name: str) -> bytes:
        """An adapter as a ZIP archive; one of a run with its filled model card.

        Raises:
            DataError, RequestError: there is no such adapter.
        """
        from a3tune.training.model_card import zip_adapter, zip_folder  # peft

        folder = self._folder(owner, name)
        run = self._run_of(owner, folder)
        return zip_folder(folder) if run is None else zip_adapter(run)

    def push(self, owner: str, name: str, repository: str, token: str) -> str:
        """Put a run's adapter on the hub with the visitor's own token, which goes nowhere else.

        Returns:
            the repository's address.

        Raises:
            DataError, RequestError: there is no adapter, or the hub refuses.
        """
        from a3tune.training.publish import push_adapter  # peft

        run = self._run_of(owner, self._folder(owner, name))
        if run is None:
            raise RequestError(
                expected="an adapter of one of your runs",
                got=f"{name!r} was loaded: nothing is known about its data",
                remedy="Put it on the hub from where it came",
            )
        return push_adapter(run, repository, token)

    def load(self, owner: str, title: str, *, archive: Path | None = None, hub_id: str = "") -> str:
        """Take an adapter in from a ZIP archive or the hub, when it fits the base model.

        Returns:
            the name under which it is found.

        Raises:
            AdapterError: it is no safetensors adapter, is damaged, or was made for another base model.
        """
        from a3tune.training.adapter_intake import check_fit, fetch_adapter, unpack_adapter  # peft

        folder = self._jobs.home(owner, ADAPTERS) / secrets.token_hex(6)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if archive is not None:
                unpack_adapter(archive, folder)
            elif hub_id.strip():
                fetch_adapter(hub_id.strip(), folder)
            else:
                raise AdapterError(
                    expected="a ZIP archive or a hub id", got="There is neither", remedy="Give one of them"
                )
            check_fit(folder, self._slot.profile)
            words = (title or hub_id).strip()[:TITLE_LENGTH] or "loaded adapter"
            write_json(folder / LOADED_NAME, {"title": words, "model": self._slot.profile})
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            if archive is not None:
                remove_upload(archive)
        return next(name for name, place in self.of(owner).items() if place == folder)

    def remove(self, owner: str, name: str) -> None:
        """Remove an adapter that was loaded; one of a run goes with the run.

        Raises:
            RequestError: the visitor loaded no such adapter.
        """
        folder = self._folder(owner, name)
        if folder not in self._loaded(owner):
            raise RequestError(
                expected="an adapter that you loaded",
                got=f"{name!r} belongs to a run",
                remedy="Delete the run under Runs",
            )
        gone = folder.with_name(f".{folder.name}.gone")
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def compare(
        self, owner: str, name: str, data: DataSet, text: str, environment: Mapping[str, str]
    ) -> Iterator[Step | dict[str, Any]]:
        """Ask base and adapter the held-out questions of a data set: steps while it works, the fields of
        `a3tune.training.comparison.Comparison` last. A run's adapter is compared with the run's own settings.

        Args:
            name: the adapter's name.
            text: the settings for an adapter that belongs to no run, as YAML.
            environment: variables of the program.

        Raises:
            RequestError: there is no such adapter, or it cannot be done, with the reason.
            Cancelled: another comparison of this visitor began.
        """
        folder = self._folder(owner, name)
        job = folder.parent.parent

        def work(report: Any) -> dict[str, Any]:
            with tempfile.TemporaryDirectory(prefix="a3tune-") as place:
                config, run = job / CONFIG_NAME, folder.parent
                if not config.is_file():
                    config, run = Path(place) / CONFIG_NAME, Path(place)
                    config.write_text(text, encoding="utf-8")
                arguments = ["--adapter", str(folder), "--out", str(run), "--config", str(config)]
                arguments += [*data.arguments, "--model", self._slot.profile]
                report("Starting", 0.0)
                return self._subprocess_tasks.run(owner, "a3tune.training.comparison", arguments, environment, report)

        return in_steps(work)

    def _folder(self, owner: str, name: str) -> Path:
        folder = self.of(owner).get(name)
        if folder is None:
            raise RequestError(
                expected="one of your adapters", got="There is no such adapter", remedy="Choose one from the list"
            )
        return folder

    def _run_of(self, owner: str, folder: Path) -> RunFolder | None:
        """The run that an adapter came out of; None for one that was loaded."""
        from a3tune.training.run import RunFolder  # comes with the first adapter

        return None if folder in self._loaded(owner) else RunFolder(folder.parent)

    def _loaded(self, owner: str) -> list[Path]:
        place = self._jobs.home(owner, ADAPTERS)
        folders = place.iterdir() if place.is_dir() else ()
        return sorted(folder for folder in folders if not folder.name.startswith("."))


def _watched_question(run: Path) -> str:
    """The first question that a run watches; "" when it watches none."""
    path = run / "events.jsonl"
    if not path.is_file():
        return ""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if '"watched"' in line:
                with suppress(ValueError, LookupError, TypeError):
                    return str(json.loads(line)["questions"][0]["question"])
    return ""


def _unused(title: str, taken: Collection[str]) -> str:
    number = 2
    name = title
    while name in taken:
        name, number = f"{title} ({number})", number + 1
    return name
