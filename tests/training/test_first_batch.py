"""What a run shows of its first batch: the very words, labels and pictures that the model gets."""

import json

import numpy as np
import pytest
from PIL import Image

from a3tune.cli.main import main
from a3tune.data.read import read_dataset
from a3tune.geometry.patch_grid import to_patches
from a3tune.images import load_image
from a3tune.training.attention_targets import PatchTargets
from a3tune.training.collate import Questions
from a3tune.training.first_batch import picture_of
from a3tune.training.run_folder import RunFolder
from tests.support.tuning_data import TINY, write_data


def test_the_batch_is_shown_before_the_first_step_and_the_run_goes_on(tiny_checkpoint, tmp_path, capfd):
    rows = write_data(tmp_path / "data", images=4, validation=1)
    command = ["tune", "--data", str(rows), "--out", str(tmp_path / "run"), "--model", str(tiny_checkpoint("llava"))]
    command += ["--device", "cpu"]
    for name, value in {**TINY, "max_steps": 1, "batch_size": 3}.items():
        command += ["--set", f"{name}={value}"]
    assert main([*command, "--show-batch"]) == 0
    told = capfd.readouterr().out
    run = RunFolder(tmp_path / "run")
    batch = json.loads((run.path / "batch" / "batch.json").read_text())
    assert (batch["size"], len(batch["questions"])) == (3, 3)
    for question in batch["questions"]:
        kinds = [piece["kind"] for piece in question["pieces"]]
        assert kinds[:4] == ["masked", "image", "masked", "learnt"]
        assert set(kinds[4:]) <= {"padding"}
        assert question["question"] in question["pieces"][2]["text"]
        learnt = question["pieces"][3]["text"]
        assert learnt.strip().startswith(question["answer"])
        assert learnt != question["answer"], "the end token is learnt too"
        assert f"{{{{{learnt}}}}}" in told
        assert question["known"]
    lengths = {sum(piece["tokens"] for piece in question["pieces"]) for question in batch["questions"]}
    assert len(lengths) == 1, "all are padded to one length"
    assert not any(event["event"] == "step" for event in run.event_log.read())
    assert main(command) == 0
    events = [event["event"] for event in run.event_log.read()]
    assert events.count("step") == 1
    assert (run.adapter / "adapter_config.json").is_file()


@pytest.mark.parametrize("name", ["llava", "gemma3", "llava_next", "qwen2_vl"])
def test_the_picture_is_the_processors_with_the_target_on_its_patches(name, tiny_model, tmp_path):
    model = tiny_model(name)
    rows = write_data(tmp_path, images=1, validation=0)
    item = read_dataset(rows).items[0]
    image = load_image(item.image)
    mask = np.array(Image.open(item.mask)) > 0
    patches = len(model.encode(image, item.question).images[0])
    coverage = to_patches(mask, model.patch_grid(image.height, image.width, patches))
    pictures = []
    for targets in (coverage[None], np.zeros((0, 0), np.float32)):
        questions = Questions([item], model.cpu_encoder(), PatchTargets.pack([(targets, True)]))
        pictures.append(np.asarray(picture_of(model, questions[0])).astype(float))
    tinted = np.abs(pictures[0] - pictures[1]).sum(axis=2) > 0
    assert 0 < tinted.mean() < 0.6
    # The bright box is what is tinted.
    assert pictures[1][tinted].mean() > pictures[1][~tinted].mean() + 15
