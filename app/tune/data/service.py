"""Uploaded data sets: taken in, checked, repaired and removed.

One of the modules of the application that call a3tune; nothing here knows of Gradio.
"""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from a3tune.bundle import DEMO_SAMPLE
from a3tune.data.archive import unpack_archive
from a3tune.data.column_renaming import Naming, naming_for, rename_columns
from a3tune.data.dataset import Dataset
from a3tune.data.formats.layouts import LAYOUTS
from a3tune.data.hub import fetch_dataset
from a3tune.data.intake import collect_files
from a3tune.data.read import read_dataset
from a3tune.data.repair import Offer, repair_dataset, repairs_for
from a3tune.errors import DataError, RequestError
from a3tune.images import load_image
from a3tune.recently_used import RecentlyUsed
from a3tune.storage import file_digest
from app.common.pictures import thumbnail
from app.common.studio_folder import megabytes, remove_upload
from app.engine.background import Step, Task, run
from app.engine.ids import DataSetId, OwnerId
from app.engine.stop import StopEvents
from app.tune.data.sets import DataSet, DataSetStore

GALLERY = 12
"""How many images the gallery shows."""

MOST_AT_ONCE = 3
"""How many data sets of one visitor are worked on at the same time."""

_REPAIRED, _UNPACKED = "repaired", "files/unpacked"
_SIDE = 144
_REMEMBERED = 6


