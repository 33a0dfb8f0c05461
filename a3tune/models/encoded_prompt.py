"""A question about images as a model takes it: tensors, and which token is what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from a3tune.models import token_roles as roles
from a3tune.types import Token, TokenRole


@dataclass(frozen=True, eq=False)
class EncodedPrompt:
    """One prompt, with or without its answer. Positions count from 0 in the sequence the language model sees.

    Attributes:
        inputs: the model's keyword arguments, batch size 1, on the model's device.
        ids: the token ids, image tokens expanded.
        images: for each image the positions of its patch tokens, ascending; row and tile tokens stand in between.
        question: positions of the question's tokens.
        answer: positions of the answer's tokens; empty for a prompt that waits for one.
        text: the rendered chat template, image placeholders not expanded.
        closed: whether the answer's last token is the one that ends it.
    """

    inputs: dict[str, torch.Tensor]
    ids: tuple[int, ...]
    images: tuple[tuple[int, ...], ...]
    question: tuple[int, ...]
    answer: tuple[int, ...]
    text: str
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    closed: bool = False

    @property
    def length(self) -> int:
        return len(self.ids)

    @cached_property
    def roles(self) -> tuple[TokenRole, ...]:
        """The role of each token."""
        roles: list[TokenRole] = ["template"] * len(self.ids)
        named: list[tuple[TokenRole, tuple[int, ...]]]
        named = [("question", self.question), ("answer", self.answer), *(("image", group) for group in self.images)]
        for role, positions in named:
            for position in positions:
                roles[position] = role
        return tuple(roles)

    @cached_property
    def tokens(self) -> tuple[Token, ...]:
        """Every token in order; their texts join to the decoded sequence."""
        texts = roles.token_texts(self.tokenizer, self.ids)
        return tuple(
            Token(position, *parts) for position, parts in enumerate(zip(self.ids, texts, self.roles, strict=True))
        )

    @cached_property
    def rows(self) -> torch.Tensor:
        """bool [1, length]: the text tokens that stand after the first image token."""
        rows = torch.tensor([role != "image" for role in self.roles])
        rows[: self.images[0][0]] = False
        return rows[None]

    @property
    def writing(self) -> tuple[int, ...]:
        """Positions from which the answer is written: before each of its tokens, the closing one left out.

        A token is chosen by the pass that reads the one before it, so this is where the model looks for it.
        """
        words = self.answer[:-1] if self.closed else self.answer
        return tuple(position - 1 for position in words)

    @cached_property
    def columns(self) -> torch.Tensor:
        """bool [1, length]: the image tokens of all images."""
        return torch.tensor([role == "image" for role in self.roles])[None]


@dataclass(frozen=True, eq=False)
class EncodedBatch:
    """Several prompts padded to one length.

    Attributes:
        inputs: the model's keyword arguments, on the model's device: tensors, or also features in the place of pixels.
        prompts: the prompts, in order.
        starts: where each prompt begins in its padded row.
    """

    inputs: dict[str, Any]
    prompts: tuple[EncodedPrompt, ...]
    starts: tuple[int, ...]

    @property
    def length(self) -> int:
        return int(self.inputs["input_ids"].shape[1])

    @property
    def rows(self) -> torch.Tensor:
        """bool [batch, length]: text tokens after the first image token, no padding."""
        return self._place(prompt.rows[0].nonzero().squeeze(1).tolist() for prompt in self.prompts)

    @property
    def columns(self) -> torch.Tensor:
        """bool [batch, length]: image tokens."""
        return self._place(prompt.columns[0].nonzero().squeeze(1).tolist() for prompt in self.prompts)

    @property
    def question(self) -> torch.Tensor:
        """bool [batch, length]: question tokens."""
        return self._place(prompt.question for prompt in self.prompts)

    @property
    def answer(self) -> torch.Tensor:
        """bool [batch, length]: answer tokens."""
        return self._place(prompt.answer for prompt in self.prompts)

    @property
    def writing(self) -> torch.Tensor:
        """bool [batch, length]: the tokens from which the answers are written, see `EncodedPrompt.writing`."""
        return self._place(prompt.writing for prompt in self.prompts)

    @property
    def labels(self) -> torch.Tensor:
        """int64 [batch, length] on the inputs' device: the answers' ids, -100 everywhere else."""
        ids: torch.Tensor = self.inputs["input_ids"]
        return ids.masked_fill(~self.answer.to(ids.device), -100)

    def column_of(self, b: int, position: int) -> int:
        """Where a token of prompt ``b`` stands in its padded row."""
        return self.starts[b] + position

    def _place(self, positions: Iterable[Sequence[int]]) -> torch.Tensor:
        mask = torch.zeros(len(self.prompts), self.length, dtype=torch.bool)
        for b, places in enumerate(positions):
            mask[b, [self.column_of(b, place) for place in places]] = True
        return mask
