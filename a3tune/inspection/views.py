"""What each adapter answers to an encoded question, and where it looks; one image or several make no difference."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from a3tune.adapters.a3moe import A3MoeConfig
from a3tune.adapters.a3moe.record import ExpertUse, record_experts
from a3tune.adapters.mixed_batch import reason_against_mixing
from a3tune.adapters.switch import BASE, AdapterSet, name_in_layers
from a3tune.attention.answer import measure_answer
from a3tune.attention.critical_heads import critical_heads, head_set_map, rows_at, visual_ratio
from a3tune.errors import AdapterError, Cancelled, RequestError
from a3tune.inspection.passes import adapted, answer_with_maps, answers_together
from a3tune.lack_of_memory import in_halves, memory_for
from a3tune.memory_advice import TO_ANSWER
from a3tune.models.encoded_prompt import EncodedPrompt
from a3tune.models.model import VisionLanguageModel
from a3tune.prefixes.cache import PrefixCache
from a3tune.progress import Progress, part_of
from a3tune.types import AttentionMaps, Head, Token

# An answer that is being written is shown again after so many seconds, or later where that would take more than this
# share of the time.
_SHOWN_EACH, _SHARE_FOR_SHOWING = 0.1, 0.03


@dataclass(frozen=True, eq=False)
class ExpertChoice:
    """Which experts of an A3MoE adapter a question and its image chose, layer by layer.

    Attributes:
        query_gates: float32 [layers, experts], how the question mixes the query experts, rows sum to 1; None where
            the adapter has no choice of query experts.
        key_choice: int64 [layers, patches, K], the experts of each image patch, most probable first; None where the
            adapter has no choice of key experts.
        key_probabilities: float32 [layers, patches, experts], the key router's probabilities; None as key_choice.
    """

    query_gates: np.ndarray | None
    key_choice: np.ndarray | None
    key_probabilities: np.ndarray | None


@dataclass(frozen=True, eq=False)
class AdapterView:
    """What the model with one adapter answered and where it looked.

    Attributes:
        adapter: the adapter's name; "base" for the model without one.
        answer: the decoded answer, special tokens removed.
        tokens: every token of prompt and answer in sequence order, image tokens included.
        maps: attention of every head from every text token to every patch, read while the answer was written.
        visual_ratio: float32 [layers, heads], share of the text tokens' attention that goes to the image.
        critical_heads: the heads with the highest visual ratio, highest first.
        metrics: named numbers about the maps (see a3tune.attention.metrics).
        experts: what the adapter's routers chose in the same pass; None where it has no routers.
        notes: what is to be said about the adapter, such as that it was made for other weights.
        mode: "alone", "alone: <why not in one batch>", or "one batch: <adapters>" where several answered as the rows of
            one batch; times are the batch's then.
    """

    adapter: str
    answer: str
    tokens: tuple[Token, ...]
    maps: AttentionMaps
    visual_ratio: np.ndarray
    critical_heads: tuple[Head, ...]
    metrics: dict[str, float] = field(default_factory=dict)
    experts: ExpertChoice | None = None
    notes: tuple[str, ...] = ()
    mode: str = "alone"


def check_adapters(
    adapters: Sequence[str], adapter_set: AdapterSet | Callable[[str], AdapterSet | None] | None
) -> None:
    """Refuse what cannot be asked, before anything is read.

    Raises:
        RequestError: no adapter is named.
        AdapterError: one that ``adapter_set`` does not hold; a function is asked when its turn comes.
    """
    if not adapters:
        raise RequestError(expected="at least one adapter", got="No adapter was chosen", remedy=f'Choose "{BASE}"')
    if not callable(adapter_set):
        for adapter in adapters:
            _check_held(adapter, adapter_set)


def each_view(
    model: VisionLanguageModel,
    prompt: EncodedPrompt,
    adapters: Sequence[str],
    adapter_set: AdapterSet | Callable[[str], AdapterSet | None] | None,
    *,
    coverage: np.ndarray | None,
    critical_count: int | None,
    max_new_tokens: int,
    on_views: Callable[[tuple[AdapterView, ...], dict[str, float]], None] | None,
    proceed: Progress,
    should_stop: Callable[[], bool] | None,
    prefixes: PrefixCache | None,
    together: bool,
) -> Iterator[tuple[tuple[AdapterView, ...], dict[str, float]]]:
    """Answer a prompt with one adapter after another, or with several at once.

    Args:
        prompt: without an answer.
        coverage: float32 [patches], 0 to 1: how much of each patch of the prompt's images the target covers, image
            after image; None where no target is known.
        on_views: called while an answer is written with all views, the last one up to there, and the seconds.
        proceed: told of each part; may raise.
        The others are as in `a3tune.inspection.inspect.inspect_each`.

    Yields:
        After each adapter all views so far, and how long their parts took.
    """
    seconds: dict[str, float] = {}
    mode = "alone"
    if together and len(adapters) > 1:
        reason = _reason_against_batch(adapters, adapter_set, prefixes)
        mode = f"alone: {reason}" if reason else "one batch"
    # Sharing the features of several images is not proven for any class.
    if prefixes is None and len(adapters) > 1 and len(prompt.images) == 1:
        prefixes = PrefixCache(features_only=True)
    asked = _Asked(model, prompt, coverage, critical_count, prefixes, mode)
    if mode == "one batch" and isinstance(adapter_set, AdapterSet):
        found = asked.answer_together(adapters, adapter_set, max_new_tokens, proceed, should_stop)
        seconds = {name: value for _, took in found for name, value in took.items()}
        proceed("Done", 1.0)
        for count in range(1, len(found) + 1):
            yield tuple(view for view, _ in found[:count]), seconds
        return

    def show(views: tuple[AdapterView, ...], view: AdapterView) -> None:
        if on_views is not None:
            on_views((*views, view), seconds)

    views: tuple[AdapterView, ...] = ()
    for number, adapter in enumerate(adapters):
        held = adapter_set(adapter) if callable(adapter_set) else adapter_set
        _check_held(adapter, held)
        view, took = asked.answer(
            adapter,
            held,
            max_new_tokens,
            partial(show, views) if on_views is not None else None,
            part_of(proceed, number / len(adapters), (number + 1) / len(adapters)),
            should_stop,
        )
        views, seconds = (*views, view), {**seconds, **took}
        if len(views) == len(adapters):
            proceed("Done", 1.0)
        yield views, seconds


def progress_until(on_progress: Progress, should_stop: Callable[[], bool] | None) -> Progress:
    """``on_progress``, which ends the work where ``should_stop`` says so."""

    def proceed(what: str, share: float) -> None:
        if should_stop is not None and should_stop():
            raise Cancelled
        on_progress(what, share)

    return proceed


@dataclass(frozen=True, eq=False)
class _Asked:
    """What one question asks of each adapter."""

    model: VisionLanguageModel
    prompt: EncodedPrompt
    coverage: np.ndarray | None
    critical_count: int | None
    prefixes: PrefixCache | None
    mode: str

    @memory_for("an answer and its maps", TO_ANSWER)
    def answer(
        self,
        adapter: str,
        held: AdapterSet | None,
        most: int,
        on_view: Callable[[AdapterView], None] | None,
        proceed: Progress,
        should_stop: Callable[[], bool] | None,
    ) -> tuple[AdapterView, dict[str, float]]:
        """The adapter's view, and how long its parts took."""
        proceed(f"Answering ({adapter})", 0.1)
        began, due = time.perf_counter(), 0.0
        took: dict[str, float] = {}

        def written(ids: tuple[int, ...], read: Callable[[], AttentionMaps]) -> None:
            nonlocal due
            now = time.perf_counter()
            took.setdefault(f"{adapter}.first word", now - began)
            proceed(f"{adapter}: {self.model.decode(ids)}", 0.1 + 0.8 * len(ids) / most)
            if on_view is not None and now >= due:
                on_view(self._view(adapter, held, ids, read(), use))
                spent = time.perf_counter() - now
                due = now + max(_SHOWN_EACH, spent * (1 + 1 / _SHARE_FOR_SHOWING))

        with adapted(self.model, held, adapter, self.prompt, growing=True), record_experts() as use:
            answer, maps = answer_with_maps(
                self.model,
                self.prompt,
                max_new_tokens=most,
                on_word=written,
                should_stop=should_stop,
                prefixes=self.prefixes,
                name=adapter,
            )
        took[f"{adapter}.answer"] = time.perf_counter() - began
        return self._view(adapter, held, answer.token_ids, maps, use), took

    @memory_for("an answer and its maps", TO_ANSWER)
    def answer_together(
        self,
        adapters: Sequence[str],
        held: AdapterSet,
        most: int,
        proceed: Progress,
        should_stop: Callable[[], bool] | None,
    ) -> list[tuple[AdapterView, dict[str, float]]]:
        """The same for several adapters at once, or in smaller batches where memory does not hold them together."""

        def answer(names: Sequence[str]) -> list[tuple[AdapterView, dict[str, float]]]:
            proceed(f"Answering ({', '.join(names)})", 0.1)
            began = time.perf_counter()
            first: list[float] = []

            def written(ids: tuple[int, ...]) -> None:
                first.append(time.perf_counter() - began)
                proceed(f"{', '.join(names)}: {self.model.decode(ids)}", 0.1 + 0.8 * len(ids) / most)

            with record_experts() as use:
                found = answers_together(
                    self.model, self.prompt, held, names, max_new_tokens=most, on_word=written, should_stop=should_stop
                )
            took = time.perf_counter() - began
            mode = f"one batch: {', '.join(names)}" if len(names) > 1 else "alone: too little memory for one batch"
            views = []
            for name, (written_answer, maps) in zip(names, found, strict=True):
                view = replace(self._view(name, held, written_answer.token_ids, maps, use), mode=mode)
                seconds = {f"{name}.first word": first[0]} if first else {}
                views.append((view, {**seconds, f"{name}.answer": took}))
            return views

        return in_halves(answer, adapters)

    def _view(
        self, adapter: str, held: AdapterSet | None, ids: Sequence[int], maps: AttentionMaps, use: ExpertUse
    ) -> AdapterView:
        whole = self.model.append_answer(self.prompt, ids)
        ratio = visual_ratio(maps.image_share)
        heads = critical_heads(ratio, maps.heads if self.critical_count is None else self.critical_count)
        metrics = measure_answer(head_set_map(maps, heads, answer_rows(whole.tokens, maps)), self.coverage)
        experts = None if held is None else _experts(use, held, adapter)
        origin = "" if held is None else held.origin(adapter)
        notes = (f"{adapter}: {origin}",) if origin else ()
        text = self.model.decode(ids)
        return AdapterView(adapter, text, whole.tokens, maps, ratio, heads, metrics, experts, notes, self.mode)


