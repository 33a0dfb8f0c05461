"""The example images of the page: phantoms drawn here, and two real test files that packages ship."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import nibabel
from PIL import Image
from pydicom.data import get_testdata_file

from a3tune.phantom.scene import make_phantom
from a3tune.phantom.structures import HELD_OUT_SEEDS, PhantomKind

LIST_NAME = "examples.json"
_REPORT = "Describe the image."


class _Drawn(NamedTuple):
    key: str
    kind: PhantomKind
    seed: int
    title: str
    what: str
    questions: tuple[str, ...]


# Seeds were chosen by eye among the held-out ones, so that the questions fit what is to be seen.
_DRAWN = (
    _Drawn(
        *("chest_mass", "chest", HELD_OUT_SEEDS[3], "Chest 1", "chest radiograph"),
        ("Where is the mass?", "Is there a pneumothorax?", "Is the heart enlarged?"),
    ),
    _Drawn(
        *("chest_nodule", "chest", HELD_OUT_SEEDS[0], "Chest 2", "chest radiograph"),
        ("Is there a nodule?", "Where is the nodule?", "Where is the right lung?"),
    ),
    _Drawn(
        *("brain_tumor", "brain", HELD_OUT_SEEDS[2], "Brain 1", "brain MR"),
        ("Where is the tumor?", "Is there an infarct?", "Which organ is abnormal?"),
    ),
    _Drawn(
        *("brain_infarcts", "brain", HELD_OUT_SEEDS[1], "Brain 2", "brain MR"),
        ("How many infarcts are there?", "Is there a tumor?", "Are the ventricles enlarged?"),
    ),
    _Drawn(
        *("abdomen_metastasis", "abdomen", HELD_OUT_SEEDS[7], "Abdomen 1", "abdominal CT"),
        ("Where is the metastasis?", "Is there a cyst?", "Where is the liver?"),
    ),
    _Drawn(
        *("abdomen_stone", "abdomen", HELD_OUT_SEEDS[4], "Abdomen 2", "abdominal CT"),
        ("Is there a stone?", "Where is the cyst?", "Which side is the spleen on?"),
    ),
)


def write_examples(folder: Path) -> list[Path]:
    """Write the images and ``examples.json``, the list with titles and suggested questions, in the page's order.

    Args:
        folder: made when missing; files of the same names are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries, written = [], []
    for key, kind, seed, title, what, questions in _DRAWN:
        path = folder / f"{key}.png"
        Image.fromarray(make_phantom(seed, kind).image.pixels).save(path, optimize=True)
        about = f"Synthetic {what}, made by this project: the demo model knows this kind of picture."
        entries.append(_entry(path, title, about, *questions))
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
