"""Which heads attention is read in: the critical ones always, and others beside them where they are asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from a3tune.attention.answer import answer_attention
from a3tune.attention.record import AttentionRecord
from a3tune.errors import RequestError
from a3tune.evaluation.tuning_run import aligns, tuning_run
from a3tune.models.model import VisionLanguageModel
from a3tune.types import Head

ALL, CRITICAL, ALIGNED = "all", "critical", "aligned"


@dataclass(frozen=True)
class HeadSet:
    """Heads whose mean map is measured.

    Attributes:
        name: as tables call it.
        count: the K critical heads, chosen for each question and adapter; None for as many as one layer has.
        heads: these ones; None for critical ones.
        every: every head.
    """

    name: str
    count: int | None = None
    heads: tuple[Head, ...] | None = None
    every: bool = False

    def weights(self, record: AttentionRecord, b: int, writing: torch.Tensor, *, closed: bool) -> np.ndarray:
        """float64 [patches], the mean map; see `a3tune.attention.answer.answer_attention`."""
        heads = self.heads
        if self.every:
            layers, heads_each = record.image_share(b).shape[:2]
            heads = tuple(Head(layer, head) for layer in range(layers) for head in range(heads_each))
        return answer_attention(record, b, writing, closed=closed, count=self.count, heads=heads).weights

    def check(self, model: VisionLanguageModel) -> None:
        """Refuse what a model does not have.

        Raises:
            RequestError: it has not so many heads, or one of these is none of its.
        """
        count = model.layers * model.heads
        strange = [head for head in self.heads or () if not (head.layer < model.layers and head.head < model.heads)]
        if strange or not 1 <= (self.count or 1) <= count:
            raise RequestError(
                expected=f"heads of a model with {model.layers} layers of {model.heads} heads",
                got=f"{self.name}: layer {strange[0].layer}, head {strange[0].head}"
                if strange
                else f"{self.count} heads",
                remedy="Name a run of this model, or another number",
            )

    def settings(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "heads": None if self.heads is None else [list(head) for head in self.heads]}


def parse_head_sets(text: str) -> tuple[HeadSet, ...]:
    """Sets out of ``all``, ``critical:K``, ``aligned=RUN`` and ``aligned:NAME=RUN``, separated by commas; ``critical``
    alone may stand among them and adds nothing. NAME is what tables call the run, in place of its folder's name.

    Raises:
        RequestError: a part is none of these, comes twice, or the run aligned no heads.
    """
    found: list[HeadSet] = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        kind, _, number = part.partition(":")
        if part == CRITICAL:
            continue
        if part == ALL:
            found.append(HeadSet("all heads", every=True))
        elif kind == CRITICAL and number.isascii() and number.isdigit() and int(number) > 0:
            found.append(HeadSet(f"{int(number)} critical heads", int(number)))
        elif kind.partition("=")[0] == ALIGNED and "=" in part:
            named, _, run = part.partition("=")
            found.append(_aligned(Path(run), named.partition(":")[2]))
        else:
            raise _unknown(f"{part!r}")
    names = [one.name for one in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise _unknown(f"{twice} twice")
    return tuple(found)


def _unknown(got: str) -> RequestError:
    return RequestError(
        expected=f"{CRITICAL}, {ALL}, {CRITICAL}:K or {ALIGNED}=RUN, each once, separated by commas",
        got=got,
        remedy="See eval --help for --heads",
    )


def _aligned(run: Path, name: str) -> HeadSet:
    """The heads that a tuning run aligned: those of its ``run.json``, or as many critical ones as it chose at once."""
    name = f"heads aligned in {name or run.resolve().name.replace(',', ' ')}"
    with tuning_run(run) as record:
        config: Any = record["config"]
        aligned, fixed = aligns(config), record.get("fixed_heads")
        if aligned and config["no_head_selection"]:
            return HeadSet(name, every=True)
        if aligned and fixed:
            return HeadSet(name, heads=tuple(Head(int(layer), int(head)) for layer, head in fixed))
        if aligned and config["head_choice"] == "dynamic":
            return HeadSet(name, None if config["top_heads"] is None else int(config["top_heads"]))
    raise RequestError(
        expected="a tuning run that aligned attention heads",
        got=f"{run} aligned none" if not aligned else f"{run} has not chosen its heads yet",
        remedy=f"Name another run, or {CRITICAL}:K",
    )
