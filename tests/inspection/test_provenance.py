"""What an inspection was made with."""

import hashlib

import torch

from a3tune.inspection.provenance import made_with
from a3tune.models.load import load_model


def test_versions_precision_and_fingerprints_are_noted(tiny_checkpoint, tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    model = load_model(tiny_checkpoint("llava"), device="cpu", dtype="bfloat16")
    facts = made_with(model, {"base": None, "mine": tmp_path})
    assert (facts["device"], facts["dtype"], facts["quantization"]) == ("cpu", "bfloat16", "none")
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["model_fingerprint"] == model.fingerprint()
    assert facts["adapter_fingerprints"] == {"mine": hashlib.sha256(b"weights").hexdigest()}
