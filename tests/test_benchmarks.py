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

from a3tune.attention.capture import prepare_capture
from a3tune.bundle import DEMO_MODEL
from a3tune.data.read import read_dataset
from a3tune.demo.sample_data import write_sample
from a3tune.evaluation.questions import read_evaluation_data
from a3tune.images import load_image
from a3tune.phantom.structures import HELD_OUT_SEEDS
from benchmarks import (
    attention_report,
    evaluation_speed,
    gpu_check,
    image_files,
    learning_curve,
    model_speed,
    page_bytes,
    random_llava,
    region_memory,
    shortcuts,
)
from benchmarks.document import write_between
from benchmarks.measured import Measurements
from tests.support.tuning_data import write_data

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
        "question up to its first word: plain prefill",
        *(f"question up to its first word: {n}, {q}" for n in ("base", "LoRA", "A3MoE") for q in ("first", "another")),
        *(f"base, lora and a3: {n}" for n in ("base", "lora", "a3", "all three, one by one", "all three, one batch")),
        *("training step: LoRA", "training step: A3Tune", "training step: eager"),
    ):
        assert f"| {what} |" in written
    assert written.count("at most") == 7
    assert capsys.readouterr().out


def test_the_bytes_on_the_way_to_the_page_are_counted(monkeypatch):
    for name in ("LAYERS", "HEADS", "SIDE"):
        monkeypatch.setattr(page_bytes, name, 2)
    inspection = page_bytes.large_inspection()
    # 87 rows of 4 patches, each in two bytes, three of which are four letters.
    cells = page_bytes.row("2", inspection).split(" | ")
    assert cells[0] == "| 2: 2 x 2 heads, 4 patches, 87 rows"
    assert (cells[1], cells[3], cells[4], cells[6]) == ("5.6 kB", "1.9 kB", "88 B", "938 B |")


def test_the_gpu_script_reports_what_it_found_and_what_it_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main([]) == 0
    assert "nothing was checked" in capsys.readouterr().out

    def broken(device):
        raise AssertionError("the maps differ")

    monkeypatch.setitem(gpu_check.PARTS, "maps", gpu_check.Part(broken, 5))
    monkeypatch.setitem(gpu_check.PARTS, "speed", gpu_check.Part(lambda device: ["7B", "| what | time |"], 5))
    monkeypatch.setattr(gpu_check, "_apart", lambda name, device, seconds: gpu_check._here(name, device))
    document = tmp_path / "performance.md"
    document.write_text("<!-- gpu -->\nold\n<!-- end of gpu -->\n")
    parts = ["maps", "waits", "speed"]
    assert gpu_check.main(["--device", "cpu", "--only", *parts, "--write", str(document)]) == 1
    written = document.read_text()
    for words in (
        "FAILED.\n* AssertionError: the maps differ",
        "left out.\n* needs an NVIDIA GPU",
        "ok.\n* 7B\n\n| what",
    ):
        assert words in written
    assert "old" not in written
    told = gpu_check.memory("cpu")
    assert [line.partition(":")[0] for line in told[-3:]] == [
        "tiny, 16 x answers with maps",
        "tiny, 16 x maps of given answers",
        "tiny, checkpointed pass with capture",
    ]


def test_a_part_of_the_gpu_script_that_hangs_or_crashes_ends_no_other(monkeypatch, capsys):
    limits = {}

    def ended(command, timeout, **options):
        name = command[-1]
        limits[name] = timeout
        if name == "maps":
            raise subprocess.TimeoutExpired(command, timeout)
        told = 'progress\n["ok", ["as before"]]\n' if name == "offload" else ""
        return subprocess.CompletedProcess(command, 0 if told else -11, told, "line\nSegmentation fault\n")

    monkeypatch.setattr(subprocess, "run", ended)
    assert gpu_check.main(["--device", "cpu", "--only", "maps", "waits", "offload"]) == 1
    written = capsys.readouterr().out
    assert "**maps**: NOT FINISHED." in written
    assert "**waits**: FAILED.\n* ended with status -11\n* Segmentation fault" in written
    assert "**offload**: ok.\n* as before" in written
    assert limits == {name: gpu_check.STARTING + gpu_check.PARTS[name].seconds for name in limits}


