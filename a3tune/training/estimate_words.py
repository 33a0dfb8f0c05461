"""What a run will take, in words: for the page and for ``tune --estimate``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from a3tune.progress import duration
from a3tune.wording import byte_words, counted


def estimate_words(found: Mapping[str, Any]) -> str:
    """The fields of `a3tune.training.estimate.Estimate` in a few sentences."""
    if not found["fits"]:
        need, free = byte_words(found["peak_bytes"]), byte_words(found["free_bytes"])
        return f"This does not fit: it takes {need} and more, {free} are free. To make it fit: {found['remedy']}."
    parts = [f"{counted(found['steps'], 'step')} of {found['step_seconds']:.2f} s"]
    if found["label_seconds"] >= 1:
        parts.insert(0, f"{duration(found['label_seconds'])} to find regions")
    if found["validations"]:
        parts.append(f"{duration(found['validation_seconds'])} for {counted(found['validations'], 'validation')}")
    share = found["trainable"] / max(found["parameters"], 1)
    return (
        f"About {duration(found['seconds'])}: {', '.join(parts)}. "
        f"Trains {found['trainable']:,} numbers, {share:.1%} of the model. "
        f"Takes {byte_words(found['peak_bytes'])} of {byte_words(found['free_bytes'])} free memory."
    )
