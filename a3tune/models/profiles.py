"""The models that are offered by name, and what may be loaded beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from a3tune.bundle import DEMO, DEMO_NAME
from a3tune.images.conventions import MEDGEMMA_CT


@dataclass(frozen=True)
class ModelProfile:
    """One model that is offered by name.

    Attributes:
        key: short name, unique.
        title: name on the page.
        source: "demo", or the hub id.
        weights: number of parameters.
        download: bytes to fetch from the hub.
        licence: the licence and its limits, in words.
        gated: whether the hub asks for the licence to be accepted first.
        about: what it is, in a sentence.
        convention: how it was trained to see computed tomography, a name in
            :data:`a3tune.images.conventions.CONVENTIONS`; None for as it is shown.
    """

    key: str
    title: str
    source: str
    weights: int
    download: int
    licence: str
    gated: bool
    about: str
    convention: str | None = None

    @property
    def page(self) -> str | None:
        """Address of the model's page on the hub; None for the bundled demo."""
        return None if self.source == DEMO else f"https://huggingface.co/{self.source}"


PROFILES = (
    ModelProfile(
        DEMO, DEMO_NAME, DEMO, 2_000_000, 0, "Apache-2.0", False,
        "Comes with the program and answers at once; knows synthetic phantoms only.",
    ),
    ModelProfile(
        "llava-med-7b", "LLaVA-Med v1.5 7B", "microsoft/llava-med-v1.5-mistral-7b", 7_570_000_000, 15_200_000_000,
        "That of Mistral-7B-Instruct-v0.2 (Apache-2.0); published for research use only, not for clinical care", False,
        "A biomedical LLaVA on Mistral 7B; converted once after the download, which needs its size again on the disk.",
    ),
    ModelProfile(
        "medgemma-4b", "MedGemma 4B", "google/medgemma-4b-it", 4_300_000_000, 8_650_000_000,
        "Health AI Developer Foundations terms of use", True,
        "Gemma 3 with an image encoder trained on medical images.", MEDGEMMA_CT,
    ),
    ModelProfile(
        "qwen2.5-vl-3b", "Qwen2.5-VL 3B", "Qwen/Qwen2.5-VL-3B-Instruct", 3_750_000_000, 7_530_000_000,
        "Qwen Research License: not for commercial use", False,
        "A general vision-language model; its medical children load the same way.",
    ),
)  # fmt: skip
"""What is offered by name, smallest step first. Sizes are rounded."""


def find_profile(name: str) -> ModelProfile | None:
    """The profile whose key or hub id ``name`` is, or None."""
    return next((profile for profile in PROFILES if name in (profile.key, profile.source)), None)


def convention_of(source: str, model_type: str) -> str | None:
    """The convention by which a model was trained to see computed tomography, or None for pictures as they are shown.

    Children of MedGemma are known by their type and name: the hub id's or the folder's own, or the hub id in the name
    of a folder of the hub's cache.

    Args:
        source: the hub id or folder that it was loaded from.
        model_type: the ``model_type`` of its configuration.
    """
    profile = find_profile(source)
    if profile is not None:
        return profile.convention
    *above, own = Path(source).parts or ("",)
    names = [own, *(part for part in above if part.startswith("models--"))]
    return MEDGEMMA_CT if model_type == "gemma3" and any("medgemma" in name.lower() for name in names) else None


def source_of(name: str) -> str:
    """The "demo", hub id or folder that a profile's key stands for; any other name as it is."""
    profile = find_profile(name)
    return name if profile is None else profile.source
