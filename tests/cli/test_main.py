"""Each command on real files: results, summaries, exit codes, and one clear line on bad input."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import get_peft_model
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file

from a3tune.adapters.a3moe import A3MoeConfig
from a3tune.adapters.origin import write_origin
from a3tune.cli.main import COMMANDS, main
from a3tune.models.load import load_model
from tests.support.damaged_files import SECRET, write_damaged

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True, scope="module")
def built(tiny_checkpoint):
    """Saving the model tells its progress, which is no word of a command's."""
    tiny_checkpoint("llava")


@pytest.fixture
def picture(tmp_path, random_image):
    path = tmp_path / "picture.png"
    Image.fromarray(random_image(3, 40, 56).pixels).save(path)
    return path


def inspect(image, out, model, *more):
    return main(
        [
            "inspect",
            "--image",
            str(image),
            "--question",
            "Is it normal?",
            "--out",
            str(out),
            "--model",
            str(model),
            *more,
        ]
    )


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), MemoryError(), OSError(12, "x")]
)
def test_memory_that_runs_out_anywhere_is_one_clear_line(
    error, picture, tmp_path, tiny_checkpoint, capsys, monkeypatch
):
    def full(*args, **options):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("a3tune.cli.inspector.write_inspection", full)
        assert inspect(picture, tmp_path / "out", tiny_checkpoint("llava"), "--max-new-tokens", "2") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("a3tune inspect: There was too little")
    assert "Close other programs" in line
    assert inspect(picture, tmp_path / "out", tiny_checkpoint("llava"), "--max-new-tokens", "2") == 0


def test_inspect_writes_the_record_the_maps_and_the_pictures(picture, tmp_path, tiny_checkpoint, capsys):
    out = tmp_path / "out"
    assert inspect(picture, out, tiny_checkpoint("llava"), "--max-new-tokens", "5", "--critical-heads", "3") == 0
    record = json.loads((out / "inspect.json").read_text())
    assert record["image"]["width"] == 56
    assert record["image"]["height"] == 40
    assert len(record["image"]["sha256"]) == 64
    assert record["question"] == "Is it normal?"
    assert record["labels"] == []
    base = record["adapters"]["base"]
    assert len(base["critical_heads"]) == 3
    assert "".join(token["text"] for token in base["tokens"] if token["role"] == "question").strip() == "Is it normal?"
    with np.load(out / "attention_base.npz") as arrays:
        maps, ratio = arrays["maps"], arrays["visual_ratio"]
    assert maps.dtype == np.float32
    assert maps.shape[:2] == ratio.shape == (base["layers"], base["heads"])
    assert maps.shape[3] == np.prod(base["grid"])
    np.testing.assert_allclose(maps.sum(axis=3).mean(axis=2), ratio, atol=1e-6)
    highest = np.unravel_index(np.argmax(ratio), ratio.shape)
    assert base["critical_heads"][0] == [int(index) for index in highest]
    for name in ("attention_base.png", "attention_base.svg", "heads_base.png", "heads_base.svg"):
        assert (out / name).stat().st_size > 1000
    assert capsys.readouterr().out.startswith(f"base: {base['answer']}")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_inspect_computes_in_the_precision_asked_for(picture, tmp_path, tiny_checkpoint, monkeypatch, dtype):
    loaded = []

    def noted(*args, **options):
        loaded.append(load_model(*args, **options))
        return loaded[-1]

    monkeypatch.setattr("a3tune.cli.inspector.load_model", noted)
    given = ("--dtype", dtype, "--device", "cpu", "--max-new-tokens", "2")
    assert inspect(picture, tmp_path / "out", tiny_checkpoint("llava"), *given) == 0
    assert {weight.dtype for weight in loaded[0].model.parameters()} == {getattr(torch, dtype)}
    assert json.loads((tmp_path / "out" / "inspect.json").read_text())["made_with"]["dtype"] == dtype