def test_a_document_without_marks_is_left_alone(tmp_path):
    (tmp_path / "other.md").write_text("words")
    with pytest.raises(SystemExit, match="no <!-- figures -->"):
        write_between(tmp_path / "other.md", "table")
    assert (tmp_path / "other.md").read_text() == "words"


def test_rows_of_the_memory_table_stay_unless_they_are_measured_anew(tmp_path):
    document = tmp_path / "memory.md"
    document.write_text("| vit_b | 5 | 1.00 | 2.00 | 3.0 | 4.0 |\n| vit_h, one pass | 20 | 1.00 | 2.00 | 3.0 | 4.0 |\n")
    found = {"loaded": 0.5, "peak": 0.75, "seconds": 9, "processor": 8}
    table = region_memory.merged({("vit_l", "64"): region_memory.row("vit_l", "64", found)}, document)
    assert "| vit_l | 64 | 0.50 | 0.75 | 9.0 | 8.0 |" in table
    assert "| vit_h, one pass | 20 | 1.00 | 2.00 | 3.0 | 4.0 |" in table
    assert "| vit_b | 5 | 1.00 | 2.00 | 3.0 | 4.0 |" in table
    assert table.count("not run") == 4 * (4 * 5 - 2)


def test_the_peak_of_loading_is_measured(tmp_path):
    model = random_llava.build(random_llava.SIZES["tiny"], torch.device("cpu"), torch.float32)
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


def keep_run(
    kept: Measurements, variant: str, seed: int | None, right: list[int], mass: float, origin: str = "the demo"
) -> None:
    """What was measured with one run: a closed and an open question about each phantom."""
    rows = [
        {"phantom": place // 2, "topic": "location", "type": ("closed", "open")[place % 2], "right": bool(value),
         "mass": mass, "touched": mass, "pointing": 1.0}
        for place, value in enumerate(right)
    ]  # fmt: skip
    about = {"variant": variant, "seed": seed, "phantoms": 20}
    kept.keep(f"{variant}-{seed}", "validation", about, {"model": origin}, rows)


MEASURED_VARIANTS = ("base", "lora", "experts, no alignment", "a3, good", "a3, blind")
OF_THE_DEMO = {variant: {"model": "the demo"} for variant in MEASURED_VARIANTS}


