"""The benchmark of what capture costs runs from end to end; nothing is asked of the times."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoProcessor

from a3tune.bundle import DEMO_MODEL
from benchmarks import model_speed
from benchmarks.document import write_between


def test_the_model_speed_script_writes_its_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    document = tmp_path / "performance.md"
    document.write_text("Before.\n<!-- figures -->\nold\n<!-- end of figures -->\nAfter.\n")
    options = ["--tiny", "--device", "cpu", "--pairs", "1", "--answer-tokens", "2", "--skip-loading"]
    model_speed.main([*options, "--write", str(document)])
    written = document.read_text()
    assert written.startswith("Before.\n<!-- figures -->\n")
    assert written.endswith("<!-- end of figures -->\nAfter.\n")
    assert "old" not in written
    for what in (
        *("prefill: plain", "prefill: critical heads", "prefill: all heads", "prefill: eager"),
        *("answer of 2 tokens: plain", "answer of 2 tokens: critical heads"),
        *("answer of 2 tokens: all heads", "answer of 2 tokens: eager"),
        *("training step: LoRA", "training step: A3Tune", "training step: eager"),
    ):
        assert f"| {what} |" in written
    assert written.count("at most") == 3
    assert capsys.readouterr().out


def test_a_document_without_marks_is_left_alone(tmp_path):
    (tmp_path / "other.md").write_text("words")
    with pytest.raises(SystemExit, match="no <!-- figures -->"):
        write_between(tmp_path / "other.md", "table")
    assert (tmp_path / "other.md").read_text() == "words"


def test_the_peak_of_loading_is_measured(tmp_path):
    model = model_speed.build(model_speed.SIZES["tiny"], torch.device("cpu"), torch.float32)
    model.save_pretrained(tmp_path)
    AutoProcessor.from_pretrained(DEMO_MODEL).save_pretrained(tmp_path)
    size, peak = model_speed.load_peak(str(tmp_path), "bfloat16", "cpu")
    assert size == 2 * sum(weight.numel() for weight in model.parameters())
    assert peak >= 0
