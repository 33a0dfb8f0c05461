"""Where the question and the image stand in the sequences of one call, and how the layers learn it.

`TokenSpans` holds the masks of one call; ``with spans: model(...)`` makes them current for this thread (and this
asyncio task) only. Each forward pass of the decoder turns them into a `SpanWindow`: the part of the sequence that
this pass sees (all of it, or one new token next to a cache). The window travels to the attention layers as a
keyword argument, so that a gradient checkpoint that runs a layer again, later and perhaps on another thread, sees
the very same window. The gates of a prompt are kept on its key-value cache, so two streams never share them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import TracebackType

import torch

from a3tune.adapters.a3moe.config import A3MoeConfig
from a3tune.adapters.a3moe.questions import PromptTokens
from a3tune.errors import AdapterError
from a3tune.sequence_positions import Positions

_REMEDY = "Pass a3_question_mask and a3_image_mask (bool [batch, length]) with the other inputs"


class SpanWindow:
    """What one forward pass of the decoder knows about its tokens.

    Not a dataclass on purpose: sharded training rebuilds dataclasses among the arguments, and this object's
    identity tells a recomputed layer from a new pass.

    Attributes:
        question: bool [batch, tokens], or None when no question token is in this pass.
        image: bool [batch, tokens], or None when no image token is in this pass.
        image_told: False when nobody has said whether there are image tokens.
        gates: (layer name, adapter name) -> [batch, E], the query gates of this stream, without gradient.
        prompt: the tokens of this pass, in which an adapter may look for the question; None when they are not known.
    """

    __slots__ = ("_found", "_parts", "_positions", "gates", "image", "image_told", "prompt", "question")

    def __init__(
        self,
        question: torch.Tensor | None,
        image: torch.Tensor | None,
        gates: dict[tuple[str, str], torch.Tensor],
        image_told: bool = True,
        prompt: PromptTokens | None = None,
    ) -> None:
        if not image_told and prompt is not None and prompt.image is not None:
            image, image_told = prompt.image, True
        self.question, self.image, self.gates, self.image_told = question, image, gates, image_told
        self.prompt = prompt
        self._found: dict[int, torch.Tensor | None] = {}
        self._positions: Positions | None = None
        self._parts: dict[tuple[int, int], SpanWindow] = {}

    def part(self, rows: slice) -> SpanWindow:
        """The same pass for ``rows`` of its batch alone: one object for all layers, with the gates in common."""
        key = rows.start, rows.stop
        if key not in self._parts:
            question, image = (None if mask is None else mask[rows] for mask in (self.question, self.image))
            prompt = None if self.prompt is None else self.prompt.part(rows)
            self._parts[key] = SpanWindow(question, image, self.gates, self.image_told, prompt)
        return self._parts[key]

    def question_for(self, config: A3MoeConfig, device: torch.device, *, continuing: bool) -> torch.Tensor | None:
        """bool [batch, tokens]: the question that was pointed out, else the one that the adapter finds itself.

        Args:
            config: the adapter's.
            device: where it is to be; sent there once for all layers.
            continuing: whether the question's gates are known from an earlier pass.

        Returns:
            None when this pass holds no question, or nothing to look for one in.

        Raises:
            AdapterError: see `PromptTokens.find_questions`.
        """
        before, after = config.question_before, config.question_after
        if self.question is not None or self.prompt is None or before is None or after is None:
            if self.question is not None and self.question.device != device:
                self.question = self.question.to(device, non_blocking=device.type != "cpu")
            return self.question
        # Once for all layers of an adapter, which share its configuration.
        if id(config) not in self._found:
            self._found[id(config)] = self.prompt.find_questions(before, after, continuing=continuing)
        found = self._found[id(config)]
        return found if found is None else found.to(device)

    def image_positions(self, device: torch.device) -> Positions:
        """The places of the image tokens in the flattened [batch * tokens].

        Found once for all layers, since an accelerator has to be waited for.
        """
        if self._positions is None:
            if self.image is None:
                raise ValueError("this pass has no image tokens")
            self._positions = Positions.of(self.image.flatten())
        self._positions = self._positions.to(device)
        return self._positions


class TokenSpans:
    """The masks of one call, usable as a context manager (again and again, but not nested in itself).

    Args:
        question: bool [batch, length], the tokens of each row's own question; None when nothing needs it or
            when the cache already holds the gates.
        image: bool [batch, length], the tokens that are image patches; None when no key expert will ask.
        growing: True while text is generated: positions beyond ``length`` are then neither question nor image,
            and rows may be repeated (several beams per prompt).

    ``length`` counts what the language model sees, padding and (expanded) image tokens included.

    Raises:
        AdapterError: a mask is not bool [batch, length], the two differ in shape, or a row has no question token.
    """

    def __init__(
        self, question: torch.Tensor | None = None, image: torch.Tensor | None = None, *, growing: bool = False
    ) -> None:
        self.question = _mask("a3_question_mask", question)
        self.image = _mask("a3_image_mask", image)
        self.growing = growing
        if question is not None and image is not None and question.shape != image.shape:
            raise AdapterError(
                expected="both token masks to have one shape [batch, length]",
                got=f"a3_question_mask is {list(question.shape)} and a3_image_mask {list(image.shape)}",
                remedy="Build both for the same padded batch",
            )
        if self.question is not None and not bool(self.question.any(dim=1).all()):
            row = int((~self.question.any(dim=1)).nonzero()[0])
            raise AdapterError(
                expected="at least one question token in every row of a3_question_mask",
                got=f"Row {row} has none",
                remedy="Ask a question, or mark the tokens that hold it",
            )
        self._question_range = _columns(self.question)
        self._image_range = _columns(self.image)
        self._tokens: list[Token[TokenSpans | None]] = []

    def __enter__(self) -> TokenSpans:
        self._tokens.append(_SPANS.set(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _SPANS.reset(self._tokens.pop())

    def window(
        self, batch: int, tokens: int, past: int = 0, gates: dict[tuple[str, str], torch.Tensor] | None = None
    ) -> SpanWindow:
        """The window of a forward pass over ``tokens`` new tokens after ``past`` cached ones.

        Masks of length ``tokens`` next to a non-empty cache are taken to describe the new tokens only.

        Raises:
            AdapterError: the masks do not fit the batch, or the pass holds only a part of the question.
        """
        gates = {} if gates is None else gates
        shape, prompt = self._shape, current_prompt(batch, tokens)
        if shape is None:
            return SpanWindow(None, None, gates, False, prompt)
        rows, length = shape
        start = 0 if (past and length == tokens and not self.growing) else past
        repeat = batch // rows
        if batch % rows or (repeat > 1 and not self.growing):
            raise _misfit(f"a batch of {batch} rows", f"{rows} rows")
        if start + tokens != length and not self.growing:
            raise _misfit(f"{start + tokens} tokens", f"{length} tokens")
        question = self._cut(self.question, self._question_range, start, tokens, repeat, "question")
        image = self._cut(self.image, self._image_range, start, tokens, repeat, None)
        return SpanWindow(question, image, gates, self.image is not None, None if self.question is not None else prompt)

    @property
    def _shape(self) -> torch.Size | None:
        mask = self.question if self.question is not None else self.image
        return None if mask is None else mask.shape

    @staticmethod
    def _cut(
        mask: torch.Tensor | None,
        columns: tuple[int, int] | None,
        start: int,
        tokens: int,
        repeat: int,
        whole: str | None,
    ) -> torch.Tensor | None:
        if mask is None or columns is None or columns[1] <= start or columns[0] >= start + tokens:
            return None
        if whole and (columns[0] < start or columns[1] > start + tokens):
            raise AdapterError(
                expected=f"the whole {whole} in one forward pass",
                got=f"A pass over tokens {start} to {start + tokens - 1} cuts the {whole} "
                f"({columns[0]} to {columns[1] - 1}) in two",
                remedy="Read the prompt in one pass (no prefill_chunk_size)",
            )
        part = mask[:, start : start + tokens]
        missing = tokens - part.shape[1]
        if missing:
            part = torch.cat([part, part.new_zeros(len(part), missing)], dim=1)
        return part.repeat_interleave(repeat, dim=0) if repeat > 1 else part


_SPANS: ContextVar[TokenSpans | None] = ContextVar("a3_token_spans", default=None)
_WINDOW: ContextVar[SpanWindow | None] = ContextVar("a3_span_window", default=None)
_PROMPT: ContextVar[PromptTokens | None] = ContextVar("a3_prompt_tokens", default=None)


def set_prompt(prompt: PromptTokens | None) -> None:
    """Keep what the model is called with on this thread, or forget it."""
    _PROMPT.set(prompt)


def current_prompt(batch: int, tokens: int) -> PromptTokens | None:
    """The tokens of this thread's pass over [batch, tokens]; None when they are not known."""
    prompt = _PROMPT.get()
    return prompt if prompt is not None and prompt.fits(batch, tokens) else None


