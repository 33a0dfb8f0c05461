"""How far the attention to the image is from the regions that matter: differentiable losses, pure torch.

"Focus on What Matters: Enhancing Medical Vision-Language Models with Automatic Attention Alignment Tuning" (A3Tune),
ACL 2025: the attention of the critical heads, from every text token after the image to the patches, is pulled
towards weak masks. Letters in shapes: L layers, H heads, K chosen heads, R text rows, P patches, M masks.

Everything here works on one sample; `batch_alignment_loss` averages samples, so that the heads and the masks of
one sample never meet those of another. Half precision is raised to float32; float64 stays float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from a3tune.errors import RequestError
from a3tune.types import Head

Form = str
"""A name in `FORMS`."""

Combine = Literal["union", "each"]

GROUND_TRUTH_WEIGHT = 5.0
"""How much more a ground-truth mask counts than a weak one (the paper's code)."""

_NO_WEIGHT = 1e-12
_FLOOR = 1e-12
_EPSILON = 1e-8


def pool_heads(weights: torch.Tensor, heads: Sequence[Head] | None = None) -> torch.Tensor:
    """The mean attention of chosen heads: exactly these, whatever their number.

    Heads are averaged before anything is normalised, so a head that looks at the image more counts more.

    Args:
        weights: [L, H, R, P] post-softmax weights on the patches; or [K, R, P] of heads that are already chosen.
        heads: which (layer, head) to take from [L, H, R, P]; all when None.

    Returns:
        [R, P], at least float32.

    Raises:
        RequestError: ``heads`` is empty or names a head that is not there, or ``weights`` has another shape.
    """
    weights = _precise(weights)
    if weights.ndim == 4 and heads is not None:
        layers, width = weights.shape[:2]
        wrong = [tuple(head) for head in heads if not (0 <= head[0] < layers and 0 <= head[1] < width)]
        if wrong or not heads:
            raise RequestError(
                expected=f"at least one (layer, head) below ({layers}, {width})",
                got=f"The heads to align hold {wrong[0]}" if wrong else "No head was chosen",
                remedy="Choose the heads on this model",
            )
        index = torch.tensor([tuple(head) for head in heads], device=weights.device)
        return weights[index[:, 0], index[:, 1]].mean(dim=0)
    if weights.ndim == 3 and heads is None:
        return weights.mean(dim=0)
    if weights.ndim == 4:
        return weights.mean(dim=(0, 1))
    raise RequestError(
        expected="weights [layers, heads, rows, patches], or [heads, rows, patches] without a choice of heads",
        got=f"They are {list(weights.shape)}",
        remedy="Pass the weights of one sample",
    )


def mass_loss(
    attention: torch.Tensor, targets: torch.Tensor, combine: Combine = "union", *, keep_empty: bool = False
) -> torch.Tensor:
    """Squared share of the visual attention that misses the target.

    With V = ``attention`` and m a mask: r_i = sum_j V_ij m_j / sum_j V_ij, loss = mean over rows of (1 - r_i)^2;
    with "each" this is summed over the masks (as published, every mask is asked to hold everything, so disjoint
    masks compete), with "union" the masks are joined first.

    Args:
        attention: [R, P], not negative; rows need not sum to 1.
        targets: [M, P], 0 to 1: how much of each patch a mask covers.
        combine: "union" or "each".
        keep_empty: count an empty mask as missed in full (a constant 1, as published) instead of leaving it out.

    Returns:
        scalar; 0 without (non-empty) masks or rows. A row without any visual weight counts as missed.
    """
    share = _share(*_prepared(attention, targets, combine, keep_empty))
    return (1 - share).square().mean(dim=0).sum() if share.numel() else attention.new_zeros((), dtype=share.dtype)


def log_mass_loss(
    attention: torch.Tensor, targets: torch.Tensor, combine: Combine = "union", *, keep_empty: bool = False
) -> torch.Tensor:
    """The same share r_i as in `mass_loss`, as a likelihood: loss = mean over rows of -log r_i.

    Not in the paper. The gradient of (1 - r)^2 fades with r, so a head that has settled on another place stays there;
    this one is the larger the further the attention is from the target. A floor of 1e-12 under r keeps it finite.

    Args and result as in `mass_loss`.
    """
    share = _share(*_prepared(attention, targets, combine, keep_empty))
    if not share.numel():
        return attention.new_zeros((), dtype=share.dtype)
    return -(share + _FLOOR).log().mean(dim=0).sum()


def _share(attention: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """[R, M]: the share of each row's visual attention inside each mask."""
    total = attention.sum(dim=-1, keepdim=True)
    # Dividing an underflown row by its own total would turn rounding into a huge gradient, or 0 / 0.
    return attention @ masks.T / torch.where(total > _NO_WEIGHT, total, torch.ones_like(total))


def kl_loss(
    attention: torch.Tensor, targets: torch.Tensor, combine: Combine = "union", *, keep_empty: bool = False
) -> torch.Tensor:
    """KL divergence from the target to the visual attention.

    q_i = V_i / (sum_j V_ij + 1e-8), p = m / (sum_j m_j + 1e-8), loss = mean over rows of sum_j p_j (log p_j -
    log q_ij), summed over the masks with "each". A floor of 1e-12 under V keeps exact zeros (underflow) finite.

    Args and result as in `mass_loss`; an empty mask contributes 0 either way.
    """
    attention, masks = _prepared(attention, targets, combine, keep_empty)
    if masks.shape[0] == 0 or attention.shape[0] == 0:
        return attention.new_zeros(())
    log_q = (attention + _FLOOR).log() - (attention.sum(dim=-1, keepdim=True) + _EPSILON).log()
    p = masks / (masks.sum(dim=-1, keepdim=True) + _EPSILON)
    entropy = torch.special.entr(p).sum()
    return -entropy - (p @ log_q.T).mean(dim=-1).sum()


@dataclass(frozen=True)
class LossForm:
    """One way to say how far attention is from its target.

    Attributes:
        compute: (attention [R, P], targets [M, P], combine) -> scalar, see `mass_loss`; differentiable, finite whatever
            underflows, 0 without a target.
        about: what it is, in words.
    """

    compute: Callable[[torch.Tensor, torch.Tensor, Combine], torch.Tensor]
    about: str


FORMS: dict[str, LossForm] = {
    "mass": LossForm(mass_loss, "squared share of the attention outside the masks, as in the paper"),
    "log_mass": LossForm(log_mass_loss, "logarithm of the share inside: pulls harder where attention is far off"),
    "kl": LossForm(kl_loss, "divergence of the attention from the masks, as in the paper"),
}
"""Every alignment loss by its name; what a configuration may name follows from it."""


def closest_mask_kl(weights: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The published per-head variant, for parity: each head is drawn to the mask nearest to it.

    Per head, a = mean over rows of its weights; log q = log softmax(a), p = softmax(m), D = mean over patches of
    p (log p - log q); the sum over heads of the smallest D over masks. Both softmaxes act on values that are
    already probabilities or 0/1, so the loss is nearly flat: use `mass_loss` or `kl_loss` to train.

    Args:
        weights: [K, R, P]. targets: [M, P].

    Returns:
        scalar, 0 without masks.
    """
    weights = _precise(weights)
    if targets.shape[0] == 0 or 0 in weights.shape:
        return weights.new_zeros(())
    log_q = weights.mean(dim=1).log_softmax(dim=-1).unsqueeze(1)
    log_p = targets.to(weights).log_softmax(dim=-1).unsqueeze(0)
    return (log_p.exp() * (log_p - log_q)).mean(dim=-1).min(dim=1).values.sum()


def alignment_loss(
    weights: torch.Tensor,
    targets: torch.Tensor,
    heads: Sequence[Head] | None = None,
    *,
    form: Form = "mass",
    combine: Combine = "union",
    ground_truth: torch.Tensor | None = None,
    ground_truth_weight: float = GROUND_TRUTH_WEIGHT,
) -> torch.Tensor:
    """The alignment loss of one sample over chosen heads.

    Args:
        weights: [L, H, R, P] (with ``heads``, or all heads without), or [K, R, P] of chosen heads.
        targets: [M, P], the weak masks, 0 to 1; M may be 0.
        heads: the heads to align, all of them.
        form: a name in `FORMS`.
        combine: "union" of the masks or "each" on its own.
        ground_truth: [G, P], masks that are known to be right; their loss is added with ``ground_truth_weight``.

    Returns:
        scalar with gradient, finite whatever underflows; 0 when no mask covers a patch.

    Raises:
        RequestError: shapes that do not fit, or an unknown form.
    """
    if form not in FORMS:
        raise RequestError(expected=f"one of {', '.join(FORMS)}", got=f"form is {form!r}", remedy="Choose one of these")
    compute, attention = FORMS[form].compute, pool_heads(weights, heads)
    loss = compute(attention, targets, combine)
    if ground_truth is not None:
        loss = loss + ground_truth_weight * compute(attention, ground_truth, combine)
    return loss


def batch_alignment_loss(
    weights: Sequence[torch.Tensor],
    targets: Sequence[torch.Tensor],
    heads: Sequence[Sequence[Head] | None] | None = None,
    *,
    form: Form = "mass",
    combine: Combine = "union",
    ground_truth: Sequence[torch.Tensor | None] | None = None,
    ground_truth_weight: float = GROUND_TRUTH_WEIGHT,
) -> torch.Tensor:
    """Mean of `alignment_loss` over the samples of a batch that have a target.

    Args:
        weights, targets, heads, ground_truth: one entry per sample, as in `alignment_loss`.

    Returns:
        scalar; 0 when no sample has a target.

    Raises:
        RequestError: the lists differ in length, or a sample's shapes do not fit.
    """
    count = len(weights)
    heads = [None] * count if heads is None else heads
    ground_truth = [None] * count if ground_truth is None else ground_truth
    if not count or {len(targets), len(heads), len(ground_truth)} != {count}:
        raise RequestError(
            expected=f"one entry per sample for each of the {count} samples",
            got=f"{len(targets)} targets, {len(heads)} head lists, {len(ground_truth)} ground truths",
            remedy="Pass lists of one length",
        )
    losses = [
        alignment_loss(
            weight, target, chosen, form=form, combine=combine, ground_truth=truth,
            ground_truth_weight=ground_truth_weight,
        )
        for weight, target, chosen, truth in zip(weights, targets, heads, ground_truth, strict=True)
        if target.any() or (truth is not None and truth.any())
    ]  # fmt: skip
    return torch.stack(losses).mean() if losses else _precise(weights[0]).new_zeros(())


def _prepared(
    attention: torch.Tensor, targets: torch.Tensor, combine: Combine, keep_empty: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    attention = _precise(attention)
    if attention.ndim != 2 or targets.ndim != 2 or attention.shape[1] != targets.shape[1]:
        raise RequestError(
            expected="attention [rows, patches] and targets [masks, patches] with the same patches",
            got=f"attention is {list(attention.shape)}, targets {list(targets.shape)}",
            remedy="Bring the masks onto the model's own patch grid",
        )
    if combine not in ("union", "each"):
        raise RequestError(expected='"union" or "each"', got=f"combine is {combine!r}", remedy="Choose one of the two")
    # Where the targets lie, usually on the CPU: which of them are empty, an accelerator would have to be asked.
    masks = targets.to(attention.dtype)
    if combine == "union" and len(masks):
        masks = masks.amax(dim=0, keepdim=True)
    masks = masks if keep_empty else masks[masks.sum(dim=-1) > 0]
    return attention, masks.to(attention.device, non_blocking=True)


def _precise(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
