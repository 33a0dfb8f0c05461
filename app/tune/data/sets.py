"""Data sets as they lie on the server: each visitor's in a folder of their own, described by ``data.json``."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from a3tune.data.intake import LIMITS, IntakeLimits
from a3tune.errors import RequestError
from a3tune.storage import read_json_or_empty, write_json
from app.access.identity import audit, require
from app.common.studio_folder import ID, StudioFolder, restore_folder, retire_folder
from app.engine.ids import DataSetId, OwnerId

_FILES, _CACHE, _RECORD = "files", "cache", "data.json"


@dataclass(frozen=True)
class DataSet:
    """A data set that lies on the server.

    Attributes:
        folder: its folder, whose name is unique among the visitor's data sets.
        record: everything that is kept about it (``data.json``).
    """

    folder: Path
    record: Mapping[str, Any]

    @property
    def id(self) -> DataSetId:
        """What it is asked for by."""
        return DataSetId(self.folder.name)

    @property
    def title(self) -> str:
        """What the visitor knows it by."""
        return str(self.record.get("title", self.id))

    @property
    def files(self) -> Path:
        """The folder with what was uploaded."""
        return self.folder / _FILES

    @property
    def path(self) -> Path:
        """What is read: the folder, or the table that a repair wrote."""
        return self.folder / str(self.record.get("table") or _FILES)

    @property
    def images(self) -> Path | None:
        """Where the images lie, when not beside the table."""
        return self.files if self.record.get("table") else None

    @property
    def arguments(self) -> list[str]:
        """What names it on the command line of ``python -m a3tune tune``."""
        images = ["--images", str(self.images)] if self.images is not None else []
        allowed = ["--set", "allow_shared_images=true"] if self.allow_shared_images else []
        return ["--data", str(self.path), *images, *allowed]

    @property
    def allow_shared_images(self) -> bool:
        """Whether its owner lets images be in two splits."""
        return self.record.get("allow_shared_images") is True

    @property
    def cache(self) -> Path:
        """Where what is derived from the images is kept; removed with them."""
        return self.folder / _CACHE

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a process that works on it: what it derives from the images stays with them."""
        return {"A3TUNE_CACHE": str(self.cache), "TOKENIZERS_PARALLELISM": "false"}

    def with_facts(self, **facts: Any) -> DataSet:
        """The data set with other facts in its record."""
        return replace(self, record={**self.record, **facts})


class DataSetStore:
    """All data sets on this server.

    Args:
        studio: the folder that holds them.
    """

    def __init__(self, studio: StudioFolder) -> None:
        self._studio = studio

    def limits(self, owner: OwnerId) -> IntakeLimits:
        """How much a further data set of a visitor's may have."""
        deployment = self._studio.deployment
        files = LIMITS.files if deployment.data_files is None else int(deployment.data_files)
        room = self._studio.intake_limits(owner)
        return replace(room, files=files, folders=files, raised=deployment.who_raises("data_files"))

    def all(self, owner: OwnerId) -> tuple[DataSet, ...]:
        """A visitor's data sets, the newest first."""
        place = self._studio.data(owner)
        folders = [folder for folder in place.iterdir() if ID.fullmatch(folder.name)] if place.is_dir() else []
        found = [_read(folder) for folder in folders if (folder / _RECORD).is_file()]
        return tuple(sorted(found, key=lambda data: data.record.get("created", 0), reverse=True))

    def get(self, owner: OwnerId, name: DataSetId | None) -> DataSet:
        """One data set.

        Raises:
            RequestError: none is named, or the visitor has no such data set.
        """
        if not name:
            raise RequestError(
                expected="data to tune on", got="No data set is chosen", remedy="Use the sample, or upload your own"
            )
        folder = self._studio.data(owner) / name if ID.fullmatch(str(name)) else None
        if folder is None or not (folder / _RECORD).is_file():
            raise RequestError(
                expected="one of your data sets", got="There is no such data set", remedy="Choose or upload one"
            )
        return _read(folder)

    def find(self, owner: OwnerId, digest: str) -> DataSet | None:
        """The visitor's data set that was made of an upload with this digest."""
        return next((data for data in self.all(owner) if data.record.get("digest") == digest), None)

    def create(self, owner: OwnerId, title: str, fill: Callable[[Path], Any], digest: str = "") -> DataSet:
        """A new data set.

        Args:
            title: what the visitor knows it by.
            fill: makes the folder with the files; may say what it has ``left_out``, and ``left_out_count``.
            digest: of the upload; "" where the same would not be known again.

        Raises:
            RequestError: the visitor has too many, or they hold too much.
        """
        require("tuner", "take data in")
        count = len(self.all(owner))
        self._studio.deployment.check("data_sets", count + 1, f"You have {count}", "Delete one")
        self._studio.check_room(owner)
        folder = self._studio.data(owner) / secrets.token_hex(6)
        audit("data-add", data=folder.name)
        folder.mkdir(parents=True, mode=0o700)
        try:
            filled = fill(folder / _FILES)
            self._studio.check_room(owner)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        record = {
            "title": title[:100],
            "created": time.time(),
            "digest": digest,
            "left_out": list(getattr(filled, "left_out", ())),
            "left_out_count": getattr(filled, "left_out_count", 0),
        }
        data = DataSet(folder, record)
        self.save(data)
        return data

    def save(self, data: DataSet) -> None:
        """Keep what is known about a data set."""
        write_json(data.folder / _RECORD, data.record)

    def remove(self, data: DataSet) -> None:
        """Remove a data set at once with everything that was derived from it."""
        shutil.rmtree(data.folder, ignore_errors=True)

    def retire(self, data: DataSet) -> None:
        """Remove a data set in a minute with everything that was derived from it; runs keep what they made."""
        audit("data-delete", data=data.id)
        retire_folder(data.folder)

    def restore(self, owner: OwnerId, name: DataSetId) -> None:
        """Take a data set back.

        Raises:
            RequestError: it is gone for good.
        """
        audit("data-restore", data=str(name))
        restore_folder(self._studio.data(owner), str(name))


def _read(folder: Path) -> DataSet:
    return DataSet(folder, read_json_or_empty(folder / _RECORD))
