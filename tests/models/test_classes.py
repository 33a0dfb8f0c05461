"""What every supported class must do, over the tiny models; docs/models.md names these tests."""

import json

import numpy as np
import pytest
import torch

from a3tune.errors import ModelError
from a3tune.models import checkpoint_folder
from a3tune.models import token_spans as spans
from a3tune.models.load import load_model
from a3tune.types import MedicalImage


def test_an_answer_written_token_by_token_is_the_replays_most_likely(tiny_name, tiny_model, random_image):
    """The replay, from which the maps come, is the very pass that wrote the answer: mask, positions and all."""
    model = tiny_model(tiny_name)
    prompt = model.encode(random_image(2), "Is there a mass in the left lung?")
    answer = model.generate(prompt, max_new_tokens=8)
    replay = model.append_answer(prompt, answer.token_ids)
    with torch.no_grad():
        scores = model.model(**replay.inputs).logits[0, prompt.length - 1 : -1].clone()
    markers = model.tokenizer.convert_tokens_to_ids(sorted(spans.image_markers(model.config, model.processor)))
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
    with pytest.raises(ModelError, match=rf"{kind}: .*(cross-attention|query tokens)"):
        load_model(tmp_path)
