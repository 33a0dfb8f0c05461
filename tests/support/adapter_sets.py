"""Sets of adapters as users bring them: written by PEFT, read from the disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from peft import PeftConfig, get_peft_model
from transformers import PreTrainedModel

from a3tune.adapters.switch import AdapterSet


def save_adapters(model: PreTrainedModel, configs: Mapping[str, PeftConfig], folder: Path) -> dict[str, Path]:
    """Write an adapter of each kind for a model, which stays as it is; where each lies, by name."""
    for name, config in configs.items():
        torch.manual_seed(3)
        wrapped = get_peft_model(model, config)
        wrapped.save_pretrained(folder / name, save_embedding_layers=False)
        wrapped.unload()
    model.eval()
    return {name: folder / name for name in configs}


def adapter_set(model: PreTrainedModel, configs: Mapping[str, PeftConfig], folder: Path) -> AdapterSet:
    """The set of such adapters."""
    return AdapterSet(model, save_adapters(model, configs, folder))
