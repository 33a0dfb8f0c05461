"""How two readings of one prompt are joined to the next token's scores: pure functions of logits.

All logits are float [batch, vocabulary]; the result is sampled from, or maximised; -inf for tokens that are out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch


def plausible(scores: torch.Tensor, reference: torch.Tensor, beta: float) -> torch.Tensor:
    """``scores`` with -inf where ``reference < max reference + log(beta)`` (Li et al., "Contrastive Decoding", ACL
    2023): a token that the plain model finds unlikely is not to win by a difference."""
    least = reference.amax(dim=-1, keepdim=True) + math.log(beta)
    return scores.masked_fill(reference < least, -math.inf)


def contrasted(logits: torch.Tensor, distorted: torch.Tensor, alpha: float, beta: float) -> torch.Tensor:
    """``(1 + alpha) z - alpha z'`` among the plausible tokens: VCD, AVISC and DAMRO differ in what distorts z'."""
    return plausible((1 + alpha) * logits - alpha * distorted, logits, beta)


def grounded(logits: torch.Tensor, unconditioned: torch.Tensor, step: int, rate: float, beta: float) -> torch.Tensor:
    """M3ID: ``lc + (1 - g) / g * (lc - lu)`` with log-probabilities with and without the image and ``g = exp(-rate *
    step)``, step counting from 1: the further the answer, the more the image counts."""
    with_image, without = logits.log_softmax(dim=-1), unconditioned.log_softmax(dim=-1)
    trust = math.exp(-rate * step)
    return plausible(with_image + (1 - trust) / trust * (with_image - without), logits, beta)


def guided(logits: torch.Tensor, unconditioned: torch.Tensor, gamma: float, beta: float) -> torch.Tensor:
    """PAI's guidance: ``gamma (lc - lu) + lu`` among the plausible tokens of lc."""
    with_image, without = logits.log_softmax(dim=-1), unconditioned.log_softmax(dim=-1)
    return plausible(gamma * (with_image - without) + without, with_image, beta)


def boosted(scores: torch.Tensor, image: torch.Tensor, alpha: float) -> torch.Tensor:
    """PAI's attention: ``x + alpha |x|`` for the scores on the image, before the softmax.

    Args:
        scores: float [..., keys], of the last token.
        image: bool, broadcast to ``scores``.
    """
    return torch.where(image, scores + alpha * scores.abs(), scores)


def layer_contrast(final: torch.Tensor, early: torch.Tensor, relative_top: float) -> torch.Tensor:
    """DoLa: log-probabilities of the last layer less those of the early layer that differs most from it.

    Args:
        final: float [batch, vocabulary], the logits.
        early: float [layers, batch, vocabulary], the logits that the candidate layers would give.
        relative_top: tokens below this share of the likeliest one's probability are out.
    """
    last, before = final.log_softmax(dim=-1), early.log_softmax(dim=-1)
    middle = (0.5 * (last.exp() + before.exp())).clamp(min=1e-12).log()
    divergence = 0.5 * (_kl(last.expand_as(before), middle) + _kl(before, middle))
    chosen = divergence.argmax(dim=0)
    picked = before[chosen, torch.arange(len(final), device=final.device)]
    return plausible(torch.where(last.isfinite(), last - picked, last), last, relative_top)


def kept_tokens(attention: torch.Tensor, share: float, deviations: float) -> torch.Tensor:
    """AVISC: the image tokens that attract attention blindly.

    Layers are taken by their share of all attention on the image, highest first, until ``share`` is reached; of their
    mean map, tokens at least ``deviations`` standard deviations above the mean are kept, all others are blanked.

    Args:
        attention: float [layers, patches], the heads' mean attention of the prompt's last token.

    Returns:
        bool [patches].
    """
    order = attention.sum(dim=1).argsort(descending=True, stable=True)
    shares = attention.sum(dim=1)[order] / attention.sum()
    count = int((shares.cumsum(dim=0) < share).sum()) + 1
    mean = attention[order[:count]].mean(dim=0)
    return mean >= mean.mean() + deviations * mean.std()


def leant_on(attention: torch.Tensor, scale: float) -> list[int]:
    """OPERA: for each word of an answer from the second on, the earlier one that it and those between lean on most: the
    column c < z with the largest product of ``scale * attention[i, c]`` over c < i <= z.

    Args:
        attention: float [words, words] and scale: as for `over_trust`.
    """
    logs = (scale * attention).clamp(min=1e-30).log().tril(-1)
    products = logs.cumsum(dim=0)
    return [int(products[z, :z].argmax()) for z in range(1, len(attention))]


def summary_word(leant: Sequence[int], threshold: int) -> int | None:
    """OPERA: the word that most of an answer's words lean on, the first of several; None where fewer than ``threshold``
    do."""
    word, count = max(Counter(leant).items(), key=lambda found: (found[1], -found[0]), default=(0, 0))
    return word if count >= threshold else None


def over_trust(attention: torch.Tensor, scale: float) -> torch.Tensor:
    """OPERA: how much the words of an answer lean on one earlier word: the largest product down a column.

    Args:
        attention: float [..., words, words], row i the attention of word i on the words up to it, highest head.
        scale: by which weights are raised before they are multiplied.

    Returns:
        float [...]; 0 for an answer of one word.
    """
    words = attention.shape[-1]
    if words < 2:
        return attention.new_zeros(attention.shape[:-2])
    below = torch.ones(words, words, dtype=torch.bool, device=attention.device).tril(-1)
    logs = torch.where(below, (scale * attention).clamp(min=1e-30).log(), 0.0)
    return logs.sum(dim=-2)[..., :-1].amax(dim=-1).exp()


def _kl(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    terms = first.exp() * (first - second)
    return torch.where(first.isfinite(), terms, 0.0).sum(dim=-1)
