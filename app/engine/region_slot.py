"""The segmenter and the scorer that all visitors share: loaded when first needed, used by one at a time."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import TYPE_CHECKING, cast

from a3tune.bundle import DEMO
from a3tune.recently_used import RecentlyUsed
from a3tune.types import MedicalImage
from app.engine import library
from app.engine.model_generation import ModelGeneration, without_locals
from app.engine.model_lock import TurnLock

if TYPE_CHECKING:
    from a3tune.labels.cache import RegionCache
    from a3tune.labels.pipeline import LabelMaker
    from a3tune.labels.segmenters.segmentation import Segmentation, Segmenter


class RegionSlot:
    """The segmenter and the scorer that all visitors share; loaded when first needed, used by one at a time.

    Loading that failed is tried again with the next request, so that a file that was missing can be put in place.

    Args:
        scorer: "demo", "biomedclip", the folder of an open_clip model, or its name on the hub.
        segmenter: "litemedsam", or the path of a Segment Anything checkpoint.
        device: "auto", "cpu" or "cuda".
    """

    def __init__(self, scorer: str = DEMO, segmenter: str = "litemedsam", *, device: str = "auto") -> None:
        self.in_use = TurnLock()
        self.names = (segmenter, scorer)
        self.device = device
        self.generation = ModelGeneration("What finds and ranks regions")
        self._guard = threading.Lock()
        self._loading: threading.Thread | None = None
        self._maker: LabelMaker | None = None
        self._error: BaseException | None = None
        self._unwanted: tuple[set[str], set[str]] = (set(), set())
        self._forgetting = False
        self._kept: set[str] = set()

    def switch(self, segmenter: str, scorer: str) -> None:
        """Let the parts in memory go and load others in their place; returns when they are ready.

        Work with the former parts ends, see :attr:`ModelGeneration.left`. When the new ones cannot be loaded, the
        former ones are loaded again with the next request.

        Raises:
            A3TuneError, Exception: whatever ended the loading.
        """
        former = self.names
        self.generation.end("another choice on the Models page")
        with self.in_use:
            self._empty((segmenter, scorer))
            try:
                self.wait(None)
            except BaseException:
                self._empty(former)
                raise

    @property
    def loaded(self) -> bool:
        """Whether the parts are in memory."""
        return self._maker is not None

    def keep(self, image: str) -> None:
        """Keep what is found in an example of the page, whose digest this is, when pages with it close: it is nobody's
        own, and every page opens with one."""
        with self._guard:
            self._kept.add(image)

    def forget(self, images: Collection[str], prompts: Collection[str]) -> None:
        """Drop what the parts keep of images that nobody has on show any more, and of prompts: at once, or as soon as
        nobody uses the parts.

        Args:
            images: digests of the images.
            prompts: what their regions were ranked for.
        """
        with self._guard:
            self._unwanted[0].update(set(images) - self._kept)
            self._unwanted[1].update(prompts)
            if self._forgetting or not any(self._unwanted):
                return
            self._forgetting = True
        if self.in_use.acquire(blocking=False):
            self._forget()
        else:
            threading.Thread(target=self._forget_later, name="regions-forget", daemon=True).start()

    def _forget_later(self) -> None:
        self.in_use.acquire()
        self._forget()

    def _forget(self) -> None:
        """Drop what is unwanted; called with ``in_use`` held, which is released."""
        try:
            with self._guard:
                (images, prompts), self._unwanted, self._forgetting = self._unwanted, (set(), set()), False
            maker = self._maker
            if maker is None:
                return
            for image in images:
                cast("SegmentationMemory", maker.cache).forget(image)
                maker.segmenter.forget(image)
            maker.scorer.forget(images, prompts)
        finally:
            self.in_use.release()

    def _empty(self, names: tuple[str, str]) -> None:
        with self._guard:
            self._maker, self.names = None, names
            self.generation = ModelGeneration(self.generation.what, number=self.generation.number + 1)
        library.release_memory()

    def wait(self, timeout: float | None) -> LabelMaker | None:
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
            maker = library.load_label_maker(*self.names, top_k="all", device=self.device)
            # Visitors are told that nothing of their image stays on the server: not even masks go to the disk.
            maker.cache = cast("RegionCache", SegmentationMemory())
            self._maker = maker
        except Exception as error:
            # Kept and raised again for each request: a thread has nobody to raise it to.
            self._error = without_locals(error)


class SegmentationMemory:
    """The regions of the images seen last, in memory only; used under :attr:`RegionSlot.in_use`.

    Args:
        capacity: how many images' regions are kept.
    """

    def __init__(self, capacity: int = 12) -> None:
        self._known: RecentlyUsed[Segmentation] = RecentlyUsed(capacity)

    def get_or_make(self, image: MedicalImage, segmenter: Segmenter) -> Segmentation:
        """The image's regions, found now when they are not known."""
        return self._known.get_or_make(image.sha256, lambda: segmenter.segment(image))

    def forget(self, sha256: str) -> None:
        """Drop the regions of the image with this digest."""
        self._known.forget(lambda known: known == sha256)
