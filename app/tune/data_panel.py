"""The Tune tab's data: taking it in, what it is, what is wrong with it, and the regions of a handful of rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from a3tune.errors import RequestError
from app.common.identity import owner_of
from app.common.status import error_status, explain, status, step_status
from app.engine.background import Step
from app.tune.data.regions import LabelPreview, row_value
from app.tune.data.service import CheckedData
from app.tune.service import TuneService
from app.tune.values import data_report, labels_value, repair_choices
from app.tune.widgets import build_label_view

NAMED = {"image": "Image", "question": "Question", "answer": "Answer", "answer_type": "Answer type", "split": "Split"}
COLUMNS = ("image", "question", "answer", "split")
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


class DataPanel:
    """Widgets and wiring of the data.

    Args:
        desk: the tab's services.
        visitor: the visitor's secret.
    """

    def __init__(self, desk: TuneService, visitor: gr.BrowserState) -> None:
        self._desk, self._visitor = desk, visitor

    def place_inputs(self) -> None:
        """The widgets on the left."""
        gr.HTML("<h2>1 · Data</h2>", apply_default_css=False)
        self.choice = gr.Dropdown([], label="Data set", allow_custom_value=True, interactive=True, elem_id="tune-data")
        with gr.Tabs(elem_id="tune-add"):
            with gr.Tab("Sample"):
                self._sample = gr.Button("Use the phantom sample", elem_id="tune-sample")
            with gr.Tab("ZIP"):
                self._archive = gr.File(
                    label="ZIP: images with CSV, JSON or Parquet", file_count="single", height=84, elem_id="tune-zip"
                )
            with gr.Tab("Files"):
                self._files = gr.File(
                    label="Images (and a table, if you have one)",
                    file_count="multiple",
                    height=84,
                    elem_id="tune-files",
                )
                self._table = gr.Dataframe(
                    headers=list(COLUMNS),
                    type="array",
                    interactive=True,
                    wrap=True,
                    max_height=220,
                    label="Or type it: one row for each question",
                    elem_id="tune-table",
                )
                self._take = gr.Button("Take these files", elem_id="tune-take")
            with gr.Tab("Hub"):
                self._hub = gr.Textbox(label="Public data set", placeholder="name/repository", elem_id="tune-hub")
                self._fetch = gr.Button("Fetch", elem_id="tune-fetch")
        self.status = gr.HTML(
            status("Take data in: nothing runs before it was looked through."),
            elem_id="tune-data-status",
            apply_default_css=False,
        )
        self._delete = gr.Button("Delete this data set", size="sm", elem_id="tune-delete-data")

    def place_report(self) -> None:
        """What the data is."""
        self.report = gr.HTML("", elem_id="tune-report", apply_default_css=False)
        with gr.Group(visible=False, elem_id="tune-naming") as self._naming:
            gr.HTML("<p>Which column holds what?</p>", apply_default_css=False)
            with gr.Row():
                self._names = [
                    gr.Dropdown(
                        [],
                        label=words,
                        allow_custom_value=True,
                        interactive=True,
                        min_width=150,
                        elem_id=f"tune-name-{name}",
                    )
                    for name, words in NAMED.items()
                ]
            self._rename = gr.Button("Use these columns", size="sm", elem_id="tune-rename")
        with gr.Group(visible=False) as self._repairs:
            self._chosen = gr.CheckboxGroup([], label="Can be repaired", elem_id="tune-repairs")
            self._repair = gr.Button("Repair", elem_id="tune-repair")

    def place_labels(self) -> None:
        """The regions of a handful of rows."""
        self._show = gr.Button("Show regions of a few rows", elem_id="tune-show-labels")
        self._label_status = gr.HTML("", elem_id="tune-label-status", apply_default_css=False)
        desk = self._desk

        # A plain function: Gradio marks server functions with an attribute, which a bound method cannot take.
        def correct_labels(request: dict[str, Any]) -> dict[str, Any]:
            try:
                owner, name, number = owner_of(request.get("visitor")), str(request.get("data")), request.get("number")
                if request.get("action") == "draw":
                    row = desk.labels.draw(owner, name, number, request["box"])
                    row = desk.labels.choose(owner, name, number, list(row.chosen)[: desk.labels.most(owner, name)])
                else:
                    row = desk.labels.choose(owner, name, number, request.get("keys"))
            except Exception as error:
                return {"error": explain(error)}
            return {"row": row_value(number, row)}

        self._labels = build_label_view(correct_labels)

    def wire(self, plan_inputs: list[gr.components.Component], read_plan) -> None:
        """Connect the widgets.

        Args:
            plan_inputs, read_plan: the plan's widgets, and what makes a plan of their values.
        """
        self._read_plan = read_plan
        self._outputs = [
            *(self.choice, self.status, self.report, self._repairs, self._chosen, self._labels),
            *(self._naming, *self._names),
        ]
        takes = {"concurrency_id": "tune-data", "concurrency_limit": 2, **_QUIET}
        self._sample.click(self._take_sample, [self._visitor], self._outputs, **takes)
        self._archive.upload(
            self._take_archive, [self._visitor, self._archive], [self._archive, *self._outputs], **takes
        )
        self._files.change(self._fill_table, [self._files, self._table], [self._table], queue=False, **_QUIET)
        self._take.click(
            self._take_files, [self._visitor, self._files, self._table], [self._files, *self._outputs], **takes
        )
        self._fetch.click(self._take_public, [self._visitor, self._hub], self._outputs, **takes)
        self.choice.input(self._look, [self._visitor, self.choice], self._outputs, **takes)
        self._repair.click(self._mend, [self._visitor, self.choice, self._chosen], self._outputs, **takes)
        self._rename.click(self._name, [self._visitor, self.choice, *self._names], self._outputs, **takes)
        self._delete.click(self._remove, [self._visitor, self.choice], self._outputs, **takes)
        self._show.click(
            self._preview,
            [self._visitor, self.choice, *plan_inputs],
            [self._labels, self._label_status],
            concurrency_id="tune-labels",
            concurrency_limit=1,
            **_QUIET,
        )

    def enter(self, owner: str) -> list[Any]:
        """Values of `outputs` for a page that was just loaded."""
        choices = self._choices(owner)
        value = choices[0][1] if choices else None
        hidden = gr.update(visible=False)
        shown = [gr.update(choices=choices, value=value), gr.skip(), "", hidden, gr.skip(), "", hidden]
        return [*shown, *[gr.skip()] * len(NAMED)]

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What `enter` and `_look` fill."""
        return self._outputs

    def look(self, visitor: str, name: str | None) -> Iterator[list[Any]]:
        """Look through the chosen data set."""
        yield from self._look(visitor, name)

    # ---- events ------------------------------------------------------------------------------

    def _take_sample(self, visitor: str) -> Iterator[list[Any]]:
        yield from self._run(visitor, lambda owner: self._desk.data.take_sample(owner))

    def _take_archive(self, visitor: str, path: str | None) -> Iterator[list[Any]]:
        if path is None:
            yield [gr.skip()] * (1 + len(self._outputs))
            return
        title = Path(path).stem
        for outputs in self._run(visitor, lambda owner: self._desk.data.take_archive(owner, Path(path), title)):
            yield [None, *outputs]

    def _take_files(self, visitor: str, paths: list[str] | None, table: list[list[Any]]) -> Iterator[list[Any]]:
        rows = _rows(table)
        files = [(Path(path), Path(path).name) for path in paths or ()]
        for outputs in self._run(visitor, lambda owner: self._desk.data.take_files(owner, files, rows)):
            yield [None, *outputs]

    def _take_public(self, visitor: str, hub_id: str) -> Iterator[list[Any]]:
        yield from self._run(visitor, lambda owner: self._desk.data.take_public(owner, hub_id.strip()))

    def _look(self, visitor: str, name: str | None) -> Iterator[list[Any]]:
        if not name:
            # An iterator that gives nothing would empty all of them, also a message that just came.
            yield [gr.skip()] * len(self._outputs)
            return
        yield from self._run(visitor, lambda owner: self._desk.data.check(owner, name))

    def _mend(self, visitor: str, name: str, repairs: list[str]) -> Iterator[list[Any]]:
        yield from self._run(visitor, lambda owner: self._desk.data.repair(owner, name, repairs))

    def _name(self, visitor: str, name: str, *columns: str | None) -> Iterator[list[Any]]:
        chosen = {wanted: column for wanted, column in zip(NAMED, columns, strict=True) if column}
        yield from self._run(visitor, lambda owner: self._desk.data.name_columns(owner, name, chosen))

    def _remove(self, visitor: str, name: str | None) -> list[Any]:
        try:
            owner = owner_of(visitor)
            self._desk.data.delete(owner, str(name))
        except Exception as error:
            return self.failed(error)
        entered = self.enter(owner)
        entered[1] = status("Deleted from the server.")
        return entered

    def _fill_table(self, paths: list[str] | None, table: list[list[Any]]) -> Any:
        """A row for each image that has none yet."""
        named = {row["image"] for row in _rows(table)}
        images = [Path(path).name for path in paths or ()]
        images = [name for name in images if not name.lower().endswith((".csv", ".tsv", ".json", ".jsonl", ".parquet"))]
        if len(images) < len(paths or ()):
            return gr.skip()  # there is a table among them
        rows = [[row.get(column, "") for column in COLUMNS] for row in _rows(table)]
        return rows + [[name, "", "", ""] for name in images if name not in named]

    def _preview(self, visitor: str, name: str | None, *plan: Any) -> Iterator[list[Any]]:
        try:
            owner = owner_of(visitor)
            config = self._desk.config(self._read_plan(*plan))
            for report in self._desk.labels.preview(owner, str(name), config):
                if isinstance(report, LabelPreview):
                    yield [labels_value(report, visitor, str(name)), ""]
                else:
                    yield [gr.skip(), step_status(report)]
        except Exception as error:
            yield [gr.skip(), error_status(error)]

    def _run(self, visitor: str, begin) -> Iterator[list[Any]]:
        try:
            owner = owner_of(visitor)
            for report in begin(owner):
                if isinstance(report, Step):
                    yield [gr.skip(), step_status(report), *[gr.skip()] * (len(self._outputs) - 2)]
                else:
                    yield self._found(owner, report)
        except Exception as error:
            yield self.failed(error)

    def _found(self, owner: str, checked: CheckedData) -> list[Any]:
        repairs = repair_choices(checked)
        errors = checked.dataset.counts.errors
        words = "Looked through." if not errors else "Looked through: see the faults, and what can be repaired."
        return [
            gr.update(choices=self._choices(owner), value=checked.data.name),
            status(words),
            data_report(checked),
            gr.update(visible=bool(repairs)),
            gr.update(choices=repairs, value=[name for _, name in repairs]),
            "",
            gr.update(visible=checked.naming is not None),
            *naming_choices(checked),
        ]

    def failed(self, error: Exception) -> list[Any]:
        """Values of `outputs` that leave all as it is and say what went wrong."""
        return [gr.skip(), error_status(error), *[gr.skip()] * (len(self._outputs) - 2)]

    def _choices(self, owner: str) -> list[tuple[str, str]]:
        return [(data.title, data.name) for data in self._desk.data.all(owner)]


def naming_choices(checked: CheckedData) -> list[Any]:
    """Updates of the lists of columns, the likely ones chosen."""
    naming = checked.naming
    if naming is None:
        return [gr.skip()] * len(NAMED)
    choices = [(f"{name}: {naming.sample[name]}" if naming.sample[name] else name, name) for name in naming.columns]
    return [gr.update(choices=[("(none)", ""), *choices], value=naming.guess.get(wanted, "")) for wanted in NAMED]


def chosen_data(name: str | None) -> str:
    """The chosen data set's name.

    Raises:
        RequestError: none is chosen.
    """
    if not name:
        raise RequestError(expected="a data set", got="None is chosen", remedy="Use the sample, or upload your own")
    return name


def _rows(table: list[list[Any]] | None) -> list[dict[str, str]]:
    """The typed rows that say anything."""
    rows = [
        dict(zip(COLUMNS, ("" if cell is None else str(cell) for cell in row), strict=False)) for row in table or ()
    ]
    return [row for row in rows if any(cell.strip() for cell in row.values())]
