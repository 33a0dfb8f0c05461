"""Answers and checks of maps on a ZeroGPU Space: a GPU is lent for some seconds at a time, to a process of its own.

The model is loaded before the page is served, and moved to "cuda", which is an emulation there until a GPU is lent.
What is asked goes to the other process pickled, and inspections come back the same way: their tensors are on the CPU.
The demo model needs no GPU: it stays on the CPU and costs no visitor a second of their time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from a3tune.types import Head, MedicalImage
from app.engine import library
from app.engine.model_slot import ModelSlot
from app.engine.private_adapters import PrivateAdapters

if TYPE_CHECKING:
    from a3tune.inspection.deletion_curves import FaithfulnessCurves, RandomisedWeights
    from a3tune.inspection.inspect import Inspection
    from a3tune.models.load import VisionLanguageModel

ON = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
"""Whether this is such a Space."""

# Until the first words of an answer, for one answer with its maps, and for one pass of a check, in seconds.
_BEGIN, _EACH, _PASS = 10, 15, 0.5

# What the other process finds in its copy of this one.
_held: tuple[ModelSlot, PrivateAdapters] | None = None


def hold(slot: ModelSlot, adapters: PrivateAdapters) -> None:
    """Load the model for good and have it answer on lent GPUs; called before the page is served, by the main thread."""
    global _held
    model = slot.load_here()
    if model is not None:
        model.model.to("cuda")
        _held = slot, adapters


def is_held() -> bool:
    """Whether answers come from lent GPUs."""
    return _held is not None


def seconds(image: MedicalImage, question: str, adapters: Sequence[str], own: Mapping[str, Path]) -> int:
    """How long a GPU is asked for: by the number of answers."""
    return _BEGIN + _EACH * max(1, len(adapters))


def _inspect_each(
    image: MedicalImage, question: str, adapters: Sequence[str], own: Mapping[str, Path]
) -> Iterator[Inspection]:
    model, private = _parts()
    yield from library.inspect_each(
        model, image, question, adapters=adapters, adapter_set=lambda name: private.set_of(name, own)
    )


def check_seconds(
    kind: str,
    inspection: Inspection,
    adapter: str,
    heads: Sequence[Head],
    rows: Sequence[int],
    own: Mapping[str, Path],
) -> int:
    """How long a GPU is asked for by a check of a map: by how often the model is asked."""
    passes = library.curve_passes() if kind == "curves" else inspection.view(adapter).maps.layers
    return round(_BEGIN + _PASS * passes)


def _check(
    kind: str,
    inspection: Inspection,
    adapter: str,
    heads: Sequence[Head],
    rows: Sequence[int],
    own: Mapping[str, Path],
) -> FaithfulnessCurves | RandomisedWeights:
    model, private = _parts()
    measure = library.measure_curves if kind == "curves" else library.measure_randomised
    return measure(model, inspection, adapter, heads, rows, adapter_set=private.set_of(adapter, own))


def _parts() -> tuple[VisionLanguageModel, PrivateAdapters]:
    """What was held, in this process or its copy."""
    slot, private = _held or (None, None)
    model = None if slot is None else slot.wait(None)
    if model is None or private is None:
        raise RuntimeError("there is no model to ask")
    return model, private


if ON:
    import spaces

    inspect_each = spaces.GPU(duration=seconds)(_inspect_each)
    check = spaces.GPU(duration=check_seconds)(_check)
else:
    inspect_each, check = _inspect_each, _check
