"""Check this project's arithmetic against numbers that the published research code produced.

Each function reads one file of such numbers and gives one row per kind of check. Cases that document a fault of the
research code (they say so in their ``id`` or ``note``) are left out, and so are the two cases that use a list of heads
which the file does not hold.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from a3tune.adapters.a3moe import A3MoeConfig, ExpertLinear, TokenSpans, record_experts
from a3tune.adapters.a3moe.routing import published_balance_loss
from a3tune.adapters.a3moe.token_spans import set_window
from a3tune.attention.critical_heads import critical_heads, visual_ratio
from a3tune.attention.loss import GROUND_TRUTH_WEIGHT, closest_mask_kl, kl_loss, mass_loss
from a3tune.errors import DataError
from a3tune.geometry.patch_grid import to_patches
from a3tune.labels.filters import filter_boxes, from_inclusive_box
from a3tune.parity.eager import ParityRow
from a3tune.storage import read_json
from a3tune.types import PatchGrid, PatchTile

LOSS_TOLERANCE = {"float64": 1e-6, "float32": 1e-5}
"""Largest absolute difference of a loss or of a gradient entry that counts as rounding."""

EXPERT_TOLERANCE = 1e-5

_FILES = ("golden_attention_loss.npz", "golden_moe.npz", "golden_mask_transform.npz", "golden_filter.json")


def check_golden(folder: str | Path) -> list[ParityRow]:
    """Every check whose file lies in the folder.

    Raises:
        DataError: none of the files is there, or one cannot be read.
    """
    checks = dict(zip(_FILES, (check_attention_loss, check_moe, check_masks, check_filters), strict=True))
    found = [(check, Path(folder) / name) for name, check in checks.items() if (Path(folder) / name).is_file()]
    if not found:
        raise DataError(
            expected=f"at least one of {', '.join(_FILES)}", got=f"{folder} has none", remedy="Give their folder"
        )
    return [row for check, path in found for row in check(path)]


class _Worst:
    """Cases and the largest error per row name, in order of first appearance."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[int, float, float]] = {}

    def add(self, name: str, error: float, tolerance: float) -> None:
        cases, worst, _ = self._rows.get(name, (0, 0.0, tolerance))
        # max() would let a NaN pass as small.
        self._rows[name] = cases + 1, error if not error <= worst else worst, tolerance

    def rows(self) -> list[ParityRow]:
        return [ParityRow(name, cases, worst, worst <= limit) for name, (cases, worst, limit) in self._rows.items()]


def check_attention_loss(path: str | Path) -> list[ParityRow]:
    """Alignment losses, their gradients, visual ratios and the order of the critical heads.

    Args:
        path: golden_attention_loss.npz.

    Returns:
        rows per loss form, in float64 (tolerance 1e-6) and in float32 (1e-5).

    Raises:
        DataError: the file is not such a file.
    """
    archive, index = _read_npz(path)
    worst = _Worst()
    for case in index["cases"]:
        mode = case["mode"]
        if mode in ("visual", "fixed_heads_kl") or "DEFECT" in case["id"] or "underflow" in case["id"]:
            continue
        for name in ("float64", "float32"):
            _check_loss_case(archive, case, getattr(torch, name), name, worst)
    return worst.rows()


