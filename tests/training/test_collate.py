"""The order of the questions, and batches."""

import shutil
import threading
from collections import Counter

import numpy as np
import pytest
import torch
from pydicom.data import get_testdata_file

from a3tune.data.read import read_dataset
from a3tune.errors import DataError
from a3tune.images import load_image
from a3tune.models.load import load_model
from a3tune.training.attention_targets import PatchTargets
from a3tune.training.collate import Collator, Questions, QuestionStream, encode_item
from tests.support.tuning_data import write_data


@pytest.fixture
def questions(tiny_model, tmp_path):
    model = tiny_model("llava")
    items = read_dataset(write_data(tmp_path / "data", images=4)).items
    target = np.linspace(0, 1, 16, dtype=np.float16)[None]
    targets = PatchTargets.pack([(target, True), *[(None, False)] * (len(items) - 1)])
    return Questions(items, model.cpu_encoder(), targets)


def test_every_question_comes_once_in_each_epoch(questions):
    stream = QuestionStream(questions, steps=6, per_step=4, seed=3)
    assert len(stream) == 24
    order = [stream.index(position) for position in range(24)]
    for start in (0, 8, 16):
        assert Counter(order[start : start + 8]) == Counter(range(8))
    assert order[:8] != order[8:16]
    again = QuestionStream(questions, steps=6, per_step=4, seed=3)
    assert [again.index(position) for position in reversed(range(24))] == order[::-1]
    other = QuestionStream(questions, steps=6, per_step=4, seed=4)
    assert [other.index(position) for position in range(24)] != order


@pytest.mark.parametrize("processes", [1, 2])
def test_questions_are_prepared_ahead_in_a_thread_in_the_same_order(questions, monkeypatch, processes):
    plain = QuestionStream(questions, steps=4, per_step=4, seed=3)
    stream = QuestionStream(questions, steps=4, per_step=4, seed=3)
    stream.prefetch(4, 2, processes)
    threads, asked = set(), []
    ask = Questions.__getitem__

    def watched(self, index):
        threads.add(threading.current_thread().name)
        asked.append(index)
        return ask(self, index)

    monkeypatch.setattr(Questions, "__getitem__", watched)
    # The last process's turns; from the fifth question on, as after a stop.
    order = [place for place in range(4, 16) if place // 2 % processes == processes - 1]
    found = [stream[position] for position in order]
    assert threads == {"questions_0"}
    assert asked == [plain.index(position) for position in order]
    assert [one.prompt.ids for one in found] == [plain[position].prompt.ids for position in order]


def test_what_goes_wrong_ahead_is_raised_where_it_is_asked_for(questions):
    stream = QuestionStream(questions, steps=4, per_step=4, seed=3)
    stream.prefetch(3, 4, 1)
    questions.items[stream.index(2)].image.unlink()
    stream[0]
    with pytest.raises(DataError, match="cannot be read"):
        [stream[position] for position in (1, 2)]


def test_a_batch_holds_answers_masks_and_targets(questions):
    chosen = [questions[0], questions[1]]
    batch = Collator(questions.encoder)(chosen)
    length = max(question.prompt.length for question in chosen)
    for name in ("labels", "question", "writing", "rows", "columns"):
        assert batch[name].shape == (2, length)
    for b, question in enumerate(chosen):
        ids = torch.tensor(question.prompt.ids)
        answered = batch["labels"][b] != -100
        assert torch.equal(batch["labels"][b][answered], ids[list(question.prompt.answer)])
        # An answer is written by what reads the tokens before its own; the closing token is no word of it.
        following = torch.cat([answered[1:], answered[:1]])
        following[question.prompt.length - 2] = False
        assert torch.equal(batch["writing"][b], following)
        assert int(batch["columns"][b].sum()) == 16
        assert not (batch["rows"][b] & batch["columns"][b]).any()
        assert (batch["rows"][b] & batch["writing"][b]).sum() == len(question.prompt.answer) - 1
        # The answer ends with the token that ends an answer, so that the model learns to stop.
        assert question.prompt.ids[-1] == questions.encoder.end_token_id
    assert [tuple(target.shape) for target in batch["targets"]] == [(1, 16), (0, 0)]
    assert batch["known"] == [True, False]


def test_an_image_that_changed_size_or_went_away_is_named(questions, tmp_path):
    shifted = Questions(questions.items, questions.encoder, PatchTargets.pack([(np.ones((1, 9)), True)] * 8))
    with pytest.raises(DataError, match="now takes 16 patches"):
        shifted[0]
    questions.items[2].image.unlink()
    with pytest.raises(DataError, match=r"image1.png .*line 4.* cannot be read"):
        questions[2]


def test_a_model_is_tuned_on_the_picture_that_it_is_asked_about(tiny_medgemma, tmp_path):
    model = load_model(tiny_medgemma, device="cpu")
    shutil.copy(get_testdata_file("CT_small.dcm"), tmp_path / "slice.dcm")
    (tmp_path / "rows.csv").write_text("image,question,answer\nslice.dcm,Is there a mass?,no\n")
    (item,) = read_dataset(tmp_path / "rows.csv").items
    image = load_image(item.image, convention="medgemma-ct")
    given = encode_item(item, model.cpu_encoder()).inputs["pixel_values"]
    assert torch.equal(given, model.encode(image, item.question).inputs["pixel_values"])
    assert not torch.equal(given, model.encode(load_image(item.image), item.question).inputs["pixel_values"])
