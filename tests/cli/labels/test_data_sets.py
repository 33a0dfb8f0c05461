"""The labels command on data sets: question by question, by several processes, and tuning on what it found."""

import io
import json
import shutil
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from a3tune.cli.main import main
from a3tune.images import load_image
from a3tune.labels.segmenters.lite_medsam import LiteMedSamSegmenter
from a3tune.labels.segmenters.segmentation import region_from_mask
from a3tune.labels.store import LabelStore
from a3tune.types import ScoredRegion
from tests.support.label_command import body, one_line, read, save, tune, tuning_data


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


def test_a_data_set_without_a_usable_row_is_told(tmp_path, capsys):
    (tmp_path / "train.jsonl").write_text(json.dumps({"image": "gone.png", "question": "q?", "answer": "no"}) + "\n")
    assert main(["labels", "--data", str(tmp_path / "train.jsonl"), "--out", str(tmp_path / "out")]) == 2
    one_line(capsys, "gone.png")
    assert not (tmp_path / "out").exists()