def _check_loss_case(
    archive: Mapping[str, np.ndarray], case: Mapping[str, Any], dtype: torch.dtype, name: str, worst: _Worst
) -> None:
    key, mode = case["key"], case["mode"]
    limit = LOSS_TOLERANCE[name]
    # The per-head variant is computed in float32 by the research code whatever comes in.
    loss_limit = LOSS_TOLERANCE["float32"] if mode == "top_heads_kl" else limit
    attention = torch.tensor(archive[case["attn_key"]], dtype=dtype, requires_grad=True)
    start, stop = case["image_start"], case["image_start"] + case["image_length"]
    rows = attention[:, 0, :, stop:]
    weights = rows[..., start:stop]
    if f"{key}_ratios" in archive:
        share = weights.sum(dim=-1) / rows.sum(dim=-1)
        ratios = visual_ratio(share.detach())
        worst.add(f"visual ratio ({name})", _difference(ratios, archive[f"{key}_ratios"]), limit)
        expected = archive[f"{key}_selected_heads"]
        heads = critical_heads(ratios, len(expected))
        order = sum(tuple(head) != tuple(wanted) for head, wanted in zip(heads, expected.tolist(), strict=True))
        worst.add(f"critical heads ({name})", float(order), 0.0)
        layers, width = weights.shape[:2]
        chosen = torch.stack([weights[head] for head in heads])
        pooled = chosen.sum(dim=0) / (layers * width)
    else:
        chosen = None
        pooled = weights.mean(dim=(0, 1))
    masks = torch.tensor(archive[f"{key}_masks"], dtype=dtype).flatten(1)
    if mode == "top_heads_kl":
        loss = closest_mask_kl(chosen if chosen is not None else weights.flatten(0, 1), masks)
    else:
        form = kl_loss if "kl" in mode else mass_loss
        loss = form(pooled, masks, "each", keep_empty=True)
        if f"{key}_gt_masks" in archive:
            truth = torch.tensor(archive[f"{key}_gt_masks"], dtype=dtype).flatten(1)
            loss = loss + GROUND_TRUTH_WEIGHT * form(pooled, truth, "each", keep_empty=True)
    wanted = archive[f"{key}_loss"][1 if name == "float64" else 0]
    worst.add(f"attention loss {mode} ({name})", abs(float(loss.detach()) - float(wanted)), loss_limit)
    if case["has_grad"]:
        loss.backward()
        error = _difference(attention.grad, archive[f"{key}_grad"])
        worst.add(f"attention loss gradient {mode} ({name})", error, loss_limit)


def check_moe(path: str | Path) -> list[ParityRow]:
    """Query and key modules: output, routing, decoding step and gradients; and the balance loss.

    Args:
        path: golden_moe.npz.

    Raises:
        DataError: the file is not such a file.
    """
    archive, index = _read_npz(path)
    worst = _Worst()
    for case in index["cases"]:
        if "error" in case or "DEFECT" in case["id"] or case.get("note", "").startswith("DEFECT"):
            continue
        if case.get("kind") == "balance":
            key = case["key"] if "key" in case else case["id"]
            probabilities = torch.tensor(archive[f"{key}_probs"], dtype=torch.float64)
            loss = published_balance_loss(probabilities, torch.tensor(archive[f"{key}_choice"]))
            worst.add("balance loss", _difference(loss, archive[f"{key}_loss"]), EXPERT_TOLERANCE)
        elif "kind" in case:
            for name, error in _moe_errors(archive, case):
                worst.add(f"{case['kind']} experts {name}", error, EXPERT_TOLERANCE)
    return worst.rows()


