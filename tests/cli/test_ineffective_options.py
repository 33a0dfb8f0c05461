"""Options that would change nothing are refused by name, before anything is loaded or written."""

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from a3tune.cli.main import main
from a3tune.labels.scorers.templates import TEMPLATE_SETS, build_prompt, takes_organ

INSPECT = ("inspect", "--image", "PICTURE", "--question", "Why?", "--out", "x")
LABELS = ("labels", "--image", "PICTURE", "--prompt", "liver", "--out", "x")
EVAL = ("eval", "--data", "demo", "--out", "x", "--predictions", "answers.jsonl")


@pytest.fixture
def told(tmp_path, monkeypatch, capfd):
    """Runs a command that is bad input and gives its one line."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((40, 48, 3), 90, np.uint8)).save("picture.png")
    files = {"PICTURE": "picture.png", "SCAN": get_testdata_file("CT_small.dcm")}

    def run(*arguments):
        assert main([files.get(part, part) for part in arguments]) == 2
        assert {path.name for path in tmp_path.iterdir()} == {"picture.png"}
        return capfd.readouterr().err.strip().splitlines()[-1]

    return run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*INSPECT, "--segment", "2"), "--segment is given without --target"),
        ((*INSPECT, "--segment", "2", "--labels", "4"), "--segment is given without --target"),
        ((*INSPECT, "--image", "PICTURE", "--segment", "2"), "--segment is given without --target"),
        ((*INSPECT, *("--image", "PICTURE", "--target", "none") * 2, "--segment", "2"), "--segment is given without"),
        ((*INSPECT, "--dicom-objects", "maps"), "--dicom-objects is given without --dicom"),
        ((*INSPECT, "--axis", "0"), "--axis is given for picture.png (PNG)"),
        ((*INSPECT, "--volume", "1"), "--volume is given for picture.png (PNG)"),
        ((*INSPECT, "--series", "1"), "--series is given for picture.png"),
        ((*INSPECT, "--image", "PICTURE", "--axis", "1"), "--axis is given for picture.png (PNG)"),
        (("inspect", "--image", "SCAN", *INSPECT[3:], "--axis", "0"), "--axis is given for CT_small.dcm (DICOM)"),
        ((*LABELS, "--axis", "0"), "--axis is given for picture.png (PNG)"),
        ((*LABELS, "--series", "1"), "--series is given for picture.png"),
        ((*LABELS, "--layout", "slake"), "--layout is given without --data"),
        ((*LABELS, "--images", "pictures"), "--images is given without --data"),
        ((*LABELS, "--organ", "Chest"), "--organ is given with the template plain"),
        (("labels", "--data", "demo", "--out", "x", "--series", "2"), "--series is given with --data"),
        ((*EVAL, "--model", "other"), "--model is given with --predictions"),
        ((*EVAL, "--adapters", "base,a3"), "--adapters is given with --predictions"),
        ((*EVAL, "--decoding", "beam"), "--decoding is given with --predictions"),
        ((*EVAL, "--controls", "text"), "--controls is given with --predictions"),
        ((*EVAL, "--masks", "weak"), "--masks is given with --predictions"),
        ((*EVAL, "--heads", "all"), "--heads is given with --predictions"),
        (("eval", "compare", "a", "b", "--data", "demo"), "--data is given with compare"),
        (("eval", "compare", "a", "b", "--estimate"), "--estimate is given with compare"),
        (("eval", "--data", "demo", "--estimate", "--out", "x"), "--out is given with --estimate"),
        (("eval", "--data", "demo", "--estimate", "--export", "latex"), "--export is given with --estimate"),
        (("tune", "--data", "demo", "--out", "x", "--estimate", "--show-batch"), "--show-batch is given with --est"),
        (("tune", "--data", "demo", "--out", "x", "--estimate", "--resume"), "--resume is given with --estimate"),
        (("tune", "--data", "demo", "--out", "x", "--estimate", "--report-to", "wandb"), "--report-to is given with"),
        (
            ("tune", "--data", "d", "--out", "x", "--method", "lora", "--no-alignment"),
            "--no-alignment is given with the",
        ),
        (
            ("tune", "--data", "d", "--out", "x", "--method", "a3moe", "--no-head-selection"),
            "--no-head-selection is given",
        ),
        (
            ("tune", "--data", "d", "--out", "x", "--method", "lora+align", "--no-key-experts"),
            "--no-key-experts is given",
        ),
        (("export", "--adapter", "a", "--out", "x", "--as", "adapter", "--dtype", "float16"), "--dtype is given with"),
        (("export", "--adapter", "a", "--out", "x", "--as", "adapter", "--model", "m"), "--model is given with --as"),
        (("parity", "--golden", ".", "--vision-tower", "clip"), "--vision-tower is given without --llava-med"),
        (("demo", "adapters", "--out", "x", "--describe", "--data", "d"), "--data is given with --describe"),
    ],
)
def test_what_would_change_nothing_is_refused_by_name(arguments, words, told):
    line = told(*arguments)
    assert line.startswith(f"a3tune {arguments[0]}: {words}")
    assert line.endswith(" out.")


def test_what_has_the_value_that_it_has_anyway_is_no_slip(told):
    assert "answers.jsonl cannot be read" in told(*EVAL, "--model", "demo", "--batch-size", "16")


def test_an_organ_is_taken_where_another_one_gives_another_text():
    for name in TEMPLATE_SETS:
        texts = {build_prompt("Is it there?", name, organ) for organ in ("Chest", "Abdomen", "Head", "Knee")}
        assert takes_organ(name) == (len(texts) > 1), name
    assert takes_organ("{organ}: {question}")
    assert not takes_organ("see {question}")
