"""Encoding a question about images, and its answer, with a model's processor and chat template."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from PIL import Image
from transformers import PreTrainedConfig, ProcessorMixin

from a3tune.errors import ModelError, RequestError
from a3tune.models import token_roles as roles
from a3tune.models.checkpoint_folder import PROVEN
from a3tune.models.encoded_prompt import EncodedBatch, EncodedPrompt
from a3tune.models.processor_options import image_options
from a3tune.models.quirks import QUIRKS, quirk_of
from a3tune.types import MedicalImage

_STAND_IN = "zqxjkvzqxjkv"
_LONGEST_FAULT = 200


class PromptEncoder:
    """Turns images, question and answer into :class:`EncodedPrompt` objects with a model's processor.

    Args:
        processor: the model's processor; its chat template must be set.
        config: the model's configuration.
        device: where the tensors go.
        convention: how the model was trained to see computed tomography, for whoever loads the images.
        dtype: the data type of the weights, in which pixels are given.

    Attributes:
        lock: to be held by each of several threads that encode: tokenizers bear one at a time.
    """

    def __init__(
        self,
        processor: ProcessorMixin,
        config: PreTrainedConfig,
        device: torch.device,
        convention: str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.processor, self.tokenizer, self.device = processor, processor.tokenizer, device
        self.convention, self._dtype = convention, dtype
        self.lock = threading.Lock()
        self._config, self._quirk = config, quirk_of(config)
        self._image_token = roles.image_token_id(config, processor)
        self.limit: int = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None) or 1 << 62

    def encode_placed(
        self, images: Sequence[MedicalImage], question: str, context: Sequence[str] = ()
    ) -> EncodedPrompt:
        """As :meth:`encode`, for what needs to know where the images' patches lie.

        Raises:
            RequestError: there are several images, of which a model of this type does not tell that.
        """
        if len(images) > 1 and self._quirk.one_image:
            several = [name for name in PROVEN if not (name in QUIRKS and QUIRKS[name].one_image)]
            raise RequestError(
                expected=f"one image, since a model of type {self._config.model_type} takes no more",
                got=f"The question is about {len(images)} images: {self._quirk.one_image}",
                remedy=f"Ask about one, or choose a model of a type that takes several ({', '.join(several)})",
            )
        return self.encode(images, question, context)

    def encode(self, images: Sequence[MedicalImage], question: str, context: Sequence[str] = ()) -> EncodedPrompt:
        """The prompt that asks ``question`` about ``images``, up to where the answer begins.

        Args:
            images: the images, which stand before the first question.
            question: the question.
            context: the turns before it: question, answer, question, ...
        """
        question = roles.check_question(question, self._config, self.processor)
        context = tuple(roles.check_question(turn, self._config, self.processor) for turn in context)
        if not images:
            raise RequestError(expected="at least one image", got="none", remedy="Choose an image first")
        pictures = [Image.fromarray(image.model_input) for image in images]
        prefix, suffix = self._render_around(len(pictures), context)
        text = prefix + question + suffix
        inputs = self._process(text, pictures)
        ids = inputs["input_ids"][0].tolist()
        self._check_length(len(ids))
        groups = roles.split_images(
            [position for position, token in enumerate(ids) if token == self._image_token],
            len(pictures),
            lambda index: self._count_image_tokens(pictures[index]),
        )
        positions = roles.question_positions(
            ids, prefix, question, suffix, self.tokenizer, self.adds_special_tokens(text),
            lambda other: self._process(other, pictures)["input_ids"][0].tolist(),
        )  # fmt: skip
        return EncodedPrompt(self._to_device(inputs), tuple(ids), groups, positions, (), text, self.tokenizer)

    def encode_text(self, question: str, context: Sequence[str] = ()) -> EncodedPrompt:
        """The prompt that :meth:`encode` gives, without any image; it has no ``rows``.

        Args: as :meth:`encode`.
        """
        question = roles.check_question(question, self._config, self.processor)
        prefix, suffix = self._render_around(0, context)
        text = prefix + question + suffix
        special = self.adds_special_tokens(text)

        def ids_of(words: str) -> list[int]:
            found = self.tokenizer(words, add_special_tokens=special, truncation=False)["input_ids"]
            return self._without_end(list(found))

        ids = ids_of(text)
        self._check_length(len(ids))
        positions = roles.question_positions(ids, prefix, question, suffix, self.tokenizer, special, ids_of)
        tokens = torch.tensor([ids], dtype=torch.long)
        inputs = self._to_device({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)})
        return EncodedPrompt(inputs, tuple(ids), (), positions, (), text, self.tokenizer)

    def append(self, prompt: EncodedPrompt, answer: str | Sequence[int], *, close: bool = False) -> EncodedPrompt:
        """The prompt with its answer behind it.

        Args:
            prompt: a prompt without an answer.
            answer: token ids, which are appended as they are, or a text, which is tokenized as it stands in the chat
                template's assistant turn.
            close: also append the token with which the model ends an answer (what training needs).
        """
        if prompt.answer:
            raise RequestError(expected="a prompt without an answer", got="one that has it", remedy="Encode it anew")
        new = self._answer_ids(prompt, answer) if isinstance(answer, str) else [int(token) for token in answer]
        if self._image_token in new:
            raise RequestError(
                expected="an answer in words", got="an answer with an image token", remedy="Remove the image token"
            )
        new = [*new, self.end_token_id] if close else new
        self._check_length(prompt.length + len(new))
        fill = {"input_ids": torch.tensor([new], dtype=torch.long), "attention_mask": torch.ones(1, len(new))}
        fill |= {name: torch.full((1, len(new)), value) for name, value in self._quirk.answer_inputs.items()}
        inputs = dict(prompt.inputs)
        for name, tensor in prompt.inputs.items():
            if tensor.dim() == 2 and tensor.shape == (1, prompt.length):
                inputs[name] = torch.cat([tensor, fill.get(name, torch.zeros(1, len(new))).to(tensor)], dim=1)
        answer_positions = tuple(range(prompt.length, prompt.length + len(new)))
        return EncodedPrompt(
            inputs,
            (*prompt.ids, *new),
            prompt.images,
            prompt.question,
            answer_positions,
            prompt.text,
            self.tokenizer,
            close,
        )

    def collate(
        self, prompts: Sequence[EncodedPrompt], padding_side: Literal["left", "right"] = "right"
    ) -> EncodedBatch:
        """Pad prompts to one length and stack them; images of different sizes or tile counts are padded with zeros."""
        if not prompts:
            raise RequestError(expected="at least one prompt", got="none", remedy="Pass the prompts of the batch")
        length = max(prompt.length for prompt in prompts)
        starts = tuple(length - prompt.length if padding_side == "left" else 0 for prompt in prompts)
        names = list(dict.fromkeys(name for prompt in prompts for name in prompt.inputs))
        inputs = {}
        for name in names:
            parts = [prompt.inputs[name] for prompt in prompts]
            if all(part.shape == (1, prompt.length) for part, prompt in zip(parts, prompts, strict=True)):
                padding = self.pad_token_id if name == "input_ids" else 0
                row = parts[0].new_full((len(parts), length), padding)
                for b, (part, start) in enumerate(zip(parts, starts, strict=True)):
                    row[b, start : start + part.shape[1]] = part[0]
                inputs[name] = row
            elif name == self._quirk.tiles:
                inputs[name] = torch.cat(parts, dim=1)
            else:
                inputs[name] = _concatenate(parts)
        return EncodedBatch(inputs, tuple(prompts), starts)

    @cached_property
    def image_options(self) -> dict[str, Any]:
        """The options with which the processor calls its image processor for a prompt with one image."""
        prefix, suffix = self._render_around(1)
        picture = Image.new("RGB", (64, 64), (96, 96, 96))
        return image_options(
            self.processor, lambda listening: self._process(prefix + _STAND_IN + suffix, [picture], listening)
        )

    @cached_property
    def pad_token_id(self) -> int:
        """What fills padded positions: the tokenizer's padding token, else the end token; both are masked out."""
        return self.end_token_id if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id

    @cached_property
    def end_token_id(self) -> int:
        """The token with which the chat template ends an assistant turn, else the tokenizer's end of sequence."""
        rendered = self.render(1, _STAND_IN, _STAND_IN[::-1])
        _, found, tail = rendered.partition(_STAND_IN[::-1])
        special = set(self.tokenizer.all_special_ids)
        special |= {index for index, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        first = self.tokenizer(tail.lstrip(), add_special_tokens=False)["input_ids"][:1] if found else []
        if first and first[0] in special:
            return first[0]
        if self.tokenizer.eos_token_id is None:
            raise ModelError(
                expected="a tokenizer with an end-of-sequence token",
                got="one without",
                remedy="Set eos_token in the checkpoint's tokenizer_config.json",
            )
        return self.tokenizer.eos_token_id

    def _answer_ids(self, prompt: EncodedPrompt, answer: str) -> list[int]:
        answer = answer.strip()
        if not answer:
            raise RequestError(expected="an answer", got="an empty one", remedy="Leave it out or write one")
        # What the template puts between "the assistant speaks" and its words, often one space.
        waiting = self.render(1, _STAND_IN)
        spoken = self.render(1, _STAND_IN, _STAND_IN[::-1])
        between = spoken[len(waiting) :].partition(_STAND_IN[::-1])[0] if spoken.startswith(waiting) else ""
        options = {"add_special_tokens": self.adds_special_tokens(prompt.text), "truncation": False}
        before = self._without_end(self.tokenizer(prompt.text, **options)["input_ids"])
        whole = self._without_end(self.tokenizer(prompt.text + between + answer, **options)["input_ids"])
        if whole[: len(before)] == before:
            return whole[len(before) :]
        # The answer's first letters would melt into the prompt's last token; the model never sees it that way.
        return self.tokenizer(between + answer, add_special_tokens=False, truncation=False)["input_ids"]

    def _without_end(self, ids: list[int]) -> list[int]:
        return ids[:-1] if ids and ids[-1] == self.tokenizer.eos_token_id else ids

    def render(self, images: int, *turns: str) -> str:
        """The chat template's text of a conversation, image placeholders not expanded.

        Args:
            images: how many images stand before the first question.
            turns: a question, or questions and answers in turn; after a question the template opens the answer.

        Raises:
            ModelError: the template does not write that many placeholders.
        """
        contents = [[{"type": "text", "text": turn}] for turn in turns]
        rendered = self._apply([[{"type": "image"}] * images + contents[0], *contents[1:]])
        marker = getattr(self.processor, "image_token", None)
        if marker and (rendered.count(marker) != images or not self._takes_parts):
            # Templates of text models take a message's content as one string.
            rendered = self._apply([marker * images + "\n" * bool(images) + turns[0], *turns[1:]])
            if rendered.count(marker) != images:
                raise ModelError(
                    expected=f"a chat template that writes {images} image placeholder(s) {marker!r}",
                    got=f"{rendered.count(marker)} of them",
                    remedy="Pass a chat_template that fits the model when loading it",
                )
        return rendered

    @cached_property
    def _takes_parts(self) -> bool:
        marker = getattr(self.processor, "image_token", None)
        content = [{"type": "image"}, {"type": "text", "text": _STAND_IN}]
        return not marker or self._apply([content]).count(marker) == 1

    def _apply(self, contents: Sequence[Any]) -> str:
        roles = ("user", "assistant")
        messages = [{"role": roles[place % 2], "content": content} for place, content in enumerate(contents)]
        return self.processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=len(messages) % 2 == 1
        )

    def _render_around(self, images: int, context: Sequence[str] = ()) -> tuple[str, str]:
        parts = self.render(images, *context, _STAND_IN).split(_STAND_IN)
        if len(parts) != 2:
            raise ModelError(
                expected="a chat template that writes the question once",
                got=f"one that writes it {len(parts) - 1} times",
                remedy="Pass a chat_template that fits the model when loading it",
            )
        return parts[0], parts[1]

    def adds_special_tokens(self, text: str) -> bool:
        """Whether the tokenizer is to put its special tokens around a rendered template."""
        # As transformers' own apply_chat_template does: a template that writes the start token needs no second one.
        start = self.tokenizer.bos_token
        return start is None or not text.startswith(start)

    def _process(
        self, text: str, pictures: Sequence[Image.Image], processor: ProcessorMixin | None = None
    ) -> dict[str, torch.Tensor]:
        tiles = self._quirk.tiles
        options = {"add_special_tokens": self.adds_special_tokens(text), "return_tensors": None if tiles else "pt"}
        try:
            inputs = dict((processor or self.processor)(text=[text], images=[list(pictures)], **options))
            inputs.pop("labels", None)  # PaliGemma's processor makes some, of the prompt
            if tiles:
                joined = torch.cat([torch.as_tensor(image) for image in inputs.pop(tiles)])[None]
                inputs = {name: torch.tensor(value) for name, value in inputs.items()} | {tiles: joined}
            return inputs
        except (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError) as error:
            sizes = ", ".join(f"{picture.width} x {picture.height}" for picture in pictures)
            raise ModelError(
                expected=f"images and text that {type(self.processor).__name__} accepts",
                # Some print their whole configuration.
                got=f"It fails on {sizes} pixels ({' '.join(str(error).split())[:_LONGEST_FAULT]})",
                remedy="Try another image, or pad or crop a very thin one; if it fails for every image, the "
                "checkpoint's processor files do not fit",
            ) from error

    def _count_image_tokens(self, picture: Image.Image) -> int:
        prefix, suffix = self._render_around(1)
        ids = self._process(prefix + _STAND_IN + suffix, [picture])["input_ids"][0].tolist()
        return ids.count(self._image_token)

    def _to_device(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Tensors on the model's device, pixels in its data type: not every vision tower casts them itself."""
        found = {name: tensor for name, tensor in inputs.items() if isinstance(tensor, torch.Tensor)}
        pixels = [name for name in found if name.startswith("pixel_values") and found[name].is_floating_point()]
        return {name: tensor.to(self.device, self._dtype if name in pixels else None) for name, tensor in found.items()}

    def _check_length(self, length: int) -> None:
        if length > self.limit:
            raise RequestError(
                expected=f"at most {self.limit} tokens in all, the model's context",
                got=f"a prompt of {length} tokens",
                remedy="Shorten the question, or use fewer images",
            )


def _concatenate(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    sizes = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    padded = []
    for part in parts:
        missing = [(0, size - own) for size, own in zip(sizes, part.shape[1:], strict=True)]
        flat = [amount for pair in reversed(missing) for amount in pair]
        padded.append(torch.nn.functional.pad(part, flat) if any(flat) else part)
    return torch.cat(padded)
