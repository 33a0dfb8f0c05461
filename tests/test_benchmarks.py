"""The benchmarks run from end to end; nothing is asked of the times."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pydicom
import pytest
import torch
from transformers import AutoProcessor

from a3tune.bundle import DEMO_MODEL
from a3tune.images import load_image
from benchmarks import image_files, model_speed
from benchmarks.document import write_between

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"


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


def test_the_report_on_image_files_counts_and_compares(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "files"
    folder.mkdir()
    for name in ("MR_small.dcm", "MR_small_RLE.dcm", "rtplan.dcm", "JPEG2000.dcm", "CT_small.dcm"):
        shutil.copy(SHIPPED / name, folder / name)
    shutil.copy(SHIPPED / "MR_small.dcm", folder / "twice.dcm")
    (folder / "script.py").write_text("pass")
    (folder / "notes").write_text("words")
    shown = {
        name: load_image(folder / name, square=False).pixels
        for name in ("MR_small.dcm", "MR_small_RLE.dcm", "CT_small.dcm")
    }

    def dcmtk(command: list[str], **_options) -> subprocess.CompletedProcess:
        pixels = shown.get(Path(command[-1]).name)
        if pixels is None:
            return subprocess.CompletedProcess(command, 1, b"")
        wrong = pixels // 2 if command[-1].endswith("RLE.dcm") else pixels + (pixels < 254)
        return subprocess.CompletedProcess(command, 0, b"P6 %d %d 255\n" % pixels.shape[1::-1] + wrong.tobytes())

    monkeypatch.setattr(subprocess, "run", dcmtk)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    image_files.main([f"some={folder}"])
    printed = capsys.readouterr().out
    assert re.search(r"\| some \| 6 \| 4 \| 2 \| \d\.\d s \| 2 of 3 \|", printed)
    assert "| The DICOM file holds no picture (RT Plan) | 1 |" in printed
    assert "| This is a text file, not a picture | 1 |" in printed
    assert "| JPEG 2000 Image Compression | 1 |" in printed
    assert re.search(r"\| MR_small_RLE.dcm \| \d+% of the pixels, by up to \d+ \| not explained \|", printed)


@pytest.mark.skipif(shutil.which("dcmj2pnm") is None, reason="DCMTK is not installed")
def test_dcmtk_shows_what_is_shown_here(tmp_path):
    for name in ("MR_small.dcm", "CT_small.dcm", "examples_overlay.dcm", "examples_palette.dcm", "rtdose_1frame.dcm"):
        assert image_files.judge(SHIPPED / name).compared == "agrees", name
