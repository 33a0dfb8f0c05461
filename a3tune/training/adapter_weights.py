"""The adapter's weights in a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import set_peft_model_state_dict
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError
from safetensors.torch import load_file

from a3tune.errors import DataError


def load_adapter_weights(model: Any, checkpoint: Path) -> None:
    """Put the weights of a checkpoint into the adapter of a PEFT model, every one of them.

    Raises:
        DataError: the file is damaged, or holds the weights of another adapter.
    """
    path = checkpoint / SAFETENSORS_WEIGHTS_NAME
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(
            expected=f"a complete checkpoint in {checkpoint}",
            got=f"{path.name} cannot be read ({error})",
            remedy="Remove this checkpoint folder and start again: the run goes on from the one before",
        ) from error
    result = set_peft_model_state_dict(model, weights, adapter_name=model.active_adapter)
    missing = [name for name in result.missing_keys if "lora_" in name or "expert_" in name]
    if missing or result.unexpected_keys:
        raise DataError(
            expected=f"the weights of this adapter in {path}",
            got=f"{[*missing, *result.unexpected_keys][0]} does not fit",
            remedy="Use the model and the configuration that the run was started with",
        )
