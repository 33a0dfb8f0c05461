"""Where the bundled demo lies, and what a model's name on a command line or page means."""

from __future__ import annotations

from pathlib import Path

from a3tune.errors import ModelError

DEMO = "demo"
ASSETS = Path(__file__).resolve().parent.parent / "assets"
EXAMPLES = ASSETS / "examples"
DEMO_FOLDER = ASSETS / "demo"
DEMO_MODEL = DEMO_FOLDER / "model"
DEMO_SCORER = DEMO_FOLDER / "scorer"
DEMO_NAME = "Phantom demo (2 M parameters, knows synthetic phantoms only)"


def model_source(name: str) -> str:
    """The folder or hub id that ``name`` stands for: "demo" for the bundled model, else the name itself.

    Raises:
        ModelError: the demo is asked for and its files are not there.
    """
    if name != DEMO:
        return name
    if not (DEMO_MODEL / "config.json").is_file():
        raise ModelError(
            expected=f"the demo model in {DEMO_MODEL}",
            got="The demo model is missing",
            remedy="Fetch the project's files again, or train it with: python -m a3tune demo build",
        )
    return str(DEMO_MODEL)
