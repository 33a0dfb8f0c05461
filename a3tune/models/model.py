"""A vision-language model that is ready to be asked."""

from __future__ import annotations

import inspect
import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import nn
from transformers import (
    Cache,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
    StoppingCriteria,
    StoppingCriteriaList,
)

from a3tune.decoder_layers import attention_layers
from a3tune.errors import RequestError
from a3tune.geometry.patch_grid import probe_patch_grid
from a3tune.models import token_roles as roles
from a3tune.models.encoded_prompt import EncodedBatch, EncodedPrompt
from a3tune.models.fingerprint import weights_fingerprint
from a3tune.models.prompt import PromptEncoder
from a3tune.models.question_template import QuestionTemplate, question_template
from a3tune.offloading import execution_device
from a3tune.types import MedicalImage, PatchGrid


@dataclass(frozen=True)
class GeneratedAnswer:
    """What a model answered.

    Attributes:
        text: the answer in words, special tokens removed.
        token_ids: the generated ids exactly, without the token that ends the answer.
        ending: "end" when the model ended its answer, "length" when the limit cut it, "stopped" when it was told to.
    """

    text: str
    token_ids: tuple[int, ...]
    ending: Literal["end", "length", "stopped"]


class VisionLanguageModel:
    """A model with its processor: encodes questions, generates answers.

    Attributes:
        name: display name: the folder's name or the hub id.
        model: the Hugging Face model, in evaluation mode; PEFT may wrap it later (assign the wrapper here).
        processor: its processor, chat template included.
        notes: what a person should know about how it was loaded, in words.
        convention: how it was trained to see computed tomography, to be given to :func:`a3tune.images.load_image`; None
            for as it is shown.
        source: what it was loaded from: "demo", a folder or a hub id; "" where that is not known.
        lock: held while an answer is generated; hold it for other passes where threads share the model.
    """

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        notes: Sequence[str] = (),
        convention: str | None = None,
        source: str = "",
    ) -> None:
        self.name, self.model, self.processor, self.notes = name, model, processor, tuple(notes)
        self.config, self.convention, self.source = model.config, convention, source
        self.lock = threading.RLock()
        self._encoder = PromptEncoder(processor, self.config, self.device, convention, self.dtype)

    def fingerprint(self) -> str:
        """Of the weights as they are stored, whatever precision they are in; see `weights_fingerprint`.

        Raises:
            ModelError: they cannot be read any more.
        """
        return weights_fingerprint(self.source)

    def cpu_encoder(self) -> PromptEncoder:
        """An encoder of this model's prompts whose tensors stay on the CPU."""
        return PromptEncoder(self.processor, self.config, torch.device("cpu"), self.convention, self.dtype)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.processor.tokenizer

    @property
    def device(self) -> torch.device:
        """Where the inputs go: the device on which the token embeddings compute."""
        return execution_device(self.model.get_input_embeddings())

    @property
    def dtype(self) -> torch.dtype:
        """The data type of the weights (of the token embeddings)."""
        return self.model.get_input_embeddings().weight.dtype

    @property
    def text_config(self) -> PreTrainedConfig:
        """The language model's configuration."""
        return self.config.get_text_config(decoder=True)

    def patch_grid(self, height: int, width: int, patches: int) -> PatchGrid:
        """Where each patch of an image of ``height`` x ``width`` source pixels lies, by trying the image processor.

        Args:
            patches: how many image tokens the prompt holds for this image.

        Raises:
            ModelError: the processor's output does not explain that number.
        """
        patch_size = getattr(getattr(self.config, "vision_config", None), "patch_size", None)
        if not isinstance(patch_size, int):  # some give [height, width]
            patch_size = patch_size[0] if patch_size else None
        options = self._encoder.image_options
        return probe_patch_grid(
            self.processor.image_processor, height, width, patches, options=options, patch_size=patch_size
        )

    @property
    def language_model(self) -> nn.Module:
        """The decoder that reads text and image tokens."""
        base = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        return base.get_decoder()

    @cached_property
    def keeps_logits(self) -> bool:
        """Whether it can be told for which positions to compute the scores of the next token (``logits_to_keep``)."""
        base = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        return "logits_to_keep" in inspect.signature(base.forward).parameters

    @property
    def layers(self) -> int:
        """Layers of the language model that have softmax attention; layer numbers count among these."""
        return len(attention_layers(self.text_config))

    @property
    def heads(self) -> int:
        """Attention heads (query heads) in each layer of the language model."""
        return self.text_config.num_attention_heads

    @property
    def context_length(self) -> int:
        """How many tokens prompt and answer may have together."""
        return self._encoder.limit

    @property
    def end_token_id(self) -> int:
        """The token with which the model ends an answer."""
        return self._encoder.end_token_id

    @property
    def pad_token_id(self) -> int:
        """The token that fills padded places, which are masked."""
        return self._encoder.pad_token_id

    def question_template(self) -> QuestionTemplate | None:
        """The token ids around a question in the model's chat template; None when there are none for certain."""
        return question_template(self._encoder, roles.image_token_id(self.config, self.processor))

    def encode(
        self,
        images: MedicalImage | Sequence[MedicalImage],
        question: str,
        answer: str | Sequence[int] | None = None,
        *,
        context: Sequence[str] = (),
        close: bool = False,
    ) -> EncodedPrompt:
        """The prompt that asks ``question`` about one or several images.

        Args:
            images: the images, in the order in which the prompt shows them.
            question: plain text; surrounding white space is dropped.
            answer: the answer to put behind the prompt: generated ids are appended exactly as they are (the replay of
                an answer), a text is tokenized as it stands in the chat template.
            context: the turns before the question: question, answer, question, ...
            close: with an answer, also append the token that ends it.

        Raises:
            RequestError: no image, an empty or over-long question, a control token of the model in the question.
            ModelError: the processor or its chat template does not work for this.
        """
        images = [images] if isinstance(images, MedicalImage) else list(images)
        prompt = self._encoder.encode(images, question, context)
        return prompt if answer is None else self._encoder.append(prompt, answer, close=close)

    def encode_placed(
        self, images: Sequence[MedicalImage], question: str, context: Sequence[str] = ()
    ) -> EncodedPrompt:
        """As :meth:`encode`, for what places the images' patches; see `PromptEncoder.encode_placed`."""
        return self._encoder.encode_placed(images, question, context)

    def encode_text(self, question: str, context: Sequence[str] = ()) -> EncodedPrompt:
        """The prompt that asks ``question`` without any image; see `PromptEncoder.encode_text`."""
        return self._encoder.encode_text(question, context)

    def append_answer(
        self, prompt: EncodedPrompt, answer: str | Sequence[int], *, close: bool = False
    ) -> EncodedPrompt:
        """``prompt`` with an answer behind it, as :meth:`encode` would give, without processing the images again."""
        return self._encoder.append(prompt, answer, close=close)

    def encode_batch(
        self,
        items: Sequence[tuple[MedicalImage | Sequence[MedicalImage], str, str | Sequence[int] | None]],
        *,
        padding_side: Literal["left", "right"] = "right",
        close: bool = True,
    ) -> EncodedBatch:
        """Several (images, question, answer), encoded and padded to one length; answers are closed for training."""
        return self.collate([self.encode(*item, close=close) for item in items], padding_side=padding_side)

    def collate(
        self, prompts: Sequence[EncodedPrompt], *, padding_side: Literal["left", "right"] = "right"
    ) -> EncodedBatch:
        """Encoded prompts padded to one length."""
        return self._encoder.collate(prompts, padding_side)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Token ids as plain text, special tokens removed, white space around it dropped."""
        return self.tokenizer.decode(
            list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        ).strip()

    def generate(
        self,
        prompt: EncodedPrompt,
        *,
        max_new_tokens: int = 64,
        read_last: bool = False,
        on_token: Callable[[tuple[int, ...]], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        inputs: Mapping[str, Any] | None = None,
        cache: Cache | None = None,
    ) -> GeneratedAnswer:
        """The most likely answer, token by token (greedy: the same prompt gives the same answer).

        Args:
            prompt: a prompt; an answer that it already has is continued.
            max_new_tokens: limit of the answer's length; a smaller room left in the model's context counts instead.
            read_last: have the model read the last word also where the limit cuts the answer behind it: then every word
                is a row of a growing capture, as in a pass over prompt and answer.
            on_token: called after each word's token with all of them so far, on this thread.
            should_stop: asked after each token; True ends the answer there.
            inputs: what the model is given in place of ``prompt.inputs``, such as features in the place of pixels; of
                the same tokens.
            cache: keys and values of the prompt's beginning, which is then not read again; also takes in the others.

        Raises:
            RequestError: the limit is below 1, or the context is full.
        """
        inputs = prompt.inputs if inputs is None else inputs
        (answer,) = self.generate_rows(
            inputs,
            prompt.length,
            max_new_tokens=max_new_tokens,
            read_last=read_last,
            on_token=on_token,
            should_stop=should_stop,
            cache=cache,
        )
        return answer

    def generate_rows(
        self,
        inputs: Mapping[str, Any],
        length: int,
        *,
        max_new_tokens: int = 64,
        read_last: bool = False,
        on_token: Callable[[tuple[int, ...]], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        cache: Cache | None = None,
    ) -> list[GeneratedAnswer]:
        """The most likely answer to each row of a batch; a row that has ended is padded until all have.

        Args:
            inputs: the model's keyword arguments, without padding on the right.
            length: how many tokens each row has.
            on_token: called as in :meth:`generate`, with the tokens of the first row that has not ended.
            max_new_tokens, read_last, should_stop, cache: as in :meth:`generate`.

        Raises:
            RequestError: the limit is below 1, or the context is full.
        """
        room = min(max_new_tokens, self._encoder.limit - length)
        if room < 1:
            raise RequestError(
                expected=f"room for at least one token within max_new_tokens and a context of {self._encoder.limit}",
                got=f"max_new_tokens {max_new_tokens} after a prompt of {length} tokens",
                remedy="Raise max_new_tokens or shorten the question",
            )
        ends = self.end_token_ids
        step = _Step(length, room, ends, on_token, should_stop)
        known = {} if cache is None else {"past_key_values": cache}
        with self.lock, torch.no_grad():
            sequences = self.model.generate(
                **inputs,
                **known,
                # Whoever writes the next word has read the last; that next one is not kept.
                generation_config=self.generation_config_for(room + read_last),
                stopping_criteria=StoppingCriteriaList([step]),
            )
        answers = []
        for row in sequences[:, length:].tolist():
            new = row[:room]
            ids = tuple(itertools.takewhile(lambda token: token not in ends, new))
            ending: Literal["end", "length", "stopped"] = (
                "end" if len(ids) < len(new) else "stopped" if step.stopped else "length"
            )
            answers.append(GeneratedAnswer(self.decode(ids), ids, ending))
        return answers

    @property
    def end_token_ids(self) -> set[int]:
        """The tokens with which an answer ends."""
        configured = self.model.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        return {end for end in ends if end is not None} | {self.end_token_id}

    def generation_config_for(self, max_new_tokens: int) -> GenerationConfig:
        """Greedy decoding of at most ``max_new_tokens`` tokens, image tokens left out."""
        # Image tokens in an answer would ask for an image that is not there when the answer is replayed.
        image_tokens = self.tokenizer.convert_tokens_to_ids(sorted(roles.image_markers(self.config, self.processor)))
        return GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            use_cache=True,
            eos_token_id=sorted(self.end_token_ids),
            pad_token_id=self.pad_token_id,
            bos_token_id=self.tokenizer.bos_token_id,
            suppress_tokens=sorted({token for token in image_tokens if token is not None}),
            # A cache of a fixed size would have the model compiled, for minutes, and without the attention in sight.
            disable_compile=True,
        )


class _Step(StoppingCriteria):
    """Tells of each word, and asks whether to go on."""

    def __init__(
        self,
        start: int,
        room: int,
        ends: set[int],
        on_token: Callable[[tuple[int, ...]], None] | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self._start, self._room, self._ends = start, room, ends
        self._on_token, self._should_stop, self.stopped = on_token, should_stop, False

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        if self._on_token is not None and input_ids.shape[1] - self._start <= self._room:
            rows = input_ids[:, self._start :].tolist()
            going_on = next((row for row in rows if self._ends.isdisjoint(row)), None)
            if going_on is not None:
                self._on_token(tuple(going_on))
        self.stopped = self.stopped or (self._should_stop is not None and self._should_stop())
        return torch.full((len(input_ids),), self.stopped, dtype=torch.bool, device=input_ids.device)