def _reason_against_batch(
    adapters: Sequence[str], adapter_set: AdapterSet | Callable[[str], AdapterSet | None] | None, prefixes: object
) -> str:
    if prefixes is not None:
        return "each goes on from what it has read of the image"
    if not isinstance(adapter_set, AdapterSet):
        return "the adapters are not held together"
    return reason_against_mixing(adapter_set, adapters)


def _check_held(adapter: str, adapters: AdapterSet | None) -> None:
    held = (BASE,) if adapters is None else adapters.names
    if adapter not in held:
        raise AdapterError(
            expected=f"one of: {', '.join(held)}",
            got=f'There is no adapter "{adapter}"',
            remedy="Choose one of these, or load the adapter first",
        )


def _experts(use: ExpertUse, adapters: AdapterSet, name: str) -> ExpertChoice | None:
    config = adapters.config(name)
    if not isinstance(config, A3MoeConfig) or max(config.query_experts, config.key_experts) == 1:
        return None
    routed, inner = config.key_experts > 1, name_in_layers(name)
    return ExpertChoice(
        use.query_gates(adapter=inner) if config.query_experts > 1 else None,
        use.key_choice(adapter=inner) if routed else None,
        use.key_probabilities(adapter=inner) if routed else None,
    )


def answer_rows(tokens: Sequence[Token], maps: AttentionMaps) -> np.ndarray:
    """Indices on the row axis of ``maps`` from which the answer is written; all rows when the answer is empty."""
    positions = [token.read_at for token in tokens if token.role == "answer"]
    return rows_at(maps, positions) if positions else np.arange(len(maps.rows))
