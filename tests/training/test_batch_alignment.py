"""Heads whose attention would not fit are refused before a run begins."""

import pytest

from a3tune.data.read import read_dataset, split_dataset
from a3tune.errors import NotEnoughMemoryError
from a3tune.models.load import load_model
from a3tune.training.attention_targets import TargetMaker, TargetPlan
from a3tune.training.batch_alignment import check_alignment
from a3tune.training.collate import Questions
from a3tune.training.methods import objective_of
from tests.support.tuning_data import tiny_config, write_data


def test_every_head_of_a_large_batch_is_refused_with_what_it_takes_and_what_is_free(
    tiny_checkpoint, tmp_path, monkeypatch
):
    model = load_model(tiny_checkpoint("llava"), device="cpu")
    encoder = model.cpu_encoder()
    items = split_dataset(read_dataset(write_data(tmp_path / "data"))).of("train")
    questions = Questions(items, encoder, TargetMaker(TargetPlan("truth"), encoder, model.patch_grid).make(items))

    def check(**settings):
        config = tiny_config(**settings)
        check_alignment(questions, objective_of(config, model), model, config)

    prompt = max((questions[index].prompt for index in range(len(questions))), key=lambda prompt: prompt.length)
    heads = model.layers * model.heads
    of_one_head = 12 * int(prompt.rows.sum()) * prompt.length
    monkeypatch.setattr("a3tune.training.batch_alignment.available_memory", lambda device: 4 * heads * of_one_head)
    check(method="lora+align", no_head_selection=True, batch_size=4)
    check(method="lora+align", top_heads=2, batch_size=16)
    check(method="lora", batch_size=64)
    with pytest.raises(NotEnoughMemoryError, match=rf"{heads} heads in a batch of 8.*top_heads.*batch_size to 4"):
        check(method="lora+align", no_head_selection=True, batch_size=8)
