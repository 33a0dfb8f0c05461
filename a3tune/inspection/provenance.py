"""What an inspection was made with: enough to tell whether another one was made with the same."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers

from a3tune import __version__
from a3tune.adapters.stored import adapter_fingerprint
from a3tune.models.model import VisionLanguageModel
from a3tune.progress import Progress, no_progress


def made_with(
    model: VisionLanguageModel,
    adapters: Mapping[str, Path | None],
    quantization: str = "none",
    on_progress: Progress = no_progress,
) -> dict[str, Any]:
    """Versions, device, data type and fingerprints, as plain JSON values.

    Args:
        model: as it was loaded.
        adapters: folders by name; None for the base.
        quantization: of the model.
        on_progress: told while the weights are read, which is done once for each model.

    Raises:
        ModelError: the model's weights cannot be read any more.
        OSError: an adapter's cannot.
    """
    modules = {"torch": torch, "transformers": transformers, "peft": peft, "numpy": np}
    versions = {name: module.__version__ for name, module in modules.items()}
    return {
        "versions": {"a3tune": __version__, "python": platform.python_version(), **versions},
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "quantization": quantization,
        "model_fingerprint": model.fingerprint(),
        "adapter_fingerprints": {name: adapter_fingerprint(folder) for name, folder in adapters.items() if folder},
    }
