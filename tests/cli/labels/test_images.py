"""The labels command on images and folders: records, masks, pictures, resuming, exit codes, one line on bad input."""

import io
import json
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from pydicom.data import get_testdata_file
from safetensors.torch import load_file, save_file
from segment_anything import sam_model_registry

from a3tune.cli.main import main
from a3tune.images import load_image
from a3tune.labels.scorers.templates import TEMPLATE_SETS
from a3tune.labels.segmenters.lite_medsam import LiteMedSamSegmenter
from tests.support.label_command import body, labels, one_line, read, save
from tests.support.small_sam import build_small_sam


class Hostile:
    """Unpickling it would make a file."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return os.mkdir, (str(self.victim),)


def test_one_image_gives_record_masks_and_picture_that_agree(picture, tmp_path, capsys, caplog):
    out = tmp_path / "new" / "out"
    assert labels(picture, out, "--top-k", "3") == 0
    record, masks = read(out)
    assert sorted(path.name for path in out.iterdir()) == ["labels.json", "masks.npz", "regions.png"]
    assert masks.dtype == bool
    assert masks.shape == (len(record["regions"]), 120, 150)
    assert 1 <= len(masks) <= 3
    for region, mask in zip(record["regions"], masks, strict=True):
        rows, columns = np.nonzero(mask)
        x, y, width, height = region["box"]
        assert (columns.min(), rows.min()) == (x, y)
        assert (columns.max(), rows.max()) == (x + width - 1, y + height - 1)
        assert region["area"] == mask.sum()
        assert region["phrase"] == "Where is the liver?"
        assert 0 < region["weight"] <= 1
    assert [region["rank"] for region in record["regions"]] == list(range(1, len(masks) + 1))
    scores = [region["score"] for region in record["regions"]]
    assert scores == sorted(scores, reverse=True)
    assert record["prompt"] == "Where is the liver?"
    assert record["segmenter"] == "LiteMedSAM"
    assert record["scorer"] == "Phantom scorer (demo)"
    assert any("regions kept" in note for note in record["notes"])
    assert any("synthetic images only" in note for note in record["notes"])
    assert (record["image"]["width"], record["image"]["height"]) == (150, 120)
    assert len(record["image"]["sha256"]) == 64
    with Image.open(out / "regions.png") as drawn:
        assert drawn.size == (150 * 5, 120 * 5)
    printed = capsys.readouterr()
    assert "ranked by Phantom scorer (demo)" in printed.out
    assert printed.err == ""
    assert caplog.records == [], "libraries that are used must not talk to the user"


def test_files_keep_the_stored_grid_of_pixels_that_are_not_square(tmp_path, capsys):
    # Every second row left out, and the resolutions say so.
    Image.fromarray(body()[::2]).save(tmp_path / "a.png", dpi=(200, 100))
    assert labels(tmp_path / "a.png", tmp_path / "out", "--top-k", "2") == 0
    record, masks = read(tmp_path / "out")
    assert (record["image"]["width"], record["image"]["height"]) == (150, 60)
    assert record["image"]["coordinates"] == "stored pixels"
    assert record["image"]["shown"] == {"width": 150, "height": 120}
    assert masks.shape[1:] == (60, 150)
    for region, mask in zip(record["regions"], masks, strict=True):
        rows, columns = np.nonzero(mask)
        assert region["box"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert region["area"] == mask.sum()
    with Image.open(tmp_path / "out" / "regions.png") as drawn:
        assert drawn.size[0] * 120 == drawn.size[1] * 150
    printed = capsys.readouterr().out
    assert "150 x 60 stored ones are shown as 150 x 120 square ones" in printed
    x, y, width, height = record["regions"][0]["box"]
    assert f"{width} x {height} at {x}, {y}" in printed


def test_other_settings_replace_the_files_and_leave_others(picture, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert labels(picture, out, "--top-k", "all") == 0
    everything, _ = read(out)
    assert labels(picture, out, "--top-k", "1", "--template", "Seen: {question}") == 0
    record, masks = read(out)
    assert len(everything["regions"]) > len(record["regions"]) == len(masks) == 1
    assert record["prompt"] == "Seen: Where is the liver?"
    assert (out / "notes.txt").read_text() == "mine"
    assert len(list(out.iterdir())) == 4


def test_several_descriptions_are_ranked_as_one(picture, tmp_path, capsys):
    assert labels(picture, tmp_path / "out", "--prompt", "a dark organ") == 0
    record, _ = read(tmp_path / "out")
    assert record["prompts"] == ["Where is the liver?", "a dark organ"]
    assert {region["phrase"] for region in record["regions"]} <= set(record["prompts"])
    assert record["regions"][0]["phrase"] in capsys.readouterr().out


def test_templates_of_the_method_take_the_organ(picture, tmp_path):
    assert labels(picture, tmp_path / "out", "--template", "slake", "--organ", "Chest") == 0
    record, _ = read(tmp_path / "out")
    assert record["prompt"] == "Medical image of Chest and lungs. Where is the liver?"


def test_dicom_with_a_window_keeps_no_patient(tmp_path):
    out = tmp_path / "out"
    assert labels(get_testdata_file("CT_small.dcm"), out, "--window", "40,400") == 0
    record, _ = read(out)
    assert record["image"]["modality"] == "CT"
    assert record["image"]["window"] == [40.0, 400.0]
    for written in out.iterdir():
        assert b"CompressedSamples" not in written.read_bytes()


def test_a_segment_anything_checkpoint_is_read_and_run(picture, tmp_path, monkeypatch, capsys):
    """Random weights find nothing of use, and that is what is said."""
    checkpoint = tmp_path / "sam.pth"
    torch.save(build_small_sam().state_dict(), checkpoint)
    monkeypatch.setitem(sam_model_registry, "vit_b", build_small_sam)
    monkeypatch.setattr("a3tune.labels.segmenters.segment_anything._WIDTHS", {32: "vit_b"})
    assert labels(picture, tmp_path / "out", "--segmenter", checkpoint) == 2
    one_line(capsys, "Segment Anything vit_b found none in this image")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--template", "nonsense"], "vqa-rad"),
        (["--template", "slake"], "organ"),
        (["--top-k", "0"], "at least 1 region"),
        (["--top-k", "many"], "'many'"),
        (["--window", "1,2,3"], "window"),
        (["--window", "lung"], "window"),
        (["--frame", "3"], "frame"),
        (["--device", "quantum"], "device"),
        (["--segmenter", "sam_vit_h.pth"], "https://dl.fbaipublicfiles.com/segment_anything/"),
        (["--segmenter", "."], "folder"),
        (["--prompt", "  "], "prompt is empty"),
        (["--prompt", "liver " * 60], "at most 48 tokens"),
    ],
)
def test_bad_arguments_are_told_in_one_line(arguments, words, picture, tmp_path, capsys):
    assert labels(picture, tmp_path / "out", *arguments) == 2
    assert words in one_line(capsys)
    assert not (tmp_path / "out").exists()


def test_a_prompt_is_needed_for_images(picture, tmp_path, capsys):
    assert main(["labels", "--image", str(picture), "--out", str(tmp_path / "out")]) == 2
    one_line(capsys, "--prompt")


@pytest.mark.parametrize(
    "pixels",
    [np.full((60, 70), 200, np.uint8), np.zeros((1, 1), np.uint8), np.eye(2, dtype=np.uint8) * 255],
    ids=["blank", "one pixel", "four pixels"],
)
def test_images_without_a_region_are_told_in_one_line(pixels, tmp_path, capsys):
    assert labels(save(tmp_path / "odd.png", pixels), tmp_path / "out") == 2
    one_line(capsys, "Expected")
    assert not (tmp_path / "out").exists()


def test_a_missing_image_is_told(tmp_path, capsys):
    assert labels(tmp_path / "none.png", tmp_path / "out") == 2
    one_line(capsys, "does not exist")


def test_checkpoints_that_are_wrong_or_hostile_are_told_and_not_run(picture, tmp_path, capsys):
    victim = tmp_path / "victim"
    hostile = tmp_path / "hostile.pth"
    hostile.write_bytes(pickle.dumps({"image_encoder": Hostile(victim)}))
    wrong = tmp_path / "wrong.pth"
    torch.save({"weight": torch.zeros(2)}, wrong)
    cut = tmp_path / "cut.pth"
    cut.write_bytes(wrong.read_bytes()[:100])
    for checkpoint, words in ((hostile, "was not executed"), (wrong, "no image encoder"), (cut, "cut.pth")):
        assert labels(picture, tmp_path / "out", "--segmenter", checkpoint) == 2
        one_line(capsys, words)
    assert not victim.exists()
    assert not (tmp_path / "out").exists()


def test_a_hostile_scorer_is_not_run(picture, tmp_path, scorer_folder, capsys):
    victim, copy = tmp_path / "victim", tmp_path / "copy"
    copy.mkdir()
    for part in scorer_folder.iterdir():
        if part.suffix != ".safetensors":
            (copy / part.name).write_bytes(part.read_bytes())
    (copy / "open_clip_pytorch_model.bin").write_bytes(pickle.dumps({"a": Hostile(victim)}))
    assert labels(picture, tmp_path / "out", "--scorer", copy) == 2
    one_line(capsys, "was not executed")
    assert not victim.exists()


def test_a_missing_demo_scorer_is_told_with_the_ways_out(picture, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("a3tune.labels.segmenters_and_scorers.DEMO_SCORER", tmp_path / "none")
    assert labels(picture, tmp_path / "out") == 2
    one_line(capsys, "demo build", "scorer biomedclip")


def test_biomedclip_out_of_reach_says_what_to_fetch(picture, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert labels(picture, tmp_path / "out", "--scorer", "biomedclip") == 2
    one_line(capsys, "open_clip_pytorch_model.bin", "hf download microsoft/BiomedCLIP", "comes with the program")
    assert not (tmp_path / "out").exists()


def test_a_folder_goes_on_past_bad_images_and_lists_them(folder, capsys):
    out = folder / "labelled"
    assert labels(folder, out) == 1
    captured = capsys.readouterr()
    assert "2 of 4 images labelled; 2 failed; 1 other file passed over." in captured.out
    blank, cut = captured.err.splitlines()[-2:]
    assert blank.startswith("blank.png: Every pixel of the image has the same value (90).")
    assert cut.startswith("cut: ")
    assert "100% 4/4" in captured.err
    for name, height in (("a.png", 120), ("deeper/b.png", 120)):
        record, masks = read(out / name)
        assert masks.shape[1] == height
        assert record["regions"]
    assert not (out / "blank.png").exists()
    index = json.loads((out / "index.json").read_text())
    assert (index["labelled"], index["failed"]) == (2, 2)
    assert [item["status"] for item in index["items"]] == ["labelled", "failed", "failed", "labelled"]
    assert not list(out.rglob(".*.part"))


def test_a_folder_run_goes_on_where_it_stopped(folder, tmp_path, monkeypatch, capsys, quick_segmenter):
    out = tmp_path / "out"
    original = type(quick_segmenter).segment
    seen = []

    def counted(self, image):
        seen.append(image.sha256)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return original(self, image)

    monkeypatch.setattr(LiteMedSamSegmenter, "segment", counted)
    monkeypatch.setenv("A3TUNE_CACHE", str(tmp_path / "cache"))
    assert labels(folder, out) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "a3tune labels: stopped."
    assert [path.parent.name for path in out.rglob("labels.json")] == ["a.png"]
    first = (out / "a.png" / "labels.json").stat().st_mtime_ns
    assert labels(folder, out) == 1
    assert "2 of 4 images labelled, 1 of them before; 2 failed" in capsys.readouterr().out
    assert (out / "a.png" / "labels.json").stat().st_mtime_ns == first
    # Nothing is kept that was made of other pixels, for another prompt or with other settings; files are made whole.
    save(folder / "a.png", body(7))
    masks = out / "deeper" / "b.png" / "masks.npz"
    whole = masks.read_bytes()
    masks.unlink()
    assert labels(folder, out) == 1
    assert "2 of 4 images labelled, 1 of them before; 2 failed" in capsys.readouterr().out
    with np.load(masks) as again, np.load(io.BytesIO(whole)) as before:
        assert (again["masks"] == before["masks"]).all()
    assert labels(folder, out) == 1
    assert "2 of them before" in capsys.readouterr().out
    assert labels(folder, out, "--top-k", "2") == 1
    assert "before" not in capsys.readouterr().out
    assert labels(folder, out, "--top-k", "2", prompt="kidney") == 1
    assert "before" not in capsys.readouterr().out


def test_labels_of_another_scorer_are_not_kept(tmp_path, scorer_folder, capsys):
    save(tmp_path / "pictures" / "a.png", body(1))
    other = shutil.copytree(scorer_folder, tmp_path / "other")
    weights = load_file(other / "open_clip_model.safetensors")
    weights["token_embedding.weight"] = weights["token_embedding.weight"] + 1
    save_file(weights, other / "open_clip_model.safetensors")
    for scorer, before in ((scorer_folder, False), (scorer_folder, True), (other, False)):
        assert labels(tmp_path / "pictures", tmp_path / "out", "--scorer", scorer) == 0
        assert ("1 of them before" in capsys.readouterr().out) == before


def test_the_contents_of_a_disc_are_no_picture(tmp_path, capsys):
    save(tmp_path / "disc" / "a.png", body(1))
    (tmp_path / "disc" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    assert labels(tmp_path / "disc", tmp_path / "out") == 0
    assert "1 of 1 images labelled; 1 other file passed over." in capsys.readouterr().out


@pytest.mark.parametrize("prompt", ["", "liver " * 60])
def test_a_bad_prompt_for_a_folder_is_one_fault(prompt, folder, tmp_path, capsys):
    assert labels(folder, tmp_path / "out", prompt=prompt) == 2
    one_line(capsys, "prompt")
    assert not (tmp_path / "out").exists()


def test_a_folder_without_pictures_is_told(tmp_path, capsys):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("text")
    assert labels(tmp_path / "texts", tmp_path / "out") == 2
    one_line(capsys, "holds no picture (other files: 1)")


def test_an_output_folder_that_cannot_be_made_is_told(picture, folder, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    for source in (picture, folder):
        assert labels(source, tmp_path / "taken" / "out") == 2
        assert "taken" in capsys.readouterr().err.splitlines()[-1]


def test_a_full_disk_leaves_nothing_behind(picture, tmp_path, monkeypatch, capsys):
    def full(stream, header):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("a3tune.labels.export.np.lib.format.write_array_header_1_0", full)
    monkeypatch.setattr("a3tune.labels.segmenters_and_scorers.RegionCache", lambda: None)
    assert labels(picture, tmp_path / "deep" / "out") == 2
    one_line(capsys, "No space left")
    assert not (tmp_path / "deep").exists()


def test_a_library_that_fails_at_one_image_ends_no_run(folder, tmp_path, monkeypatch, quick_segmenter, capsys):
    original = type(quick_segmenter).segment

    def fragile(self, image):
        if image.sha256 == load_image(folder / "a.png").sha256:
            raise ZeroDivisionError("division by zero\nin two lines")
        return original(self, image)

    monkeypatch.setattr(LiteMedSamSegmenter, "segment", fragile)
    monkeypatch.setenv("A3TUNE_CACHE", str(tmp_path / "cache"))
    assert labels(folder, tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert "1 of 4 images labelled; 3 failed" in captured.out
    assert "a.png: ZeroDivisionError: division by zero in two lines\n" in captured.err
    monkeypatch.setattr(LiteMedSamSegmenter, "segment", original)
    assert labels(folder, tmp_path / "out") == 1
    assert "2 of 4 images labelled, 1 of them before; 2 failed" in capsys.readouterr().out


def test_images_of_a_row_or_a_column_end_no_folder(tmp_path, capsys):
    root = tmp_path / "pictures"
    shapes = [(1, 300), (300, 1), (2, 500), (1, 1)]
    for number, shape in enumerate(shapes):
        save(root / f"a{number}.png", np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8))
    save(root / "b.png", body(1))
    assert labels(root, tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert "1 of 5 images labelled; 4 failed" in captured.out
    told = [line.partition(": ")[0] for line in captured.err.splitlines()[-4:]]
    assert told == [f"a{number}.png" for number in range(4)]


def test_the_help_names_every_template(capsys):
    with pytest.raises(SystemExit):
        main(["labels", "--help"])
    told = "".join(capsys.readouterr().out.split())
    assert ",".join(TEMPLATE_SETS) in told
