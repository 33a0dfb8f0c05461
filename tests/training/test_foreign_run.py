"""Run folders that were made on another machine: what is taken out of the archive, and what is refused."""

import json
import zipfile

import pytest
import torch
from safetensors.torch import save

from a3tune.data.intake import IntakeLimits
from a3tune.errors import AdapterError, DataError
from a3tune.training import foreign_run
from a3tune.training.foreign_run import unpack_run
from a3tune.training.model_card import zip_adapter
from a3tune.training.run_folder import RunFolder

RECORD = {"format": 1, "status": "finished", "model": {"source": "demo"}, "data": {"questions": 4}, "config": {}}
WEIGHTS = save({"base_model.model.layers.0.q_proj.lora_A.weight": torch.zeros(2, 4)})
FILES = {
    "run.json": json.dumps(RECORD),
    "events.jsonl": '{"event": "training", "step": 0}\n',
    "adapter/adapter_config.json": json.dumps({"peft_type": "LORA"}),
    "adapter/adapter_model.safetensors": WEIGHTS,
    "watch/0.png": b"picture",
    "batch/0.png": b"picture",
    "examples/20-1.png": b"picture",
}


@pytest.fixture
def pack(tmp_path):
    """(files) -> a ZIP archive with them."""

    def write(files):
        with zipfile.ZipFile(tmp_path / "run.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return tmp_path / "run.zip"

    return write


def everything(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("top", ["", "my run/"])
def test_what_is_shown_and_used_comes_out_and_nothing_else(pack, tmp_path, top):
    others = {
        "checkpoints/checkpoint-2/optimizer.pt": b"pickle",
        "adapter/adapter_model.bin": b"pickle",
        "watch/../../../evil.png": b"x",
        "watch/evil.py": b"x",
        "batch/batch.json": b"{}",
        "targets.npz": b"x",
    }
    archive = pack({f"{top}{name}": content for name, content in {**FILES, **others}.items()})
    folder = unpack_run(archive, tmp_path / "place" / "run")
    assert everything(folder) == set(FILES)
    assert everything(tmp_path) == {"run.zip", *(f"place/run/{name}" for name in FILES)}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"notes.txt": "nothing"}, "holds no run"),
        ({"a/run.json": "{}", "b/run.json": "{}"}, "holds 2 runs"),
        ({**FILES, "run.json": "{}"}, "another format"),
        ({**FILES, "run.json": "cut {"}, "is damaged"),
        ({**FILES, "run.json": json.dumps({**RECORD, "config": None})}, "no record of a run"),
        ({**FILES, "adapter/adapter_config.json": "{}"}, "names no kind of adapter"),
        ({**FILES, "adapter/adapter_model.safetensors": WEIGHTS[:-3]}, "cut off"),
    ],
)
def test_what_is_no_run_or_is_damaged_leaves_nothing(pack, tmp_path, files, words):
    with pytest.raises((DataError, AdapterError), match=words):
        unpack_run(pack(files), tmp_path / "run")
    assert everything(tmp_path) == {"run.zip"}


def test_files_that_are_too_large_and_too_many_entries_are_refused(pack, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="entries"):
        unpack_run(pack(FILES), tmp_path / "run", IntakeLimits(files=3))
    with pytest.raises(DataError, match="Delete what you no longer need, or ask somebody"):
        unpack_run(pack(FILES), tmp_path / "run", IntakeLimits(total_bytes=100, room_raised="ask somebody"))
    small = dict.fromkeys(foreign_run._LARGEST, 10)
    monkeypatch.setattr(foreign_run, "_LARGEST", small)
    with pytest.raises(DataError, match="too many bytes"):
        unpack_run(pack(FILES), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_no_archive_is_told(tmp_path):
    (tmp_path / "run.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match="it is damaged"):
        unpack_run(tmp_path / "run.zip", tmp_path / "run")


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"config": {"method": [1]}},
        {"config": {"method": "lora"}, "counts": 3},
        {"config": {"method": "lora"}, "started": 1e300},
        {"config": {"method": "lora"}, "versions": [1]},
        {"config": {"method": "lora"}, "model": {}},
        {"config": {"method": "lora"}, "trainable_parameters": "x"},
        {"config": {"method": "lora", "x": json.loads("[" * 400 + "]" * 400)}},
    ],
    ids=str,
)
def test_an_odd_record_is_told_when_its_adapter_is_given_away(pack, tmp_path, record):
    odd = {**RECORD, "data": {"questions": 4, "fingerprint": "a"}, **record}
    folder = unpack_run(pack({**FILES, "run.json": json.dumps(odd)}), tmp_path / "run")
    with pytest.raises(DataError, match="another kind of value than a run writes there"):
        zip_adapter(RunFolder(folder))


@pytest.mark.parametrize("facts", [{"loss": "x"}, {"step": None, "questions": "x"}, {"accuracy": [1]}], ids=str)
def test_odd_events_are_told_too_and_plain_ones_make_a_card(pack, tmp_path, facts):
    whole = {**RECORD, "data": {"questions": 4, "fingerprint": "a"}, "config": {"method": "lora"}}
    best = {"event": "validation", "best": True, "step": 1, "loss": 0.5, "questions": 4}
    for number, event in enumerate((best, {**best, **facts})):
        files = {**FILES, "run.json": json.dumps(whole), "events.jsonl": json.dumps(event) + "\n"}
        folder = unpack_run(pack(files), tmp_path / f"run{number}")
        if number:
            with pytest.raises(DataError, match="another kind of value than a run writes there"):
                zip_adapter(RunFolder(folder))
        else:
            assert b"README.md" in zip_adapter(RunFolder(folder))
