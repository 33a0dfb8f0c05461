"""The one model that all visitors share: loaded in a thread of its own, used by one at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from a3tune.bundle import DEMO, DEMO_NAME, demo_adapters, model_source
from a3tune.progress import Progress, no_progress
from app.engine import library
from app.engine.background import INTERVAL, Task
from app.engine.model_generation import ModelGeneration, without_locals
from app.engine.model_lock import TurnLock, turn

if TYPE_CHECKING:
    from a3tune.adapters.switch import AdapterSet
    from a3tune.models.load import VisionLanguageModel


@dataclass(frozen=True)
class ModelChoice:
    """A model and how it is kept.

    Attributes:
        source: "demo", a checkpoint folder or a hub id.
        precision: "auto", or a key of :data:`a3tune.models.memory.BYTES_PER_WEIGHT`.
        offload: whether what does not fit on the GPU stays in the machine's memory.
    """

    source: str = DEMO
    precision: str = "auto"
    offload: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """What :func:`a3tune.models.load.load_model` is told about it."""
        if self.precision in ("8bit", "4bit"):
            return {"quantization": self.precision, "offload": self.offload}
        return {"dtype": self.precision, "offload": self.offload}


class ModelStatus(NamedTuple):
    """What the page says about the model: "loading", "ready" or "failed"; ``error`` is why it failed, ``number`` that
    of its generation, ``note`` what is being done while it loads, ``remarks`` what to know about how it was loaded."""

    state: Literal["loading", "ready", "failed"]
    name: str
    demo: bool
    error: BaseException | None = None
    number: int = 0
    note: str = ""
    remarks: tuple[str, ...] = ()


class ModelSlot:
    """The one model that all visitors share; loaded in a thread of its own, used by one at a time.

    Args:
        profile: "demo", a checkpoint folder or a hub id.
        adapters: folders of adapters in PEFT's format by name, loaded beside this model; the bundled ones come with
            the demo.
        device: "auto", "cpu", "cuda" or "mps".
        allow_other_base: take adapters that were made for other weights of the same shapes; their answers say so.
    """

    def __init__(
        self,
        profile: str = DEMO,
        adapters: Mapping[str, Path] | None = None,
        *,
        device: str = "auto",
        allow_other_base: bool = False,
    ) -> None:
        self.in_use = TurnLock()
        self.device = device
        self.choice = ModelChoice(profile)
        self._allow_other_base = allow_other_base
        self._named = (profile, dict(adapters or {}))
        self.generation = self._next_generation(0)
        self._adapter_set: AdapterSet | None = None
        self._loaded = threading.Event()
        self._model: VisionLanguageModel | None = None
        self._error: BaseException | None = None
        self._note = ""
        self._switching = threading.Lock()
        self._thread = threading.Thread(target=self._load, name="model-loader", daemon=True)

    def start(self) -> None:
        """Begin loading; returns at once."""
        self._thread.start()

    def load_here(self) -> VisionLanguageModel | None:
        """Load in the thread that asks, in the place of :meth:`start`; None when that fails, see :attr:`status`."""
        self._load()
        return self._model

    def switch(self, choice: ModelChoice, on_progress: Progress = no_progress) -> None:
        """Let the model in memory go and load another in its place; returns when that is ready.

        Questions that it was asked are answered first; those that come meanwhile wait for the new one. Other work with
        it ends, see :attr:`ModelGeneration.left`. When the new model cannot be loaded, the former one comes back.

        Raises:
            A3TuneError, Exception: whatever ended the loading.
        """
        with self._switching:
            former, worked = self.choice, self.status.state != "failed"
            self._loaded.wait()
            self.generation.close(on_progress)
            self.generation.end(_name_of(choice.source))
            with self.in_use:
                self._replace(choice, on_progress)
                error = self._error
                if error is not None and worked:
                    self._replace(former, on_progress)
        if error is not None:
            raise error

    @contextmanager
    def answering(
        self, task: Task, loading: str, waiting: str
    ) -> Iterator[tuple[VisionLanguageModel, ModelGeneration]]:
        """The model for one question, with its generation, once it is its turn; it is not replaced before the end of
        the ``with`` block. Args, Raises: as :func:`app.engine.model_lock.turn`."""
        while True:
            generation = self.generation
            with generation.answering() as taken:
                if taken:
                    with turn(task, self, loading, waiting) as model:
                        yield model, generation
                    return
            task.progress("Waiting for another model, which is being loaded", 0.0)
            task.cancel.wait(INTERVAL)

    def wait_over(self) -> None:
        """Wait until loading has ended, well or not."""
        self._loaded.wait()

    @property
    def profile(self) -> str:
        """ "demo", a checkpoint folder or a hub id."""
        return self.choice.source

    @property
    def demo(self) -> bool:
        """Whether the bundled model is the one."""
        return self.profile == DEMO

    @property
    def convention(self) -> str | None:
        """How the model in memory was trained to see computed tomography; None for as it is shown, or while there is
        none."""
        model = self._model
        return None if model is None else model.convention

    @property
    def size(self) -> int:
        """Bytes of the weights in memory."""
        model = self._model
        return 0 if model is None else sum(part.numel() * part.element_size() for part in model.model.parameters())

    @property
    def status(self) -> ModelStatus:
        """Where loading stands."""
        name, number = _name_of(self.profile), self.generation.number
        if not self._loaded.is_set():
            return ModelStatus("loading", name, self.demo, None, number, self._note)
        if self._error is not None:
            return ModelStatus("failed", name, self.demo, self._error, number)
        model = self._model
        return ModelStatus("ready", name, self.demo, None, number, remarks=() if model is None else model.notes)

    def wait(self, timeout: float | None) -> VisionLanguageModel | None:
        """The model, or None when it is not loaded within ``timeout`` seconds.

        Raises:
            A3TuneError, Exception: whatever ended the loading.
        """
        if not self._loaded.wait(timeout):
            return None
        if self._error is not None:
            raise self._error
        return self._model

    @property
    def adapters(self) -> tuple[str, ...]:
        """ "base" and the adapters beside it, in their order: those named at the start until all are loaded."""
        return ("base", *self.folders) if self._adapter_set is None else self._adapter_set.names

    @property
    def adapter_set(self) -> AdapterSet | None:
        """The adapters beside the model, once all is loaded; used under ``in_use``."""
        return self._adapter_set

    @property
    def folders(self) -> dict[str, Path]:
        """The folders of all adapters beside the model, by name."""
        return {**(demo_adapters() if self.demo else {}), **self.generation.folders}

    def _next_generation(self, number: int) -> ModelGeneration:
        first, folders = self._named
        return ModelGeneration(
            _name_of(self.profile), self.profile, number, folders=folders if self.profile == first else {}
        )

    def _replace(self, choice: ModelChoice, on_progress: Progress) -> None:
        self._loaded.clear()
        self._model = self._adapter_set = self._error = None
        library.release_memory()
        self.choice = choice
        self.generation = self._next_generation(self.generation.number + 1)
        self._load(on_progress)

    def _load(self, on_progress: Progress = no_progress) -> None:
        def report(what: str, share: float) -> None:
            self._note = f"{what} ({share:.0%})" if 0 < share < 1 else what
            on_progress(what, share)

        self._note = ""
        try:
            model = library.load_model(
                model_source(self.profile),
                device=self.device,
                name=_name_of(self.profile),
                on_progress=report,
                **self.choice.options,
            )
            self._adapter_set = library.AdapterSet(
                model.model, self.folders, identity=model, allow_other_base=self._allow_other_base
            )
            self.generation.special_tokens = frozenset(model.tokenizer.all_special_tokens)
            self._model = model
        except Exception as error:
            # Kept and raised again for each question: a thread has nobody to raise it to.
            self._error = without_locals(error)
        finally:
            self._loaded.set()


def _name_of(source: str) -> str:
    """How a model is called on the page."""
    return DEMO_NAME if source == DEMO else Path(source).name if Path(source).is_absolute() else source