def test_inspect_refuses_a_second_question_by_name(picture, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        inspect(picture, tmp_path / "out", "demo", "--question", "And this?")
    assert "--question is given twice: inspect asks one question" in capsys.readouterr().err


def test_inspect_asks_about_several_images_together(tmp_path, tiny_checkpoint, tiny_model, random_image, capsys):
    first, second = random_image(3, 40, 56), random_image(4, 30, 36)
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, image in zip(paths, (first, second), strict=True):
        Image.fromarray(image.pixels).save(path)
    mask = np.zeros((30, 36), np.uint8)
    mask[5:20, 6:30] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    model, out = tiny_checkpoint("qwen2_5_vl"), tmp_path / "out"
    more = ("--image", str(paths[1]), "--max-new-tokens", "3")
    targets = ("--target", "none", "--target", str(tmp_path / "mask.png"))
    assert inspect(paths[0], out, model, *more, *targets) == 0
    told = capsys.readouterr().out
    facts = json.loads((out / "inspect.json").read_text())
    assert [image["sha256"] for image in facts["images"]] == [first.sha256, second.sha256]
    assert [image["number"] for image in facts["images"]] == [1, 2]
    numbers = [image["adapters"]["base"]["metrics"] for image in facts["images"]]
    assert "attention_mass" not in numbers[0]
    assert 0 < numbers[1]["attention_mass"] < 1
    whole = facts["adapters"]["base"]
    assert sum(one["share_of_images"] for one in numbers) == pytest.approx(1)
    assert sum(one["image_share"] for one in numbers) == pytest.approx(whole["metrics"]["image_share"])
    inside = numbers[1]["attention_mass"] * numbers[1]["share_of_images"]
    assert whole["metrics"]["attention_mass"] == pytest.approx(inside, rel=1e-5)
    for number, image in enumerate(facts["images"], 1):
        with np.load(out / f"attention_base_image_{number}.npz") as arrays:
            assert arrays["maps"].shape[3] == len(image["patches"]) == np.prod(image["grid"])
        assert (out / f"attention_base_image_{number}.png").stat().st_size > 1000
        assert f"base, image {number}" in told
    assert (out / "heads_base.png").is_file()
    refused = {
        ("--target", "none"): "given 1 times for 2 images",
        ("--measure", "ruler:0,0,5,5"): "belongs to one image",
    }
    for option, words in refused.items():
        assert inspect(paths[0], out, model, *more, *option) == 2
        assert words in capsys.readouterr().err


def test_inspect_asks_about_each_picture_of_a_folder_and_lists_the_broken_one(
    tmp_path, tiny_checkpoint, random_image, capsys
):
    folder, out = tmp_path / "pictures", tmp_path / "pictures" / "out"
    folder.mkdir()
    Image.fromarray(random_image(3, 40, 56).pixels).save(folder / "=a.png")
    (folder / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"no picture")
    (folder / "notes.txt").write_text("none of them")
    model = tiny_checkpoint("llava")
    given = ["inspect", "--images", str(folder), "--question", "Is it normal?", "--model", str(model)]
    given += ["--out", str(out)]
    assert main([*given, "--max-new-tokens", "4"]) == 1
    told = capsys.readouterr()
    assert told.out.splitlines()[0] == "1 image of 2 asked about; 1 other file passed over"
    assert told.err.splitlines()[-1].startswith("c.png: ")
    with (out / "images.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["image"] for row in rows] == ["'=a.png", "c.png"]
    assert rows[1]["error"]
    # What each gets is what it gets alone.
    inspect(folder / "=a.png", tmp_path / "alone", model, "--max-new-tokens", "4")
    alone = json.loads((tmp_path / "alone" / "inspect.json").read_text())
    assert rows[0]["answer base"] == alone["adapters"]["base"]["answer"]
    same = json.loads((out / "=a.png" / "inspect.json").read_text())
    assert same["adapters"] == alone["adapters"]
    assert main([*given, "--measure", "ruler:0,0,5,5"]) == 2
    assert "--measure belongs to one image" in capsys.readouterr().err
    given[2] = str(folder / "notes.txt")
    assert main(given) == 2
    assert "notes.txt is a file. Expected a folder" in capsys.readouterr().err


def test_inspect_reads_dicom_with_a_window_and_keeps_no_patient(tmp_path, tiny_checkpoint):
    out = tmp_path / "out"
    more = "--window", "bone", "--dicom", "anonymous", "--dicom-objects", "pictures, maps,regions"
    assert inspect(get_testdata_file("CT_small.dcm"), out, tiny_checkpoint("llava"), *more) == 0
    written = {path.name for path in out.glob("*.dcm")}
    assert written == {"view_image.dcm", "view_base.dcm", "map_base.dcm", "regions.dcm"}
    text = (out / "inspect.json").read_text()
    assert json.loads(text)["image"]["modality"] == "CT"
    assert json.loads(text)["image"]["window"][1] > 1000
    for written in out.iterdir():
        assert b"CompressedSamples" not in written.read_bytes()
    assert inspect(get_testdata_file("CT_small.dcm"), out, tiny_checkpoint("llava"), "--dicom-objects", "reports") == 2


@pytest.mark.parametrize(
    ("convention", "named", "followed"),
    [
        ("auto", True, True),
        ("none", True, False),
        ("medgemma-ct", False, True),
        ("auto", False, False),
    ],
)
def test_inspect_gives_the_model_the_picture_that_it_was_trained_on(
    tmp_path, tiny_medgemma, tiny_checkpoint, convention, named, followed
):
    scan = get_testdata_file("CT_small.dcm")
    model = tiny_medgemma if named else tiny_checkpoint("gemma3")
    assert inspect(scan, tmp_path, model, "--convention", convention, "--max-new-tokens", "2") == 0
    record = json.loads((tmp_path / "inspect.json").read_text())
    assert record["image"]["convention"] == ("medgemma-ct" if followed else None)
    assert any("Hounsfield units as colours" in note for note in record["image"]["notes"]) == followed
    picture = tmp_path / "model_input.png"
    assert picture.exists() == followed
    if followed:
        units = dcmread(scan)
        units = units.pixel_array.astype(float) * units.RescaleSlope + units.RescaleIntercept
        written = np.asarray(Image.open(picture))
        for channel, (low, high) in enumerate(((-1024, 1024), (-135, 215), (0, 80))):
            expected = (units.clip(low, high) - low) / (high - low) * 255
            np.testing.assert_allclose(written[..., channel], expected, atol=0.5 + 1e-4)


def test_a_convention_that_does_not_fit_is_refused_before_the_model_is_loaded(picture, tmp_path, capsys):
    assert inspect(picture, tmp_path / "out", "no/such-model", "--convention", "medgemma-ct") != 0
    assert "medgemma-ct does not fit this picture: it has 8-bit or colour values" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_window_may_be_given_in_numbers(tmp_path, tiny_checkpoint):
    assert inspect(get_testdata_file("CT_small.dcm"), tmp_path, tiny_checkpoint("llava"), "--window", "40,350") == 0
    assert json.loads((tmp_path / "inspect.json").read_text())["image"]["window"] == [40.0, 350.0]


def test_inspect_uses_an_adapter_of_other_weights_only_when_told(picture, tmp_path, tiny_checkpoint, capsys):
    base = tiny_checkpoint("llava")
    tuned = get_peft_model(load_model(base, device="cpu").model, A3MoeConfig(r=2, expert_r=2))
    tuned.save_pretrained(tmp_path / "a3", save_embedding_layers=False)
    write_origin(tmp_path / "a3", str(base), "0" * 64)
    given = ("--adapters", f"base,a3={tmp_path / 'a3'}")
    assert inspect(picture, tmp_path / "out", base, *given) == 2
    assert "It was made for other weights" in capsys.readouterr().err
    assert inspect(picture, tmp_path / "out", base, *given, "--allow-other-base") == 0
    assert "a3: WARNING: the adapter was made for other weights" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "inspect.json").read_text())
    assert record["adapters"]["a3"]["notes"][0].startswith("a3: WARNING")
    assert record["adapters"]["base"]["notes"] == []