def _moe_errors(archive: Mapping[str, np.ndarray], case: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    key, kind = case["key"], case["kind"]
    part = {name.removeprefix(f"{key}_"): torch.tensor(archive[name]) for name in archive if name.startswith(f"{key}_")}
    layer = _published_layer(part, kind, float(case["scaling"]))
    x = part["x"]
    masks: dict[str, torch.Tensor] = {}
    for span, name in (("question_range", "question"), ("image_range", "image")):
        if span in case:
            masks[name] = torch.zeros(x.shape[:2], dtype=torch.bool)
            masks[name][:, slice(*case[span])] = True
    if kind == "key" and "image" not in masks:
        raise DataError(
            expected="an image_range", got=f"Case {key} has none", remedy="Use the file as it was published"
        )
    with TokenSpans(**masks, growing=True) as spans, record_experts() as use:
        window = spans.window(x.shape[0], x.shape[1])
        set_window(window)
        y = layer(x)
        yield "output", _difference(y, part["y"])
        if "routing" in part:
            read = use.query_gates if kind == "query" else use.key_probabilities
            found = np.stack([read(row)[0] for row in range(len(x))])
            yield "routing", _difference(torch.from_numpy(found), part["routing"])
        if "expert_choice" in part:
            chosen = np.stack([use.key_choice(row)[0, :, 0] for row in range(len(x))])
            yield "choice", float((torch.from_numpy(chosen) != part["expert_choice"].argmax(dim=-1)).sum())
        if "x_decode" in part:
            step = part["x_decode"]
            set_window(spans.window(step.shape[0], step.shape[1], past=x.shape[1], gates=window.gates))
            yield "decoding step", _difference(layer(step), part["y_decode"])
        set_window(None)
    if "A_grad" in part:
        y.square().mean().backward()
        yield "gradient of A", _difference(layer.expert_A["golden"].grad, part["A_grad"])
        yield "gradient of B", _difference(layer.expert_B["golden"].grad, part["B_grad"])
    if "router_w_grad" in part:
        router = cast(nn.Linear, layer.expert_router["golden"])
        yield "gradient of the router", _difference(router.weight.grad, part["router_w_grad"])
        yield "gradient of the router", _difference(router.bias.grad, part["router_b_grad"])


def _published_layer(part: Mapping[str, torch.Tensor], kind: str, scaling: float) -> ExpertLinear:
    experts, rank, width = part["A"].shape
    config = A3MoeConfig(
        query_experts=experts, key_experts=experts, expert_r=rank, expert_alpha=scaling * rank, dropout=0.0,
        reference=True, target_modules=["q_proj", "k_proj"],
    )  # fmt: skip
    base = nn.Linear(width, part["W0"].shape[0], bias=False)
    base.weight = nn.Parameter(part["W0"].clone(), requires_grad=False)
    layer = ExpertLinear(base, "q_proj" if kind == "query" else "k_proj", "golden", config)
    with torch.no_grad():
        layer.expert_A["golden"].copy_(part["A"])
        layer.expert_B["golden"].copy_(part["B"])
        if "golden" in layer.expert_router:
            router = cast(nn.Linear, layer.expert_router["golden"])
            router.weight.copy_(part["router_w"])
            router.bias.copy_(part["router_b"])
    return layer.eval()


def check_masks(path: str | Path) -> list[ParityRow]:
    """Masks of 256 x 256 pixels brought onto 16 x 16 and 24 x 24 patches, one sampled pixel each.

    Args:
        path: golden_mask_transform.npz.

    Raises:
        DataError: the file is not such a file.
    """
    archive, index = _read_npz(path)
    worst = _Worst()
    for side, suffix in ((16, "v1_16"), (24, "v15_24")):
        edges = np.linspace(0, 256, side + 1)
        boxes = np.array([[x0, y0, x1, y1] for y0, y1 in _pairs(edges) for x0, x1 in _pairs(edges)])
        grid = PatchGrid(boxes, (PatchTile(0, side, side, (0.0, 0.0, 256.0, 256.0)),), 256, 256)
        for name in (name for name in index["names"] if f"{name}__mask" in archive):
            mask = np.unpackbits(archive[f"{name}__mask"]).reshape(256, 256).astype(bool)
            found = to_patches(mask, grid, mode="nearest").reshape(side, side)
            worst.add(f"mask on {side} x {side} patches", _difference(found, archive[f"{name}__{suffix}"]), 0.0)
    return worst.rows()


def check_filters(path: str | Path) -> list[ParityRow]:
    """Which regions the size and border rules keep.

    Args:
        path: golden_filter.json.

    Raises:
        DataError: the file is not such a file.
    """
    try:
        golden = read_json(Path(path))
        height, width = golden["image_size"]
        single, lists = golden["single_records"], golden["lists"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from error
    worst = _Worst()
    for record in single:
        kept = filter_boxes([from_inclusive_box(record["bbox"])], [record["area"]], height, width).kept
        worst.add("region filter, single", float((len(kept) == 1) != record["kept"]), 0.0)
    for entry in lists:
        boxes = [from_inclusive_box(record["bbox"]) for record in entry["records"]]
        kept = filter_boxes(boxes, [record["area"] for record in entry["records"]], height, width).kept
        worst.add("region filter, lists", float(list(kept) != entry["reference"]["kept"]), 0.0)
    return worst.rows()


def _pairs(edges: np.ndarray) -> Iterator[tuple[float, float]]:
    return zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)


def _read_npz(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return arrays, json.loads(str(arrays["index_json"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str | Path, error: Exception) -> DataError:
    return DataError(
        expected="a file of golden numbers", got=f"{path} cannot be read: {error}", remedy="Fetch the file again"
    )


def _difference(found: torch.Tensor | np.ndarray | None, wanted: torch.Tensor | np.ndarray) -> float:
    """Largest absolute difference; infinite when the shapes differ or there is nothing, NaN when a value is."""
    if found is None:
        return float("inf")
    # Arrays are copied: torch warns of those that cannot be written to.
    one, other = (
        (value.detach() if isinstance(value, torch.Tensor) else torch.tensor(value)).to(torch.float64)
        for value in (found, wanted)
    )
    if one.shape != other.shape:
        return float("inf")
    return float((one - other).abs().max()) if one.numel() else 0.0
