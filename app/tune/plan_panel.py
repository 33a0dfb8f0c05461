"""The Tune tab's plan: method, preset, settings, what it takes, and the start."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

import gradio as gr

from a3tune.errors import RequestError
from app.common.identity import owner_of
from app.common.status import status
from app.common.widgets import EVENT_OPTIONS, Update, build_stop, follow_work
from app.engine.ids import DataSetId, OwnerId
from app.jobs.hardware import can_train, duplicate_address, machine_notice
from app.tune.plans import ABLATIONS, QUICK, Plan, estimate_html, method_choices, preset_choices
from app.tune.widgets import Panel

# The settings with a field of their own: name -> words. All others can be written below them.
_FIELDS = {
    "max_steps": "Steps",
    "epochs": "or epochs",
    "batch_size": "Batch size",
    "gradient_accumulation": "Batches in a step",
    "learning_rate": "Learning rate",
    "ratio": "Alignment weight",
    "evaluate_every": "Validate every",
    "save_every": "Save every",
}


class PlanPanel(Panel):
    """Widgets and wiring of the plan."""

    def build(self) -> None:
        """The widgets."""
        gr.HTML("<h2>2 · Plan</h2>", apply_default_css=False)
        self._preset = gr.Dropdown(preset_choices(), value=QUICK, label="Preset", elem_id="tune-preset")
        self._method = gr.Radio(method_choices(), value="a3", label="Method", elem_id="tune-method")
        with gr.Accordion("Advanced", open=False, elem_id="tune-advanced"):
            self._ablations = gr.CheckboxGroup(
                [(words, name) for name, words in ABLATIONS.items()], label="Ablations", elem_id="tune-ablations"
            )
            with gr.Row(elem_id="tune-fields"):
                self._fields = [
                    gr.Textbox(
                        label=words,
                        placeholder="as in the preset",
                        max_lines=1,
                        min_width=124,
                        elem_id=f"tune-set-{name}",
                    )
                    for name, words in _FIELDS.items()
                ]
            self._checkpointing = gr.Checkbox(
                label="Save memory: compute activations twice (gradient_checkpointing)", elem_id="tune-checkpointing"
            )
            self._others = gr.Textbox(
                label="Other settings, one name=value a line", lines=2, max_lines=8, elem_id="tune-others"
            )
            self._title = gr.Textbox(label="Name of the run", max_length=60, elem_id="tune-title")
        with gr.Row():
            self._measure = gr.Button("Measure one step", elem_id="tune-measure")
            self._stop = build_stop("tune-measure-stop")
            self.start = gr.Button("Start", elem_id="tune-start")
        self.reason = gr.HTML("", elem_id="tune-start-reason", apply_default_css=False)
        self.status = gr.HTML(_initial_status(), elem_id="tune-plan-status", apply_default_css=False)

    def show_obstacle(self, owner: OwnerId, data: DataSetId | None) -> Update:
        """Start in the colour of what can be started, or beside it why nothing can."""
        reason = self._service.obstacle(owner, data)
        # What no data could change is told at length below.
        told = reason if can_train() else ""
        return {
            self.start: gr.update(variant="secondary" if reason else "primary"),
            self.reason: status(told) if told else "",
        }

    @property
    def inputs(self) -> list[gr.components.Component]:
        """What `read` takes, in its order."""
        return [self._preset, self._method, self._ablations, self._checkpointing, self._others, *self._fields]

    @property
    def title(self) -> gr.Textbox:
        """The name of the run."""
        return self._title

    @staticmethod
    def read(preset: str, method: str, ablations: list[str], checkpointing: bool, others: str, *fields: str) -> Plan:
        """The plan of the widgets' values.

        Raises:
            RequestError: a line of the other settings is no name=value.
        """
        settings = {name: text.strip() for name, text in zip(_FIELDS, fields, strict=True) if (text or "").strip()}
        if "epochs" in settings and "max_steps" not in settings:
            settings["max_steps"] = "null"
        if checkpointing:
            settings["gradient_checkpointing"] = "true"
        for line in (others or "").splitlines():
            if line.strip():
                name, equals, value = line.partition("=")
                if not equals:
                    raise RequestError(
                        expected="name=value",
                        got=f"The setting {line.strip()[:60]!r} has no value",
                        remedy="Write seed=4",
                    )
                settings[name.strip()] = value.strip()
        return Plan(preset, method, tuple(ablations or ()), settings)

    def wire(self, data: gr.Dropdown) -> None:
        """Connect measuring; the start is connected by the tab, which shows the run then."""
        self._measure.click(
            self._estimate,
            [self._visitor, data, *self.inputs],
            [self.status, self._stop],
            concurrency_id="tune-measure",
            concurrency_limit=1,
            **EVENT_OPTIONS,
        )
        self._stop.click(self._end, [self._visitor], None, queue=False, **EVENT_OPTIONS)

    def _estimate(self, visitor: str, data: DataSetId | None, *plan: Any) -> Iterator[Update]:
        yield from follow_work(
            lambda: self._service.measure(owner_of(visitor), data, self.read(*plan)),
            self.status,
            self._stop,
            lambda found: {self.status: estimate_html(found)},
        )

    def _end(self, visitor: str) -> None:
        self._service.stop_measuring(owner_of(visitor))


def _initial_status() -> str:
    notice, address = machine_notice(), duplicate_address()
    if not notice:
        return ""
    link = f' <a href="{address}" target="_blank" rel="noopener">Duplicate this Space</a>' if address else ""
    return f'<p class="status notice">{html.escape(notice)}{link}</p>'
