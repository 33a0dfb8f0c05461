"""A second reading of the same prompts beside the one that is decoded, with a cache of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from transformers import LogitsProcessor

from a3tune.adapters.a3moe.token_spans import TokenSpans
from a3tune.models.model import VisionLanguageModel
from a3tune.models.prompt import EncodedBatch


class Stream:
    """Reads prompts and then, word by word, what is written behind the other reading of them.

    Args:
        model: the model.
        batch: the prompts, padded on the left, row by row those that are decoded.
        inputs: changed inputs of the first pass; the batch's own when None.
        reading: entered around the first pass.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        batch: EncodedBatch,
        inputs: dict[str, torch.Tensor] | None = None,
        reading: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._model, self._batch, self._reading = model, batch, reading
        self._inputs = dict(batch.inputs if inputs is None else inputs)
        self._mask = self._inputs["attention_mask"]
        self._cache: Any = None
        self._cache_name = ""

    @torch.no_grad()
    def logits(self, written: torch.Tensor) -> torch.Tensor:
        """float [batch, vocabulary]: the next token's, after one more word than in the call before.

        Args:
            written: int64 [batch, length], the other reading's tokens; the last one is read, after the first call.
        """
        options: dict[str, Any] = {"use_cache": True}
        with TokenSpans(self._batch.question, self._batch.columns, growing=True):
            if self._cache is None:
                if self._padded:
                    options["position_ids"] = (self._mask.cumsum(dim=-1) - 1).clamp(min=0)
                with self._reading():
                    output = self._model.model(**self._inputs, **options)
            else:
                self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._mask), 1)], dim=1)
                if self._padded:
                    options["position_ids"] = self._mask.sum(dim=-1, keepdim=True) - 1
                options[self._cache_name] = self._cache
                output = self._model.model(input_ids=written[:, -1:], attention_mask=self._mask, **options)
        # Called so since transformers 5.24.
        self._cache_name = "cache" if "cache" in output else "past_key_values"
        self._cache = output[self._cache_name]
        return output.logits[:, -1].float()

    @property
    def _padded(self) -> bool:
        return any(self._batch.starts)


class Contrast(LogitsProcessor):
    """Joins the scores with those of another reading.

    Args:
        stream: makes the other reading when the first word is chosen.
        join: (scores, other scores, step from 1) -> scores.
    """

    def __init__(
        self, stream: Callable[[], Stream], join: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
    ) -> None:
        self._make, self._join = stream, join
        self._stream: Stream | None = None
        self._step = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._stream = self._make() if self._stream is None else self._stream
        self._step += 1
        return self._join(scores.float(), self._stream.logits(input_ids).to(scores.device), self._step)
