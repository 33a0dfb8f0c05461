"""Which expert gets how much of a token: pure functions on tensors.

Letters in shapes: B rows of the batch, T tokens, N image tokens of the whole batch, E experts, K chosen experts.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def _softmax(logits: torch.Tensor) -> torch.Tensor:
    # Half precision is too coarse to tell close experts apart.
    dtype = torch.float32 if logits.dtype in (torch.bfloat16, torch.float16) else logits.dtype
    return logits.softmax(dim=-1, dtype=dtype)


def query_gates(x: torch.Tensor, question_mask: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """One gate per sequence: softmax(router(mean of the layer input over the question tokens)).

    Args:
        x: [B, T, in], the layer's input.
        question_mask: bool [B, T], at least one True in every row.
        weight, bias: the router, [E, in] and [E].

    Returns:
        [B, E], each row sums to 1, at least float32.
    """
    mask = question_mask.to(x.dtype)
    mean = torch.bmm(mask.unsqueeze(1), x).squeeze(1) / mask.sum(dim=1, keepdim=True)
    return _softmax(functional.linear(mean, weight, bias))


def key_probabilities(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """softmax(router(x)) of each image token: x [N, in] to [N, E], at least float32."""
    return _softmax(functional.linear(x, weight, bias))


def choose_experts(probabilities: torch.Tensor, top_k: int, gate: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The K experts of each image token and the weights of their outputs.

    Args:
        probabilities: [N, E], rows sum to 1.
        top_k: K.
        gate: "probability": weights are the probabilities; "straight_through": in the forward pass they are
            scaled to sum to 1 (so a single expert acts in full), in the backward pass they count as the
            probabilities, so that the router learns; "none": scaled to sum to 1, without gradient.

    Returns:
        choice int64 [N, K], most probable first; weights [N, K].
    """
    value, choice = probabilities.topk(top_k, dim=-1)
    if gate == "probability":
        return choice, value
    hard = (value / value.sum(dim=-1, keepdim=True)).detach()
    if gate == "none":
        return choice, hard
    return choice, hard + value - value.detach()


def balance_losses(probabilities: torch.Tensor, choice: torch.Tensor, rows: torch.Tensor, batch: int) -> torch.Tensor:
    """How unevenly each row's image tokens use one layer's experts: E / K * sum over e of mean(p_e) * mean(f_e).

    The load-balancing loss of sparse mixtures (Switch Transformer, eq. 4) with the layer's own number of experts, over
    the tokens of each row alone: so the mean over a batch does not depend on how the batch is cut into pieces or spread
    over processes.

    Args:
        probabilities: [N, E]. choice: int64 [N, K], the experts used (f is their 0/1 indicator, no gradient).
        rows: int64 [N], the row that each token belongs to, 0 to below ``batch``.
        batch: number of rows.

    Returns:
        [batch]: 1 when the use is even, up to E / K when one set of experts takes everything; 0 for a row without
        image tokens.
    """
    experts = probabilities.shape[1]
    of_row = functional.one_hot(rows, batch).to(probabilities.dtype)
    share = of_row / of_row.sum(dim=0).clamp(min=1)
    used = functional.one_hot(choice, experts).sum(dim=1).to(probabilities.dtype)
    return ((share.T @ probabilities) * (share.T @ used)).sum(dim=1) * (experts / choice.shape[1])


def published_balance_loss(probabilities: torch.Tensor, used: torch.Tensor) -> torch.Tensor:
    """The published form, for parity: sum over e of mean(p_e) * mean(f_e), means over layers and tokens at once.

    Args:
        probabilities, used: [layers, B, N, E]; ``used`` is 0/1.

    Returns:
        scalar, the mean over the batch; no factor E.
    """
    mean_probability = probabilities.mean(dim=(0, 2))
    mean_use = used.detach().to(probabilities.dtype).mean(dim=(0, 2))
    return (mean_probability * mean_use).sum(dim=-1).mean()
