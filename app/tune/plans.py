"""Plans of runs: what they are to be, the words for it, what one takes, and the same run on other machines."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a3tune.bundle import DEMO
from a3tune.training.estimate_words import estimate_words
from app.common.status import status, warning_status
from app.engine import library
from app.jobs.job import DISTURBED

if TYPE_CHECKING:
    from a3tune.training.config import TuneConfig

QUICK = "quick"
"""The preset that is offered first: a run of a few minutes."""
METHODS = {
    "a3": ("A3Tune", "experts on queries and keys, and attention drawn to the regions that a question asks about"),
    "lora+align": ("LoRA + alignment", "plain LoRA, with attention drawn to the regions"),
    "a3moe": ("A3MoE", "experts on queries and keys, attention left to itself"),
    "lora": ("LoRA", "the usual low-rank adapter, attention left to itself: the baseline"),
}
ABLATIONS = {
    "no_alignment": "without alignment",
    "no_query_experts": "without query experts",
    "no_key_experts": "without key experts",
    "no_head_selection": "align every head, not the critical ones",
}
PRESETS = {
    "quick": "Quick look",
    "demo": "The demo's adapters",
    "vqa-rad": "VQA-RAD, paper's settings",
    "slake": "SLAKE, paper's settings",
    "pathvqa": "PathVQA, paper's settings",
    "omnimedvqa": "OmniMedVQA, paper's settings",
    "iu-xray-vqa": "IU-Xray questions (CARES), paper's settings",
    "ol3i": "OL3I, paper's settings",
    "iu-xray-report": "IU-Xray reports, paper's settings",
    "mimic-report": "MIMIC-CXR reports, paper's settings",
}
_PRESET_FOLDER = Path(__file__).resolve().parents[2] / "a3tune" / "training" / "presets"


@dataclass(frozen=True)
class Plan:
    """What a run is to be.

    Attributes:
        preset: the name of a preset.
        method: "a3", "lora", "lora+align" or "a3moe".
        ablations: names of the paper's ablations that are switched on.
        settings: single settings that differ from the preset's, as text.
    """

    preset: str = QUICK
    method: str = "a3"
    ablations: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)

    def config(self) -> TuneConfig:
        """All settings of a run.

        Raises:
            DataError: unknown settings, or values out of range.
        """
        differing = {**self.settings, "method": self.method, **dict.fromkeys(self.ablations, True)}
        return library.load_config(self.preset, differing)

    def yaml(self) -> str:
        """The same as a configuration file, which names the preset.

        Raises:
            DataError: unknown settings, or values out of range.
        """
        return library.to_yaml(self.config(), self.preset)


def preset_choices() -> list[tuple[str, str]]:
    """(words, name) of every preset, the quick one first."""
    names = sorted((path.stem for path in _PRESET_FOLDER.glob("*.yaml")), key=lambda name: (name != QUICK, name))
    return [(_preset(name), name) for name in names]


def method_choices() -> list[tuple[str, str]]:
    """(words, name) of every method, its meaning in one line."""
    return [(f"{title}: {meaning}", name) for name, (title, meaning) in METHODS.items()]


def estimate_html(found: Mapping[str, Any]) -> str:
    """The fields of `a3tune.training.estimate.Estimate`, and "busy" (see `app.tune.service.TuneService.measure`)."""
    words = estimate_words(found)
    busy = f" {DISTURBED}" if found.get("busy") else ""
    return status(words + busy) if found["fits"] else warning_status(words)


def launch_command(plan: Plan, model: str) -> str:
    """Command lines that make the run of a plan on a bigger machine or several nodes, from its ``config.yaml``."""
    command = "-m a3tune tune --data DATA --out RUN --config config.yaml"
    if model != DEMO:
        command += f" --model {shlex.quote(model)}"
    config = plan.config()
    each = config.batch_size * config.gradient_accumulation
    launch = "accelerate launch --multi_gpu --mixed_precision no --dynamo_backend no"
    lines = [
        "# one machine, one GPU or none",
        f"python {command}",
        f"# one machine, 4 GPUs: a step holds 4 x {each} questions; for as many as here divide batch_size or",
        "# gradient_accumulation in config.yaml by 4",
        f"{launch} --num_machines 1 --num_processes 4 {command}",
        f"# 2 machines with 8 GPUs each (16 x {each}): start this on both, with --machine_rank 0 and 1",
        f"{launch} --num_machines 2 --num_processes 16 --machine_rank 0 \\",
        "    --main_process_ip ADDRESS_OF_THE_FIRST --main_process_port 29500 \\",
        f"    {command}",
        "# then pack the run folder and open it here",
        "cd RUN && zip -r ../run.zip run.json events.jsonl adapter watch",
    ]
    return "\n".join(lines)


def _preset(name: str) -> str:
    if name in PRESETS:
        return PRESETS[name]
    base = name.removesuffix("-v1.5")
    return f"{PRESETS.get(base, base)}, LLaVA-Med v1.5" if name.endswith("-v1.5") else name
