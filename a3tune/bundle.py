"""Where the page and the bundled demo lie, and what a model's name on a command line or page means."""

from __future__ import annotations

from pathlib import Path

from a3tune.errors import ModelError
from a3tune.storage import is_folder, named_path

DEMO = "demo"
_PACKAGE = Path(__file__).resolve().parent
STUDIO = _PACKAGE / "_studio" if (_PACKAGE / "_studio").is_dir() else _PACKAGE.parent
"""Where ``app.py``, ``app/`` and ``assets/`` lie: inside the package where it was installed from a wheel, beside it in
a checkout."""
ASSETS = STUDIO / "assets"
EXAMPLES = ASSETS / "examples"
DEMO_FOLDER = ASSETS / "demo"
DEMO_MODEL = DEMO_FOLDER / "model"
DEMO_SCORER = DEMO_FOLDER / "scorer"
DEMO_ADAPTERS = DEMO_FOLDER / "adapters"
DEMO_SAMPLE = DEMO_FOLDER / "sample"
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


def is_demo(name: str) -> bool:
    """Whether ``name`` stands for the bundled demo model: its short name, or the path of its folder."""
    return name == DEMO or (is_folder(name) and named_path(name).resolve() == DEMO_MODEL.resolve())


def demo_adapters() -> dict[str, Path]:
    """The adapters that come with the demo model: short name -> folder in PEFT's format, in alphabetical order.

    They fit the demo model only. The dictionary is empty where none were trained.
    """
    found = sorted(DEMO_ADAPTERS.glob("*/adapter_config.json"))
    return {path.parent.name: path.parent for path in found}
