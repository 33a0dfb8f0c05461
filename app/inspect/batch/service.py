"""One question about many images: asked image by image in the background, which others' questions come between.

It knows nothing of Gradio.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a3tune.encoding import data_url
from a3tune.errors import A3TuneError, AdapterError, Cancelled, ModelError, RequestError
from a3tune.inspection.table import TableRow, region_words, table_csv
from a3tune.wording import counted
from app.access.deployment import Deployment
from app.access.identity import check_visit, visit_of_asker
from app.common.pictures import thumbnail
from app.common.status import explain
from app.engine.background import INTERVAL, Task
from app.engine.ids import BatchId, ResultId, SessionId
from app.engine.model_slot import ModelSlot
from app.inspect.asking.prepared import LOADING, WAITING
from app.inspect.batch.batch import Batch, BatchRow, row_value
from app.inspect.sessions.opened_image import OpenedImage
from app.inspect.sessions.regions import RankedRegions, RegionService
from app.inspect.sessions.results import Result, ResultStore, view_numbers
from app.inspect.sessions.sessions import Sessions, remove_upload

if TYPE_CHECKING:
    from app.inspect.asking.prepared import Inspect

_SIDE = 96


class BatchService:
    """The batches of all visitors, by their names.

    Args:
        slot: the model.
        regions, results, sessions: where regions are found, results are kept, and images are on show.
        inspect: asks one question about one image; see :meth:`app.inspect.asking.questions.Questions.inspect`.
        deployment: how many images a batch may have, and how much of them stays in memory.
    """

    def __init__(
        self,
        slot: ModelSlot,
        regions: RegionService,
        results: ResultStore,
        sessions: Sessions,
        inspect: Inspect,
        deployment: Deployment,
    ) -> None:
        self._slot, self._regions, self._results, self._sessions = slot, regions, results, sessions
        self._inspect, self._deployment = inspect, deployment
        self._batches: dict[BatchId, Batch] = {}
        self._guard = threading.RLock()

    # ---- what a visitor does -----------------------------------------------------------------

    def start(
        self,
        session: SessionId,
        paths: Sequence[Path],
        question: str,
        adapters: Sequence[str],
        own: Mapping[str, Path],
    ) -> Batch:
        """Ask one question about each of several files, which are deleted once they were read, or at the end; returns
        at once. What the page asked in this way before goes.

        Args:
            session: the page.
            paths: the files.
            question: the question.
            adapters: "base" and names of adapters.
            own: the visitor's own adapters, folders in PEFT's format by name.

        Raises:
            RequestError: no file, question or adapter, or more files than there may be; the files stay.
        """
        size = self._check(session, paths, question, adapters)
        batch = Batch(
            BatchId(secrets.token_urlsafe(18)),
            visit_of_asker(),
            {session},
            question.strip(),
            tuple(adapters),
            own,
            tuple(paths),
            size,
            self._slot.generation,
        )
        batch.task = Task(lambda task: self._work(batch, task), generation=batch.generation, kind="batch")
        self._sessions.get(session)  # whose end ends the batch
        self.forget(session)
        with self._guard:
            self._batches[batch.id] = batch
        batch.task.start()
        return batch

    def _check(self, session: SessionId, paths: Sequence[Path], question: str, adapters: Sequence[str]) -> int:
        """The bytes of all files together; raises where they may not be asked about."""
        for there, expected, got in (
            (paths, "files to ask about", "No file was given"),
            (question.strip(), "a question about the images", "The question is empty"),
            (adapters, "base or adapters", "Nothing was chosen to answer"),
        ):
            if not there:
                raise RequestError(expected=expected, got=got, remedy="Give it, and begin again")
        check, size = self._deployment.check, sum(path.stat().st_size for path in paths)
        check("batch_images", len(paths), f"You gave {len(paths):,}", "Give fewer at once")
        check("batch_each_mb", size / 1e6, f"Yours hold {size / 1e6:,.0f} MB", "Give fewer at once")
        with self._guard:
            every = size + sum(batch.size for batch in self._batches.values() if batch.pages != {session})
        check("batch_all_mb", every / 1e6, f"It would be {every / 1e6:,.0f} MB", "Try again later")
        return size

    def get(self, name: BatchId) -> Batch:
        """The batch of this name.

        Raises:
            RequestError: it is not there, or of another visit.
        """
        with self._guard:
            batch = self._batches.get(name)
        if batch is None or not check_visit(batch.visit):
            raise RequestError(
                expected="a table that is still there",
                got="It was removed from the server",
                remedy="Give the images again",
            )
        return batch

    def news(self, name: BatchId, known: int) -> dict[str, Any]:
        """Where a batch stands, and its rows after the first ``known``, as plain JSON values."""
        batch = self.get(name)
        live, rows = batch.live, tuple(batch.rows)
        return {
            "question": batch.question,
            "adapters": list(batch.adapters),
            "total": len(batch.paths),
            "done": len(rows),
            "live": live,
            "step": batch.task.step.what if live else "",
            "left": batch.left if live else 0.0,
            "ended": "" if live else self._ending(batch),
            "rows": [row_value(place, row) for place, row in enumerate(rows[known:], start=known)],
        }

    def at_work(self) -> list[Batch]:
        """The batches of whoever asks that are at work."""
        with self._guard:
            return [batch for batch in self._batches.values() if batch.live and check_visit(batch.visit)]

    def cancel(self, name: BatchId) -> None:
        """End the work; what came of it stays."""
        self._end(self.get(name))

    def _end(self, batch: Batch) -> None:
        batch.task.cancel.set()
        if batch.region is not None:
            self._regions.stop(batch.region)

    def csv(self, name: BatchId) -> str:
        """The table in CSV."""
        batch = self.get(name)
        rows = tuple(row.table for row in batch.rows)
        return table_csv(batch.question, batch.generation.what, batch.adapters, rows)

    def open(self, session: SessionId, name: BatchId, number: int) -> OpenedImage | ResultId:
        """What names the result of an image, which is one of the session's from now on; the image itself, which the
        session then has on show, where its result made room for newer ones.

        Raises:
            ImageError: it cannot be opened.
            RequestError: there is no such image, or its result is gone and so is the model that gave it.
        """
        batch = self.get(name)
        row = batch.rows[number] if 0 <= number < len(batch.rows) else None
        if row is None or row.result is None:
            raise RequestError(
                expected="an image that was asked about",
                got="This one was not" if row is None else row.table.error,
                remedy="Choose another row",
            )
        kept, opened_as = row.result
        try:
            result = replace(self._results.get(kept), id=opened_as)
        except RequestError:
            batch.generation.check()
            return self._sessions.show_again(session, self._sessions.read(row.content))
        self._results.add(session, result)
        return result.id

    def adopt(self, session: SessionId, name: BatchId) -> bool:
        """Show a batch on one more page of its visit's, as after a reload; gives whether it is there."""
        try:
            batch = self.get(name)
        except RequestError:
            return False
        self._sessions.get(session)
        with self._guard:
            batch.pages.add(session)
        return True

    def forget(self, session: SessionId) -> None:
        """Drop what a page that goes is the last to show."""
        with self._guard:
            for batch in self._batches.values():
                batch.pages.discard(session)
            gone = [batch for batch in self._batches.values() if not batch.pages]
            for batch in gone:
                del self._batches[batch.id]
        for batch in gone:
            self._end(batch)
            self._results.forget(_keeper(batch))

    # ---- the work ----------------------------------------------------------------------------

    def _work(self, batch: Batch, task: Task[None]) -> None:
        try:
            while self._slot.wait(INTERVAL) is None:
                task.progress(LOADING, 0.0)
            for path in batch.paths:
                task.check()
                begun = time.monotonic()
                for page in tuple(batch.pages):
                    self._sessions.touch(page)
                row = self._row(batch, path, task)
                task.check()  # what was told of the end stays true
                batch.rows.append(row)
                batch.seconds += time.monotonic() - begun
        finally:
            _remove(batch.paths)
            if batch.id not in self._batches:  # it was forgotten meanwhile
                self._results.forget(_keeper(batch))

    def _row(self, batch: Batch, path: Path, task: Task[None]) -> BatchRow:
        """What comes of one image; what is wrong with it ends nothing."""
        picture, content = "", b""
        try:
            content = path.read_bytes()
            remove_upload(path)
            task.progress(f"Reading {path.name}", 0.0)
            opened = self._sessions.read(content)
            picture = data_url(thumbnail(opened.image, _SIDE), "jpeg")
            result = self._ask(batch, opened, task)
            table, chance = self._measured(batch, path.name, result, task)
        except (AdapterError, ModelError, Cancelled):
            raise  # what is wrong with all of them, or with none
        except Exception as error:
            if task.should_stop():
                raise Cancelled from error
            return BatchRow(TableRow(path.name, error=explain(error)), picture=picture)
        names = result.id, ResultId(secrets.token_urlsafe(18))
        return BatchRow(table, chance, picture, content, names)

    def _ask(self, batch: Batch, opened: OpenedImage, task: Task[None]) -> Result:
        with self._slot.answering(task, LOADING, WAITING) as (model, generation):
            task.check()  # the model is that of the rows before
            *_, inspection = self._inspect(model, opened, batch.question, batch.adapters, batch.own, task)
        numbers = tuple(view_numbers(view, inspection.grid) for view in inspection.views)
        name = ResultId(secrets.token_urlsafe(18))
        result = Result(name, inspection, numbers, opened, generation, own=batch.own)
        self._results.add(_keeper(batch), result)
        return result

    def _measured(self, batch: Batch, name: str, result: Result, task: Task[None]) -> tuple[TableRow, dict[str, float]]:
        """The row of an image that was asked about: where its regions are found, as on the page when it is opened, with
        the attention inside those that are chosen at first."""
        task.progress("Finding regions", 0.9)
        answers = {view.adapter: view.answer for view in result.inspection.views}
        told = _about(result.opened)
        batch.region = region = self._regions.open(result.opened.image)
        try:
            task.check()
            self._regions.attach(region, result.id, result.inspection)
            ranked = self._regions.find(region, batch.question)
        except Cancelled:
            raise
        except A3TuneError as error:
            if task.should_stop():
                raise Cancelled from error
            return TableRow(name, answers, note=" ".join([*told, f"No regions: {explain(error)}"])), {}
        finally:
            self._regions.close(region)
        views = () if ranked.numbers is None else ranked.numbers.views
        numbers = {view.adapter: view.numbers for view in views}
        inside = {adapter: one["attention_mass"] for adapter, one in numbers.items()}
        chance = {adapter: one["relative_mass"] for adapter, one in numbers.items()}
        return TableRow(name, answers, inside, _regions_words(ranked), " ".join(told)), chance

    def _ending(self, batch: Batch) -> str:
        """How a batch ended, in words; "" where all of it was done."""
        if batch.task.over and batch.task.error is None:
            return ""
        if not batch.ended:
            error = batch.task.error
            if batch.task.cancel.is_set() or error is None or isinstance(error, Cancelled):
                words = "Cancelled."
            else:
                words = explain(error)
            rest = counted(len(batch.paths) - len(batch.rows), "image was", "images were")
            batch.ended = f"{words} {rest} not asked about."
        return batch.ended


def _keeper(batch: Batch) -> SessionId:
    """Under which name the last results of a batch are kept, beside those of the pages."""
    return SessionId(f"batch {batch.id}")


def _about(opened: OpenedImage) -> list[str]:
    """Which part of a file with several is asked about, and what its reader says of it."""
    image, told = opened.image, []
    if len(opened.series) > 1:
        told.append(f"The first of {len(opened.series)} series.")
    if image.frame_count > 1:
        what = "Frame" if opened.choices.axes is None else "Slice"
        told.append(f"{what} {image.frame + 1} of {image.frame_count}.")
    return [*told, *(f"{note.rstrip('.')}." for note in image.notes)]


def _regions_words(ranked: RankedRegions) -> str:
    """The regions that are chosen at first."""
    last = max((item.scored.rank for item in ranked.shown if item.chosen), default=0)
    return "" if ranked.numbers is None else region_words(ranked.labels, last, ranked.numbers.area)


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        remove_upload(path)
