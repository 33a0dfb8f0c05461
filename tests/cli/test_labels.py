"""The labels command on real files: records, masks and pictures, resuming, exit codes, and one clear line on bad
input. The scorer has the demo scorer's form with random weights."""

import io
import json
import os
import pickle
import shutil
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import open_clip
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from pydicom.data import get_testdata_file
from safetensors.torch import load_file, save_file
from segment_anything import sam_model_registry
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from a3tune.cli.main import main
from a3tune.data.read import read_dataset
from a3tune.demo.scorer.training import build_tokenizer, model_config, save_scorer
from a3tune.images import load_image
from a3tune.labels.proposals.proposals import Proposals
from a3tune.labels.scorers.templates import TEMPLATE_SETS
from a3tune.labels.segmenters.lite_medsam import LiteMedSamSegmenter
from a3tune.labels.segmenters.segmentation import region_from_mask
from a3tune.labels.store import LabelStore
from a3tune.types import ScoredRegion
from tests.support.tuning_data import TINY


class Hostile:
    """Unpickling it would make a file."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return os.mkdir, (str(self.victim),)


@pytest.fixture(scope="module")
def scorer_folder(tmp_path_factory):
    torch.manual_seed(3)
    tokenizer = build_tokenizer(["where is the liver?"])
    config = model_config(len(tokenizer))
    folder = tmp_path_factory.mktemp("parts") / "scorer"
    save_scorer(open_clip.CLIP(**config).eval(), config, tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def quick_segmenter():
    return LiteMedSamSegmenter(device="cpu", refined=4, proposals=Proposals(maximum=12))


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory):
    """Spares most tests the segmentation of pictures that another one used."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def parts(monkeypatch, shared_cache, scorer_folder, quick_segmenter):
    """The demo scorer is the random one, LiteMedSAM draws a few masks only, and nothing is kept after the tests."""
    monkeypatch.setattr("a3tune.labels.parts.DEMO_SCORER", scorer_folder)
    monkeypatch.setattr("a3tune.labels.parts.LiteMedSamSegmenter", lambda device: quick_segmenter)
    monkeypatch.setenv("A3TUNE_CACHE", str(shared_cache))


