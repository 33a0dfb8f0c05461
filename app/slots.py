"""What all visitors share: the one model, and the parts that find and rank regions; loaded in threads of their own."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from a3tune.bundle import DEMO, DEMO_NAME, demo_adapters, model_source
from a3tune.types import MedicalImage

if TYPE_CHECKING:
    from a3tune.adapters.switch import AdapterSet
    from a3tune.inspection import Inspection
    from a3tune.labelling.maker import LabelMaker
    from a3tune.labels import Segmentation, Segmenter
    from a3tune.models.load import VisionLanguageModel


class ModelStatus(NamedTuple):
    """What the page says about the model: "loading", "ready" or "failed"; ``detail`` is why it failed."""

    state: Literal["loading", "ready", "failed"]
    name: str
    demo: bool
    error: BaseException | None = None


class ModelSlot:
    """The one model that all visitors share; loaded once, in a thread of its own, used by one at a time.

    Args:
        profile: "demo", a checkpoint folder or a hub id.
        adapters: folders of adapters in PEFT's format by name, loaded beside the model; the bundled ones come with
            the demo.
        device: "auto", "cpu", "cuda" or "mps".
    """

    def __init__(
        self, profile: str = DEMO, adapters: Mapping[str, Path] | None = None, *, device: str = "auto"
    ) -> None:
        self.profile = profile
        self.demo = profile == DEMO
        self.in_use = threading.Lock()
        self._folders = {**(demo_adapters() if self.demo else {}), **(adapters or {})}
        self._own = set(adapters or {})
        self._adapter_set: AdapterSet | None = None
        self._device = device
        self._loaded = threading.Event()
        self._model: VisionLanguageModel | None = None
        self._inspect_image: Callable[..., Inspection] | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._load, name="model-loader", daemon=True)

    def start(self) -> None:
        """Begin loading; returns at once."""
        self._thread.start()

    @property
    def status(self) -> ModelStatus:
        """Where loading stands."""
        name = DEMO_NAME if self.demo else Path(self.profile).name
        if not self._loaded.is_set():
            return ModelStatus("loading", name, self.demo)
        if self._model is None:
            return ModelStatus("failed", name, self.demo, self._error)
        return ModelStatus("ready", DEMO_NAME if self.demo else self._model.name, self.demo)

    def wait(self, timeout: float) -> VisionLanguageModel | None:
        """The model, or None when it is not loaded within ``timeout`` seconds.

        Raises:
            A3TuneError, Exception: whatever ended the loading.
        """
        if not self._loaded.wait(timeout):
            return None
        if self._error is not None:
            raise self._error
        return self._model

    def inspect(
        self, image: MedicalImage, question: str, *, adapter_set: AdapterSet | None = None, **options: Any
    ) -> Inspection:
        """:func:`a3tune.inspection.inspect_image` with the loaded model and the adapters beside it, or other ones; one
        call at a time, see ``in_use``."""
        adapter_set = self._adapter_set if adapter_set is None else adapter_set
        return self._inspect_image(self._model, image, question, adapter_set=adapter_set, **options)

    @property
    def adapters(self) -> tuple[str, ...]:
        """ "base" and the adapters beside it, in their order: those named at the start until all are loaded."""
        return ("base", *self._folders) if self._adapter_set is None else self._adapter_set.names

    @property
    def adapter_set(self) -> AdapterSet | None:
        """The adapters beside the model, once all is loaded; used under ``in_use``."""
        return self._adapter_set

    @property
    def folders(self) -> dict[str, Path]:
        """The folders of the adapters that do not come with the demo model, by name."""
        return {name: folder for name, folder in self._folders.items() if name in self._own}

    def add_adapter(self, name: str, folder: Path) -> None:
        """Load one more adapter beside the model, for all visitors; the base weights stay as they are. Those of single
        visitors are a matter of :mod:`app.guests`.

        Waits for the model and for the question that runs.

        Raises:
            AdapterError: see :meth:`a3tune.adapters.switch.AdapterSet.add`.
        """
        self.wait(None)
        with self.in_use:
            self._adapter_set.add(name, folder)
            self._folders[name] = folder
            self._own.add(name)

    def _load(self) -> None:
        try:
            # Imported here, in the loader's thread: torch and transformers take seconds, and the page must answer
            # before that.
            from a3tune.adapters.switch import AdapterSet
            from a3tune.inspection import inspect_image
            from a3tune.models.load import load_model

            self._inspect_image = inspect_image
            name = DEMO_NAME if self.demo else None
            model = load_model(model_source(self.profile), device=self._device, name=name)
            self._adapter_set = AdapterSet(model.model, self._folders)
            self._model = model
        except Exception as error:
            # Kept and raised again for each question: a thread has nobody to raise it to.
            self._error = error
        finally:
            self._loaded.set()


class RegionSlot:
    """The segmenter and the scorer that all visitors share; loaded when first needed, used by one at a time.

    Loading that failed is tried again with the next request, so that a file that was missing can be put in place.

    Args:
        scorer: "demo", "biomedclip", the folder of an open_clip model, or its name on the hub.
        segmenter: "litemedsam", or the path of a Segment Anything checkpoint.
        device: "auto", "cpu" or "cuda".
    """

    def __init__(self, scorer: str = DEMO, segmenter: str = "litemedsam", *, device: str = "auto") -> None:
        self.in_use = threading.Lock()
        self._names = (segmenter, scorer)
        self._device = device
        self._guard = threading.Lock()
        self._loading: threading.Thread | None = None
        self._maker: LabelMaker | None = None
        self._error: BaseException | None = None

    def wait(self, timeout: float) -> LabelMaker | None:
        """The parts, or None when they are not loaded within ``timeout`` seconds; begins loading where needed.

        Raises:
            A3TuneError, Exception: whatever ended the loading.
        """
        with self._guard:
            if self._maker is None and self._loading is None:
                self._error = None
                self._loading = threading.Thread(target=self._load, name="region-loader", daemon=True)
                self._loading.start()
            loading = self._loading
        if loading is not None:
            loading.join(timeout)
            if loading.is_alive():
                return None
            with self._guard:
                error, self._loading = self._error, None
            if error is not None:
                raise error
        return self._maker

    def _load(self) -> None:
        try:
            # Imported here, in the loader's thread: torch and open_clip take seconds, and the page must answer
            # before that.
            from a3tune.labelling.maker import build_maker

            maker = build_maker(*self._names, top_k="all", device=self._device)
            # Visitors are told that nothing of their image stays on the server: not even masks go to the disk.
            maker.cache = SegmentationMemory()
            self._maker = maker
        except Exception as error:
            # Kept and raised again for each request: a thread has nobody to raise it to.
            self._error = error


class SegmentationMemory:
    """The regions of the images seen last, in memory only; used under :attr:`RegionSlot.in_use`.

    Args:
        capacity: how many images' regions are kept.
    """

    def __init__(self, capacity: int = 12) -> None:
        self._capacity = capacity
        self._known: OrderedDict[str, Segmentation] = OrderedDict()

    def get_or_make(self, image: MedicalImage, segmenter: Segmenter) -> Segmentation:
        """The image's regions, found now when they are not known."""
        if image.sha256 not in self._known:
            self._known[image.sha256] = segmenter.segment(image)
            if len(self._known) > self._capacity:
                self._known.popitem(last=False)
        self._known.move_to_end(image.sha256)
        return self._known[image.sha256]
