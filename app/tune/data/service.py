"""Uploaded data sets: taken in, checked, repaired, shown, and removed; each visitor's in a folder of their own.

One of the modules of the application that call a3tune; nothing here knows of Gradio.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from a3tune.bundle import DEMO_SAMPLE
from a3tune.errors import A3TuneError, DataError, RequestError
from a3tune.images import load_image
from a3tune.progress import Progress
from a3tune.storage import read_json_or_empty, write_json
from app.engine.background import Step, in_steps
from app.tune.runs.jobs import DATA, JobQueue

if TYPE_CHECKING:
    from a3tune.data.columns import Naming
    from a3tune.data.dataset import Dataset
    from a3tune.data.repair import Offer

FILES, REPAIRED, CACHE, UNPACKED, RECORD = "files", "repaired", "cache", "files/unpacked", "data.json"
MOST_SETS = 20
"""How many data sets one visitor may have on the server."""
GALLERY = 12
"""How many images the gallery shows."""

_NAME = re.compile(r"[0-9a-f]{12}")
_SIDE = 144
_REMEMBERED = 6
_CHUNK = 1 << 20


@dataclass(frozen=True)
class DataSet:
    """A data set that lies on the server.

    Attributes:
        name: unique among the visitor's data sets.
        title: what the visitor knows it by.
        folder: its folder.
        record: everything that is kept about it.
    """

    name: str
    title: str
    folder: Path
    record: Mapping[str, Any]

    @property
    def files(self) -> Path:
        """The folder with the images."""
        return self.folder / FILES

    @property
    def path(self) -> Path:
        """What is read: the folder, or the table that a repair wrote."""
        return self.folder / str(self.record.get("table") or FILES)

    @property
    def images(self) -> Path | None:
        """Where the images lie, when not beside the table."""
        return self.files if self.record.get("table") else None

    @property
    def arguments(self) -> list[str]:
        """What names it on the command line of ``python -m a3tune tune``."""
        return ["--data", str(self.path), *(["--images", str(self.images)] if self.images is not None else [])]

    @property
    def cache(self) -> Path:
        """Where regions that were found in these images are kept; removed with them."""
        return self.folder / CACHE


@dataclass(frozen=True, eq=False)
class CheckedData:
    """A data set after it was looked through.

    Attributes:
        data: the data set.
        dataset: what was read, faults and counts included.
        layout: what layout it was read as, in words.
        offers: the repairs that would change something.
        gallery: (JPEG bytes, question, answer, split) of some images.
        same: whether this visitor had uploaded the very same before.
        naming: the columns to choose from, when the tables lack columns that are needed; None when they do not.
    """

    data: DataSet
    dataset: Dataset
    layout: str
    offers: tuple[Offer, ...]
    gallery: tuple[tuple[bytes, str, str, str], ...]
    same: bool = False
    naming: Naming | None = None


class DataService:
    """All data sets on this server.

    Args:
        queue: whose folders hold them.
    """

    def __init__(self, jobs: JobQueue) -> None:
        self._jobs = jobs
        self._checked: OrderedDict[Path, CheckedData] = OrderedDict()
        self._guard = threading.RLock()

    # ---- asking ------------------------------------------------------------------------------

    def all(self, owner: str) -> tuple[DataSet, ...]:
        """A visitor's data sets, the newest first."""
        place = self._jobs.home(owner, DATA)
        names = [entry.name for entry in place.iterdir() if _NAME.fullmatch(entry.name)] if place.is_dir() else []
        found = [self._read(place / name) for name in names if (place / name / RECORD).is_file()]
        return tuple(sorted(found, key=lambda data: data.record.get("created", 0), reverse=True))

    def get(self, owner: str, name: str) -> DataSet:
        """One data set.

        Raises:
            RequestError: the visitor has no such data set.
        """
        folder = self._jobs.home(owner, DATA) / name if _NAME.fullmatch(str(name)) else None
        if folder is None or not (folder / RECORD).is_file():
            raise RequestError(
                expected="one of your data sets", got="There is no such data set", remedy="Choose or upload one"
            )
        return self._read(folder)

    # ---- taking in ---------------------------------------------------------------------------

    def take_archive(self, owner: str, archive: Path, title: str) -> Iterator[Step | CheckedData]:
        """Unpack an uploaded ZIP archive and look through it: steps while it works, the result last.

        The upload itself is removed.

        Raises:
            DataError: it is refused (see `a3tune.data.archive.unpack_archive`), or holds no data set.
        """

        def work(report: Progress) -> CheckedData:
            # Imported here: it loads pyarrow, which the page can do without until data comes.
            from a3tune.data.archive import unpack_archive

            try:
                digest = _digest([archive])
                known = self._same(owner, digest)
                if known is None:
                    known = self._new(
                        owner,
                        title,
                        digest,
                        lambda folder: unpack_archive(archive, folder, on_progress=report),
                    )
                    return self._check(known, report)
                return self._check(known, report, same=True)
            finally:
                remove_upload(archive)

        return in_steps(work)

    def take_files(
        self, owner: str, files: Sequence[tuple[Path, str]], rows: Sequence[Mapping[str, str]]
    ) -> Iterator[Step | CheckedData]:
        """Take loose files and typed rows in and look through them; the uploads are removed.

        Raises:
            DataError: they are refused (see `a3tune.data.intake.collect_files`), or are no data set.
        """

        def work(report: Progress) -> CheckedData:
            from a3tune.data.intake import collect_files  # see take_archive

            try:
                report("Copying", 0.0)
                title = f"{len(files)} files"
                data = self._new(owner, title, "", lambda folder: collect_files(files, rows, folder))
                return self._check(data, report)
            finally:
                for path, _ in files:
                    remove_upload(path)

        return in_steps(work)

    def take_sample(self, owner: str) -> Iterator[Step | CheckedData]:
        """Give the visitor a copy of the bundled phantom sample, with its labels, and look through it.

        Raises:
            DataError: the sample is missing.
        """

        def work(report: Progress) -> CheckedData:
            if not DEMO_SAMPLE.is_dir():
                raise DataError(
                    expected=f"the bundled sample in {DEMO_SAMPLE.name}",
                    got="It is missing",
                    remedy="Fetch the project's files again",
                )
            known = self._same(owner, "sample")
            if known is not None:
                return self._check(known, report)
            report("Copying", 0.0)
            copy = self._new(owner, "Phantom sample", "sample", lambda folder: shutil.copytree(DEMO_SAMPLE, folder))
            return self._check(copy, report)

        return in_steps(work)

    def take_public(self, owner: str, hub_id: str) -> Iterator[Step | CheckedData]:
        """Fetch a public data set from the hub and look through it.

        Raises:
            DataError: there is no such data set, it is too large, or the hub is out of reach.
        """

        def work(report: Progress) -> CheckedData:
            from a3tune.data.hub import fetch_dataset  # see take_archive

            report(f"Fetching {hub_id}", 0.0)
            data = self._new(owner, hub_id, "", lambda folder: fetch_dataset(hub_id, folder))
            return self._check(data, report)

        return in_steps(work)

    # ---- looking through ---------------------------------------------------------------------

    def check(self, owner: str, name: str) -> Iterator[Step | CheckedData]:
        """Look through a data set; what was looked through lately is known at once."""
        data = self.get(owner, name)
        known = self.known(data)
        if known is not None:
            return iter([known])
        return in_steps(lambda report: self._check(data, report))

    def known(self, data: DataSet) -> CheckedData | None:
        """What the last look through a data set found, when it was lately."""
        with self._guard:
            return self._checked.get(data.path)

    def repair(self, owner: str, name: str, repairs: Sequence[str]) -> Iterator[Step | CheckedData]:
        """Write a clean table beside the data and look through that from now on.

        Raises:
            DataError: nothing would be left, or faults would stay.
        """
        data = self.get(owner, name)

        def work(report: Progress) -> CheckedData:
            from a3tune.data.repair import repair_dataset  # see take_archive

            checked = self.known(data) or self._check(data, report)
            number = int(data.record.get("repairs", 0)) + 1
            folder = data.folder / REPAIRED / str(number)
            # Images may come from a folder beside the table that was repaired before.
            dataset = checked.dataset
            root = (data.images or dataset.root).resolve()
            table = repair_dataset(dataset, repairs, folder, root=root)
            relative = table.relative_to(data.folder).as_posix()
            self._update(data, table=relative, repairs=number)
            return self._check(self.get(owner, name), report)

        return in_steps(work)

    def name_columns(self, owner: str, name: str, names: Mapping[str, str]) -> Iterator[Step | CheckedData]:
        """Copy the tables with the names that are understood and look through these from now on.

        Args:
            names: "image", "question", "answer", ... -> the column that holds it.

        Raises:
            DataError: a column that is needed is not named, or there is none of that name.
        """
        data = self.get(owner, name)

        def work(report: Progress) -> CheckedData:
            from a3tune.data.columns import rename_columns  # see take_archive

            checked = self.known(data) or self._check(data, report)
            number = int(data.record.get("repairs", 0)) + 1
            folder = data.folder / REPAIRED / str(number)
            rename_columns(checked.dataset, names, folder)
            self._update(data, table=folder.relative_to(data.folder).as_posix(), repairs=number)
            return self._check(self.get(owner, name), report)

        return in_steps(work)

    def delete(self, owner: str, name: str) -> None:
        """Remove a data set with everything that was derived from it; runs keep what they made."""
        data = self.get(owner, name)
        with self._guard:
            self._checked = OrderedDict(
                (path, checked) for path, checked in self._checked.items() if checked.data.folder != data.folder
            )
        gone = data.folder.with_name(f".{data.name}.gone")
        data.folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    # ---- the disk ----------------------------------------------------------------------------

    def _new(self, owner: str, title: str, digest: str, fill: Callable[[Path], Any]) -> DataSet:
        if len(self.all(owner)) >= MOST_SETS:
            raise RequestError(
                expected=f"at most {MOST_SETS} data sets",
                got=f"There are {MOST_SETS} of yours on this server",
                remedy="Delete one",
            )
        folder = self._jobs.home(owner, DATA) / secrets.token_hex(6)
        folder.mkdir(parents=True, mode=0o700)
        try:
            taken = fill(folder / FILES)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        left_out = list(getattr(taken, "left_out", ()))
        record = {
            "title": title[:100],
            "created": time.time(),
            "digest": digest,
            "left_out": left_out,
            "left_out_count": getattr(taken, "left_out_count", 0),
        }
        write_json(folder / RECORD, record)
        return self._read(folder)

    def _same(self, owner: str, digest: str) -> DataSet | None:
        return next((data for data in self.all(owner) if data.record.get("digest") == digest), None)

    @staticmethod
    def _read(folder: Path) -> DataSet:
        record = read_json_or_empty(folder / RECORD)
        return DataSet(folder.name, str(record.get("title", folder.name)), folder, record)

    @staticmethod
    def _update(data: DataSet, **facts: Any) -> None:
        write_json(data.folder / RECORD, {**read_json_or_empty(data.folder / RECORD), **facts})

    def _check(self, data: DataSet, report: Progress, same: bool = False) -> CheckedData:
        # Imported here: see take_archive.
        from a3tune.data.columns import naming_for
        from a3tune.data.formats.layouts import LAYOUTS
        from a3tune.data.read import read_dataset
        from a3tune.data.repair import repairs_for

        known = self.known(data)
        if known is not None:
            return replace(known, same=same)
        try:
            dataset = read_dataset(
                data.path,
                images=data.images,
                unpack_to=data.folder / UNPACKED,
                on_progress=report,
            )
        except A3TuneError:
            # Nothing that could be used or repaired: keep no patient's images for it.
            self._forget(data)
            raise
        layout = LAYOUTS[dataset.layout].title
        offers, naming = repairs_for(dataset), naming_for(dataset)
        checked = CheckedData(data, dataset, layout, offers, _gallery(dataset), same, naming)
        with self._guard:
            self._checked[data.path] = checked
            if len(self._checked) > _REMEMBERED:
                self._checked.popitem(last=False)
        return checked

    @staticmethod
    def _forget(data: DataSet) -> None:
        shutil.rmtree(data.folder, ignore_errors=True)


def _gallery(dataset: Dataset) -> tuple[tuple[bytes, str, str, str], ...]:
    first = {item.image: item for item in reversed(dataset.items)}
    items = list(first.values())[::-1]
    if len(items) > GALLERY:
        items = [items[place * len(items) // GALLERY] for place in range(GALLERY)]
    return tuple((thumbnail(item.image), item.question, item.answer, item.split or "no split") for item in items)


def thumbnail(path: Path, side: int = _SIDE) -> bytes:
    """A small JPEG of an image."""
    picture = Image.fromarray(load_image(path).pixels)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=82)
    return stream.getvalue()


def _digest(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def remove_upload(path: Path) -> None:
    """Remove an upload from the server's temporary folder, and its folder when nothing else lies there."""
    path.unlink(missing_ok=True)
    try:
        os.rmdir(path.parent)
    except OSError:
        return  # something else lies there
