"""What models were trained to see of a kind of image, where that is another picture than one for the eye."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from a3tune.errors import RequestError
from a3tune.images.grey import GreyFrame, not_hounsfield, show_span

MEDGEMMA_CT = "medgemma-ct"

CONVENTIONS: Mapping[str, tuple[tuple[float, float], ...]] = MappingProxyType(
    {
        MEDGEMMA_CT: ((-1024.0, 1024.0), (-135.0, 215.0), (0.0, 80.0)),
        "medgemma-1-ct": ((-1225.0, 1025.0), (-135.0, 215.0), (0.0, 80.0)),
    }
)
"""By name: the lowest and highest value, in Hounsfield units, of the windows that stand in the red, green and blue
channel, each clipped, scaled to 0..255 and rounded to the nearest.

``medgemma-ct``: a wide, a soft tissue and a brain window as in Google Health's notebook on computed tomography with
MedGemma 1.5 (google-health/medgemma, ``notebooks/high_dimensional_ct_hugging_face.ipynb``, functions ``norm`` and
``window``); its maintainers name it as what the models expect, also when they are tuned (issues 27 and 65 there).
``medgemma-1-ct``: the windows of the first MedGemma's technical report, as issue 27 quotes them (width and level 2250
and -100, 350 and 40, 80 and 40). To be chosen by name: no profile has it, since the answer there speaks for both.
"""


def check_convention(name: str) -> str:
    """The name itself.

    Raises:
        RequestError: there is no such convention.
    """
    if name not in CONVENTIONS:
        raise RequestError(
            got=f"There is no input convention named {name!r}",
            expected="one of " + ", ".join(CONVENTIONS),
            remedy="Choose one of these, or none",
        )
    return name


def misfit(grey: GreyFrame | None, *, stated: bool) -> str | None:
    """Why a picture cannot be given by a convention in Hounsfield units, or None where it can.

    Args:
        grey: the picture's grey values; None for 8-bit and colour pictures.
        stated: whether the caller says that they are Hounsfield units, see
            :func:`a3tune.images.grey.not_hounsfield`.
    """
    return "it has 8-bit or colour values" if grey is None else not_hounsfield(grey, stated=stated)


def model_picture(grey: GreyFrame, name: str) -> np.ndarray:
    """uint8 [height, width, 3]: the picture by the convention of this name; padding is black."""
    return np.stack([show_span(grey, low, high) for low, high in CONVENTIONS[name]], axis=-1)


def told(name: str) -> str:
    """What a convention gives the model, in a sentence."""
    spans = zip(("red", "green", "blue"), CONVENTIONS[name], strict=True)
    words = ", ".join(f"{colour} {low:g} to {high:g}".replace("-", "\N{MINUS SIGN}") for colour, (low, high) in spans)
    return f"The model is given Hounsfield units as colours ({name}: {words}), whatever window is chosen for the eye"
