"""Training of the demo model.

First the vision tower and the projector learn patch segmentation in words: the projected patch is compared with
the word embeddings of the language model, so that a patch of a nodule in the right lung carries "nodule",
"right" and "lung". Then projector and language model learn to answer questions.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn
from torch.nn import functional
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from a3tune.attention.capture import capture, prepare_capture
from a3tune.demo.model import END
from a3tune.demo.training_data import IGNORED, PackedBatch, PhantomSample, QuestionPacker, coverage_batch, pixel_batch
from a3tune.progress import Progress, no_progress
from a3tune.types import Head

DRILL = {"yes": 3, "no": 3}
FIRST_LAYER_PENALTY = 0.075


def _batches(samples: Sequence[PhantomSample], size: int, steps: int, seed: int) -> Iterator[list[PhantomSample]]:
    """``steps`` batches of ``size`` samples; every sample comes once before any comes again."""
    generator = random.Random(seed)
    order: list[int] = []
    for _ in range(steps):
        while len(order) < size:
            fresh = list(range(len(samples)))
            generator.shuffle(fresh)
            order += fresh
        yield [samples[index] for index in order[:size]]
        del order[:size]


def _optimiser(
    modules: Sequence[nn.Module], rate: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW without weight decay on vectors; 5 % warm-up, then a cosine to a twentieth."""
    parameters = {id(p): p for module in modules for p in module.parameters() if p.requires_grad}.values()
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95))
    warm = max(1, steps // 20)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.05 + 0.475 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


def _step(loss: torch.Tensor, optimiser: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler) -> None:
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 1.0)
    optimiser.step()
    schedule.step()
    optimiser.zero_grad(set_to_none=True)


def patch_features(model: LlavaForConditionalGeneration, pixels: torch.Tensor) -> torch.Tensor:
    """float [batch, 256, width]: what the projector gets for each patch (class token dropped)."""
    return model.model.vision_tower(pixels).last_hidden_state[:, 1:]


class _WordLogits(nn.Module):
    """Scaled cosine between projected patches and word embeddings, plus how common each word is."""

    def __init__(self, model: LlavaForConditionalGeneration, processor: LlavaProcessor, words: Sequence[str]) -> None:
        super().__init__()
        self._embeddings = [model.get_input_embeddings()]
        tokens = [processor.tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in words]
        self._tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in tokens], True, -1)
        self.scale = nn.Parameter(torch.tensor(2.3))
        self.bias = nn.Parameter(torch.full((len(words),), -4.0))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        known = (self._tokens >= 0)[..., None]
        words = (self._embeddings[0](self._tokens.clamp(min=0)) * known).sum(1) / known.sum(1)
        cosine = functional.normalize(patches, dim=-1) @ functional.normalize(words, dim=-1).T
        return self.scale.exp() * cosine + self.bias


def train_vision(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    samples: Sequence[PhantomSample],
    *,
    steps: int,
    seed: int,
    batch: int = 16,
    rate: float = 1e-3,
    on_progress: Progress = no_progress,
) -> None:
    """Teach vision tower, projector and word embeddings which words each patch carries.

    The loss is binary cross-entropy on the covered share of each patch, each word weighted up the rarer it is, so
    that a small nodule counts beside a lung.
    """
    words = sorted({word for sample in samples for word in sample.coverage})
    share = coverage_batch(samples[:2000], words).mean(dim=(0, 1))
    weight = (0.05 / (share + 1e-4)).clamp(1.0, 20.0)
    head = _WordLogits(model, processor, words)
    trained = [model.model.vision_tower, model.model.multi_modal_projector, model.get_input_embeddings(), head]
    optimiser, schedule = _optimiser(trained, rate, steps)
    for number, chosen in enumerate(_batches(samples, batch, steps, seed)):
        patches = model.model.multi_modal_projector(patch_features(model, pixel_batch(chosen)))
        loss = functional.binary_cross_entropy_with_logits(
            head(patches), coverage_batch(chosen, words), pos_weight=weight
        )
        _step(loss, optimiser, schedule)
        if (number + 1) % 10 == 0:
            on_progress(f"vision tower, loss {loss.item():.4f}", (number + 1) / steps)


@torch.no_grad()
def cache_features(
    model: LlavaForConditionalGeneration, samples: Sequence[PhantomSample], batch: int = 64
) -> torch.Tensor:
    """float16 [samples, 256, width]: the frozen tower's features, computed once."""
    chunks = [
        patch_features(model, pixel_batch(samples[start : start + batch])).half()
        for start in range(0, len(samples), batch)
    ]
    return torch.cat(chunks)


def packed_logits(model: LlavaForConditionalGeneration, packed: PackedBatch, features: torch.Tensor) -> torch.Tensor:
    """Next-token logits of a packed batch.

    Args:
        features: float [batch, 256, width] from :func:`patch_features`.

    Returns:
        float [batch, length, vocabulary].
    """
    language = model.model.language_model
    embeddings = language.get_input_embeddings()(packed.ids)
    image = (packed.ids == model.config.image_token_index)[..., None]
    embeddings = embeddings.masked_scatter(image, model.model.multi_modal_projector(features))
    hidden = language(
        inputs_embeds=embeddings, attention_mask=packed.visible, position_ids=packed.positions, use_cache=False
    ).last_hidden_state
    return model.lm_head(hidden)


