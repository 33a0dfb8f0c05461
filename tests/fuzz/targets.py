"""What reads files from outside, each with seeds from the shipped files and the tests' own small ones."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import imagecodecs
import numpy as np
import openpyxl
import pandas
import torch
from PIL import Image
from pydicom import uid
from safetensors.torch import load_file, save

from a3tune.adapters.stored import read_adapter
from a3tune.checkpoints import read_checkpoint
from a3tune.data.archive import unpack_archive
from a3tune.data.intake import IntakeLimits
from a3tune.data.read import read_dataset
from a3tune.evaluation.items import ITEMS_NAME, EvaluatedItem, write_items
from a3tune.evaluation.predictions import read_predictions
from a3tune.evaluation.report import make_report, write_report
from a3tune.evaluation.scoring import compare_folders, comparison_record
from a3tune.images.load import describe_image, load_image
from a3tune.labels.scorers.open_clip_folder import load_folder
from a3tune.labels.store import LabelStore
from a3tune.storage import write_json
from a3tune.training.adapter_intake import check_files, check_fit, unpack_adapter
from a3tune.training.foreign_run import unpack_run
from a3tune.training.run_folder import RunFolder
from a3tune.types import MedicalImage
from app.jobs.jobs import Job
from app.tune.runs.event_reader import EventReader
from app.tune.runs.updates import run_news
from app.tune.runs.view import view_run
from tests.fuzz.harness import Target
from tests.fuzz.mutations import spoil_archive, spoil_bytes, spoil_json, spoil_lines
from tests.support.damaged_files import compressed, dicom_file, encode, jpeg, nifti, png, rgb_picture

_ASSETS = Path(__file__).parent.parent.parent / "assets"
_LIMITS = IntakeLimits(files=2000, total_bytes=64 << 20, file_bytes=32 << 20, ratio_from=8 << 20, reserve=0)
_HEAD = 1 << 14


# ---- images ----------------------------------------------------------------------------------------


@cache
def _images() -> tuple[bytes, ...]:
    picture = rgb_picture()
    grey16 = Image.fromarray(np.arange(48 * 40, dtype=np.uint16).reshape(48, 40) * 30)
    frame = np.arange(48 * 40, dtype=np.uint16).reshape(48, 40)
    shipped = [path.read_bytes() for path in sorted((_ASSETS / "examples").glob("*.dcm"))]
    shipped += [path.read_bytes() for path in sorted((_ASSETS / "examples").glob("*.png"))[:1]]
    return (
        *shipped,
        png(),
        jpeg(),
        *(encode(picture, format=name) for name in ("TIFF", "WEBP", "BMP", "GIF")),
        encode(grey16, format="TIFF"),
        encode(grey16, format="PNG"),
        encode(picture.convert("P"), format="GIF", save_all=True, append_images=[picture.convert("P")]),
        encode(picture, format="TIFF", compression="tiff_lzw", save_all=True, append_images=[picture]),
        dicom_file(),
        dicom_file(uid.ImplicitVRLittleEndian),
        dicom_file(uid.ExplicitVRBigEndian),
        dicom_file(uid.DeflatedExplicitVRLittleEndian),
        dicom_file(WindowCenter=[40, 500], WindowWidth=[400, 1500], WindowCenterWidthExplanation=["A", "B"]),
        dicom_file(NumberOfFrames=2, PixelData=frame.tobytes() * 2),
        compressed(uid.JPEG2000Lossless, imagecodecs.jpeg2k_encode(frame, level=0)),
        compressed(uid.JPEGLSLossless, imagecodecs.jpegls_encode(frame)),
        compressed(uid.JPEGLosslessSV1, imagecodecs.ljpeg_encode(frame)),
        nifti(),
        nifti(np.zeros((4, 5, 6, 2), np.float32)),
        (_ASSETS / "examples" / "real_mr.nii.gz").read_bytes(),
        _zip({f"s/{number}.dcm": dicom_file(InstanceNumber=number, SeriesInstanceUID="1.2.9") for number in range(3)}),
    )


def _make_image(random: Random, folder: Path) -> Path:
    path = folder / "image"
    seed = random.choice(_images())
    spoil = spoil_archive if seed.startswith(b"PK") else None
    path.write_bytes(spoil(random, seed, _spoil_entry) if spoil else spoil_bytes(random, seed))
    return path


def _read_image(path: Path) -> None:
    description = describe_image(path)
    load_image(path, frame=description.frame_count - 1, series=description.series)
    if description.axes:
        load_image(path, axis=0)


# ---- tables and archives of data -------------------------------------------------------------------

_ROWS = [
    {"image": "a.png", "question": "Is there a mass?", "answer": "no", "split": "train"},
    {"image": "b.png", "question": "Which organ is shown?", "answer": "liver", "split": "validation"},
    {"image": "a.png", "question": "Where?", "answer": "left", "split": "train", "mask": "m.png"},
]
_LLAVA = [
    {
        "id": "1",
        "image": "a.png",
        "conversations": [
            {"from": "human", "value": "<image>\nIs there a mass?"},
            {"from": "gpt", "value": "no"},
            {"from": "human", "value": "And left?"},
            {"from": "gpt", "value": "yes"},
        ],
    },
]
_SLAKE = [
    {
        "img_id": 1,
        "img_name": "a.png",
        "question": "What?",
        "answer": "Liver",
        "q_lang": "en",
        "qid": 1,
        "location": "Abdomen",
        "modality": "CT",
        "answer_type": "OPEN",
        "base_type": "vqa",
        "content_type": "Organ",
        "triple": ["vhead", "_", "_"],
    },
]
_RAD = [
    {
        "image_name": "a.png",
        "question": "Is it?",
        "answer": "Yes",
        "answer_type": "CLOSED",
        "phrase_type": "freeform",
        "qid": 3,
        "image_organ": "CHEST",
        "question_type": "PRES",
    },
]
_CHOICES = [
    {
        "Figure_path": "a.png",
        "Question": "Which?",
        "Answer": "B",
        "Choice A": "A: heart",
        "Choice B": "B: lung",
        "Choice C": "C: liver",
        "Choice D": "D: spleen",
        "Answer_label": "B",
        "split": "train",
    },
]
_BOXES = [
    {
        "image": "a.png",
        "question": "Where?",
        "answer": "left",
        "boxes": [[1, 2, 3, 4]],
        "options": ["left", "right"],
        "organ": "lung",
        "mask_values": [1, 2],
    },
]


@cache
def _tables() -> dict[str, bytes]:
    csv = "image,question,answer,split\na.png,Is there a mass?,no,train\nb.png,Which organ?,liver,validation\n"
    found = {
        "data.csv": csv.encode(),
        "data.tsv": csv.replace(",", "\t").encode(),
        "rows.jsonl": b"".join(json.dumps(row).encode() + b"\n" for row in (*_ROWS, *_BOXES)),
        "rows.json": json.dumps(_ROWS).encode(),
        "llava.json": json.dumps(_LLAVA).encode(),
        "train.json": json.dumps(_SLAKE).encode(),
        "trainset.json": json.dumps(_RAD).encode(),
        "train.csv": pandas.DataFrame(_CHOICES).to_csv(index=False).encode(),
        "sample.csv": (_ASSETS / "demo" / "sample" / "data.csv").read_bytes()[:2000],
        "VQAMed2019_QAPairs.txt": b"a|is it a ct?|yes\nb|which organ?|lung\n",
    }
    stream = io.BytesIO()
    pictures = [{"bytes": _small_png(), "path": "a.png"}, {"bytes": _small_png(9), "path": None}]
    pandas.DataFrame({"image": pictures, "question": ["Is it?", "What?"], "answer": ["yes", "liver"]}).to_parquet(
        stream
    )
    found["data.parquet"] = stream.getvalue()
    book = openpyxl.Workbook()
    for row in (list(_ROWS[0]), *([*row.values()][:4] for row in _ROWS)):
        book.active.append(row)
    stream = io.BytesIO()
    book.save(stream)
    found["data.xlsx"] = stream.getvalue()
    return found


@cache
def _small_png(shade: int = 0) -> bytes:
    return encode(Image.fromarray(np.full((10, 12), shade, np.uint8)), format="PNG")


def _write_pictures(folder: Path) -> None:
    for shade, name in enumerate(("a.png", "b.png", "m.png")):
        (folder / name).write_bytes(_small_png(shade))


def _spoil_entry(random: Random, name: str, content: bytes) -> bytes:
    if name.endswith(".json") or name.endswith("config.json"):
        return spoil_json(random, content)
    if name.endswith(".jsonl"):
        return spoil_lines(random, content)
    if name.endswith(".xlsx"):
        return spoil_archive(random, content, lambda rng, _, inner: spoil_bytes(rng, inner))
    if name.endswith(".safetensors"):
        return _spoil_tensors(random, content)
    return spoil_bytes(random, content)


def _make_table(random: Random, folder: Path) -> Path:
    _write_pictures(folder)
    name = random.choice(list(_tables()))
    (folder / name).write_bytes(_spoil_entry(random, name, _tables()[name]))
    return folder


def _read_table(folder: Path) -> None:
    read_dataset(folder, unpack_to=folder / "unpacked")


def _make_data_archive(random: Random, folder: Path) -> Path:
    name = random.choice(list(_tables()))
    files = {"set/a.png": _small_png(), "set/b.png": _small_png(1), f"set/{name}": _tables()[name]}
    (folder / "data.zip").write_bytes(spoil_archive(random, _zip(files), _spoil_entry))
    return folder / "data.zip"


def _read_data_archive(path: Path) -> None:
    unpack_archive(path, path.parent / "set", _LIMITS)
    read_dataset(path.parent / "set", unpack_to=path.parent / "unpacked")


# ---- adapters, weights, runs, labels ---------------------------------------------------------------


@cache
def _adapter(name: str) -> dict[str, bytes]:
    folder = _ASSETS / "demo" / "adapters" / name
    # Two tensors say as much as all of them.
    state = dict(list(load_file(folder / "adapter_model.safetensors").items())[:2])
    return {
        "adapter_config.json": (folder / "adapter_config.json").read_bytes(),
        "adapter_model.safetensors": save({key: value[..., :8].contiguous() for key, value in state.items()}),
    }


@cache
def _whole_adapter(name: str) -> dict[str, bytes]:
    folder = _ASSETS / "demo" / "adapters" / name
    return {file: (folder / file).read_bytes() for file in ("adapter_config.json", "adapter_model.safetensors")}


_KINDS = (
    "LORA",
    "IA3",
    "LOHA",
    "LOKR",
    "OFT",
    "BOFT",
    "VERA",
    "ADALORA",
    "LN_TUNING",
    "A3MOE",
    "HRA",
    "TRAINABLE_TOKENS",
    "VBLORA",
    "FOURIERFT",
    "XLORA",
    "PREFIX_TUNING",
    "ROAD",
    "RANDLORA",
    "MISS",
    "SHIRA",
    "C3A",
)
_SETTINGS = (
    "target_modules",
    "rank_pattern",
    "alpha_pattern",
    "exclude_modules",
    "modules_to_save",
    "layers_pattern",
    "layers_to_transform",
    "r",
    "lora_alpha",
    "init_lora_weights",
    "loftq_config",
    "auto_mapping",
    "task_type",
    "bias",
    "target_parameters",
    "trainable_token_indices",
    "base_model_name_or_path",
    "layer_replication",
    "megatron_config",
    "corda_config",
    "eva_config",
    "use_dora",
    "revision",
    "runtime_config",
    "peft_type",
    "peft_version",
    "experts",
    "top_k",
    "fan_in_fan_out",
    "lora_dropout",
    "use_rslora",
    "alora_invocation_tokens",
)


def _spoil_settings(random: Random, text: bytes) -> bytes:
    if random.random() < 0.4:
        settings = json.loads(text)
        for name in random.sample(_SETTINGS, random.choice((1, 2))):
            settings.setdefault(name, random.choice(([name], name, {name: 8}, 8, True)))
        if random.random() < 0.4:
            settings["peft_type"] = random.choice(_KINDS)
        text = json.dumps(settings).encode()
    return spoil_json(random, text)


def _spoil_tensors(random: Random, content: bytes) -> bytes:
    """A safetensors file whose JSON head is spoilt by its values, with a length that fits it or not."""
    if random.random() < 0.4:
        return spoil_bytes(random, content)
    (length,) = struct.unpack("<Q", content[:8])
    head = spoil_json(random, content[8 : 8 + length])
    said = len(head) if random.random() < 0.9 else random.choice((0, 1, len(head) - 1, 2**40, 2**64 - 1))
    return struct.pack("<Q", said) + head + content[8 + length :]


def _make_adapter(random: Random, folder: Path) -> Path:
    whole = random.random() < 0.3
    files = dict((_whole_adapter if whole else _adapter)(random.choice(("a3", "lora"))))
    if random.random() < 0.7:
        files["adapter_config.json"] = _spoil_settings(random, files["adapter_config.json"])
    else:
        files["adapter_model.safetensors"] = _spoil_tensors(random, files["adapter_model.safetensors"])
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def _read_adapter(folder: Path) -> None:
    read_adapter(folder)
    check_files(folder)
    check_fit(folder, "demo")


def _make_adapter_archive(random: Random, folder: Path) -> Path:
    files = {f"adapter/{name}": content for name, content in _adapter(random.choice(("a3", "lora"))).items()}
    (folder / "adapter.zip").write_bytes(spoil_archive(random, _zip(files), _spoil_entry))
    return folder / "adapter.zip"


def _read_adapter_archive(path: Path) -> None:
    unpack_adapter(path, path.parent / "adapter", _LIMITS)


@cache
def _run() -> dict[str, bytes]:
    record = {
        "format": 1,
        "status": "finished",
        "started": 1.0,
        "updated": 2.0,
        "step": 4,
        "model": {"name": "demo", "fingerprint": "0" * 64},
        "data": {"path": "d", "fingerprint": "1"},
        "config": {"method": "a3", "steps": 4},
        "verdict": {"words": "Better."},
        "versions": {"torch": "2"},
    }
    events = [
        {"event": "progress", "time": 1.0, "text": "Reading"},
        {"event": "labels", "time": 1.0, "done": 1, "count": 2},
        {"event": "training", "time": 1.0, "step": 0, "steps": 4, "resumed": False},
        {"event": "base_validation", "loss": 1.5, "accuracy": 0.5},
        {"event": "step", "time": 1.0, "step": 1, "steps": 4, "loss": 1.0, "seconds_left": 3.0, "attention_mass": 0.1},
        {
            "event": "watched",
            "questions": [{"question": "Is it?", "answer": "no", "width": 8, "height": 8, "tiles": []}],
        },
        {"event": "attention", "step": 1, "maps": ["AAAA"], "mass": [0.5], "right": [True]},
        {"event": "work", "what": "Validating", "done": 1, "count": 2},
        {"event": "validation", "step": 4, "loss": 0.5, "accuracy": 0.75, "best": True},
        {"event": "note", "text": "A note."},
    ]
    files = {
        "run/run.json": json.dumps(record).encode(),
        "run/events.jsonl": b"".join(json.dumps(event).encode() + b"\n" for event in events),
        "run/watch/0.png": _small_png(),
    }
    return files | {f"run/adapter/{name}": content for name, content in _whole_adapter("lora").items()}


def _make_run(random: Random, folder: Path) -> Path:
    files = dict(_run())
    name = random.choice(("run/run.json", "run/events.jsonl", "run/events.jsonl", "run/adapter/adapter_config.json"))
    if random.random() < 0.8:
        files[name] = _spoil_entry(random, name, files[name])
        content = _zip(files)
    else:
        content = spoil_archive(random, _zip(files), _spoil_entry)
    (folder / "run.zip").write_bytes(content)
    return folder / "run.zip"


def _read_run(path: Path) -> None:
    job = path.parent / "job"
    job.mkdir()
    unpack_run(path, job / "run", _LIMITS)
    run = RunFolder(job / "run")
    run.read()
    run.event_log.read()
    for elsewhere in (True, False):
        view = view_run(Job(job, {"elsewhere": elsewhere, "begun": 1.0}, "ended", "cpu"), EventReader())
        json.dumps(run_news(view, {}), allow_nan=False)
        _ = view.stamp, view.share


@cache
def _weights() -> dict[str, bytes]:
    state = {"image_encoder.a": torch.arange(6.0).reshape(2, 3), "mask_decoder.b": torch.ones(2, dtype=torch.float16)}
    found = {"w.safetensors": save(state)}
    for name, options in (("w.pth", {}), ("old.pt", {"_use_new_zipfile_serialization": False})):
        stream = io.BytesIO()
        torch.save({"model": state}, stream, **options)
        found[name] = stream.getvalue()
    return found


def _make_weights(random: Random, folder: Path) -> Path:
    name = random.choice(list(_weights()))
    (folder / name).write_bytes(_spoil_entry(random, name, _weights()[name]))
    return folder / name


def _read_weights(path: Path) -> None:
    read_checkpoint(path, purpose="a checkpoint")


def _make_scorer(random: Random, folder: Path) -> Path:
    for path in (_ASSETS / "demo" / "scorer").iterdir():
        if path.suffix != ".md":
            (folder / path.name).write_bytes(path.read_bytes())
    config = folder / "open_clip_config.json"
    config.write_bytes(spoil_json(random, config.read_bytes()))
    return folder


def _read_scorer(folder: Path) -> None:
    load_folder(folder)


def _make_labels(random: Random, folder: Path) -> Path:
    entry = random.choice(_labels())
    path = LabelStore(folder)._path(_picture())
    path.parent.mkdir(parents=True)
    path.write_bytes(spoil_archive(random, entry, _spoil_array))
    write_json(folder / "settings.json", {"segmenter": "a", "scorer": "b"})
    return folder


@cache
def _labels() -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted((_ASSETS / "demo" / "sample" / "labels").glob("*/*.npz"))[:8])


@cache
def _picture() -> MedicalImage:
    """Of the size of those that the labels belong to."""
    with np.load(io.BytesIO(_labels()[0])) as entry:
        return MedicalImage(np.zeros((*entry["shape"], 3), np.uint8))


def _spoil_array(random: Random, name: str, content: bytes) -> bytes:
    return spoil_bytes(random, content)


def _read_labels(folder: Path) -> None:
    store = LabelStore(folder)
    _ = store.settings
    store.get(_picture())


@cache
def _predictions() -> dict[str, bytes]:
    """Answers in every form that is read."""
    said = [{"question_id": number, "question": "Is it?", "answer": "yes", "pred": "no"} for number in range(6)]
    llava = [{"question_id": row["question_id"], "prompt": "Is it?", "text": "no", "model_id": "m"} for row in said]
    samples = [{"doc_id": number, "target": "yes", "filtered_resps": ["no"], "resps": [["no"]]} for number in range(6)]
    items = [
        {"id": f"a:{n}", "number": n, "system": "base", "image": "a.png", "image_sha256": "", "question": "Is it?",
         "answer": "yes", "answer_type": "closed", "prediction": "no", "scores": {"strict": {"accuracy": 0.0}}}
        for n in range(6)
    ]  # fmt: skip
    table = "index,question,answer,prediction\n" + "".join(f"{n},Is it?,yes,no\n" for n in range(6))
    sheet, stream = openpyxl.Workbook(), io.BytesIO()
    for row in table.splitlines():
        sheet.active.append(row.split(","))
    sheet.save(stream)
    lines = {"llava.jsonl": llava, "samples.jsonl": samples, "items.jsonl": items}
    return {
        "list.json": json.dumps(said).encode(),
        "object.json": json.dumps({str(row["question_id"]): row["pred"] for row in said}).encode(),
        **{name: "".join(json.dumps(row) + "\n" for row in rows).encode() for name, rows in lines.items()},
        "table.csv": table.encode(),
        "table.tsv": table.replace(",", "\t").encode(),
        "sheet.xlsx": stream.getvalue(),
    }


def _make_predictions(random: Random, folder: Path) -> Path:
    name = random.choice(list(_predictions()))
    (folder / name).write_bytes(_spoil_entry(random, name, _predictions()[name]))
    return folder / name


def _read_predictions(path: Path) -> None:
    read_predictions(path)


@cache
def _evaluation() -> dict[str, bytes]:
    """The files of a finished evaluation that comparing reads."""
    said = {"base": ("yes", "no", "no"), "a3": ("yes", "yes", None)}
    items = [
        EvaluatedItem(
            f"q{number}", number, system, "a.png", f"h{number}", "Is it?", "yes", "closed", answer,
            scores={} if answer is None else {"strict": {"accuracy": float(answer == "yes")}}, adapter=system,
            attention={} if answer is None else {"generated": {"relative_mass": 2.5, "attention_mass": 0.25}},
            groups={"topic": "presence"}, masks="true",
        )
        for system, answers in said.items() for number, answer in enumerate(answers)
    ]  # fmt: skip
    facts = {"settings": {"seed": 0, "masks": "true", "head_sets": [{"name": "all heads", "every": True}]}}
    with TemporaryDirectory() as place:
        folder = Path(place)
        write_items(folder / ITEMS_NAME, items)
        write_report(make_report(items, {"name": "d", "split": "test", "questions": 3, "images": 1}, facts), folder)
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".json", ".jsonl")}


def _make_evaluation(random: Random, folder: Path) -> Path:
    spoilt = random.choice(list(_evaluation()))
    for place in ("one", "two"):
        (folder / place).mkdir()
        for name, content in _evaluation().items():
            bad = name == spoilt and place == "one"
            (folder / place / name).write_bytes(_spoil_entry(random, name, content) if bad else content)
    return folder / "one"


def _read_evaluation(path: Path) -> None:
    comparison_record(compare_folders(path, path.parent / "two"))


def _zip(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for name, content in files.items():
            packed.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content)
    return stream.getvalue()


_PARTS: Sequence[tuple[str, Callable[[Random, Path], Path], Callable[[Path], None]]] = (
    ("images", _make_image, _read_image),
    ("tables", _make_table, _read_table),
    ("data archives", _make_data_archive, _read_data_archive),
    ("adapters", _make_adapter, _read_adapter),
    ("adapter ZIPs", _make_adapter_archive, _read_adapter_archive),
    ("runs", _make_run, _read_run),
    ("weights", _make_weights, _read_weights),
    ("scorers", _make_scorer, _read_scorer),
    ("labels", _make_labels, _read_labels),
    ("predictions", _make_predictions, _read_predictions),
    ("evaluations", _make_evaluation, _read_evaluation),
)
# What takes long is read less often.
_WEIGHTS = {"images": 2.0, "tables": 2.0, "runs": 0.7, "evaluations": 0.3, "scorers": 0.1}
TARGETS = {
    name: Target(name, make, read, name not in ("weights", "scorers", "evaluations"), _WEIGHTS.get(name, 1.0))
    for name, make, read in _PARTS
}