def test_inspect_compares_base_and_adapters_on_one_scale(picture, tmp_path, tiny_checkpoint):
    checkpoint = tiny_checkpoint("llava")
    torch.manual_seed(0)
    base = load_model(checkpoint).model
    config = A3MoeConfig(r=2, expert_r=2, query_experts=2, key_experts=2, key_top_k=1)
    tuned = get_peft_model(base, config)
    for name, parameter in tuned.named_parameters():
        if "expert_B" in name or "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    tuned.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    out = tmp_path / "out"
    assert inspect(picture, out, checkpoint, "--adapters", f"base,tuned={tmp_path / 'adapter'}") == 0
    record = json.loads((out / "inspect.json").read_text())
    assert list(record["adapters"]) == ["base", "tuned"]
    (comparison,) = record["comparisons"]
    assert (comparison["before"], comparison["after"]) == ("base", "tuned")
    moved = [entry["moved"] for entry in comparison["heads_moved_most"]]
    assert moved == sorted(moved, reverse=True)
    assert moved[0] > 1e-4
    assert (out / "comparison.png").stat().st_size > 1000
    with np.load(out / "attention_base.npz") as before, np.load(out / "attention_tuned.npz") as after:
        assert np.abs(before["visual_ratio"] - after["visual_ratio"]).max() > 1e-4
    assert (out / "difference_base_tuned.png").stat().st_size > 1000
    alone = tmp_path / "alone"
    assert inspect(picture, alone, checkpoint) == 0
    with np.load(out / "attention_base.npz") as beside, np.load(alone / "attention_base.npz") as by_itself:
        np.testing.assert_array_equal(beside["maps"], by_itself["maps"])


def test_a_mask_adds_the_numbers_about_it(picture, tmp_path, tiny_checkpoint, capsys):
    with Image.open(picture) as opened:
        mask = np.zeros((opened.height, opened.width), np.uint8)
    mask[5:20, 5:25] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    out = tmp_path / "out"
    assert inspect(picture, out, tiny_checkpoint("llava"), "--mask", str(tmp_path / "mask.png")) == 0
    metrics = json.loads((out / "inspect.json").read_text())["adapters"]["base"]["metrics"]
    assert 0 < metrics["attention_mass"] < 1
    assert "attention_mass" in capsys.readouterr().out


