"""What an inspection was made with."""

import pytest
import torch

from a3tune.inspection.provenance import made_with
from a3tune.models.load import load_model


def test_versions_precision_and_fingerprints_are_noted(tiny_checkpoint, tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 8}')
    model = load_model(tiny_checkpoint("llava"), device="cpu", dtype="bfloat16")
    facts = made_with(model, {"base": None, "mine": tmp_path})
    assert (facts["device"], facts["dtype"], facts["quantization"]) == ("cpu", "bfloat16", "none")
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["model_fingerprint"] == model.fingerprint()
    mine = facts["adapter_fingerprints"]["mine"]
    assert list(facts["adapter_fingerprints"]) == ["mine"]
    assert mine == made_with(model, {"mine": tmp_path})["adapter_fingerprints"]["mine"]
    # The same weights with another strength answer otherwise.
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 4}')
    assert made_with(model, {"mine": tmp_path})["adapter_fingerprints"]["mine"] != mine
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"adapter_model\.safetensors"):
        made_with(model, {"mine": tmp_path})
