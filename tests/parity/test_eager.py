import dataclasses

import pytest
import torch

from a3tune.errors import ModelError
from a3tune.parity import eager
from a3tune.parity.generation import saturates

SLIDING = {"llava_mistral", "gemma3", "aya_vision", "cohere2_vision", "llama4", "gemma4"}
WITH_A_STATE = {"lfm2_vl", "qwen3_5", "qwen3_5_moe"}


def test_capture_equals_eager_on_every_class(tiny_name, tiny_checkpoint):
    rows = eager.check_checkpoint(tiny_checkpoint(tiny_name), device="cpu")
    *attention, again, fused, answer, _ = rows
    assert [row.name for row in attention][:5] == [
        "attention, one sequence",
        "attention, padded right",
        "attention, padded left",
        "attention while answering",
        "attention while answering, static cache",
    ]
    # Elsewhere layers slide, are chunked or keep a state, for which transformers quantizes no cache.
    assert [row.name for row in attention[5:]] == ["attention while answering, quantized cache"] * (
        saturates() and tiny_name not in SLIDING | WITH_A_STATE
    )
    assert all(row.ok for row in rows), eager.format_rows(rows)
    assert again.name == "attention, an image that was read before"
    assert all(row.worst_error < 1e-5 for row in [*attention, again, answer])
    assert fused.name == "attention, torch's own choice of kernels"
    assert fused.worst_error < 1e-4
    assert fused.cases == sum(row.cases for row in rows[:3])
    assert rows[1].cases == 2 * rows[0].cases > 0


def test_a_wrong_capture_fails_its_row(tiny_checkpoint, monkeypatch):
    real = eager.capture

    def shifted(rows, columns):
        return real(rows, columns.roll(1, dims=1))

    monkeypatch.setattr(eager, "capture", shifted)
    rows = eager.check_checkpoint(tiny_checkpoint("llava"), device="cpu")
    assert {row.name for row in rows if not row.ok} == {
        "attention, one sequence",
        "attention, padded right",
        "attention, padded left",
        "attention, torch's own choice of kernels",
    }
    assert rows[0].worst_error > 1e-3


def test_a_model_without_eager_attention_is_named(tiny_model, random_image):
    model = tiny_model("llava")
    batch = model.encode_batch([(random_image(0), "What is it?", "A lung")])

    class Silent(torch.nn.Module):
        def forward(self, **inputs):
            return dataclasses.make_dataclass("Output", ["attentions"])(None)

    stand_in = type("Model", (), {"model": Silent()})()
    with pytest.raises(ModelError, match="Silent returns none"):
        eager.eager_attention(stand_in, batch)


def test_format_rows_lines_up():
    rows = [eager.ParityRow("short", 3, 1.5e-7, True), eager.ParityRow("a longer name", 12, 0.25, False)]
    lines = eager.format_rows(rows).splitlines()
    assert lines[0].split() == ["check", "cases", "worst", "error", "ok"]
    assert lines[1].endswith("1.50e-07  yes")
    assert lines[2].endswith("2.50e-01  NO")
    assert len({line.rindex("  ") for line in lines}) == 1
