"""The Tune tab's data: taking it in, what it is, what is wrong with it, and the regions of a handful of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from app.common.delete_button import DeleteButton
from app.common.identity import owner_of
from app.common.status import status
from app.common.widgets import (
    EVENT_OPTIONS,
    Update,
    build_stop,
    errors_in,
    follow_work,
    on_files,
    server_function,
)
from app.engine.ids import DataSetId, OwnerId
from app.tune.data.regions import labels_value, row_value
from app.tune.data.report import NO_DATA, data_report, repair_choices
from app.tune.data.service import CheckedData
from app.tune.plan_panel import PlanPanel
from app.tune.widgets import Panel, build_label_view

NAMED = {"image": "Image", "question": "Question", "answer": "Answer", "answer_type": "Answer type", "split": "Split"}
COLUMNS = ("image", "question", "answer", "split")


class DataPanel(Panel):
    """Widgets and wiring of the data."""

    def build_inputs(self) -> None:
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
        self._stop = build_stop("tune-data-stop")
        self._deletion = DeleteButton("Delete this data set", "tune-delete-data")
        self._deletion.build_button(visible=False)
        self._deletion.build_question()

    def build_report(self) -> None:
        """What the data is."""
        self.report = gr.HTML(NO_DATA, elem_id="tune-report", apply_default_css=False)
        with gr.Group(visible=False, elem_id="tune-naming") as self._naming:
            gr.HTML("<p>Which column holds what?</p>", apply_default_css=False)
            with gr.Row():
                options = {"allow_custom_value": True, "interactive": True, "min_width": 150}
                self._names = {
                    name: gr.Dropdown([], label=words, elem_id=f"tune-name-{name}", **options)
                    for name, words in NAMED.items()
                }
            self._rename = gr.Button("Use these columns", size="sm", elem_id="tune-rename")
        with gr.Group(visible=False) as self._repairs:
            self._chosen = gr.CheckboxGroup([], label="Can be repaired", elem_id="tune-repairs")
            self._repair = gr.Button("Repair", elem_id="tune-repair")

    def build_labels(self) -> None:
        """The regions of a handful of rows."""
        self._show = gr.Button("Show regions of a few rows", elem_id="tune-show-labels")
        self._label_status = gr.HTML("", elem_id="tune-label-status", apply_default_css=False)
        self._labels_stop = build_stop("tune-labels-stop")
        self._labels = build_label_view(server_function(self.correct_labels))

    def wire(self, plan: PlanPanel) -> None:
        """Connect the widgets.

        Args:
            plan: whose settings say which regions count.
        """
        self._plan = plan
        takes = {"outputs": self.outputs, "concurrency_id": "tune-data", "concurrency_limit": 2, **EVENT_OPTIONS}
        me, chosen = self._visitor, [self._visitor, self.choice]
        self._sample.click(self._add_sample, [me], **takes)
        on_files(self._archive, self._add_archive, [me], **takes)
        self._files.change(self._fill_table, [self._files, self._table], [self._table], queue=False, **EVENT_OPTIONS)
        on_files(self._files, self._add_files, [me, self._table], button=self._take, **takes)
        self._fetch.click(self._add_public, [me, self._hub], **takes)
        self.choice.input(self.check, chosen, **takes)
        self._repair.click(self._mend, [*chosen, self._chosen], **takes)
        self._rename.click(self._name, [*chosen, *self._names.values()], **takes)
        data = self._service.data
        restore = data.sets.restore
        for changed in self._deletion.wire(chosen, self.outputs, data.describe, data.delete, restore, self._shown):
            changed.then(self.check, chosen, **takes)
        self._stop.click(self._end, [me], None, queue=False, **EVENT_OPTIONS)
        self._show.click(
            self._preview,
            [*chosen, *plan.inputs],
            [self._labels, self._label_status, self._labels_stop],
            concurrency_id="tune-labels",
            concurrency_limit=1,
            **EVENT_OPTIONS,
        )
        self._labels_stop.click(self._end_preview, [me], None, queue=False, **EVENT_OPTIONS)

    def enter(self, owner: OwnerId, name: DataSetId | None = None) -> Update:
        """Show what is the visitor's: a data set, the newest when none is named."""
        choices = self._choices(owner)
        hidden = gr.update(visible=False)
        value = name or (choices[0][1] if choices else None)
        return {
            self.choice: gr.update(choices=choices, value=value),
            self.report: "" if choices else NO_DATA,
            self._repairs: hidden,
            self._labels: "",
            self._naming: hidden,
            self._deletion.button: gr.update(visible=bool(value)),
            **self._plan.show_obstacle(owner, value),
        }

    @property
    def outputs(self) -> list[gr.blocks.Block]:
        """What `enter` and `check` may change."""
        return [
            *(self.choice, self.status, self._stop, self.report, self._repairs, self._chosen, self._labels),
            *(self._naming, *self._names.values(), self._deletion.button, self._plan.start, self._plan.reason),
        ]

    # ---- events ------------------------------------------------------------------------------

    @errors_in("status")
    def check(self, visitor: str, name: DataSetId | None) -> Iterator[Update]:
        """Check the chosen data set."""
        if not name:
            # An iterator that gives nothing would empty all of them, also a message that just came.
            none = {self._deletion.button: gr.update(visible=False)}
            yield {**none, **self._plan.show_obstacle(owner_of(visitor), None)}
            return
        yield from self._follow(visitor, lambda owner: self._service.data.check(owner, name))

    def _add_sample(self, visitor: str) -> Iterator[Update]:
        yield from self._follow(visitor, self._service.data.add_sample)

    def _add_archive(self, path: str | None, visitor: str) -> Iterator[Update]:
        if path is None:
            yield gr.skip()
            return
        archive = Path(path)
        yield from self._follow(visitor, lambda owner: self._service.data.add_archive(owner, archive, archive.stem))

    def _add_files(self, paths: list[str] | None, visitor: str, table: list[list[Any]]) -> Iterator[Update]:
        files, rows = [Path(path) for path in paths or ()], _rows(table)
        yield from self._follow(visitor, lambda owner: self._service.data.add_files(owner, files, rows))

    def _add_public(self, visitor: str, hub_id: str) -> Iterator[Update]:
        yield from self._follow(visitor, lambda owner: self._service.data.add_public(owner, hub_id.strip()))

    def _mend(self, visitor: str, name: DataSetId | None, repairs: list[str]) -> Iterator[Update]:
        yield from self._follow(visitor, lambda owner: self._service.data.repair(owner, name, repairs))

    def _name(self, visitor: str, name: DataSetId | None, *columns: str | None) -> Iterator[Update]:
        chosen = {wanted: column for wanted, column in zip(NAMED, columns, strict=True) if column}
        yield from self._follow(visitor, lambda owner: self._service.data.name_columns(owner, name, chosen))

    def _shown(self, visitor: str, name: DataSetId | None) -> Update:
        """The page without what was deleted, or with what is back."""
        return self.enter(owner_of(visitor), name)

    def _end(self, visitor: str) -> None:
        self._service.data.stop(owner_of(visitor))

    def _fill_table(self, paths: list[str] | None, table: list[list[Any]]) -> Any:
        """A row for each image that has none yet."""
        named = {row["image"] for row in _rows(table)}
        images = [Path(path).name for path in paths or ()]
        images = [name for name in images if not name.lower().endswith((".csv", ".tsv", ".json", ".jsonl", ".parquet"))]
        if len(images) < len(paths or ()):
            return gr.skip()  # there is a table among them
        rows = [[row.get(column, "") for column in COLUMNS] for row in _rows(table)]
        return rows + [[name, "", "", ""] for name in images if name not in named]

    def _preview(self, visitor: str, name: DataSetId | None, *plan: Any) -> Iterator[Update]:
        yield from follow_work(
            lambda: self._service.regions.preview(owner_of(visitor), name, self._plan.read(*plan).config()),
            self._label_status,
            self._labels_stop,
            lambda preview: {self._labels: labels_value(preview, visitor, name)},
        )

    def _end_preview(self, visitor: str) -> None:
        self._service.regions.stop(owner_of(visitor))

    def correct_labels(self, request: dict[str, Any]) -> dict[str, Any]:
        """A row whose regions were dropped, kept or drawn in the browser."""
        owner, name = owner_of(request.get("visitor")), DataSetId(str(request.get("data")))
        number: Any = request.get("number")
        keys: Any = request.get("keys")
        if request.get("action") == "draw":
            row = self._service.regions.draw(owner, name, number, request["box"])
        else:
            row = self._service.regions.choose(owner, name, number, keys)
        return {"row": row_value(number, row)}

    def _follow(self, visitor: str, begin: Callable[[OwnerId], Iterator[Any]]) -> Iterator[Update]:
        yield from follow_work(
            lambda: begin(owner_of(visitor)), self.status, self._stop, lambda checked: self._found(visitor, checked)
        )

    def _found(self, visitor: str, checked: CheckedData) -> Update:
        repairs = repair_choices(checked)
        errors = checked.dataset.counts.errors
        words = "Looked through." if not errors else "Looked through: see the faults, and what can be repaired."
        owner = owner_of(visitor)
        found = {
            self.choice: gr.update(choices=self._choices(owner), value=checked.data.id),
            self.status: status(words),
            self.report: data_report(checked),
            self._repairs: gr.update(visible=bool(repairs)),
            self._chosen: gr.update(choices=repairs, value=[name for _, name in repairs if name != "allow"]),
            self._labels: "",
            self._deletion.button: gr.update(visible=True),
            self._naming: gr.update(visible=checked.naming is not None),
            **self._plan.show_obstacle(owner, checked.data.id),
        }
        if checked.naming is not None:
            sample, guess = checked.naming.sample, checked.naming.guess
            named = [(f"{name}: {sample[name]}" if sample[name] else name, name) for name in checked.naming.columns]
            for wanted, dropdown in self._names.items():
                found[dropdown] = gr.update(choices=[("(none)", ""), *named], value=guess.get(wanted, ""))
        return found

    def _choices(self, owner: OwnerId) -> list[tuple[str, DataSetId]]:
        return [(data.title, data.id) for data in self._service.data.sets.all(owner)]


def _rows(table: list[list[Any]] | None) -> list[dict[str, str]]:
    """The typed rows that say anything."""
    rows = [
        dict(zip(COLUMNS, ("" if cell is None else str(cell) for cell in row), strict=False)) for row in table or ()
    ]
    return [row for row in rows if any(cell.strip() for cell in row.values())]
