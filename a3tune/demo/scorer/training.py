"""Trains the demo scorer: a small open_clip model that ranks regions of phantoms for a question.

It has the form of any open_clip model (``local-dir``), so the code that runs BiomedCLIP runs it, and it knows
synthetic phantoms only.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import cv2
import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from a3tune.demo.scorer.data import CropExample, Query, make_examples
from a3tune.labels.scorers.crops import VIEW_SIDE
from a3tune.labels.scorers.open_clip_folder import CONFIG, CROP_KEY
from a3tune.labels.segmenters.lite_medsam import LiteMedSamSegmenter
from a3tune.phantom.questions import example_questions
from a3tune.phantom.structures import KINDS, TRAINING_SEEDS
from a3tune.progress import Progress, no_progress
from a3tune.storage import place_folder, write_json

CONTEXT_LENGTH = 48
VOCABULARY = 1024
_PREPROCESS: dict[str, Any] = {
    "mean": [0.3, 0.3, 0.3],
    "std": [0.3, 0.3, 0.3],
    "interpolation": "bicubic",
    "resize_mode": "longest",
    "fill_color": 0,
}
_TEMPERATURE = 0.05
_POSITIVE_IOU = 0.5
_UNCLEAR_IOU = 0.35
# Of one phantom in one step; others come in later steps.
_CROPS = 40
_QUERIES = 10
# Drawing a phantom with LiteMedSAM takes so many times as long as with region proposals.
_SEGMENTING_COST = 9


@dataclass(frozen=True)
class Recipe:
    """How much the scorer is trained.

    Attributes:
        phantoms: how many training phantoms are drawn, with region proposals as candidates.
        segmented: how many more are drawn, with LiteMedSAM's regions as candidates.
        steps, closing_steps: optimiser steps of the two stages, 7 phantoms each.
        measured: on how many phantoms the card's figures are measured.
    """

    phantoms: int = 800
    segmented: int = 110
    steps: int = 600
    closing_steps: int = 280
    measured: int = 24


def train_scorer(
    out: Path,
    *,
    seed: int = 0,
    recipe: Recipe | None = None,
    on_progress: Progress = no_progress,
    examples: Sequence[CropExample] | None = None,
) -> None:
    """Train the demo scorer and save it in open_clip's ``local-dir`` form; about 17 minutes on 2 cores.

    Region proposals are cheap candidates and teach most of it; a second stage gives nearly equal room to the regions
    that LiteMedSAM draws, which the scorer meets at use.

    Args:
        out: the folder; it is replaced only when training is done.
        seed: of phantoms, weights and batches.
        recipe: how much it is trained.
        on_progress: called with what is being done and the share done, 0 to 1.
        examples: crops that are already there, instead of drawing phantoms.
    """
    recipe = recipe or Recipe()
    torch.manual_seed(seed)
    if examples is None:
        drawing: list[CropExample] = []
        work = recipe.phantoms + _SEGMENTING_COST * recipe.segmented
        for example in draw_examples(seed, recipe.phantoms, recipe.segmented):
            drawing.append(example)
            cheap_done, drawn_done = min(len(drawing), recipe.phantoms), max(len(drawing) - recipe.phantoms, 0)
            on_progress("drawing phantoms", 0.5 * (cheap_done + _SEGMENTING_COST * drawn_done) / work)
        examples, segmented = drawing, drawing[recipe.phantoms :] or drawing
        cheap: Sequence[CropExample] = drawing[: recipe.phantoms]
        drawn: Sequence[CropExample] = segmented
    else:
        cheap = drawn = examples
    tokenizer = build_tokenizer(query.text for example in examples for query in example.queries)
    config = model_config(len(tokenizer))
    model = open_clip.CLIP(**config).train()
    rng = np.random.default_rng((seed, 9))
    total = recipe.steps + recipe.closing_steps
    stages = (_Stage((5, 2), recipe.steps, 1e-3, 0), _Stage((4, 3), recipe.closing_steps, 5e-4, recipe.steps))
    for stage in stages:
        _fit(
            model,
            tokenizer,
            (cheap, drawn),
            stage,
            rng,
            lambda done: on_progress("training the scorer", 0.5 + 0.5 * done / total),
        )
    save_scorer(model.eval(), config, tokenizer, out)
    on_progress("done", 1.0)


def draw_examples(seed: int, phantoms: int, segmented: int) -> Iterator[CropExample]:
    """The examples that :func:`train_scorer` learns from, in order of their seeds, drawn by all cores.

    Args:
        seed: of the scorer.
        phantoms: how many with region proposals as candidates; they come first.
        segmented: how many with LiteMedSAM's regions.
    """
    first = TRAINING_SEEDS[seed * (phantoms + segmented)]
    orders = [(first + index, index >= phantoms) for index in range(phantoms + segmented)]
    workers = min(os.cpu_count() or 1, 8)
    # Started afresh: a forked process may hold a lock of a thread that it does not have.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_use_one_thread) as pool:
        yield from pool.map(_draw_example, orders, chunksize=4)


def _use_one_thread() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _draw_example(order: tuple[int, bool]) -> CropExample:
    seed, segmented = order
    return next(make_examples([seed], segmenter=_segmenter() if segmented else None))


@lru_cache(maxsize=1)
def _segmenter() -> LiteMedSamSegmenter:
    return LiteMedSamSegmenter(device="cpu")


def model_config(vocabulary: int) -> dict[str, Any]:
    """open_clip's ``model_cfg`` of the demo scorer."""
    return {
        "embed_dim": 128,
        "vision_cfg": {"image_size": VIEW_SIDE, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64},
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": vocabulary,
            "width": 128,
            "heads": 4,
            "layers": 2,
            "no_causal_mask": True,
            "hf_tokenizer_name": "tokenizer",
            "pool_type": "argmax",
        },
    }


