"""What every supported class must do, over the tiny models; docs/models.md names these tests."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen3_5TextConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from a3tune.decoder_layers import attention_layers
from a3tune.errors import ModelError
from a3tune.models import checkpoint_folder
from a3tune.models import token_roles as roles
from a3tune.models.load import load_model
from a3tune.types import MedicalImage


def test_an_answer_written_token_by_token_is_the_replays_most_likely(tiny_name, tiny_model, random_image):
    """A pass over prompt and answer is what wrote the answer: mask, positions and all."""
    model = tiny_model(tiny_name)
    prompt = model.encode(random_image(2), "Is there a mass in the left lung?")
    answer = model.generate(prompt, max_new_tokens=8)
    replay = model.append_answer(prompt, answer.token_ids)
    with torch.no_grad():
        scores = model.model(**replay.inputs).logits[0, prompt.length - 1 : -1].clone()
    markers = model.tokenizer.convert_tokens_to_ids(sorted(roles.image_markers(model.config, model.processor)))
    scores[:, [marker for marker in markers if marker is not None]] = -torch.inf
    assert tuple(scores.argmax(-1).tolist()) == answer.token_ids


def test_the_answers_words_do_not_change_the_prompts_own_states(tiny_name, tiny_model, random_image):
    """A prompt never sees the answer behind it, not even where it sees itself both ways (PaliGemma, Gemma 3)."""
    model = tiny_model(tiny_name)
    prompt = model.encode(random_image(2), "What is shown?")
    with torch.no_grad():
        first, second = (
            model.model(**model.append_answer(prompt, ids).inputs).logits[0, : prompt.length]
            for ids in ([40, 41, 42], [50, 51, 52])
        )
    torch.testing.assert_close(first, second, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(40, 52), (64, 20)])
def test_the_grid_explains_every_image_token(tiny_name, tiny_model, random_image, height, width):
    model = tiny_model(tiny_name)
    prompt = model.encode(random_image(1, height, width), "What is it?")
    grid = model.patch_grid(height, width, len(prompt.images[0]))
    assert grid.count == len(prompt.images[0])
    x0, y0, x1, y1 = grid.boxes.T
    inside = (x0 <= width / 2) & (width / 2 <= x1) & (y0 <= height / 2) & (height / 2 <= y1)
    assert inside.any()


@pytest.mark.parametrize(
    ("height", "width"),
    [(1, 1), (5, 7), (1, 50), (1, 51), (51, 1), (20, 1020), (1, 200), (200, 1), (10, 2000), (1, 1000), (1000, 1)],
)
def test_extreme_shapes_have_a_grid_or_are_refused_in_words(tiny_name, tiny_model, height, width):
    model = tiny_model(tiny_name)
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    try:
        prompt = model.encode(MedicalImage(noise), "What is it?")
        grid = model.patch_grid(height, width, len(prompt.images[0]))
    except ModelError as error:
        if re.search(r"too thin|too small|fails on", error.got):
            return
        raise
    assert grid.count == len(prompt.images[0])
    x0, y0, x1, y1 = grid.boxes.T
    assert ((x0 < width) & (x1 > 0) & (y0 < height) & (y1 > 0)).any()
    with torch.no_grad():
        assert torch.isfinite(model.model(**prompt.inputs).logits).all()


def test_a_painted_patch_changes_its_own_pixels(tiny_name, tiny_model):
    """Of the processor's pixels some change, and most do not."""
    model = tiny_model(tiny_name)
    grey = np.full((48, 48, 3), 128, dtype=np.uint8)
    before = model.encode(MedicalImage(grey), "What is it?").inputs["pixel_values"]
    grid = model.patch_grid(48, 48, len(model.encode(MedicalImage(grey), "What is it?").images[0]))
    x0, y0, x1, y1 = grid.boxes[grid.count // 3].round().astype(int).clip(0, 48)
    painted = grey.copy()
    painted[y0:y1, x0:x1] = 255
    after = model.encode(MedicalImage(painted), "What is it?").inputs["pixel_values"]
    changed = (after != before).float().mean()
    assert 0 < changed < 0.6


@pytest.mark.parametrize("kind", sorted(checkpoint_folder.UNFIT))
def test_classes_that_cannot_work_are_refused_with_the_reason(kind, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(ModelError, match=f"{kind}: {checkpoint_folder.UNFIT[kind]}.*Choose a model of a class"):
        load_model(tmp_path)


def test_every_type_that_is_mapped_has_its_place_in_the_table():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    table = page.partition("### The other classes")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([a-z0-9_.-]+)`", "".join(re.findall(r"^\| (`[^|]+)\|", table, re.MULTILINE))))
    assert named == set(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES) - set(checkpoint_folder.PROVEN)
    refused = re.findall(r"^\| (`[^|]+)\| refused before", table, re.MULTILINE)
    assert set(re.findall(r"`([^`]+)`", "".join(refused))) == set(checkpoint_folder.UNFIT)


def test_layers_of_a_kind_that_cannot_be_shown_are_named(tiny_checkpoint, tmp_path):
    folder = tmp_path / "hybrid"
    shutil.copytree(tiny_checkpoint("qwen3_5"), folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["layer_types"] = ["linear_attention"] * 4
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="qwen3_5_text has layers of linear_attention"):
        load_model(folder, device="cpu")
    text = Qwen3_5TextConfig(num_hidden_layers=2)
    text.layer_types = ["full_attention", "indexed_attention"]
    with pytest.raises(ModelError, match="layers of indexed_attention"):
        attention_layers(text)


def test_layers_are_counted_among_those_with_softmax_attention(tiny_model, random_image):
    """A hybrid's maps are of its second and fourth layer, in this order, and it says so."""
    model = tiny_model("qwen3_5")
    assert (model.layers, attention_layers(model.text_config)) == (2, (1, 3))
    (note,) = model.notes
    assert "layers 1, 3 (from 0), which are numbered 0 to 1 here" in note


def test_pixels_come_in_the_weights_data_type(tiny_name, tiny_checkpoint, random_image):
    model = load_model(tiny_checkpoint(tiny_name), device="cpu", dtype="bfloat16")
    prompt = model.encode(random_image(3), "What is it?")
    assert prompt.inputs["pixel_values"].dtype == torch.bfloat16
    with torch.no_grad():
        assert model.model(**prompt.inputs).logits.isfinite().all()
