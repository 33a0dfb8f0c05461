"""Passes over batches, of which a part may have been read before; attention is read in them."""

from __future__ import annotations

from typing import Any

from a3tune.adapters.a3moe.token_spans import TokenSpans
from a3tune.attention.capture import capture
from a3tune.attention.record import AttentionRecord, ReadPrefix
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
    behind, known = taken_over(batch)
    inputs = batch.rest if isinstance(batch, PrefixedBatch) else {**batch.inputs, "use_cache": False}
    # A pass over whole sequences is held to be one: a growing capture takes in as many as come.
    watched = capture(batch.rows, batch.columns, growing=bool(behind), behind=behind)
    with TokenSpans(batch.question, batch.columns, growing=bool(behind)), watched as record:
        return model.model(**inputs, **known, **options), record


def taken_over(batch: EncodedBatch) -> tuple[tuple[ReadPrefix, ...], dict[str, Any]]:
    """What a capture goes on behind, and the model's keyword arguments with which it does; both empty for a batch that
    is read from the start."""
    return (batch.behind, {"past_key_values": batch.cache()}) if isinstance(batch, PrefixedBatch) else ((), {})


def first_column(batch: EncodedBatch) -> int:
    """The first column of a batch that has not been read."""
    return batch.begun if isinstance(batch, PrefixedBatch) else 0
