"""What the wheel says about itself and what stands elsewhere in the project: dependencies and description."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class ProjectMetadata(MetadataHookInterface):
    """Reads ``requirements.txt``, the one list of what is needed to run, and ``README.md`` without its Space header."""

    def update(self, metadata: dict[str, Any]) -> None:
        root = Path(self.root)
        lines = (line.strip() for line in (root / "requirements.txt").read_text(encoding="utf-8").splitlines())
        metadata["dependencies"] = [line for line in lines if line and not line.startswith("#")]
        text = (root / "README.md").read_text(encoding="utf-8").split("---\n", 2)[2].lstrip()
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
