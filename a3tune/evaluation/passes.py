"""One pass over a batch of prompts with their answers, in which attention is read."""

from __future__ import annotations

from typing import Any

from a3tune.adapters.a3moe.token_spans import TokenSpans
from a3tune.attention.capture import capture
from a3tune.attention.record import AttentionRecord
from a3tune.models.encoded_prompt import EncodedBatch
from a3tune.models.model import VisionLanguageModel
from a3tune.prefixes.batch import PrefixedBatch


def read_batch(model: VisionLanguageModel, batch: EncodedBatch, **options: Any) -> tuple[Any, AttentionRecord]:
    """What the model gives for what of a batch has not been read, and a capture of all heads over the whole of it.

    Call it with the adapter at work, without gradients and with the model locked.

    Args:
        model: prepared for capture.
        batch: the prompts.
        options: further keyword arguments of the model, counted from the first column that has not been read (see
            `first_column`).
    """
    if isinstance(batch, PrefixedBatch):
        with capture(batch.rows, batch.columns, growing=True, behind=batch.behind) as record:
            return model.model(**batch.rest, **options, past_key_values=batch.cache()), record
    with TokenSpans(batch.question, batch.columns), capture(batch.rows, batch.columns) as record:
        return model.model(**batch.inputs, **options, use_cache=False), record


def first_column(batch: EncodedBatch) -> int:
    """The first column of a batch that has not been read."""
    return batch.begun if isinstance(batch, PrefixedBatch) else 0