def current_spans() -> TokenSpans | None:
    """The spans of the innermost ``with`` block of this thread, or None."""
    return _SPANS.get()


def set_window(window: SpanWindow | None) -> None:
    """Make a window current for the attention layer that is about to run on this thread."""
    _WINDOW.set(window)


def current_window(batch: int, tokens: int) -> SpanWindow:
    """The window for a layer's input [batch, tokens, ...].

    Raises:
        AdapterError: nobody has said where question and image stand.
    """
    window = _WINDOW.get()
    if window is not None:
        return window
    spans, prompt = _SPANS.get(), current_prompt(batch, tokens)
    if spans is None and prompt is not None:
        return SpanWindow(None, None, {}, False, prompt)
    if spans is None:
        raise AdapterError(
            expected="the A3MoE adapter to be told which tokens are the question and which the image",
            got="The model was called without token masks",
            remedy=_REMEDY,
        )
    return spans.window(batch, tokens)


@contextmanager
def window_of_rows(batch: int, tokens: int, rows: slice) -> Iterator[None]:
    """Have a layer that is given some rows of a pass over [batch, tokens] find the window of these."""
    token = _WINDOW.set(current_window(batch, tokens).part(rows))
    try:
        yield
    finally:
        _WINDOW.reset(token)


def _mask(name: str, mask: torch.Tensor | None) -> torch.Tensor | None:
    if mask is not None and (mask.dtype != torch.bool or mask.ndim != 2 or 0 in mask.shape):
        raise AdapterError(
            expected=f"{name} to be bool [batch, length]",
            got=f"It is {str(mask.dtype).removeprefix('torch.')} {list(mask.shape)}",
            remedy=f"Convert it with {name}.bool(), one row per sequence",
        )
    return mask


def _columns(mask: torch.Tensor | None) -> tuple[int, int] | None:
    """First column and one past the last that is True in any row; read once, so that layers never wait for it."""
    if mask is None:
        return None
    columns = mask.any(dim=0).nonzero().squeeze(-1).tolist()
    return (columns[0], columns[-1] + 1) if columns else None


def _misfit(needed: str, got: str) -> AdapterError:
    return AdapterError(
        expected=f"token masks for {needed}, padding and cached tokens included",
        got=f"The masks describe {got}",
        remedy=_REMEDY,
    )
