"""Time A3MoE's linear layers against plain LoRA and against experts in a loop, forward and backward, in one run.

    python -m benchmarks.a3moe_layers [--tokens 640] [--repeats 9] [--device cpu] [--dtype float32]

Shapes are LLaVA-Med 1.5's: a query projection 4096 -> 4096 with 8 experts of rank 16 and a key projection
4096 -> 1024 with 16 experts of rank 16, next to LoRA of rank 64 on the same frozen weight. A time covers the whole
layer with its frozen weight, training mode, gradients of input and adapter. The variants take turns, so that another
load on the machine hits all of them alike; medians are compared.

The loop runs one down and one up product per expert over every token and adds the gated results. The frozen weight's
own product is the same in all variants; "experts alone" leaves it out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional

from a3tune.adapters.a3moe import A3MoeConfig, ExpertLinear, TokenSpans
from a3tune.adapters.a3moe.routing import choose_experts, key_probabilities, query_gates

WIDTH = 4096
SHAPES = {"q_proj": (4096, "4096 -> 4096"), "k_proj": (1024, "4096 -> 1024")}
LORA_LIMIT = 1.2
LOOP_LIMIT = 3.0


class Zero(nn.Linear):
    """A frozen weight that costs nothing: what is left is the adapter's own time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.new_zeros(()).expand(*x.shape[:-1], self.out_features)


class ExpertLoop(nn.Module):
    """The same experts as an `ExpertLinear`, one product per expert."""

    def __init__(self, layer: ExpertLinear, adapter: str, image: torch.Tensor) -> None:
        super().__init__()
        self.layer, self.adapter, self.image = layer, adapter, image

    def forward(self, x: torch.Tensor, question: torch.Tensor) -> torch.Tensor:
        layer, adapter = self.layer, self.adapter
        result = layer.base_layer(x)
        router = layer.expert_router[adapter]
        if layer.role[adapter] == "query":
            gates = query_gates(x, question, router.weight, router.bias).unsqueeze(1)
        else:
            probabilities = key_probabilities(x, router.weight, router.bias)
            choice, weights = choose_experts(probabilities, 1, layer.settings[adapter].key_gate)
            gates = torch.zeros_like(probabilities).scatter(-1, choice, weights) * self.image.unsqueeze(-1)
        for index, (down, up) in enumerate(zip(layer.expert_A[adapter], layer.expert_B[adapter], strict=True)):
            inputs = layer.expert_dropout[adapter](x)
            output = functional.linear(functional.linear(inputs, down), up) * layer.scaling[adapter]
            result = result + gates[..., index : index + 1] * output
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=640, help="length of the sequence, 576 of it image")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    options = parser.parse_args()
    if options.tokens < 600:
        parser.error("--tokens must leave room for 576 image tokens and a question: at least 600")
    # By processor time on a CPU, which a neighbour's load disturbs less; the work of a GPU does not show in it.
    clock_index = 1 if options.device == "cpu" else 0
    torch.manual_seed(0)
    whole = {name: measure(name, nn.Linear, options) for name in SHAPES}
    alone = {name: measure(name, Zero, options) for name in SHAPES}
    print(f"{options.tokens} tokens, {options.device}, {options.dtype}, {options.repeats} repeats, forward + backward")
    print(f"{'':22}{'wall ms':>24}{'processor ms':>24}{'ratio to':>20}")
    print(f"{'':22}" + "".join(f"{name:>8}" for name in ("LoRA", "A3MoE", "loop") * 2) + f"{'LoRA':>10}{'loop':>10}")
    for title, measured in (("whole layer", whole), ("experts alone", alone)):
        for name, times in measured.items():
            show(f"{name} {title}", times, clock_index)
        both = {
            variant: tuple(sum(values) for values in zip(*(times[variant] for times in measured.values()), strict=True))
            for variant in ("LoRA", "A3MoE", "loop")
        }
        show(f"both {title}", both, clock_index)
    slowest = max(ratio(times, "A3MoE", "LoRA", clock_index) for times in whole.values())
    gain = min(ratio(times, "loop", "A3MoE", clock_index) for times in alone.values())
    print(f"slowest layer: {slowest:.2f} x LoRA of rank 64 (limit {LORA_LIMIT})")
    print(f"smallest gain of the experts over the loop: {gain:.1f} x (at least {LOOP_LIMIT})")


def measure(name: str, frozen: type[nn.Linear], options: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Median (wall, processor) seconds of each variant of one layer."""
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    out = SHAPES[name][0]
    base = frozen(WIDTH, out, bias=False).to(device, dtype).requires_grad_(False)
    config = A3MoeConfig(target_modules=[name], init_weights=False)
    experts = ExpertLinear(base, name, "default", config).train()
    holder = nn.ModuleDict({name: base})
    lora = get_peft_model(
        holder,
        LoraConfig(r=64, lora_alpha=16, lora_dropout=0.05, target_modules=[name], init_lora_weights=False),
        autocast_adapter_dtype=False,
    ).train()
    lora_layer = lora.base_model.model[name]
    x = torch.randn(1, options.tokens, WIDTH, device=device, dtype=dtype, requires_grad=True)
    image = torch.zeros(1, options.tokens, dtype=torch.bool, device=device)
    image[:, 12:588] = True
    question = torch.zeros_like(image)
    question[:, 590:599] = True
    loop = ExpertLoop(experts, "default", image)
    upstream = torch.randn(1, options.tokens, out, device=device, dtype=dtype)
    with TokenSpans(question, image):
        variants: dict[str, Callable[[], torch.Tensor]] = {
            "LoRA": lambda: lora_layer(x),
            "A3MoE": lambda: experts(x),
            "loop": lambda: loop(x, question),
        }
        times: dict[str, list[tuple[float, float]]] = {variant: [] for variant in variants}
        for _ in range(options.repeats + 1):
            for variant, call in variants.items():
                for parameter in (x, *experts.parameters(), *lora.parameters()):
                    parameter.grad = None
                times[variant].append(clock(call, upstream))
    # The first round warms up.
    return {
        variant: (statistics.median(w for w, _ in taken[1:]), statistics.median(p for _, p in taken[1:]))
        for variant, taken in times.items()
    }


def clock(call: Callable[[], torch.Tensor], upstream: torch.Tensor) -> tuple[float, float]:
    """(wall, processor) seconds of one forward and backward pass."""
    wait = torch.cuda.synchronize if upstream.is_cuda else (lambda: None)
    wait()
    wall, processor = time.perf_counter(), time.process_time()
    call().backward(upstream)
    wait()
    return time.perf_counter() - wall, time.process_time() - processor


def ratio(times: dict[str, tuple[float, float]], one: str, other: str, clock_index: int) -> float:
    return times[one][clock_index] / times[other][clock_index]


def show(title: str, times: dict[str, tuple[float, float]], clock_index: int) -> None:
    wall = "".join(f"{times[name][0] * 1e3:8.0f}" for name in ("LoRA", "A3MoE", "loop"))
    processor = "".join(f"{times[name][1] * 1e3:8.0f}" for name in ("LoRA", "A3MoE", "loop"))
    lora, loop = ratio(times, "A3MoE", "LoRA", clock_index), ratio(times, "loop", "A3MoE", clock_index)
    print(f"{title:22}{wall}{processor}{lora:10.2f}{loop:10.1f}")


if __name__ == "__main__":
    main()
