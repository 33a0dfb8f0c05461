"""Several images, one question: where they are given, and the table of what comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from a3tune.encoding import base64_text
from app.access.identity import audit
from app.common.comparison import OwnAdapters
from app.common.status import status
from app.common.widgets import (
    EVENT_OPTIONS,
    GLOSSARY,
    Update,
    errors_in,
    json_text,
    on_offered_files,
    page_session,
    server_function,
    widget_parts,
)
from app.engine.ids import BatchId, ResultId, SessionId
from app.inspect.batch.service import BatchService
from app.inspect.sessions.opened_image import OpenedImage

OpenImage = Callable[[Callable[[], OpenedImage | ResultId], str, list[str], Any, SessionId, str], Iterator[Update]]
"""Shows an image of the table, or its result, with its question, and asks where there is no result: what finds it,
question, adapters, the visitor's secret, the page's session, and what the visitor wrote as another question."""

_KEPT = """() => [studioModule("inspect/batch/static/batch.js").keptBatch()]"""


class BatchPanel:
    """Builds its two parts inside the running ``gr.Blocks`` context.

    Args:
        batches: what asks.
    """

    def __init__(self, batches: BatchService) -> None:
        self._batches = batches

    def build_inputs(self) -> None:
        """Where the files are given."""
        with gr.Accordion("Several images, one question", open=False, elem_id="batch-inputs"):
            self._files = gr.File(
                label="PNG, JPEG, TIFF, DICOM, NIfTI …",
                file_count="multiple",
                height=110,
                elem_id="batch-files",
            )
            self._go = gr.Button("Ask about each", elem_id="batch-go")
            self._status = gr.HTML("", elem_id="batch-status", apply_default_css=False)
            self._taken = gr.JSON(visible=False)

    def build_table(self) -> None:
        """The table; its event ``open`` carries ``batch`` and ``number``, a row's place from 0, and ``adopt`` a
        ``batch`` that another page of the visit began."""
        parts = widget_parts("inspect/batch/static/batch", meaning=GLOSSARY["critical heads"])
        answers = [server_function(answer) for answer in (self.read_batch, self.stop_batch, self.take_table)]
        self._table = gr.HTML(value="", **parts, server_functions=answers, elem_id="batch")

    def wire(
        self,
        page: gr.Blocks,
        own: OwnAdapters,
        asked: list[gr.components.Component],
        open_image: OpenImage,
        outputs: Sequence[gr.blocks.Block],
        written: str,
    ) -> None:
        """Connect the widgets.

        Args:
            page: the whole page, whose reload finds the table again.
            own: the adapters of the visitor alone.
            asked: the question, and the adapters that are chosen.
            open_image: shows one image.
            outputs: what it changes.
            written: the script that gives the question where the visitor wrote it.
        """
        self._own, self._open_image = own, open_image
        kept = gr.JSON(visible=False)
        page.load(self._adopt, [kept], [self._table], js=_KEPT, queue=False, **EVENT_OPTIONS)
        inputs, outcome = [*asked, own.visitor], [self._status, self._table, self._taken]
        on_offered_files(self._files, self._start, inputs, outcome, self._go, **EVENT_OPTIONS)
        self._table.adopt(self._adopt_shown, None, [self._table], queue=False, **EVENT_OPTIONS)
        options = {"trigger_mode": "multiple", "js": written, **EVENT_OPTIONS}
        self._table.open(self._open, [asked[0], own.visitor], [self._status, *outputs], **options)

    @errors_in("_status")
    def _start(
        self, paths: list[str] | None, question: str, adapters: list[str], visitor: Any, request: gr.Request
    ) -> Update:
        files = [Path(path) for path in paths or ()]
        audit("image-open", files=len(files))
        batch = self._batches.start(page_session(request), files, question, adapters, self._own.of(visitor))
        words = "Each file is deleted from the server's disk once it was read; all goes with this visit."
        taken = [{"path": path} for path in paths or ()]
        return {self._status: status(words), self._table: _value(batch.id), self._taken: taken}

    def _adopt(self, kept: Any, request: gr.Request) -> Any:
        name = BatchId(str(kept or ""))
        return _value(name) if name and self._batches.adopt(page_session(request), name) else gr.skip()

    def _adopt_shown(self, event: gr.EventData, request: gr.Request) -> Any:
        return self._adopt(getattr(event, "batch", ""), request)

    @errors_in("_status")
    def _open(self, written: str, visitor: Any, event: gr.EventData, request: gr.Request) -> Iterator[Update]:
        session, name = page_session(request), BatchId(str(getattr(event, "batch", "")))
        batch = self._batches.get(name)
        number = int(getattr(event, "number", -1))
        yield {self._status: ""}
        asked = batch.question, list(batch.adapters), visitor, session, written
        yield from self._open_image(lambda: self._batches.open(session, name, number), *asked)

    # ---- what the part in the browser asks ---------------------------------------------------

    def read_batch(self, request: dict[str, Any]) -> dict[str, Any]:
        """Where the work stands, and the rows that the page does not know."""
        return self._batches.news(BatchId(request["batch"]), max(0, int(request["known"])))

    def stop_batch(self, request: dict[str, Any]) -> dict[str, Any]:
        """End the work."""
        self._batches.cancel(BatchId(request["batch"]))
        return {}

    def take_table(self, request: dict[str, Any]) -> dict[str, Any]:
        """The table as a CSV file, in base64."""
        content = self._batches.csv(BatchId(request["batch"]))
        audit("result-export", form="csv")
        # With the mark by which spreadsheets know UTF-8.
        return {"content": base64_text(content.encode("utf-8-sig"))}


def _value(name: BatchId) -> str:
    return json_text({"batch": name})
