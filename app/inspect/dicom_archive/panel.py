"""Where a study is looked for in the archive, a series chosen and opened."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from a3tune.errors import RequestError
from a3tune.wording import counted
from app.access.identity import audit
from app.common.status import error_status, status
from app.common.widgets import EVENT_OPTIONS, Update

if TYPE_CHECKING:
    from a3tune.dicomweb.client import DicomWeb

Opening = Callable[[str, Callable[[], list[Path]], gr.Request], Iterator[Update]]


class ArchivePanel:
    """Builds the panel inside the running ``gr.Blocks`` context; nothing where there is no archive.

    Args:
        archive: whom to ask.
    """

    def __init__(self, archive: DicomWeb | None) -> None:
        self._archive = archive
        if archive is None:
            return
        with gr.Accordion(f"From the archive {archive.server.name}", open=False, elem_id="archive"):
            with gr.Row():
                self._patient = gr.Textbox(
                    label="Patient ID", max_lines=1, max_length=64, min_width=110, elem_id="archive-patient"
                )
                self._accession = gr.Textbox(
                    label="Accession", max_lines=1, max_length=64, min_width=110, elem_id="archive-accession"
                )
            self._date = gr.Textbox(
                label="Day, or two: 2026-11-01/2026-11-29", max_lines=1, max_length=40, elem_id="archive-date"
            )
            self._find = gr.Button("Find studies", size="sm", elem_id="archive-find")
            self._study = gr.Dropdown([], label="Study", visible=False, elem_id="archive-study")
            self._series = gr.Dropdown([], label="Series", visible=False, elem_id="archive-series")
            self._open = gr.Button("Open the series", size="sm", visible=False, elem_id="archive-open")

    def wire(self, words: gr.HTML, opening: Opening, outputs: list[gr.blocks.Block]) -> list[Any]:
        """Connect the panel; gives the event that opens a series.

        Args:
            words: tells how it went.
            opening: opens files that this visit may remove, with updates of ``outputs``: what takes time, what gives
                the files, the request.
            outputs: what an opened image changes, ``words`` among it.
        """
        if self._archive is None:
            return []
        self._words, self._opening = words, opening
        given = [self._patient, self._accession, self._date]
        found = [words, self._study, self._series, self._open]
        options = {"concurrency_id": "archive", "concurrency_limit": 4, **EVENT_OPTIONS}
        for event in (self._find.click, *(field.submit for field in given)):
            event(self._find_studies, given, found, **options)
        self._study.input(self._list, [self._study], found, **options)
        opened = self._open.click(self._fetch, [self._study, self._series], outputs, trigger_mode="multiple", **options)
        return [opened]

    def _find_studies(self, patient: str, accession: str, date: str) -> Update:
        try:
            audit("archive-search")
            studies = self._asked.studies(patient=patient, accession=accession, date=date)
        except Exception as error:
            return {self._words: error_status(error), self._study: gr.update(visible=False), **self._none()}
        listed = [(str(study), study.uid) for study in studies]
        # The only one is chosen, and its series are listed.
        more = self._list(studies[0].uid) if len(studies) == 1 else {**self._none(), self._words: status("")}
        said = f"{counted(len(studies), 'study', 'studies')} found in the archive."
        chosen = studies[0].uid if len(studies) == 1 else None
        return {
            **more,
            self._study: gr.update(choices=listed, value=chosen, visible=bool(listed)),
            self._words: more[self._words] if chosen else status(said),
        }

    def _list(self, study: str | None) -> Update:
        try:
            series = self._asked.series(study or "")
        except Exception as error:
            return {self._words: error_status(error), **self._none()}
        listed = [(str(one), one.uid) for one in series]
        return {
            self._words: status(f"{counted(len(series), 'series', 'series')} in the study."),
            self._study: gr.update(),
            self._series: gr.update(choices=listed, value=series[0].uid if series else None, visible=bool(listed)),
            self._open: gr.update(visible=bool(listed)),
        }

    def _fetch(self, study: str | None, series: str | None, request: gr.Request) -> Iterator[Update]:
        with tempfile.TemporaryDirectory(prefix="a3tune-") as folder:

            def fetch() -> list[Path]:
                audit("archive-fetch")
                return self._asked.fetch(study or "", series or "", Path(folder))

            yield from self._opening("Fetching the series", fetch, request)

    def _none(self) -> Update:
        return {self._series: gr.update(visible=False), self._open: gr.update(visible=False)}

    @property
    def _asked(self) -> DicomWeb:
        if self._archive is None:
            raise RequestError(expected="an archive", got="None is named here", remedy="Open a file")
        return self._archive
