"""Which tokens of a prompt are image, question, template or answer, and how each token reads.

Everything is found from token ids, the tokenizer's own offsets and the processor at hand; no position is a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transformers import PreTrainedConfig, PreTrainedTokenizerBase, ProcessorMixin

from a3tune.errors import ModelError, RequestError

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def image_token_id(config: PreTrainedConfig, processor: ProcessorMixin) -> int:
    """The id that stands for one patch of an image in the expanded prompt.

    The model's configuration is asked first: processors may name the placeholder of a whole image instead.

    Raises:
        ModelError: neither the configuration nor the processor names one.
    """
    for owner, name in ((config, "image_token_id"), (config, "image_token_index"), (processor, "image_token_id")):
        value = getattr(owner, name, None)
        if isinstance(value, int):
            return value
    raise ModelError(
        expected="a model that puts its image into the prompt as tokens",
        got=f"{type(config).__name__} names no image token",
        remedy="Choose a model whose language model sees the image as tokens (LLaVA, Qwen-VL, Gemma 3, InternVL, ...)",
    )


def image_markers(config: PreTrainedConfig, processor: ProcessorMixin) -> frozenset[str]:
    """Texts that a processor or model takes for an image or a video: a question must not hold them."""
    tokenizer = processor.tokenizer
    markers = {getattr(processor, name, None) for name in ("image_token", "video_token", "boi_token", "eoi_token")}
    markers |= {getattr(tokenizer, name, None) for name in ("image_token", "boi_token", "eoi_token", "video_token")}
    markers.add(tokenizer.convert_ids_to_tokens(image_token_id(config, processor)))
    return frozenset(str(marker) for marker in markers if marker)


def check_question(question: str, config: PreTrainedConfig, processor: ProcessorMixin) -> str:
    """The question without surrounding white space, once it is sure to be plain text to the model.

    Raises:
        RequestError: it is empty, or holds one of the model's control tokens (an image token would add an image
            that is not there, an end-of-turn token would end the question).
    """
    question = question.strip()
    if not question:
        raise RequestError(expected="a question", got="an empty one", remedy="Type a question about the image")
    tokenizer = processor.tokenizer
    control = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    control |= set(tokenizer.all_special_tokens) | image_markers(config, processor)
    for token in sorted((token for token in control if token.strip()), key=len, reverse=True):
        if token in question:
            raise RequestError(
                expected="a question in plain text",
                got=f"a question with the model's control token {token!r}",
                remedy="Remove it or write it another way",
            )
    return question


def question_positions(
    ids: Sequence[int],
    prefix: str,
    question: str,
    suffix: str,
    tokenizer: PreTrainedTokenizerBase,
    add_special_tokens: bool,
    expand: Callable[[str], Sequence[int]],
) -> tuple[int, ...]:
    """Positions in ``ids`` of the tokens that hold the question's characters.

    A token that joins the question's first character with a space or line break before it counts as question.

    Args:
        ids: the prompt as the model sees it, image placeholders expanded.
        prefix, question, suffix: the rendered chat template, image placeholders not expanded, cut around the question.
        tokenizer: the prompt's tokenizer.
        add_special_tokens: whether the prompt was tokenized with special tokens around it.
        expand: gives the expanded ids of another text, for tokenizers that know no character offsets.

    Raises:
        ModelError: the question cannot be found in the ids.
    """
    found = None
    if tokenizer.is_fast:
        found = _by_offsets(ids, prefix, question, suffix, tokenizer, add_special_tokens)
    found = found or _by_difference(ids, prefix, question, suffix, expand)
    if not found:
        raise ModelError(
            expected="a processor that keeps the question's tokens in one piece",
            got=f"the question was not found among {len(ids)} prompt tokens",
            remedy="Report the model's name: its processor rewrites the prompt in an unknown way",
        )
    return found


def _by_offsets(
    ids: Sequence[int],
    prefix: str,
    question: str,
    suffix: str,
    tokenizer: PreTrainedTokenizerBase,
    add_special_tokens: bool,
) -> tuple[int, ...] | None:
    """Locate the question in the unexpanded text, then carry it over: expansion changes only what stands before
    (or only what stands after) the question, so counting from the other end holds."""
    encoded = tokenizer(
        prefix + question + suffix, add_special_tokens=add_special_tokens, return_offsets_mapping=True, truncation=False
    )
    plain, offsets = encoded["input_ids"], encoded["offset_mapping"]
    start, stop = len(prefix), len(prefix) + len(question)
    inside = [index for index, (left, right) in enumerate(offsets) if left < stop and right > start]
    if not inside:
        return None
    first, last = inside[0], inside[-1]
    if list(ids[-(len(plain) - first) :]) == plain[first:]:
        shift = len(ids) - len(plain)
    elif list(ids[: last + 1]) == plain[: last + 1]:
        shift = 0
    else:
        return None
    return tuple(range(first + shift, last + 1 + shift))


def _by_difference(
    ids: Sequence[int], prefix: str, question: str, suffix: str, expand: Callable[[str], Sequence[int]]
) -> tuple[int, ...] | None:
    """What changes when other questions stand in its place; two others, as one may share a token by chance."""
    first, last = len(ids), -1
    for other in ("zqx jkv", "0 Wyb 9"):
        changed = list(expand(prefix + other + suffix))
        head = _alike(ids, changed)
        tail = _alike(ids[head:][::-1], changed[head:][::-1])
        first, last = min(first, head), max(last, len(ids) - tail - 1)
    return tuple(range(first, last + 1)) or None


def _alike(one: Sequence[object], other: Sequence[object]) -> int:
    """How many entries two sequences begin with alike."""
    shorter = min(len(one), len(other))
    return next((i for i in range(shorter) if one[i] != other[i]), shorter)


def split_images(
    positions: Sequence[int], images: int, tokens_of_image: Callable[[int], int]
) -> tuple[tuple[int, ...], ...]:
    """Share the image tokens of a prompt out to its images, in order.

    Args:
        positions: positions of all image tokens, ascending.
        images: how many images the prompt holds.
        tokens_of_image: how many tokens image i takes when it is the prompt's only image; asked only for several.

    Raises:
        ModelError: the tokens cannot be told apart, or an image has too few tokens to be a map of patches.
    """
    if images == 1:
        groups = [tuple(positions)]
    else:
        counts = [tokens_of_image(index) for index in range(images)]
        if sum(counts) == len(positions):
            ends = [sum(counts[: index + 1]) for index in range(images)]
            groups = [tuple(positions[end - count : end]) for end, count in zip(ends, counts, strict=True)]
        else:  # Some processors cut an image up less finely when it has company; then each image is one run.
            groups = _runs(positions)
    if images == 1 and len(positions) < 2:
        raise ModelError(
            expected="an image that becomes several patches",
            got=f"It becomes {len(positions)} image token{'' if len(positions) == 1 else 's'}, being too small or thin",
            remedy="Enlarge or pad the image, or choose a model whose prompt holds one token per patch",
        )
    if len(groups) != images or any(len(group) < 2 for group in groups):
        raise ModelError(
            expected=f"{images} image(s), each as several tokens in the prompt",
            got=f"{len(positions)} image tokens that form {len(groups)} group(s)",
            remedy="Ask about one image at a time, or choose a model whose prompt holds one token per patch",
        )
    return tuple(groups)


def _runs(positions: Sequence[int]) -> list[tuple[int, ...]]:
    runs: list[list[int]] = []
    for position in positions:
        if runs and runs[-1][-1] == position - 1:
            runs[-1].append(position)
        else:
            runs.append([position])
    return [tuple(run) for run in runs]


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> tuple[str, ...]:
    """What each token adds to the decoded text: joined, the texts are the decoded text with special tokens kept.

    A character whose bytes are spread over several tokens belongs to the last of them; the others read "".
    """

    def decode(part: Sequence[int]) -> str:
        return tokenizer.decode(list(part), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    texts: list[str] = []
    # Decoding is done in a short window that starts at a finished token, so that spaces come out as in the whole.
    window, read = 0, 0
    for index in range(len(ids)):
        before = decode(ids[window:read])
        after = decode(ids[window : index + 1])
        if after.endswith(_REPLACEMENT):
            texts.append("")
            continue
        texts.append(after[len(before) :])
        window, read = read, index + 1
    if "".join(texts) == decode(ids):
        return tuple(texts)
    # Bytes that form no character can change how earlier ones read: decode from the start and take texts back.
    texts = []
    for index in range(len(ids)):
        joined, after = "".join(texts), decode(ids[: index + 1])
        common = _alike(joined, after)
        surplus = len(joined) - common
        for earlier in reversed(range(index)):
            if surplus <= 0:
                break
            length = len(texts[earlier])
            texts[earlier] = texts[earlier][: max(0, length - surplus)]
            surplus -= length
        texts.append(after[common:])
    return tuple(texts)
