"""What an evaluation was made with: all that its numbers depend on."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any

import torch

from a3tune import __version__
from a3tune.adapters.stored import adapter_fingerprint
from a3tune.adapters.switch import BASE, AdapterSet
from a3tune.evaluation.decoding.registry import decoding_named
from a3tune.evaluation.questions import EvaluationData
from a3tune.evaluation.systems import GREEDY
from a3tune.models.model import VisionLanguageModel

if TYPE_CHECKING:
    from a3tune.evaluation.run import EvaluationPlan

_PACKAGES = ("torch", "transformers", "peft", "accelerate", "numpy", "nltk", "scipy", "statsmodels", "pycocoevalcap")


def provenance(
    plan: EvaluationPlan, data: EvaluationData, model: VisionLanguageModel, adapters: AdapterSet
) -> dict[str, Any]:
    """As plain JSON values: "settings" decide what comes out, "environment" where it was made."""
    return {
        "format": 1,
        "settings": {
            "data": data.identity(),
            "model": {
                "name": model.name,
                "source": model.source,
                "sha256": model.fingerprint() if model.source else "",
            },
            "dtype": str(model.dtype).removeprefix("torch."),
            "adapters": [
                {
                    "name": name,
                    "sha256": BASE if folder is None else adapter_fingerprint(folder),
                    "note": adapters.origin(name) if name in adapters.names else "",
                }
                for name, folder in plan.adapters.items()
            ],
            "masks": plan.masks,
            "decodings": [
                {"name": name, "title": decoding_named(name).title, **decoding_named(name).settings}
                for name in (GREEDY, *(name for name in plan.decodings if name != GREEDY))
            ],
            "controls": list(plan.controls),
            "batch_size": plan.batch_size,
            "max_new_tokens": plan.max_new_tokens,
            "critical_heads": plan.critical_count or model.heads,
            # Left out where there are none: folders from before there were any go on.
            **({"head_sets": [heads.settings() for heads in plan.head_sets]} if plan.head_sets else {}),
            "seed": plan.seed,
            "given": plan.given,
        },
        "environment": {
            "a3tune": __version__,
            "python": platform.python_version(),
            **{name: _version(name) for name in _PACKAGES},
            "system": f"{platform.system()} {platform.machine()}",
            "processors": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "answers": plan.mode(model.device, adapters),
            "device": torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else model.device.type,
        },
    }


def settings_digest(facts: dict[str, Any]) -> str:
    """One hex digest of the settings: equal for evaluations that can go on with each other's batches."""
    return hashlib.sha256(json.dumps(facts["settings"], sort_keys=True).encode()).hexdigest()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