def body(seed=0, width=150, height=120):
    """A grey body with a bright and a dark organ on black: uint8 [height, width]."""
    grey = np.full((height, width), 5, np.uint8)
    middle, radius = (width // 2, height // 2), (int(width * 0.45), int(height * 0.45))
    cv2.ellipse(grey, middle, radius, 0, 0, 360, 110, cv2.FILLED)
    cv2.ellipse(grey, (width // 3, height // 2), (width // 7, height // 5), 0, 0, 360, 190, cv2.FILLED)
    cv2.ellipse(grey, (2 * width // 3, height // 2), (width // 9, height // 5), 0, 0, 360, 40, cv2.FILLED)
    noise = np.random.default_rng(seed).normal(0, 3, grey.shape)
    return (cv2.GaussianBlur(grey, (0, 0), 0.8) + noise).clip(0, 255).astype(np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "PNG")
    return path


@pytest.fixture
def picture(tmp_path):
    return save(tmp_path / "picture.png", body())


@pytest.fixture
def folder(tmp_path):
    """Two good pictures, one deeper; a blank one, a cut one without a suffix, a text, a hidden file."""
    root = tmp_path / "pictures"
    save(root / "a.png", body(1))
    save(root / "deeper" / "b.png", body(2))
    (root / "cut").write_bytes((root / "a.png").read_bytes()[:60])
    save(root / "blank.png", np.full((40, 50), 90, np.uint8))
    (root / "readme.txt").write_text("nothing to see")
    (root / ".hidden.png").write_bytes(b"x")
    return root


def labels(image, out, *more, prompt="Where is the liver?"):
    return main(["labels", "--image", str(image), "--prompt", prompt, "--out", str(out), *map(str, more)])


def one_line(capsys, *words):
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1, captured.err
    for word in words:
        assert word in captured.err
    return captured.err


def read(folder):
    record = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    with np.load(folder / "masks.npz", allow_pickle=False) as arrays:
        return record, arrays["masks"]


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


def small_sam():
    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        img_size=128,
        patch_size=16,
        embed_dim=32,
        depth=1,
        num_heads=2,
        out_chans=32,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=4,
    )
    transformer = TwoWayTransformer(depth=2, embedding_dim=32, num_heads=2, mlp_dim=64)
    prompts = PromptEncoder(32, (8, 8), (128, 128), mask_in_chans=8)
    return Sam(encoder, prompts, MaskDecoder(transformer_dim=32, transformer=transformer, iou_head_hidden_dim=32))


def test_a_segment_anything_checkpoint_is_read_and_run(picture, tmp_path, monkeypatch, capsys):
    """Random weights find nothing of use, and that is what is said."""
    checkpoint = tmp_path / "sam.pth"
    torch.save(small_sam().state_dict(), checkpoint)
    monkeypatch.setitem(sam_model_registry, "vit_b", small_sam)
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
    monkeypatch.setattr("a3tune.labels.parts.DEMO_SCORER", tmp_path / "none")
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
    assert not list(out.rglob(".part-*"))


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
    monkeypatch.setattr("a3tune.labels.parts.RegionCache", lambda: None)
    assert labels(picture, tmp_path / "deep" / "out") == 2
    one_line(capsys, "No space left")
    assert not (tmp_path / "deep").exists()


def test_a_data_set_is_labelled_question_by_question(tmp_path, capsys):
    root = tmp_path / "data"
    save(root / "images" / "one.png", body(1))
    save(root / "images" / "blank.png", np.full((40, 50), 90, np.uint8))
    rows = [
        {"image": "one.png", "question": "Where is the liver?", "answer": "left", "organ": "Abdomen"},
        {"image": "one.png", "question": "Is there a cyst?", "answer": "no", "organ": "Abdomen"},
        {"image": "blank.png", "question": "Is there a cyst?", "answer": "no", "organ": "Abdomen"},
        {"image": "gone.png", "question": "Is there a cyst?", "answer": "no", "organ": "Abdomen"},
    ]
    (root / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    command = ["labels", "--data", str(root), "--out", str(out), "--template", "slake", "--top-k", "2"]
    assert main(command) == 1
    captured = capsys.readouterr()
    assert "2 of 4 questions labelled; 2 failed." in captured.out
    assert "train.jsonl, line 4: " in captured.err
    assert "train.jsonl, line 3: Every pixel" in captured.err
    first, first_masks = read(out / "000001")
    second, second_masks = read(out / "000002")
    assert first["prompt"] == "Medical imgaing of abdomen.Where is the liver?"
    assert second["prompt"] == "Medical imgaing of abdomen.Is there a cyst?"
    assert first["image"] == second["image"]
    assert first_masks.shape[1:] == second_masks.shape[1:] == (120, 150)
    assert main(command) == 1
    assert "2 of 4 questions labelled, 2 of them before; 2 failed." in capsys.readouterr().out


class Process:
    """One of two processes, as accelerate tells it; they run one after the other here."""

    num_processes = 2

    def __init__(self, index):
        self.process_index, self.is_main_process = index, index == 0

    def main_process_first(self):
        return nullcontext()

    def wait_for_everyone(self):
        pass


def test_two_processes_share_the_images_and_leave_one_list(tmp_path, monkeypatch, capsys):
    root = tmp_path / "data"
    rows = []
    for number in range(3):
        save(root / f"{number}.png", body(number + 20))
        rows += [
            {"image": f"{number}.png", "question": question, "answer": "left"}
            for question in ("Where is the liver?", "Is there a cyst?")
        ]
    save(root / "blank.png", np.full((40, 50), 90, np.uint8))
    rows.append({"image": "blank.png", "question": "Is there a cyst?", "answer": "no"})
    (root / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["labels", "--data", str(root), "--out", str(tmp_path / "out"), "--top-k", "2"]
    made = []
    real = LiteMedSamSegmenter.segment
    monkeypatch.setattr(LiteMedSamSegmenter, "segment", lambda own, image: made.append(image) or real(own, image))
    for index, code in ((1, 0), (0, 1)):
        with monkeypatch.context() as patch:
            patch.setattr("a3tune.labels.processes.launched", lambda device, index=index: nullcontext(Process(index)))
            made.clear()
            assert main(command) == code
        # The second process has the second and the fourth image, which is blank; the first lists all of them.
        assert len([image for image in made if image.pixels.shape[0] == 120]) == (1 if index else 2)
    assert "6 of 7 questions labelled; 1 failed." in capsys.readouterr().out
    assert len(list((tmp_path / "out").glob("*/labels.json"))) == 6


def test_pictures_packed_in_a_data_file_are_unpacked_for_the_work_only(tmp_path, monkeypatch, capsys):
    content = io.BytesIO()
    Image.fromarray(body(1)).save(content, "PNG")
    row = {"image": {"bytes": content.getvalue(), "path": None}, "question": "Is there a cyst?", "answer": "no"}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "train.parquet")
    aside = tmp_path / "aside"
    aside.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(aside))
    assert main(["labels", "--data", str(tmp_path / "train.parquet"), "--out", str(tmp_path / "out")]) == 0
    assert "1 of 1 questions labelled." in capsys.readouterr().out
    assert read(tmp_path / "out" / "000001")[1].shape[1:] == (120, 150)
    assert list(aside.iterdir()) == []
    assert not (tmp_path / "out" / "images").exists()


def tuning_data(root, count=4):
    """Two questions about each of a few pictures, the last held out."""
    rows = ["image,question,answer,split,mask"]
    for number in range(count):
        save(root / f"{number}.png", body(number))
        split = "validation" if number == count - 1 else "train"
        for question, answer in (("Where is the liver?", "left"), ("Is there a cyst?", "no")):
            rows.append(f"{number}.png,{question},{answer},{split},")
    (root / "rows.csv").write_text("\n".join(rows) + "\n")
    return root


def tune(data, out, model, *more, **settings):
    chosen = {**TINY, "max_steps": 2, "evaluate_every": None, "label_segmenter": "auto", "label_scorer": "demo"}
    sets = [f"--set={name}={'null' if value is None else value}" for name, value in {**chosen, **settings}.items()]
    command = ["tune", "--data", str(data), "--out", str(out), "--model", str(model), "--device", "cpu"]
    assert main([*command, *sets, *map(str, more)]) == 0
    targets = np.load(out / "targets.npz")
    return json.loads((out / "run.json").read_text()), targets["kinds"].tolist(), targets["values"]


def test_labels_of_a_data_set_are_tuned_on_without_another_segmentation(
    tmp_path, tiny_checkpoint, monkeypatch, quick_segmenter, capsys
):
    data, model = tuning_data(tmp_path / "data"), tiny_checkpoint("llava")
    assert main(["labels", "--data", str(data), "--out", str(data / "labels")]) == 0
    assert "8 of 8 questions labelled." in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setenv("A3TUNE_CACHE", str(tmp_path / "cache"))
        patch.setattr(LiteMedSamSegmenter, "segment", lambda *_: pytest.fail("found again"))
        _, _, named = tune(data, tmp_path / "named", model, label_segmenter="litemedsam", label_scorer="demo")
        patch.setattr("a3tune.labels.sources.load_label_maker", lambda *_, **__: pytest.fail("loaded"))
        record, kinds, values = tune(data, tmp_path / "run", model, label_scorer="auto")
    assert kinds == [1] * 8, "all from weak labels"
    assert np.array_equal(values, named)
    assert record["label_settings"]["segmenter"] == "LiteMedSAM"
    # What a person chooses beside the data goes before, and another labelling leaves it as it is.
    image, store = load_image(data / "0.png"), LabelStore(data / "labels")
    mask = np.zeros((120, 150), bool)
    mask[:60, :75] = True
    drawn = ScoredRegion(region_from_mask(mask), 1.0, 1, 1.0, "drawn")
    labels_of = store.get(image)["Is there a cyst?"]
    store.put(image, {"Is there a cyst?": replace(labels_of, regions=(drawn,), checked=True)})
    assert main(["labels", "--data", str(data), "--out", str(data / "labels"), "--top-k", "2"]) == 0
    assert "8 of 8 questions labelled, 1 of them before." in capsys.readouterr().out
    found, masks = read(data / "labels" / "000002")
    assert found["settings"]["chosen"] == "by hand"
    assert (masks == mask[None]).all()
    monkeypatch.setattr("a3tune.labels.sources.load_label_maker", lambda *_, **__: pytest.fail("loaded"))
    _, _, changed = tune(data, tmp_path / "other", model, label_scorer="auto", label_top_k=1)
    assert not np.array_equal(values, changed)


def test_labels_fill_the_mask_column_of_a_table_to_tune_on(tmp_path, tiny_checkpoint, monkeypatch, capsys):
    data, out = tuning_data(tmp_path / "data"), tmp_path / "out"
    assert main(["labels", "--data", str(data), "--out", str(out), "--top-k", "1", "--export", "masks"]) == 0
    capsys.readouterr()
    rows = read_dataset(out / "data.csv", images=data)
    assert rows.faults == ()
    assert [(item.question, item.answer, item.split) for item in rows.items] == [
        (item.question, item.answer, item.split) for item in read_dataset(data).items
    ]
    _, masks = read(out / "000003")
    assert (load_image(rows.items[2].mask).pixels[..., 0] == masks.any(axis=0) * 255).all()
    monkeypatch.setattr("a3tune.labels.sources.load_label_maker", lambda *_, **__: pytest.fail("loaded"))
    run = tmp_path / "run"
    _, kinds, _ = tune(out / "data.csv", run, tiny_checkpoint("llava"), "--images", data, label_segmenter="data")
    assert kinds == [2] * 8, "all from masks of the data"


def test_labels_that_tuning_kept_are_found(tmp_path, tiny_checkpoint, monkeypatch, quick_segmenter, capsys):
    monkeypatch.setenv("A3TUNE_CACHE", str(tmp_path / "cache"))
    data = tuning_data(tmp_path / "data")
    tune(data, tmp_path / "run", tiny_checkpoint("llava"))
    monkeypatch.setattr(LiteMedSamSegmenter, "segment", lambda *_: pytest.fail("found again"))
    capsys.readouterr()
    for out in (tmp_path / "out", tmp_path / "out"):
        assert main(["labels", "--data", str(data), "--out", str(out)]) == 0
        assert "8 of 8 questions labelled, 8 of them before." in capsys.readouterr().out
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    assert len(LabelStore(tmp_path / "out").get(load_image(data / "1.png"))) == 2


def test_regions_are_exported_as_coco(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert labels(folder, out, "--export", "coco", "--export", "masks") == 1
    coco = json.loads((out / "coco.json").read_text(encoding="utf-8"))
    assert [image["file_name"] for image in coco["images"]] == ["a.png", "deeper/b.png"]
    assert [category["name"] for category in coco["categories"]] == ["Where is the liver?"]
    for image in coco["images"]:
        record, masks = read(out / image["file_name"])
        own = [entry for entry in coco["annotations"] if entry["image_id"] == image["id"]]
        assert len(own) == len(masks)
        for entry, region, mask in zip(own, record["regions"], masks, strict=True):
            assert (entry["bbox"], entry["area"], entry["score"]) == (region["box"], region["area"], region["score"])
            counts, size = entry["segmentation"]["counts"], entry["segmentation"]["size"]
            pixels = np.repeat(np.arange(len(counts)) % 2, counts)
            assert (pixels.reshape(size, order="F") == mask).all()
        drawn = load_image(out / "masks" / f"{image['file_name']}.png").pixels[..., 0]
        assert (drawn == masks.any(axis=0) * 255).all()
    assert len({entry["id"] for entry in coco["annotations"]}) == len(coco["annotations"])


def test_one_image_is_exported_too(picture, tmp_path, capsys):
    assert labels(picture, tmp_path / "out", "--export", "coco", "--export", "masks") == 0
    assert "5 files in" in capsys.readouterr().out
    coco = json.loads((tmp_path / "out" / "coco.json").read_text(encoding="utf-8"))
    assert [image["file_name"] for image in coco["images"]] == ["picture.png"]
    assert load_image(tmp_path / "out" / "mask.png").pixels.shape == (120, 150, 3)


def test_packed_pictures_are_copied_for_the_table(tmp_path, capsys):
    content = io.BytesIO()
    Image.fromarray(body(1)).save(content, "PNG")
    row = {"image": {"bytes": content.getvalue(), "path": None}, "question": "Is there a cyst?", "answer": "no"}
    rows = [row, {**row, "question": "Is it large?"}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "train.parquet")
    command = ["labels", "--data", str(tmp_path / "train.parquet"), "--out", str(tmp_path / "out")]
    assert main([*command, "--export", "masks"]) == 0
    dataset = read_dataset(tmp_path / "out" / "data.csv")
    assert (dataset.faults, len(dataset.items), dataset.counts.images) == ((), 2, 1)


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


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (2, 500), (1, 1)])
def test_images_of_a_row_or_a_column_end_no_folder(shape, tmp_path, capsys):
    root = tmp_path / "pictures"
    save(root / "a.png", np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8))
    save(root / "b.png", body(1))
    assert labels(root, tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert "1 of 2 images labelled; 1 failed" in captured.out
    assert captured.err.splitlines()[-1].startswith("a.png: ")


def test_a_data_set_without_a_usable_row_is_told(tmp_path, capsys):
    (tmp_path / "train.jsonl").write_text(json.dumps({"image": "gone.png", "question": "q?", "answer": "no"}) + "\n")
    assert main(["labels", "--data", str(tmp_path / "train.jsonl"), "--out", str(tmp_path / "out")]) == 2
    one_line(capsys, "gone.png")
    assert not (tmp_path / "out").exists()


def test_the_help_names_every_template(capsys):
    with pytest.raises(SystemExit):
        main(["labels", "--help"])
    told = "".join(capsys.readouterr().out.split())
    assert ",".join(TEMPLATE_SETS) in told