@dataclass(frozen=True, eq=False)
class CheckedData:
    """A data set after it was checked.

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
    """What can be done with data sets. All that takes long gives steps while it works, and the checked data last.

    Args:
        sets: where they are kept.

    Attributes:
        check_hub: refuses hub ids that may not be loaded here.
    """

    def __init__(self, sets: DataSetStore) -> None:
        self.sets = sets
        self.check_hub: Callable[[Literal["data set"], str], None] = lambda what, name: None
        self._cancel = StopEvents()
        self._checked: RecentlyUsed[CheckedData] = RecentlyUsed(_REMEMBERED)
        self._at_work: Counter[OwnerId] = Counter()
        self._guard = threading.RLock()

    # ---- taking in ---------------------------------------------------------------------------

    def add_archive(self, owner: OwnerId, archive: Path, title: str) -> Iterator[Step | CheckedData]:
        """Unpack an uploaded ZIP archive and check it. The upload itself is removed.

        Raises:
            DataError: it is refused (see `a3tune.data.archive.unpack_archive`), or holds no data set.
        """

        def work(task: Task) -> CheckedData:
            def unpack(folder: Path) -> object:
                return unpack_archive(
                    archive, folder, self.sets.limits(owner), on_progress=task.progress, should_stop=task.should_stop
                )

            try:
                digest = file_digest(archive)
                known = self.sets.find(owner, digest)
                if known is not None:
                    return replace(self._check(known, task), same=True)
                return self._add(owner, title, unpack, task, digest)
            finally:
                remove_upload(archive)

        return self._run(owner, work)

    def add_files(
        self, owner: OwnerId, files: Sequence[Path], rows: Sequence[Mapping[str, str]]
    ) -> Iterator[Step | CheckedData]:
        """Take loose files and typed rows in and check them; the uploads are removed.

        Raises:
            DataError: they are refused (see `a3tune.data.intake.collect_files`), or are no data set.
        """

        def work(task: Task) -> CheckedData:
            try:
                task.progress("Copying", 0.0)
                named = [(path, path.name) for path in files]
                limits = self.sets.limits(owner)
                return self._add(
                    owner, f"{len(files)} files", lambda folder: collect_files(named, rows, folder, limits), task
                )
            finally:
                for path in files:
                    remove_upload(path)

        return self._run(owner, work)

    def add_sample(self, owner: OwnerId) -> Iterator[Step | CheckedData]:
        """Give the visitor a copy of the bundled phantom sample, with its labels, and check it.

        Raises:
            DataError: the sample is missing.
        """

        def work(task: Task) -> CheckedData:
            if not DEMO_SAMPLE.is_dir():
                raise DataError(
                    expected=f"the bundled sample in {DEMO_SAMPLE.name}",
                    got="It is missing",
                    remedy="Fetch the project's files again",
                )
            known = self.sets.find(owner, "sample")
            if known is not None:
                return self._check(known, task)
            task.progress("Copying", 0.0)
            return self._add(
                owner, "Phantom sample", lambda folder: shutil.copytree(DEMO_SAMPLE, folder), task, "sample"
            )

        return self._run(owner, work)

    def add_public(self, owner: OwnerId, hub_id: str) -> Iterator[Step | CheckedData]:
        """Fetch a public data set from the hub and check it.

        Raises:
            DataError: there is no such data set, it is too large, or the hub is out of reach.
            RequestError: it may not be loaded here.
        """
        self.check_hub("data set", hub_id)

        def work(task: Task) -> CheckedData:
            task.progress(f"Fetching {hub_id}", 0.0)
            limits = self.sets.limits(owner)
            return self._add(owner, hub_id, lambda folder: fetch_dataset(hub_id, folder, limits, task.progress), task)

        return self._run(owner, work)

    # ---- checking ----------------------------------------------------------------------------

    def check(self, owner: OwnerId, name: DataSetId | None) -> Iterator[Step | CheckedData]:
        """Check a data set; what was checked lately is known at once."""
        data = self.sets.get(owner, name)
        known = self.known(data)
        return self._run(owner, lambda task: self._check(data, task)) if known is None else iter([known])

    def known(self, data: DataSet) -> CheckedData | None:
        """What the last check of a data set found, when it was lately."""
        return self._checked.get(data.path)

    def repair(self, owner: OwnerId, name: DataSetId | None, repairs: Sequence[Any]) -> Iterator[Step | CheckedData]:
        """Write a clean table beside the data and check that from now on.

        Raises:
            DataError: nothing would be left, or faults would stay.
        """
        data = self.sets.get(owner, name)
        if "allow" in repairs:
            data = data.with_facts(allow_shared_images=True)
            repairs = [repair for repair in repairs if repair not in ("allow", "shared")]
        if not repairs:
            return self._run(owner, lambda task: self._read_again(data, task))

        def write(checked: CheckedData, folder: Path) -> Path:
            # Images may come from a folder beside the table that was repaired before.
            root = (data.images or checked.dataset.root).resolve()
            return repair_dataset(checked.dataset, repairs, folder, root=root)

        return self._run(owner, lambda task: self._rewrite(data, write, task))

    def name_columns(
        self, owner: OwnerId, name: DataSetId | None, names: Mapping[str, str]
    ) -> Iterator[Step | CheckedData]:
        """Copy the tables with the names that are understood and check these from now on.

        Args:
            names: "image", "question", "answer", ... -> the column that holds it.

        Raises:
            DataError: a column that is needed is not named, or there is none of that name.
        """
        data = self.sets.get(owner, name)

        def write(checked: CheckedData, folder: Path) -> Path:
            rename_columns(checked.dataset, names, folder)
            return folder

        return self._run(owner, lambda task: self._rewrite(data, write, task))

    def delete(self, owner: OwnerId, name: DataSetId | None) -> DataSetId:
        """Remove a data set in a minute with everything that was derived from it; runs keep what they made."""
        data = self.sets.get(owner, name)
        self._checked.remove(lambda checked: checked.data.folder == data.folder)
        self.sets.retire(data)
        return data.id

    def describe(self, owner: OwnerId, name: DataSetId | None) -> str:
        """What goes when a data set is deleted, as a question."""
        data = self.sets.get(owner, name)
        return (
            f"Delete “{data.title}”? Its images and tables, what was repaired, and the regions found or corrected go "
            f"({megabytes(data.folder)}); runs keep what they made."
        )

    def forget(self, owner: OwnerId, place: Path) -> None:
        """End what is being done with a visitor's data, and drop what is known of the data sets in a folder."""
        self.stop(owner)
        self._checked.forget(lambda path: path.is_relative_to(place))

    def stop(self, owner: OwnerId) -> None:
        """End what is being done with a visitor's data; what was to be taken in is not kept."""
        self._cancel.stop(owner)

    def _run(self, owner: OwnerId, work: Callable[[Task], CheckedData]) -> Iterator[Step | CheckedData]:
        with self._guard:
            if self._at_work[owner] >= MOST_AT_ONCE:
                raise RequestError(
                    expected=f"at most {MOST_AT_ONCE} data sets of one visitor being worked on at once",
                    got=f"{MOST_AT_ONCE} of yours are",
                    remedy="Wait until one is finished, or stop it",
                )
            self._at_work[owner] += 1

        def counted(task: Task) -> CheckedData:
            try:
                return work(task)
            finally:
                with self._guard:
                    self._at_work[owner] -= 1
                    self._at_work += Counter()  # forgets visitors of whom nothing is at work

        # It goes on when the page is left: the data set is in the list later.
        yield from run(counted, self._cancel.of(owner), detached=True, kind="data")

    def _add(
        self, owner: OwnerId, title: str, fill: Callable[[Path], object], task: Task, digest: str = ""
    ) -> CheckedData:
        data = self.sets.create(owner, title, fill, digest)
        try:
            return self._check(data, task)
        except BaseException:
            # Nothing that could be used or repaired, or that is wanted: keep no patient's images for it.
            self.sets.remove(data)
            raise

    def _read_again(self, data: DataSet, task: Task) -> CheckedData:
        """Check a data set by what is allowed now, and keep that."""
        self._checked.remove(lambda checked: checked.data.path == data.path)
        checked = self._check(data, task)
        self.sets.save(checked.data)
        return checked

    def _rewrite(self, data: DataSet, write: Callable[[CheckedData, Path], Path], task: Task) -> CheckedData:
        """Check what ``write`` makes of a data set, in a folder beside it, and read that from now on."""
        number = int(data.record.get("repairs", 0)) + 1
        folder = data.folder / _REPAIRED / str(number)
        try:
            table = write(self._check(data, task), folder).relative_to(data.folder).as_posix()
            checked = self._check(data.with_facts(table=table, repairs=number), task)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self.sets.save(checked.data)
        return checked

    def _check(self, data: DataSet, task: Task) -> CheckedData:
        known = self.known(data)
        if known is not None:
            return known
        dataset = read_dataset(
            data.path,
            images=data.images,
            allow_shared_images=data.allow_shared_images,
            unpack_to=data.folder / _UNPACKED,
            on_progress=task.progress,
            should_stop=task.should_stop,
        )
        layout = LAYOUTS[dataset.layout].title
        offers, naming = repairs_for(dataset), naming_for(dataset)
        checked = CheckedData(data, dataset, layout, offers, _gallery(dataset), naming=naming)
        self._checked.put(data.path, checked)
        return checked


def _gallery(dataset: Dataset) -> tuple[tuple[bytes, str, str, str], ...]:
    first = {item.image: item for item in reversed(dataset.items)}
    items = list(first.values())[::-1]
    if len(items) > GALLERY:
        items = [items[number * len(items) // GALLERY] for number in range(GALLERY)]
    return tuple(
        (thumbnail(load_image(item.image), _SIDE), item.question, item.answer, item.split or "no split")
        for item in items
    )
