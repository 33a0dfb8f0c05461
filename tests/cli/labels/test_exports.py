"""What the labels command exports: COCO, and masks in a table to tune on."""

import io
import json
from dataclasses import replace

import highdicom
import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file

from a3tune.cli.main import main
from a3tune.data.read import read_dataset
from a3tune.images import load_image
from tests.support.dicom_rules import broken_rules
from tests.support.label_command import body, labels, read, save, tune, tuning_data


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


def test_the_table_keeps_the_turns_before_a_question_and_its_number(tmp_path, capsys):
    data, out = tmp_path / "data", tmp_path / "out"
    save(data / "body.png", body(1))
    turns = ["<image>\nIs there a cyst?", "yes", "Is it large?", "no"]
    said = [{"from": ("human", "gpt")[number % 2], "value": value} for number, value in enumerate(turns)]
    rows = [{"id": "seventh", "image": "body.png", "conversations": said}]
    (data / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    assert main(["labels", "--data", str(data), "--out", str(out), "--export", "masks"]) == 0
    known, written = read_dataset(data).items, read_dataset(out / "data.csv", images=data).items
    assert [item.context for item in known] == [(), ("Is there a cyst?", "yes")]
    assert [replace(item, mask=None, file="", line=0) for item in written] == [
        replace(item, file="", line=0) for item in known
    ]
    assert all(item.mask is not None for item in written)


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


def test_regions_of_dicom_images_are_exported_as_segmentations_that_refer_to_them(tmp_path, capsys):
    folder, out = tmp_path / "scans", tmp_path / "out"
    ct = dcmread(get_testdata_file("CT_small.dcm"))
    ct.PatientName, ct.PixelSpacing = "Doe^Jane", [0.8, 0.6]  # shown in square pixels, written in stored ones
    folder.mkdir()
    ct.save_as(folder / "ct.dcm")
    save(folder / "picture.png", body())

    assert labels(folder, out, "--dicom", "source") == 1
    assert "picture.png: The image is none. Expected a DICOM image that says which patient" in capsys.readouterr().err
    record, masks = read(out / "ct.dcm")
    made = highdicom.seg.segread(out / "ct.dcm" / "labels.dcm")
    assert broken_rules(made) == []
    assert [one.SegmentLabel for one in made.SegmentSequence] == [
        f"{r['rank']}: Where is the liver?" for r in record["regions"]
    ]
    found = made.get_pixels_by_source_instance([ct.SOPInstanceUID], combine_segments=False)[0]
    assert np.array_equal(np.moveaxis(found, -1, 0).astype(bool), masks)
    assert (made.PatientName, made.StudyInstanceUID) == ("Doe^Jane", ct.StudyInstanceUID)
    (referred,) = made.ReferencedSeriesSequence
    assert referred.SeriesInstanceUID == ct.SeriesInstanceUID
    assert [one.ReferencedSOPInstanceUID for one in referred.ReferencedInstanceSequence] == [ct.SOPInstanceUID]
    assert made.DerivationDescription.startswith("Regions of the image")

    # Of nobody, unless it is asked for; and what is there of other labels goes.
    assert labels(folder / "ct.dcm", out / "ct.dcm", "--dicom", "anonymous") == 0
    content = (out / "ct.dcm" / "labels.dcm").read_bytes()
    assert not any(
        str(known).encode() in content
        for known in (ct.PatientName, ct.PatientID, ct.StudyInstanceUID, ct.SOPInstanceUID)
    )
    nobody = highdicom.seg.segread(io.BytesIO(content))
    assert np.array_equal(nobody.pixel_array.astype(bool).reshape(masks.shape), masks)
    assert labels(folder / "picture.png", tmp_path / "refused", "--dicom", "anonymous") == 2
    assert "This one does not. Expected an image whose file says where its pixels lie" in capsys.readouterr().err
    assert not (tmp_path / "refused").exists()
    assert labels(folder / "ct.dcm", out / "ct.dcm") == 0
    assert not (out / "ct.dcm" / "labels.dcm").exists()


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
