"""How many tokens questions take, without encoding every image."""

from __future__ import annotations

from pathlib import Path

from a3tune.data.dataset import TrainingItem
from a3tune.errors import DataError, RequestError
from a3tune.models.model import VisionLanguageModel
from a3tune.models.token_roles import check_question
from a3tune.training.collate import encode_item

_NEAR_LIMIT = 16


class TokenCounter:
    """How many tokens items take with image and answer.

    Each image is encoded for one of its questions; for the others the words are counted, and near the limit, where
    a token that joins two words would matter, the whole question again.

    Args:
        model: the model whose tokens are counted.
        most: the limit.

    Raises (when called):
        DataError: the model cannot take the question for another reason; the message names the row.
    """

    def __init__(self, model: VisionLanguageModel, most: int) -> None:
        self._encoder = model.cpu_encoder()
        # Longer ones are to be counted here, not refused.
        self._encoder.limit = 1 << 62
        self._model, self._most = model, most
        self._around: dict[tuple[Path, ...], int] = {}

    def __call__(self, item: TrainingItem) -> int:
        words = self._words(item)
        try:
            # Control tokens would be read as such, also in an answer.
            for text in (*item.context, item.question, item.answer):
                check_question(text, self._model.config, self._model.processor)
            if item.images in self._around:
                guess = self._around[item.images] + words
                if abs(guess - self._most) > _NEAR_LIMIT:
                    return guess
            length = encode_item(item, self._encoder).length
        except RequestError as error:
            raise DataError(
                expected="questions and answers in plain words",
                got=f"{item.place}, cannot be put to the model: {error.got}",
                remedy=error.remedy,
            ) from error
        self._around[item.images] = length - words
        return length

    def _words(self, item: TrainingItem) -> int:
        tokenizer = self._encoder.tokenizer
        return sum(
            len(tokenizer(text, add_special_tokens=False)["input_ids"])
            for text in (*item.context, item.question, item.answer)
        )
