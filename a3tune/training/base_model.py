"""The base model of a run, loaded as its settings say."""

from __future__ import annotations

from a3tune.bundle import model_source
from a3tune.models.load import load_model
from a3tune.models.model import VisionLanguageModel
from a3tune.training.config import TuneConfig

_DTYPES = {"auto": "auto", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def load_base(config: TuneConfig, model: str, device: str) -> VisionLanguageModel:
    """The base model, without adapter, in the settings' ``precision`` and ``quantization``.

    Args:
        config: the settings.
        model: "demo", a folder or a hub id.
        device: as of `a3tune.models.load.load_model`.

    Raises:
        ModelError, RequestError: as `load_model`.
    """
    dtype = _DTYPES[config.precision]
    return load_model(model_source(model), device=device, dtype=dtype, quantization=config.quantization)
