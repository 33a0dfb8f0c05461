"""The Tune tab's ways out: adapters to use, compare and give away, and the same run on other machines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from a3tune.encoding import base64_text
from a3tune.errors import RequestError
from a3tune.wording import WARNING
from app.access.visits import is_secret
from app.common.delete_button import DeleteButton
from app.common.identity import owner_of
from app.common.status import status, warning_status
from app.common.widgets import EVENT_OPTIONS, Update, errors_in, json_text, on_files, server_function
from app.engine.ids import AdapterName
from app.jobs.job import MOST_DOWNLOADED
from app.tune.plan_panel import PlanPanel
from app.tune.plans import launch_command
from app.tune.widgets import Panel, build_download


class AdapterPanel(Panel):
    """Widgets and wiring of adapters and other machines."""

    def build_use(self) -> None:
        """Adapters to use and give away."""
        with gr.Row(equal_height=True, elem_id="tune-own-controls"):
            self.choice = gr.Dropdown(
                [], label="Your adapter", allow_custom_value=True, interactive=True, scale=3, elem_id="tune-own"
            )
            self.inspect = gr.Button(
                "Before and after in Inspect",
                variant="primary",
                interactive=False,
                min_width=180,
                size="sm",
                elem_id="tune-inspect",
            )
            self.evaluate = gr.Button(
                "Evaluate against base", interactive=False, min_width=150, size="sm", elem_id="tune-evaluate"
            )
            self._deletion = DeleteButton("Delete", "tune-remove")
            self._deletion.build_button(interactive=False, min_width=80)
        self._deletion.build_question()
        self.status = gr.HTML(
            status("Adapters are here from a run's first checkpoint on, and in Inspect under “Answer with”."),
            elem_id="tune-use-status",
            apply_default_css=False,
        )
        self._download = build_download(server_function(self.download_adapter))
        with gr.Accordion("Load an adapter", open=False, elem_id="tune-load"):
            self._adapter = gr.File(
                label="ZIP of a PEFT folder (safetensors only)", file_count="single", height=84, elem_id="tune-adapter"
            )
            with gr.Row(equal_height=True):
                self._hub = gr.Textbox(
                    label="Or from the hub", placeholder="name/repository", scale=3, elem_id="tune-adapter-hub"
                )
                self._load = gr.Button("Load from the hub", size="sm", min_width=140, elem_id="tune-load-hub")
            self._other_base = gr.Checkbox(
                label="Also one that was made for other weights than this base model's",
                info="What it answers then says nothing about how it was trained.",
                elem_id="tune-other-base",
            )
            self._load_status = gr.HTML("", elem_id="tune-load-status", apply_default_css=False)
        with gr.Accordion("Push to the hub", open=False, elem_id="tune-hub-push"):
            self._repository = gr.Textbox(label="Repository", placeholder="your-name/repository", elem_id="tune-repo")
            self._token = gr.Textbox(
                label="Your token with the right to write (used once, kept nowhere)",
                type="password",
                elem_id="tune-token",
            )
            self._strength = gr.Slider(
                0.1,
                2,
                value=1,
                step=0.1,
                label="Strength",
                info="By how much the adapter's change of the base is multiplied: 1 is as tuned. The card says so.",
                elem_id="tune-push-strength",
            )
            self._push = gr.Button("Push", size="sm", elem_id="tune-push")
            self._push_status = gr.HTML("", elem_id="tune-push-status", apply_default_css=False)

    def build_scale(self) -> None:
        """The same run on other machines."""
        self._write = gr.Button("Write command and config for the plan on the left", size="sm", elem_id="tune-scale")
        self._scale_status = gr.HTML("", elem_id="tune-scale-status", apply_default_css=False)
        # No language: gradio's colours for shell and YAML are too pale to read on white.
        plain = {"language": None, "interactive": False, "wrap_lines": True}
        self._text = gr.Code(label="Command", elem_id="tune-command", **plain)
        self._config = gr.Code(label="config.yaml", elem_id="tune-config", **plain)
        self.folder = gr.File(
            label="Open a run folder that was made elsewhere (ZIP)",
            file_count="single",
            height=84,
            elem_id="tune-folder",
        )

    @property
    def outputs(self) -> list[gr.blocks.Block]:
        """What `show` changes."""
        return [self.choice, self.inspect, self.evaluate, self._deletion.button, self._download]

    def show(self, visitor: str, name: AdapterName | None = None) -> Update:
        """Show one of the visitor's adapters; the first one when it is not named or gone."""
        names = list(self._service.adapters.of(owner_of(visitor))) if is_secret(visitor) else []
        chosen = name if name in names else next(iter(names), None)
        button = gr.update(interactive=chosen is not None)
        return {
            self.choice: gr.update(choices=names, value=chosen),
            **dict.fromkeys((self.inspect, self.evaluate, self._deletion.button), button),
            self._download: json_text({"visitor": visitor, "adapter": chosen, "ready": chosen is not None}),
        }

    def wire(self, plan: PlanPanel) -> None:
        """Connect the widgets.

        Args:
            plan: the plan on show.
        """
        self._plan = plan
        own = [self._visitor, self.choice]
        self.choice.input(self._choose, own, [*self.outputs, self.status], queue=False, **EVENT_OPTIONS)
        kept = self._service.adapters
        self._deletion.wire(
            own, self.outputs, kept.describe, kept.delete, kept.restore, lambda visitor, _: self.show(visitor)
        )
        pushed = [self._token, self._push_status]
        self._push.click(self._send, [*own, self._repository, self._token, self._strength], pushed, **EVENT_OPTIONS)
        loaded = [self._load_status, *self.outputs]
        on_files(self._adapter, self._load_archive, [self._visitor, self._other_base], loaded, **EVENT_OPTIONS)
        self._load.click(self._load_public, [self._visitor, self._hub, self._other_base], loaded, **EVENT_OPTIONS)
        self._write.click(self._scale, plan.inputs, [self._text, self._config, self._scale_status], **EVENT_OPTIONS)

    # ---- events ------------------------------------------------------------------------------

    @errors_in("status")
    def _choose(self, visitor: str, name: AdapterName | None) -> Update:
        return {**self.show(visitor, name), self.status: self._warning(visitor, name)}

    def _warning(self, visitor: str, name: AdapterName | None) -> str:
        """The status about an adapter that was made for another base; "" for any other."""
        origin = "" if name is None else self._service.adapters.origin(owner_of(visitor), name)
        return warning_status(origin) if origin.startswith(WARNING) else ""

    @errors_in("_push_status")
    def _send(self, visitor: str, name: AdapterName, repository: str, token: str, strength: float) -> Iterator[Update]:
        # The token leaves the page at once.
        yield {self._token: "", self._push_status: status("Pushing …")}
        address = self._service.adapters.push(owner_of(visitor), name, repository.strip(), token, strength)
        yield {self._push_status: status(f"Pushed to {address}")}

    @errors_in("_load_status")
    def _load_archive(self, path: str | None, visitor: str, other_base: bool) -> Update:
        if path is None:
            return gr.skip()
        archive = Path(path)
        name = self._service.adapters.load(
            owner_of(visitor), archive.stem, archive=archive, allow_other_base=other_base
        )
        return self._loaded(visitor, name)

    @errors_in("_load_status")
    def _load_public(self, visitor: str, hub_id: str, other_base: bool) -> Iterator[Update]:
        yield {self._load_status: status("Fetching …")}
        name = self._service.adapters.load(owner_of(visitor), hub_id, hub_id=hub_id, allow_other_base=other_base)
        yield self._loaded(visitor, name)

    def _loaded(self, visitor: str, name: AdapterName) -> Update:
        words = f"Loaded as “{name}”: it fits the base model, and you find it in Inspect under “Answer with”."
        origin = self._service.adapters.origin(owner_of(visitor), name)
        if origin.startswith(WARNING):
            words = f"Loaded as “{name}”. {origin} Its answers in Inspect carry this warning."
            return {self._load_status: warning_status(words), **self.show(visitor, name)}
        return {self._load_status: status(f"{words} {origin}".strip()), **self.show(visitor, name)}

    @errors_in("_scale_status")
    def _scale(self, *values: Any) -> Update:
        plan = self._plan.read(*values)
        command = launch_command(plan, self._service.slot.profile)
        return {self._text: command, self._config: plan.yaml(), self._scale_status: ""}

    def download_adapter(self, request: dict[str, Any]) -> dict[str, Any]:
        """The archive of an adapter, in base64, and its file name."""
        name = AdapterName(str(request.get("adapter")))
        content = self._service.adapters.zip(owner_of(request.get("visitor")), name)
        if len(content) > MOST_DOWNLOADED:
            raise RequestError(
                expected=f"an adapter of at most {MOST_DOWNLOADED >> 20} MiB",
                got=f"It has {len(content) >> 20} MiB",
                remedy="Push it to the hub, or copy it from the server's disk",
            )
        file_name = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-") or "adapter"
        return {"archive": base64_text(content), "name": f"{file_name}.zip"}