def test_the_demands_on_the_default_are_held_against_the_same_seeds_and_phantoms(tmp_path):
    kept = Measurements(tmp_path / "kept")
    keep_run(kept, "base", None, [0] * 40, 0.1)
    keep_run(kept, "lora", 4, [0, 1, 0, 0] * 10, 0.2)
    keep_run(kept, "experts, no alignment", 4, [1, 1, 0, 0] * 10, 0.2)
    keep_run(kept, "a3, good", 4, [1, 1, 0, 1] * 10, 0.3)
    # Another seed has no LoRA to be compared with and changes no difference.
    keep_run(kept, "a3, good", 5, [0] * 40, 0.3)
    keep_run(kept, "a3, blind", 4, [0, 0, 0, 0] * 10, 0.24)
    found = attention_report.read_measured(kept, "validation", OF_THE_DEMO)
    assert list(attention_report.demands(found, "a3, good").values()) == [True] * 4
    assert list(attention_report.demands(found, "a3, blind").values()) == [False] * 4
    change = attention_report.difference(found["a3, good"], found["lora"], "all")
    assert change is not None
    assert (change.value, change.images) == (50.0, 20)
    lines = attention_report.table(found, ["base", "lora", "a3, good"])
    assert lines[3].startswith("| lora | 4 | 25.0 | 0.0 | 50.0 |")
    assert "+50.0 (" in lines[4]
    # Paired with the seed that the variation has, whatever the default does with others.
    varied = attention_report.variation_table(found, "a3, good", ["a3, blind", "not measured"])
    assert len(varied) == 4
    assert varied[2].startswith("| a3, blind | 4 | -75.0 (")
    assert "| -6.0 (" in varied[2]
    assert attention_report.variation_table(found, "not measured", ["a3, blind"]) == []
    attention_report.draw(found, {2: [(0.06, "a3, good")]}, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 5000


def test_measurements_of_another_base_model_are_not_put_beside_the_others(tmp_path):
    kept = Measurements(tmp_path)
    keep_run(kept, "base", None, [0] * 40, 0.1)
    keep_run(kept, "lora", 4, [0, 1, 0, 0] * 10, 0.2, origin="the demo before it")
    assert kept.get("lora-4", "standard") is None
    with pytest.raises(SystemExit, match=r"lora-4\.validation\.json\.gz was measured with another base model"):
        attention_report.read_measured(kept, "validation", OF_THE_DEMO)


def test_fewer_images_are_a_part_of_more_and_those_held_out_stay(tmp_path):
    write_sample(tmp_path / "phantoms", 20, questions=2)

    def images(count: int, seed: int) -> dict[str, set[str]]:
        dataset = read_dataset(learning_curve.write_table(tmp_path / "phantoms", count, seed))
        assert not dataset.faults
        found: dict[str, set[str]] = {}
        for item in dataset.items:
            found.setdefault(item.split, set()).add(item.image.name)
        return found

    few, more, other = images(4, 1), images(8, 1), images(8, 2)
    assert (len(few["train"]), len(more["train"])) == (4, 8)
    assert few["train"] < more["train"] != other["train"]
    assert few["validation"] == more["validation"] == other["validation"]
    assert len(few["validation"]) == 3


def test_the_learning_curve_compares_runs_on_the_same_number_of_images(tmp_path):
    kept = Measurements(tmp_path / "kept")
    for name, right in (("lora", [0, 1]), ("lora, 25 images", [0, 0]), ("a3", [1, 1]), ("a3, 25 images", [0, 1])):
        keep_run(kept, name, 4, right * 20, 0.2)
    origins = {name: {"model": "the demo"} for name in ("lora", "lora, 25 images", "a3", "a3, 25 images")}
    found = attention_report.read_measured(kept, "validation", origins)
    methods = ("lora", attention_report.EXPERTS, "a3")
    lines = learning_curve.learning_section(found, methods, tmp_path / "images")
    rows = [line.split(" | ") for line in lines if re.match(r"\| \d", line)]
    assert [(row[0], row[1], row[3]) for row in rows] == [
        ("| 25", "lora", "0.0"), ("| 25", "a3", "50.0"), ("| 140", "lora", "50.0"), ("| 140", "a3", "100.0"),
    ]  # fmt: skip
    assert [row[7].partition(" (")[0] for row in rows] == ["", "+50.0", "", "+50.0"]
    assert (tmp_path / "images" / learning_curve.PICTURE).stat().st_size > 5000
    assert learning_curve.learning_section({"lora": found["lora"]}, methods, tmp_path / "images") == []


def test_a_shortcut_lies_where_its_cell_says():
    for cell in shortcuts.CELLS:
        for phantom, finding, device in shortcuts.phantoms_of(cell, HELD_OUT_SEEDS[50_000:], 2):
            assert (finding.side == device.side) == (cell == "same")
            assert phantom.lesions == (finding,) or list(phantom.lesions) == [finding]
            answers = {answer for question, answer, _ in shortcuts.questions_of(finding) if "Which" in question}
            assert answers == {finding.side}


def test_the_evaluation_speed_script_asks_what_it_times(tiny_model, tmp_path, monkeypatch):
    model, data = tiny_model("llava"), read_evaluation_data(write_data(tmp_path / "data"), "all")
    prepare_capture(model.model)
    asked, ask = [], evaluation_speed.Asker.ask

    def noted(self, systems, questions, *, seed):
        asked.extend(question.number for question in questions)
        return ask(self, systems, questions, seed=seed)

    monkeypatch.setattr(evaluation_speed.Asker, "ask", noted)
    assert evaluation_speed._seconds(model, data, 4) > 0
    assert sorted(asked) == list(range(len(data.questions)))
