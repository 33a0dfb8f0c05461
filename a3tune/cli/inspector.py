"""What ``python -m a3tune inspect`` does with each image: asks, looks into every head, and writes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils.logging import disable_progress_bar

from a3tune.adapters.switch import AdapterSet
from a3tune.bundle import DEMO, DEMO_NAME, is_demo, model_source
from a3tune.cli.adapter_options import TOGETHER
from a3tune.cli.image_options import image_choice, parse_window
from a3tune.errors import AdapterError, ImageError, LabelError, RequestError
from a3tune.images import load_image
from a3tune.images.dicom_source import SourceImage, read_source
from a3tune.inspection.dicom_export import write_dicom
from a3tune.inspection.dicom_study import DicomStudy
from a3tune.inspection.image_set import ImageSetInspection, inspect_images
from a3tune.inspection.inspect import Inspection, inspect_image
from a3tune.inspection.provenance import made_with
from a3tune.inspection.record import write_image_set, write_inspection
from a3tune.inspection.table import TableRow, region_words
from a3tune.labels.fuse import union_mask
from a3tune.labels.segmenters_and_scorers import load_label_maker
from a3tune.models.load import load_model
from a3tune.progress import Progress, no_progress
from a3tune.types import MedicalImage, WeakLabels


class Inspector:
    """A loaded model with adapters, and what finds regions where these are wanted.

    Args:
        options: those of the command.
        folders: the adapters' folders by name, in the order asked for; None for the base.
        objects: what is written as DICOM, where that is wanted.
        progress: told what is being done while it loads, and of a single image.

    Attributes:
        model: the model.
        adapters: "base" and names of adapters, in the order asked for.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        folders: Mapping[str, Path | None],
        objects: Sequence[str],
        progress: Progress,
    ) -> None:
        self._options, self._objects, self._progress = options, objects, progress
        if not sys.stderr.isatty():
            disable_progress_bar()
        self.model = load_model(
            model_source(options.model),
            device=options.device,
            dtype=options.dtype,
            quantization=options.quantization,
            name=DEMO_NAME if is_demo(options.model) else None,
            on_progress=progress,
        )
        self._maker = None
        if options.labels is not None:
            scorer = DEMO if is_demo(options.model) else "biomedclip"
            self._maker = load_label_maker(scorer=scorer, top_k=options.labels)
        self.adapters = tuple(folders)
        self._set = AdapterSet(
            self.model.model,
            {name: folder for name, folder in folders.items() if folder is not None},
            identity=self.model,
            allow_other_base=options.allow_other_base,
        )
        self._facts = made_with(self.model, folders, options.quantization, progress)

    def read(self, path: Path, frame: int | None = None) -> MedicalImage:
        """An image as this model is given it.

        Args:
            frame: of a file with several; None for that of the options.

        Raises:
            ImageError, RequestError: the file is not an image that can be shown.
        """
        options = self._options
        convention = {"auto": self.model.convention, "none": None}.get(options.convention, options.convention)
        insist = options.convention not in ("auto", "none")
        choice = image_choice(options) | ({} if frame is None else {"frame": frame})
        return load_image(path, window=parse_window(options.window), convention=convention, insist=insist, **choice)

    def inspect(
        self,
        path: Path,
        image: MedicalImage,
        out: Path,
        target: np.ndarray | None = None,
        measures: Sequence[dict[str, Any]] = (),
    ) -> tuple[Inspection, int]:
        """Ask about one image and write what comes of it; gives that, and how many files were written.

        Raises:
            A3TuneError: it cannot be asked about, or has no regions where these are wanted.
        """
        labels = self._labels(image)
        if labels is not None:
            target = union_mask(labels.regions)
        return self._ask(image, self._source(path), out, target, labels, measures, self._progress)

    def inspect_together(
        self, images: Sequence[MedicalImage], out: Path, targets: Sequence[np.ndarray | None]
    ) -> tuple[ImageSetInspection, int]:
        """Ask about several images in one prompt and write what comes of it; gives that, and how many files.

        Raises:
            A3TuneError: as :meth:`inspect`; and a model of a class that takes one image.
        """
        labels = [self._labels(image) for image in images]
        pairs = zip(labels, targets, strict=True)
        targets = [target if found is None else union_mask(found.regions) for found, target in pairs]
        inspection = inspect_images(
            self.model, images, self._options.question, targets=targets, on_progress=self._progress, **self._asking()
        )
        marked = zip(inspection.parts, labels, strict=True)
        parts = tuple(replace(part, labels=found) for part, found in marked)
        inspection = replace(inspection, parts=parts, made_with=self._facts)
        return inspection, len(write_image_set(inspection, out, targets))

    def _asking(self) -> dict[str, Any]:
        """What is asked of each question, as `inspect_image` takes it."""
        options, together = self._options, TOGETHER[self._options.together]
        return {
            "adapters": self.adapters,
            "adapter_set": self._set,
            "critical_count": options.critical_heads,
            "max_new_tokens": options.max_new_tokens,
            "together": self.model.device.type == "cuda" if together is None else together,
        }

    def row(self, name: str, path: Path, out: Path) -> TableRow:
        """The same for one of many images, as a row of their table: what is wrong with it is told there."""
        labels, note, area = None, "", 0.0
        try:
            image, source = self.read(path), self._source(path)
            try:
                labels = self._labels(image)
            except LabelError as error:
                note = f"No regions: {error}"
            target = None if labels is None else union_mask(labels.regions)
            area = 0.0 if target is None else float(target.mean())
            inspection, _ = self._ask(image, source, out, target, labels, (), no_progress)
        except AdapterError:
            raise  # what is wrong with all of them
        except (ImageError, RequestError) as error:
            return TableRow(name, error=str(error))
        notes = " ".join(f"{text.rstrip('.')}." for text in (*image.notes, note) if text)
        answers = {view.adapter: view.answer for view in inspection.views}
        if labels is None:
            return TableRow(name, answers, note=notes)
        inside = {view.adapter: view.metrics["attention_mass"] for view in inspection.views}
        return TableRow(name, answers, inside, region_words(labels, len(labels.regions), area), notes)

    def _source(self, path: Path) -> SourceImage | None:
        """Where the file lies in a patient, and whose it is where that is wanted; None where no DICOM is written."""
        wanted = self._options.dicom
        return None if wanted is None else read_source(path, **image_choice(self._options), identity=wanted == "source")

    def _labels(self, image: MedicalImage) -> WeakLabels | None:
        if self._maker is None:
            return None
        return self._maker.make(image, self._maker.prompts((self._options.question,)))

    def _ask(
        self,
        image: MedicalImage,
        source: SourceImage | None,
        out: Path,
        target: np.ndarray | None,
        labels: WeakLabels | None,
        measures: Sequence[dict[str, Any]],
        progress: Progress,
    ) -> tuple[Inspection, int]:
        inspection = inspect_image(
            self.model, image, self._options.question, target=target, on_progress=progress, **self._asking()
        )
        inspection = replace(inspection, labels=labels, measures=tuple(measures), made_with=self._facts)
        written = write_inspection(inspection, out, target)
        if source is not None:
            written += write_dicom(inspection, out, self._objects, DicomStudy(source), target)
        return inspection, len(written)
