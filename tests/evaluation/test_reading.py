"""When attention is read in the passes that write: where memory holds all maps of a batch."""

from types import SimpleNamespace

import pytest
import torch

from a3tune.evaluation import reading


@pytest.mark.parametrize(("memory", "questions", "fits"), [(64e9, 16, True), (32e9, 16, False), (32e9, 8, True),
                                                           (1e9, 1, True), (1e9, 2, False)])  # fmt: skip
def test_a_batch_at_llava_meds_size_may_take_an_eighth_of_the_memory(memory, questions, fits, monkeypatch):
    monkeypatch.setattr(reading, "total_memory", lambda device: int(memory))
    model = SimpleNamespace(layers=32, heads=32)
    rows = torch.zeros(1, 676, dtype=torch.bool)
    rows[0, 576:] = True  # 100 of text
    prompt = SimpleNamespace(rows=rows, images=(tuple(range(576)),))
    assert reading.readable_while_writing(model, [prompt] * questions, 64) is fits
    assert reading._bytes(model, prompt, 64) == 32 * 32 * 164 * 576 * 4
