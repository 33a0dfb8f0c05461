"""What the labels command exports: COCO, and masks in a table to tune on."""

import io
import json

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from a3tune.cli.main import main
from a3tune.data.read import read_dataset
from a3tune.images import load_image
from tests.support.label_command import body, labels, read, tune, tuning_data


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
