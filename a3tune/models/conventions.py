"""How a checkpoint was trained to see computed tomography, told without loading it."""

from __future__ import annotations

from a3tune.models.checkpoint_folder import read_configuration_file
from a3tune.models.conversion import model_folder
from a3tune.models.profiles import convention_of


def stored_convention(source: str) -> str | None:
    """The convention that a model loaded from here has, a name in `a3tune.images.conventions`; None for pictures as
    they are shown.

    Args:
        source: a folder, or a hub id.

    Raises:
        ModelError: there is no such model.
    """
    return convention_of(source, str(read_configuration_file(model_folder(source)).get("model_type")))
