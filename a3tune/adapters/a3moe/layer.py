"""A linear layer with A3MoE adapters: query experts, key experts or plain LoRA, one set per adapter.

Letters in shapes: B batch, T tokens, N image tokens of the batch, E experts, K chosen experts, r rank of one expert.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.nn import functional

from a3tune.adapters.a3moe.config import A3MoeConfig, Role
from a3tune.adapters.a3moe.record import KeyUse, current_record
from a3tune.adapters.a3moe.routing import choose_experts, key_probabilities, query_gates
from a3tune.adapters.a3moe.token_spans import SpanWindow, current_window
from a3tune.errors import AdapterError


class ExpertLayer(BaseTunerLayer):
    """What every adapted layer holds per adapter: stacked experts, a router when there is a choice to make.

    ``expert_A`` [E, r, in] and ``expert_B`` [E, out, r] are single parameters: PEFT keeps their keys under any
    adapter name, and all experts run in one pair of matrix products.
    """

    adapter_layer_names: tuple[str, ...] = ("expert_A", "expert_B", "expert_router")
    other_param_names: tuple[str, ...] = ("scaling", "role", "settings", "expert_dropout")
    # PEFT's own.
    active_adapters: list[str]
    _cast_input_dtype: Callable[[torch.Tensor, torch.dtype], torch.Tensor]

    def __init__(self, base_layer: nn.Linear, layer_name: str) -> None:
        self.base_layer = base_layer
        self.layer_name = layer_name
        self.in_features, self.out_features = base_layer.in_features, base_layer.out_features
        self.expert_A = nn.ParameterDict()
        self.expert_B = nn.ParameterDict()
        self.expert_router = nn.ModuleDict()
        self.expert_dropout = nn.ModuleDict()
        self.scaling: dict[str, float] = {}
        self.role: dict[str, Role] = {}
        self.settings: dict[str, A3MoeConfig] = {}
        self._disable_adapters = False
        self.merged_adapters: list[str] = []

    def update_layer(self, adapter_name: str, config: A3MoeConfig) -> None:
        """Add (or replace) the parameters of one adapter."""
        experts, rank, self.scaling[adapter_name] = config.shape(self.layer_name)
        self.role[adapter_name] = config.role(self.layer_name)
        self.settings[adapter_name] = config
        self.expert_A[adapter_name] = nn.Parameter(torch.empty(experts, rank, self.in_features))
        self.expert_B[adapter_name] = nn.Parameter(torch.empty(experts, self.out_features, rank))
        self.expert_dropout[adapter_name] = nn.Dropout(config.dropout)
        if self.role[adapter_name] != "plain":
            self.expert_router[adapter_name] = nn.Linear(self.in_features, experts)
        # The bound of kaiming_uniform(a=sqrt 5) for one expert's matrix; the stacked tensor would mislead it.
        bound = 1 / math.sqrt(self.in_features)
        nn.init.uniform_(self.expert_A[adapter_name], -bound, bound)
        if config.init_weights:
            nn.init.zeros_(self.expert_B[adapter_name])
        else:
            nn.init.uniform_(self.expert_B[adapter_name], -bound, bound)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)


class ExpertLinear(nn.Module, ExpertLayer):
    """``nn.Linear`` plus the active adapters' experts; without one it is the base layer, bit for bit."""

    def __init__(self, base_layer: nn.Linear, layer_name: str, adapter_name: str, config: A3MoeConfig) -> None:
        super().__init__()
        ExpertLayer.__init__(self, base_layer, layer_name)
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    def get_delta_weight(self, adapter: str) -> torch.Tensor:
        raise _unmergeable()

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        raise _unmergeable()

    def unmerge(self) -> None:
        """Nothing is ever merged."""

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        return False

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """[..., in] to [..., out]; query and key roles need [B, T, in] and the call's token masks."""
        result = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters:
            return result
        for adapter in self.active_adapters:
            if adapter in self.expert_A:
                result = self.adapted(result, x, adapter)
        return result

    def adapted(self, result: torch.Tensor, x: torch.Tensor, adapter: str) -> torch.Tensor:
        """What one adapter makes of the base layer's ``result`` [..., out] for ``x`` [..., in]."""
        down, up = self.expert_A[adapter], self.expert_B[adapter]
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, down, up = x.to(dtype), down.to(dtype), up.to(dtype)
        else:
            x = self._cast_input_dtype(x, down.dtype)
        role, scaling = self.role[adapter], self.scaling[adapter]
        if role == "plain":
            hidden = functional.linear(self.expert_dropout[adapter](x), down.flatten(0, 1))
            delta = functional.linear(hidden * scaling, _side_by_side(up))
            return result + delta.to(result.dtype)
        if x.ndim != 3:
            raise AdapterError(
                expected=f"{self.layer_name} to be called with [batch, tokens, features]",
                got=f"Its input is {list(x.shape)}",
                remedy="Use a model whose attention layers see whole sequences",
            )
        window = current_window(x.shape[0], x.shape[1])
        if role == "query":
            gates = self._gates(x, window, adapter).to(x.dtype)
            hidden = functional.linear(self.expert_dropout[adapter](x), down.flatten(0, 1))
            mixing = (gates * scaling).repeat_interleave(down.shape[1], dim=-1).unsqueeze(1)
            delta = functional.linear(hidden * mixing, _side_by_side(up))
            return result + delta.to(result.dtype)
        if window.image is None:
            if not window.image_told:
                raise AdapterError(
                    expected="the key experts to be told which tokens are image patches",
                    got="The model was called without a3_image_mask",
                    remedy="Pass it (bool [batch, length], all False for a text without image), or pass input_ids",
                )
            return result
        return self._route(result, x, window, adapter, down, up)

    def _gates(self, x: torch.Tensor, window: SpanWindow, adapter: str) -> torch.Tensor:
        """[B, E]: from the question when this pass holds it, else those kept with the cache."""
        kept = window.gates.get((self.layer_name, adapter))
        question = window.question_for(self.settings[adapter], x.device, continuing=kept is not None)
        if question is None:
            if kept is None or len(kept) != len(x):
                raise AdapterError(
                    expected="the question's tokens in this pass, or a cache that this adapter has filled",
                    got="The query experts have no gate for this pass"
                    if kept is None
                    else f"The cache holds gates for {len(kept)} rows, the pass has {len(x)}",
                    remedy="Pass a3_question_mask with the prompt, and keep its past_key_values for later steps; only "
                    "an adapter with question_before in its settings finds the question by itself, from input_ids",
                )
            return kept.to(x.device)
        router = cast(nn.Linear, self.expert_router[adapter])
        gates = query_gates(x, question, router.weight.to(x.dtype), router.bias.to(x.dtype))
        # Detached: a cache must not hold on to the graph of the prompt.
        window.gates[self.layer_name, adapter] = gates.detach()
        record = current_record()
        if record is not None:
            record.add_query(window, self.layer_name, adapter, gates)
        return gates

    def _route(
        self,
        result: torch.Tensor,
        x: torch.Tensor,
        window: SpanWindow,
        adapter: str,
        down: torch.Tensor,
        up: torch.Tensor,
    ) -> torch.Tensor:
        config, router = self.settings[adapter], cast(nn.Linear, self.expert_router[adapter])
        positions = window.image_positions(x.device)
        images = positions.take(x.flatten(0, 1), 0)
        probabilities = key_probabilities(images, router.weight.to(x.dtype), router.bias.to(x.dtype))
        choice, weights = choose_experts(
            probabilities, config.key_top_k, "none" if config.reference else config.key_gate
        )
        record = current_record()
        if record is not None:
            use = KeyUse(probabilities, choice, positions.indices // x.shape[1])
            learns = self.training and router.weight.requires_grad and not config.reference
            record.add_key(window, self.layer_name, adapter, use, learns)
        weights = (weights * self.scaling[adapter]).to(x.dtype)
        product = sorted_experts if x.device.type == "cpu" else stacked_experts
        delta = product(images, down, up, choice, weights, self.expert_dropout[adapter])
        return result.flatten(0, 1).index_add(0, positions.indices, delta.to(result.dtype)).view_as(result)

    def __repr__(self) -> str:
        return "a3moe." + super().__repr__()


def stacked_experts(
    x: torch.Tensor,
    down: torch.Tensor,
    up: torch.Tensor,
    choice: torch.Tensor,
    weights: torch.Tensor,
    dropout: nn.Module,
) -> torch.Tensor:
    """Chosen experts as one pair of products over all stacked ranks, with the routing mask in between.

    Does E / K times the arithmetic that is needed, in two large products that need no sorting and never wait
    for the device: right for accelerators.

    Args:
        x: [N, in]. down: [E, r, in]. up: [E, out, r]. choice: int64 [N, K]. weights: [N, K].
        dropout: module applied to the input.

    Returns:
        [N, out]: sum over k of weights[:, k] * up[e] down[e] x with e = choice[:, k].
    """
    experts, rank, _ = down.shape
    hidden = functional.linear(dropout(x), down.flatten(0, 1)).unflatten(-1, (experts, rank))
    mask = weights.new_zeros(len(x), experts).scatter(1, choice, weights)
    return functional.linear((hidden * mask.unsqueeze(-1)).flatten(1), _side_by_side(up))


def sorted_experts(
    x: torch.Tensor,
    down: torch.Tensor,
    up: torch.Tensor,
    choice: torch.Tensor,
    weights: torch.Tensor,
    dropout: nn.Module,
) -> torch.Tensor:
    """The same as `stacked_experts` with each expert on its own tokens only: right where arithmetic is dear (CPU).

    Tokens are sorted by expert; the pieces are disjoint, so all experts together read every token K times.
    """
    top_k = choice.shape[1]
    flat, order = choice.flatten().sort(stable=True)
    token = order if top_k == 1 else order.div(top_k, rounding_mode="floor")
    counts = torch.bincount(flat, minlength=len(down)).tolist()
    parts = dropout(x.index_select(0, token)).split(counts)
    hidden = [functional.linear(part, matrix) for part, matrix in zip(parts, down.unbind(), strict=True)]
    scales = weights.flatten()[order].unsqueeze(-1).split(counts)
    parts = [
        functional.linear(part * scale, matrix) for part, scale, matrix in zip(hidden, scales, up.unbind(), strict=True)
    ]
    joined = torch.cat(parts)
    return joined.new_zeros(len(x), joined.shape[1]).index_add(0, token, joined)


def _side_by_side(up: torch.Tensor) -> torch.Tensor:
    """[E, out, r] to [out, E * r]."""
    return up.permute(1, 0, 2).flatten(1)


def _unmergeable() -> AdapterError:
    return AdapterError(
        expected="an adapter whose change of the weights is the same for every input",
        got="A3MoE cannot be merged: its experts are chosen anew by each question and image patch",
        remedy="Keep the adapter beside the base model (save_pretrained, set_adapter)",
    )
