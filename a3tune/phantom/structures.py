"""The value objects of a phantom: one structure with its exact mask, and the picture with all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from a3tune.errors import RequestError
from a3tune.types import MedicalImage

PhantomKind = Literal["chest", "brain", "abdomen"]
PhantomStyle = Literal["standard", "shifted"]
StructureKind = Literal["organ", "lesion", "device", "marker"]
Side = Literal["left", "right", "midline"]

KINDS: tuple[PhantomKind, ...] = ("chest", "brain", "abdomen")
STYLES: tuple[PhantomStyle, ...] = ("standard", "shifted")
MODALITIES: dict[PhantomKind, str] = {"chest": "chest radiograph", "brain": "brain MR", "abdomen": "abdominal CT"}

# Seeds that may be trained on, tuned on and reported on never meet: every user of phantoms draws from these.
TRAINING_SEEDS = range(0, 1_000_000)
VALIDATION_SEEDS = range(1_000_000, 1_100_000)
HELD_OUT_SEEDS = range(1_100_000, 1_200_000)


@dataclass(frozen=True, eq=False)
class Structure:
    """One thing that a phantom shows.

    Attributes:
        name: unique in its phantom: "heart", "nodule", or "nodule 1" and "nodule 2" where there are several.
        kind: "organ", "lesion", "device" or "marker".
        mask: bool [height, width], source pixel frame, read-only: exactly the pixels that it covers.
        side: the patient's side; radiological convention, so the patient's right is on the image's left.
        location: where it is in words: "right upper zone", "left frontal lobe", "liver", "midline".
        finding: what a lesion is: "nodule", "effusion"; None for everything else.
        organ: name of the structure that a lesion lies in; None for everything else.
    """

    name: str
    kind: StructureKind
    mask: np.ndarray
    side: Side
    location: str
    finding: str | None = None
    organ: str | None = None

    def __post_init__(self) -> None:
        if self.mask.dtype != np.bool_ or self.mask.ndim != 2:
            raise ValueError(f"mask must be bool [height, width], not {self.mask.dtype} {self.mask.shape}")
        mask = self.mask.copy()
        mask.flags.writeable = False
        object.__setattr__(self, "mask", mask)


@dataclass(frozen=True, eq=False)
class Phantom:
    """A synthetic radiology image and everything that is true about it.

    Attributes:
        image: the picture, grey as uint8 [height, width, 3], source pixel frame.
        kind: "chest" (frontal radiograph), "brain" (axial MR) or "abdomen" (axial CT).
        modality: the same in words: "chest radiograph", "brain MR", "abdominal CT".
        structures: organs, lesions, devices and markers, in that order.
        seed, style: what it was made from; the same pair and kind give the same phantom.
        variant: contrast of the acquisition: "PA", "T1", "T2", "FLAIR", "portal venous" or "unenhanced".
    """

    image: MedicalImage
    kind: PhantomKind
    modality: str
    structures: tuple[Structure, ...]
    seed: int
    style: PhantomStyle
    variant: str

    def structure(self, name: str) -> Structure:
        """The structure of that name.

        Raises:
            RequestError: the phantom shows no such structure.
        """
        for structure in self.structures:
            if structure.name == name:
                return structure
        raise RequestError(
            expected="the name of a structure in this phantom",
            got=f"'{name}'",
            remedy=f"Choose one of: {', '.join(item.name for item in self.structures)}",
        )

    def of_kind(self, kind: StructureKind) -> tuple[Structure, ...]:
        """All structures of one kind, in the phantom's order."""
        return tuple(structure for structure in self.structures if structure.kind == kind)

    @property
    def lesions(self) -> tuple[Structure, ...]:
        """The lesions, in the phantom's order."""
        return self.of_kind("lesion")

    def mask_of(self, targets: Iterable[str]) -> np.ndarray:
        """Union of the masks of the named structures, bool [height, width]; all False for no names.

        Raises:
            RequestError: the phantom shows no structure of one of the names.
        """
        union = np.zeros((self.image.height, self.image.width), dtype=bool)
        for name in targets:
            union |= self.structure(name).mask
        return union