def build_tokenizer(texts: Any) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of about 1000 pieces; lower case; the end mark has the highest id.

    open_clip reads a text's embedding at its highest token id.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 1,
        special_tokens=["<pad>", "<start>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    extra = itertools.chain.from_iterable(example_questions(kind) for kind in KINDS)
    tokenizer.train_from_iterator(itertools.chain(texts, extra), trainer)
    tokenizer.add_special_tokens(["<end>"])
    start, end = tokenizer.token_to_id("<start>"), tokenizer.token_to_id("<end>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", start), ("<end>", end)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<start>", eos_token="<end>"
    )


def save_scorer(model: nn.Module, config: dict[str, Any], tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write configuration, float16 weights and tokenizer; ``out`` is replaced in one step."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent) as work:
        folder = Path(work) / "scorer"
        folder.mkdir()
        settings = {"name": "Phantom scorer (demo)", CROP_KEY: "surroundings"}
        write_json(folder / CONFIG, {**settings, "model_cfg": config, "preprocess_cfg": _PREPROCESS})
        state = {
            name: (value.half() if value.is_floating_point() else value).detach().contiguous()
            for name, value in model.state_dict().items()
        }
        save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
        tokenizer.save_pretrained(folder)
        place_folder(folder, out)


class _Stage(NamedTuple):
    """Phantoms of each pool in a batch, steps, peak learning rate, steps done before."""

    mixture: tuple[int, int]
    steps: int
    rate: float
    before: int


def _fit(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerFast,
    pools: tuple[Sequence[CropExample], Sequence[CropExample]],
    stage: _Stage,
    rng: np.random.Generator,
    report: Callable[[int], None],
) -> None:
    decayed = [weight for weight in model.parameters() if weight.ndim >= 2]
    plain = [weight for weight in model.parameters() if weight.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}],
        lr=stage.rate,
        betas=(0.9, 0.98),
    )
    endless = [_shuffled([example for example in pool if example.queries], rng) for pool in pools]
    for step in range(stage.steps):
        warm = min(1.0, (step + 1) / 50)
        for group in optimizer.param_groups:
            group["lr"] = stage.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / stage.steps)))
        batch = [next(source) for source, count in zip(endless, stage.mixture, strict=True) for _ in range(count)]
        loss = _batch_loss(model, tokenizer, batch, rng)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        report(stage.before + step + 1)


