"""The Tune tab's adapters: those that came out of a visitor's runs and those that they loaded, to use and give away.

One of the modules of the application that call a3tune; nothing here knows of Gradio.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from a3tune.errors import AdapterError, RequestError
from a3tune.storage import read_json_or_empty, write_json
from app.access.identity import audit, require
from app.common.pictures import PictureQuestion
from app.common.studio_folder import megabytes, remove_upload, restore_folder, retire_folder
from app.engine import library
from app.engine.ids import AdapterName, JobId, OwnerId
from app.engine.model_slot import ModelSlot
from app.engine.private_adapters import LOADED
from app.jobs.job import TITLE_LENGTH
from app.jobs.jobs import WEIGHTS_NAME, JobQueue

if TYPE_CHECKING:
    from a3tune.training.run_folder import RunFolder

_LONGEST_QUESTION = 2000
# A name goes into PEFT's module names and into a list on a command line.
_UNUSABLE = re.compile(r"[.,=]")


@dataclass(frozen=True)
class BeforeAfter:
    """What Inspect needs to show a run's adapter beside the base.

    Attributes:
        name: the adapter's name among the visitor's.
        asked: a question that its run watched; None where nothing was watched.
    """

    name: AdapterName
    asked: PictureQuestion | None


class AdapterService:
    """Visitors' adapters.

    Args:
        slot: the base model.
        jobs: whose folders hold them.

    Attributes:
        check_hub: refuses hub ids that may not be loaded here.
    """

    def __init__(self, slot: ModelSlot, jobs: JobQueue) -> None:
        self._slot, self._jobs = slot, jobs
        self.check_hub: Callable[[Literal["adapter"], str], None] = lambda what, name: None

    def of(self, owner: OwnerId) -> dict[AdapterName, Path]:
        """Name -> folder in PEFT's format of every adapter that a visitor can use with the base model: those of
        their runs (finished, stopped, and of runs that still go on), the newest first, and those that they loaded. No
        name is one of those that all visitors share."""
        found: dict[AdapterName, Path] = {}
        taken = set(self._slot.adapters)

        def take(title: str, folder: Path) -> None:
            if (folder / WEIGHTS_NAME).is_file():
                name = AdapterName(_unused(_UNUSABLE.sub("-", title).strip() or "adapter", taken))
                taken.add(name)
                found[name] = folder

        for job in self._jobs.jobs(owner, "tune"):
            if job.record.get("model", self._slot.profile) == self._slot.profile:
                take(job.title, job.adapter)
        for folder in self._loaded(owner):
            facts = read_json_or_empty(folder / LOADED)
            if facts.get("model", self._slot.profile) == self._slot.profile:
                take(str(facts.get("title", folder.name)), folder)
        return found

    def name_of(self, owner: OwnerId, job: JobId) -> AdapterName:
        """The name of a run's adapter; "" when it has none yet, or one of another base model."""
        return self._name(owner, self._jobs.job(owner, job).adapter)

    def before_after(self, owner: OwnerId, name: AdapterName) -> BeforeAfter:
        """What shows an adapter beside the base: a question that its run watched.

        Raises:
            RequestError: there is no such adapter.
        """
        run = self._folder(owner, name).parent
        picture = run / "watch" / "0.png"
        return BeforeAfter(name, _watched_question(run, picture) if picture.is_file() else None)

    def zip(self, owner: OwnerId, name: AdapterName) -> bytes:
        """An adapter as a ZIP archive; one of a run with its filled model card.

        Raises:
            DataError, RequestError: there is no such adapter.
        """
        folder = self._folder(owner, name)
        run = self._run_of(owner, folder)
        audit("adapter-export", adapter=_key(folder, run))
        return library.zip_folder(folder) if run is None else library.zip_adapter(run)

    def push(self, owner: OwnerId, name: AdapterName, repository: str, token: str, strength: float = 1.0) -> str:
        """Put a run's adapter on the hub with the visitor's own token, which goes nowhere else.

        Args:
            strength: by how much its change of the base is multiplied; 1 is as tuned.

        Returns:
            the repository's address.

        Raises:
            AdapterError, DataError, RequestError: there is no adapter or none of that strength, or the hub refuses.
        """
        run = self._run_of(owner, self._folder(owner, name))
        if run is None:
            raise RequestError(
                expected="an adapter of one of your runs",
                got=f"{name!r} was loaded: nothing is known about its data",
                remedy="Put it on the hub from where it came",
            )
        require("tuner", "publish an adapter")
        audit("adapter-push", adapter=_key(run.path / "adapter", run), repository=repository)
        return library.push_adapter(run, repository, token, strength=strength)

    def load(
        self,
        owner: OwnerId,
        title: str,
        *,
        archive: Path | None = None,
        hub_id: str = "",
        allow_other_base: bool = False,
    ) -> AdapterName:
        """Take an adapter in from a ZIP archive or the hub, when it fits the base model.

        Args:
            allow_other_base: also one that was made for other weights of the same shapes; `origin` says so.

        Returns:
            the name under which it is found.

        Raises:
            AdapterError: it is no safetensors adapter, is damaged, or was made for another base model.
        """
        folder = self._jobs.studio.adapters(owner) / secrets.token_hex(6)
        try:
            require("tuner", "load an adapter")
            count = len(self._loaded(owner))
            self._jobs.studio.deployment.check("adapters", count + 1, f"You have {count}", "Delete one")
            self._jobs.studio.check_room(owner)
            audit("adapter-load", adapter=folder.name, hub=hub_id.strip())
            folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if archive is not None:
                library.unpack_adapter(archive, folder, self._jobs.studio.intake_limits(owner))
            elif hub_id.strip():
                self.check_hub("adapter", hub_id.strip())
                library.fetch_adapter(hub_id.strip(), folder)
            else:
                raise AdapterError(
                    expected="a ZIP archive or a hub id", got="There is neither", remedy="Give one of them"
                )
            self._jobs.studio.check_room(owner)  # another may have come meanwhile
            origin = library.check_fit(folder, self._slot.profile, allow_other_base=allow_other_base)
            words = (title or hub_id).strip()[:TITLE_LENGTH] or "loaded adapter"
            facts = {"title": words, "model": self._slot.profile, "origin": origin}
            write_json(folder / LOADED, {**facts, "allow_other_base": allow_other_base})
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            if archive is not None:
                remove_upload(archive)
        return self._name(owner, folder)

    def origin(self, owner: OwnerId, name: AdapterName) -> str:
        """What is to be said about the base model that a loaded adapter was made for; "" where there is no doubt."""
        return str(read_json_or_empty(self._folder(owner, name) / LOADED).get("origin", ""))

    def delete(self, owner: OwnerId, name: AdapterName) -> str:
        """Remove an adapter that was loaded, in a minute; one of a run goes with the run.

        Returns:
            what it is restored by.

        Raises:
            RequestError: the visitor loaded no such adapter.
        """
        folder = self._loaded_folder(owner, name)
        audit("adapter-delete", adapter=folder.name)
        retire_folder(folder)
        return folder.name

    def describe(self, owner: OwnerId, name: AdapterName) -> str:
        """What goes when an adapter is deleted, as a question."""
        return f"Delete “{name}” ({megabytes(self._loaded_folder(owner, name))})?"

    def restore(self, owner: OwnerId, key: str) -> None:
        """Take an adapter back.

        Raises:
            RequestError: it is gone for good.
        """
        audit("adapter-restore", adapter=str(key))
        restore_folder(self._jobs.studio.adapters(owner), key)

    def _loaded_folder(self, owner: OwnerId, name: AdapterName) -> Path:
        folder = self._folder(owner, name)
        if folder not in self._loaded(owner):
            raise RequestError(
                expected="an adapter that you loaded",
                got=f"{name!r} belongs to a run",
                remedy="Delete the run under Runs",
            )
        return folder

    def _name(self, owner: OwnerId, folder: Path) -> AdapterName:
        return next((name for name, place in self.of(owner).items() if place == folder), AdapterName(""))

    def _folder(self, owner: OwnerId, name: AdapterName) -> Path:
        folder = self.of(owner).get(name)
        if folder is None:
            raise RequestError(
                expected="one of your adapters", got="There is no such adapter", remedy="Choose one from the list"
            )
        return folder

    def _run_of(self, owner: OwnerId, folder: Path) -> RunFolder | None:
        """The run that an adapter came out of; None for one that was loaded."""
        return None if folder in self._loaded(owner) else library.RunFolder(folder.parent)

    def _loaded(self, owner: OwnerId) -> list[Path]:
        place = self._jobs.studio.adapters(owner)
        folders = place.iterdir() if place.is_dir() else ()
        return sorted(folder for folder in folders if not folder.name.startswith("."))


def _key(folder: Path, run: RunFolder | None) -> str:
    """What names an adapter in the audit, where its title may tell what it is about: its own folder, or its run's."""
    return folder.name if run is None else folder.parent.parent.name


def _watched_question(run: Path, picture: Path) -> PictureQuestion:
    """The first question that a run watches, about this picture; an empty one when it watches none."""
    for event in library.RunFolder(run).event_log.each():
        if event.get("event") == "watched":
            with suppress(LookupError, TypeError):
                first = event["questions"][0]
                told = [str(first[name] or "")[:_LONGEST_QUESTION] for name in ("question", "answer")]
                return PictureQuestion(told[0], picture, told[1])
    return PictureQuestion("", picture)


def _unused(title: str, taken: Collection[str]) -> str:
    number = 2
    name = title
    while name in taken:
        name, number = f"{title} ({number})", number + 1
    return name
