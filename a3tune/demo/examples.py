"""The example images of the page: phantoms drawn here, and two real test files that packages ship."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
from PIL import Image
from pydicom.data import get_testdata_file

from a3tune.adapters.switch import BASE, AdapterSet
from a3tune.bundle import DEMO_MODEL, demo_adapters
from a3tune.encoding import mask_text
from a3tune.inspection.inspect import inspect_image
from a3tune.models.load import load_model
from a3tune.models.model import VisionLanguageModel
from a3tune.phantom.questions import ask
from a3tune.phantom.scene import make_phantom
from a3tune.phantom.structures import HELD_OUT_SEEDS, Phantom, PhantomKind

LIST_NAME = "examples.json"
_REPORT = "Describe the image."


class _Drawn(NamedTuple):
    key: str
    kind: PhantomKind
    seed: int
    title: str
    what: str
    questions: tuple[str, ...]


# Chosen among held-out phantoms by what came: the opening one shows what tuning does where it works, the second one
# where it does not; of the others only kind and finding. Nothing is measured on phantoms from the thousandth on.
_DRAWN = (
    _Drawn(
        *("chest_mass", "chest", HELD_OUT_SEEDS[1888], "Chest 1", "chest radiograph"),
        ("Which side is the mass on?", "What is the location of the mass?", "Is the heart enlarged?"),
    ),
    _Drawn(
        *("chest_nodule", "chest", HELD_OUT_SEEDS[0], "Chest 2", "chest radiograph"),
        ("What is the location of the nodule?", "Is there a nodule?", "Where is the right lung?"),
    ),
    _Drawn(
        *("brain_tumor", "brain", HELD_OUT_SEEDS[1017], "Brain 1", "brain MR"),
        ("How many tumors are there?", "Is there an infarct?", "Which organ is abnormal?"),
    ),
    _Drawn(
        *("brain_infarct", "brain", HELD_OUT_SEEDS[1028], "Brain 2", "brain MR"),
        ("Is the infarct on the patient's left side?", "Is there a tumor?", "Are the ventricles enlarged?"),
    ),
    _Drawn(
        *("abdomen_metastasis", "abdomen", HELD_OUT_SEEDS[1180], "Abdomen 1", "abdominal CT"),
        ("How many metastases can you see?", "Is there a cyst?", "Where is the liver?"),
    ),
    _Drawn(
        *("abdomen_stone", "abdomen", HELD_OUT_SEEDS[1005], "Abdomen 2", "abdominal CT"),
        ("Which side is the stone on?", "Is there a cyst?", "Which side is the spleen on?"),
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What the model with one adapter does with an example's first question.

    Attributes:
        answer: its words.
        right: whether they are the reference answer, word for word.
        mass: share of the critical heads' attention inside what is asked about while the answer is written, 0 to 1;
            None where the question is about nothing in the image.
        pointing: whether the highest patch lies inside; None likewise.
    """

    answer: str
    right: bool
    mass: float | None
    pointing: bool | None

    def words(self, name: str) -> str:
        """ "a3 says “right”: right, with 51 % of its attention on it and its highest point there"."""
        text = f"{name} says \u201c{self.answer}\u201d: {'right' if self.right else 'wrong'}"
        if self.mass is None:
            return text
        place = "there" if self.pointing else "elsewhere"
        return f"{text}, with {self.mass:.0%} of its attention on it and its highest point {place}"


def reference_of(phantom: Phantom, question: str) -> tuple[str, np.ndarray | None]:
    """The reference answer to one of a phantom's own questions, and the mask, bool [height, width], of what it is
    about; None where that is nothing in the image.

    Raises:
        StopIteration: the phantom is not asked this question.
    """
    known = next(item for item in ask(phantom) if item.question == question)
    return known.answer, phantom.mask_of(known.targets) if known.targets else None


def outcomes(
    model: VisionLanguageModel, adapters: AdapterSet, phantom: Phantom, question: str
) -> tuple[str, dict[str, Outcome]]:
    """The reference answer to one of a phantom's own questions, and what came with each adapter of the set.

    Raises:
        StopIteration: the phantom is not asked this question.
    """
    answer, target = reference_of(phantom, question)
    found = inspect_image(model, phantom.image, question, adapters=adapters.names, adapter_set=adapters, target=target)
    return answer, {
        view.adapter: Outcome(
            view.answer,
            view.answer == answer,
            None if target is None else round(float(view.metrics["attention_mass"]), 4),
            None if target is None else view.metrics["pointing_game"] > 0.5,
        )
        for view in found.views
    }


def _bundled() -> tuple[VisionLanguageModel, AdapterSet]:
    model = load_model(DEMO_MODEL, device="cpu")
    return model, AdapterSet(model.model, demo_adapters(), identity=model)


def caption(what: str, question: str, reference: str, found: dict[str, Outcome]) -> str:
    """What an example shows, in words that its results bear out."""
    told = "; ".join(found[name].words(name) for name in (BASE, *sorted(set(found) - {BASE})))
    asked = f"Synthetic {what}, made by this project. {question} Reference answer: {reference}."
    return f"{asked} {told[0].upper()}{told[1:]}."


def write_examples(folder: Path) -> list[Path]:
    """Write the images and ``examples.json``, the list with titles and suggested questions, in the page's order.

    Args:
        folder: made when missing; files of the same names are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries, written = [], []
    model, adapters = _bundled()
    for key, kind, seed, title, what, questions in _DRAWN:
        path = folder / f"{key}.png"
        phantom = make_phantom(seed, kind)
        Image.fromarray(phantom.image.pixels).save(path, optimize=True)
        reference, found = outcomes(model, adapters, phantom, questions[0])
        entry = _entry(path, title, caption(what, questions[0], reference, found), *questions)
        told = {name: asdict(outcome) for name, outcome in found.items()}
        mask = reference_of(phantom, questions[0])[1]
        marked = {} if mask is None else {"mask": mask_text(mask)}
        entries.append(entry | {"reference": reference} | marked | {"outcomes": told})
        written.append(path)
    computed = folder / "real_ct.dcm"
    shutil.copyfile(str(get_testdata_file("CT_small.dcm", download=False)), computed)
    about = (
        "A real CT slice through the thoracic spine, a DICOM test file of pydicom: change its window. The demo model "
        "does not know real images."
    )
    entries.append(_entry(computed, "Real CT", about, "What kind of image is this?", "Which organ is abnormal?"))
    resonance = folder / "real_mr.nii.gz"
    shutil.copyfile(Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz", resonance)
    about = (
        "A real MR volume of the head, a NIfTI test file of NiBabel: change plane and slice. The demo model does not "
        "know real images."
    )
    entries.append(_entry(resonance, "Real MR", about, "What kind of image is this?", "Is there a tumor?"))
    listing = folder / LIST_NAME
    listing.write_text(json.dumps(entries, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [*written, computed, resonance, listing]


def _entry(path: Path, title: str, about: str, *questions: str) -> dict[str, object]:
    return {
        "key": path.name.split(".")[0],
        "file": path.name,
        "title": title,
        "about": about,
        "questions": [*questions, _REPORT],
    }