def _shuffled(examples: Sequence[CropExample], rng: np.random.Generator) -> Iterator[CropExample]:
    """Every example in a new order, again and again."""
    while True:
        for index in rng.permutation(len(examples)):
            yield examples[index]


def _batch_loss(
    model: Any, tokenizer: PreTrainedTokenizerFast, batch: Sequence[CropExample], rng: np.random.Generator
) -> Tensor:
    pictures, overlaps = [], []
    queries: list[tuple[int, Query]] = []
    for row, example in enumerate(batch):
        kept = rng.permutation(len(example.crops))[:_CROPS]
        pictures.append(_augmented(example.crops[kept], rng))
        overlaps.append(torch.from_numpy(example.overlaps[:, kept]))
        chosen = rng.permutation(len(example.queries))[:_QUERIES]
        queries.extend((row, example.queries[index]) for index in chosen)
    crops = functional.normalize(model.encode_image(torch.cat(pictures)), dim=-1).split([len(one) for one in pictures])
    tokens = tokenizer(
        [query.text for _, query in queries],
        return_tensors="pt",
        max_length=CONTEXT_LENGTH,
        padding="max_length",
        truncation=True,
    ).input_ids
    wanted = functional.normalize(model.encode_text(tokens), dim=-1)
    losses = []
    for text, (row, query) in zip(wanted, queries, strict=True):
        loss = _query_loss(crops[row] @ text / _TEMPERATURE, overlaps[row][list(query.targets)])
        if loss is not None:
            losses.append(loss)
    return torch.stack(losses).mean()


def _query_loss(logits: Tensor, overlaps: Tensor) -> Tensor | None:
    """Each structure asked about should have a crop that outranks all crops that show something else.

    Half of it is the log of the share that the structure's good crops together hold of the softmax, over the crops of
    one image (MIL-NCE, Miech et al., CVPR 2020), which one perfect outline can satisfy; half is the mean over the good
    crops, each against the others alone, because at use an outline that is good enough may be the only one. Crops that
    show the structure badly, or another one asked about, are left out. None when there is nothing to tell apart.
    """
    good = overlaps >= _POSITIVE_IOU
    good = good[good.any(dim=1)]
    other = overlaps.amax(dim=0) < _UNCLEAR_IOU
    if not len(good) or not other.any():
        return None
    rest = logits[other].logsumexp(dim=0)
    hits = logits.expand(len(good), -1).masked_fill(~good, -torch.inf).logsumexp(dim=1)
    together = torch.logaddexp(hits, rest) - hits
    each = (torch.logaddexp(logits, rest) - logits).expand(len(good), -1)
    alone = torch.where(good, each, 0.0).sum(dim=1) / good.sum(dim=1)
    return (together + alone).mean() / 2


def _augmented(crops: np.ndarray, rng: np.random.Generator) -> Tensor:
    values = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
    gain, gamma = rng.uniform(0.95, 1.05), rng.uniform(0.93, 1.08)
    # The half of the grey scale that marks the region in the second and third view must stay what it is.
    offset = torch.zeros_like(values)
    offset[:, 1:] = (values[:, 1:] >= 128 / 255) * (128 / 255)
    span = torch.tensor([1.0, 0.5, 0.5]).view(1, 3, 1, 1)
    toned = (gain * ((values - offset) / span).clamp(0, 1).pow(gamma)).clamp(0, 1) * span + offset
    return (toned - _PREPROCESS["mean"][0]) / _PREPROCESS["std"][0]