@pytest.mark.parametrize(("pixels", "words"), [(np.ones((9, 7), np.uint8), "7 x 9"), (None, "black all over")])
def test_a_mask_that_fits_no_image_is_refused(pixels, words, picture, tmp_path, tiny_checkpoint, capsys):
    with Image.open(picture) as opened:
        pixels = np.zeros((opened.height, opened.width), np.uint8) if pixels is None else pixels
    Image.fromarray(pixels * 255).save(tmp_path / "mask.png")
    assert inspect(picture, tmp_path / "out", tiny_checkpoint("llava"), "--mask", str(tmp_path / "mask.png")) == 2
    one_line(capsys, words, "mask.png")


def one_line(capsys, *words):
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1, captured.err
    assert "Traceback" not in captured.err
    for word in words:
        assert word in captured.err
    return captured.err


def test_damaged_files_give_one_clear_line_each(tmp_path, capsys):
    files = write_damaged(tmp_path)
    assert len(files) >= 30
    for path, words in files.items():
        assert main(["inspect", "--image", str(path), "--question", "q", "--out", str(tmp_path / "out")]) == 2
        assert SECRET not in one_line(capsys, words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--question", " "], "question"),
        (["--adapters", "lora"], "adapter"),
        (["--adapters", ","], "adapter"),
        (["--adapters", "base,base"], "twice"),
        (["--adapters", "base,mine=there/is/no/folder"], "adapter"),
        (["--critical-heads", "999"], "critical heads"),
        (["--critical-heads", "0"], "critical heads"),
        (["--window", "1,2,3"], "window"),
        (["--window", "lung"], "window"),
        (["--frame", "7"], "frame"),
        (["--device", "quantum"], "device"),
        (["--model", "there/is/no such model"], "model"),
    ],
)
def test_bad_arguments_are_told_in_one_line(arguments, words, picture, tmp_path, tiny_checkpoint, capsys):
    given = ["inspect", "--image", str(picture), "--out", str(tmp_path / "out")]
    given += [] if "--question" in arguments else ["--question", "q"]
    assert main([*given, "--model", str(tiny_checkpoint("llava")), *arguments]) == 2
    assert words in one_line(capsys).lower()
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_told(picture, tmp_path, tiny_checkpoint, capsys):
    (tmp_path / "taken").write_text("a file")
    assert inspect(picture, tmp_path / "taken" / "out", tiny_checkpoint("llava")) == 2
    one_line(capsys, "taken")


def test_parity_passes_on_a_checkpoint_and_fails_without_one(tiny_checkpoint, capsys):
    assert main(["parity", "--checkpoint", str(tiny_checkpoint("llava"))]) == 0
    assert "ok" in capsys.readouterr().out
    assert main(["parity"]) == 2
    one_line(capsys, "--checkpoint")


def test_doctor_names_the_packages(capsys):
    assert main(["doctor"]) in (0, 1)
    out = capsys.readouterr().out
    for word in ("Python", "torch", "gradio", "device", "demo model"):
        assert word in out


def test_the_module_runs_as_a_program_without_the_network():
    environment = dict(os.environ, HF_HUB_OFFLINE="1")
    done = subprocess.run(
        [sys.executable, "-m", "a3tune", "--help"], capture_output=True, text=True, env=environment, check=True
    )
    for command in ("app", "inspect", "labels", "tune", "demo", "parity", "doctor"):
        assert command in done.stdout


def test_slips_are_told_before_torch_is_loaded(tmp_path):
    (tmp_path / "scan.png").write_bytes(b"no picture")
    (tmp_path / "empty").mkdir()
    image, out = ["--image", str(tmp_path / "scan.png")], ["--out", str(tmp_path / "out")]
    lines = [
        ["--help"],
        ["--version"],
        *([command, "--help"] for command in COMMANDS),
        ["inspect", *image, *out, "--question", "q"],
        ["inspect", *image, *out, "--question", "q", "--adapters", "mine"],
        ["inspect", *image, *out, "--question", "q", "--window", "1,2,3"],
        ["labels", *image, *out, "--prompt", "p"],
        ["labels", *image, *out, "--prompt", " "],
        ["tune", "--data", str(tmp_path)],
        ["demo", "paint"],
        ["parity"],
    ]
    code = f"""
import sys
from a3tune.cli.main import COMMANDS, main
for line in {lines!r}:
    try:
        code = main(line)
    except SystemExit as ended:
        code = ended.code
    assert code == (0 if line[-1] in ("--help", "--version") else 2), (line, code)
    assert not {{"torch", "transformers", "peft", "pyarrow"}} & set(sys.modules), line
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