def train_language(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    samples: Sequence[PhantomSample],
    features: torch.Tensor,
    *,
    steps: int,
    seed: int,
    batch: int = 4,
    per_image: int = 8,
    rate: float = 1.5e-3,
    on_progress: Progress = no_progress,
) -> None:
    """Teach projector and language model to answer; the vision tower stays as it is.

    A token of the first layer knows itself alone, not yet what is asked, so its look at the image cannot be an informed
    one. The share of the first layer's attention that goes to the image therefore costs a little: what reads the image
    are the layers behind it, as in large models, and their heads become the critical ones.

    Args:
        features: of the samples, from :func:`cache_features`.
    """
    packer = QuestionPacker(processor, seed=seed, per_image=per_image, vary=True, early=0.5, drilled=DRILL)
    prepare_capture(model)
    first_layer = [Head(0, head) for head in range(model.config.text_config.num_attention_heads)]
    step = 0

    def loss_of(packed: PackedBatch, seen: torch.Tensor) -> torch.Tensor:
        nonlocal step
        step += 1
        with capture(packed.asking, packed.ids == model.config.image_token_index, first_layer) as record:
            loss = _answer_loss(model, packed, seen)
        shares = [record.select(b, first_layer).sum(dim=-1).flatten() for b in range(len(packed.ids))]
        return loss + FIRST_LAYER_PENALTY * min(1.0, step / (0.3 * steps)) * torch.cat(shares).mean()

    _learn(model, samples, features, packer, loss_of, steps, seed + 1, batch, rate, "language model", on_progress)
    model.set_attn_implementation("sdpa")


def finish_language(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    samples: Sequence[PhantomSample],
    features: torch.Tensor,
    sentences: Sequence[str],
    *,
    steps: int,
    seed: int,
    batch: int = 4,
    texts: int = 32,
    rate: float = 5e-4,
    on_progress: Progress = no_progress,
) -> None:
    """A last stretch: the samples' questions, and between them sentences without an image.

    Answers alone would leave a language model that is sure never to write any other word. Sentences that belong to no
    image give it the words back, and nothing to see them by.

    Args:
        features: of the samples, from :func:`cache_features`.
        sentences: plain text.
        texts: sentences in a step.
    """
    packer = QuestionPacker(processor, seed=seed + 7, vary=True, early=0.5)
    generator = random.Random(seed + 13)

    def loss_of(packed: PackedBatch, seen: torch.Tensor) -> torch.Tensor:
        drawn = [f"{text}{END}" for text in generator.sample(sentences, texts)]
        return _answer_loss(model, packed, seen) + _sentence_loss(model, processor, drawn)

    _learn(model, samples, features, packer, loss_of, steps, seed + 11, batch, rate, "last stretch", on_progress)


def _sentence_loss(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, sentences: Sequence[str]
) -> torch.Tensor:
    """Cross-entropy of every token of some sentences, read without an image."""
    batch = processor.tokenizer(list(sentences), padding=True, padding_side="right", return_tensors="pt")
    hidden = model.model.language_model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
    ).last_hidden_state
    following = batch["input_ids"][:, 1:].masked_fill(batch["attention_mask"][:, 1:] == 0, IGNORED)
    return functional.cross_entropy(model.lm_head(hidden[:, :-1]).flatten(0, 1), following.flatten())


def _answer_loss(model: LlavaForConditionalGeneration, packed: PackedBatch, seen: torch.Tensor) -> torch.Tensor:
    logits = packed_logits(model, packed, seen)
    asked = packed.labels != IGNORED
    losses = functional.cross_entropy(logits[asked], packed.labels[asked], reduction="none")
    return losses @ packed.weights[asked] / packed.weights.sum()


def _learn(
    model: LlavaForConditionalGeneration,
    samples: Sequence[PhantomSample],
    features: torch.Tensor,
    packer: QuestionPacker,
    loss_of: Callable[[PackedBatch, torch.Tensor], torch.Tensor],
    steps: int,
    seed: int,
    batch: int,
    rate: float,
    what: str,
    on_progress: Progress,
) -> None:
    positions = {sample.seed: index for index, sample in enumerate(samples)}
    optimiser, schedule = _optimiser([model.model.language_model, model.model.multi_modal_projector], rate, steps)
    for number, chosen in enumerate(_batches(samples, batch, steps, seed)):
        loss = loss_of(packer.pack(chosen), features[[positions[sample.seed] for sample in chosen]].float())
        _step(loss, optimiser, schedule)
        if (number + 1) % 10 == 0:
            on_progress(f"{what}, loss {loss.item():.4f}", (number + 1) / steps)
