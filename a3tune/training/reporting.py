"""Where else a run reports to: TensorBoard, Weights & Biases and MLflow, through the Trainer's own callbacks."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import TrainerCallback
from transformers.integrations import (
    TensorBoardCallback,
    get_reporting_integration_callbacks,
    is_mlflow_available,
    is_tensorboard_available,
    is_wandb_available,
)

from a3tune.errors import RequestError
from a3tune.training.run_folder import RunFolder

REPORTERS = {
    "tensorboard": (is_tensorboard_available, "tensorboard"),
    "wandb": (is_wandb_available, "wandb"),
    "mlflow": (is_mlflow_available, "mlflow"),
}
"""Name -> whether it can be used here, and the package that it needs."""

TENSORBOARD_NAME = "tensorboard"
"""Folder of the run folder in which TensorBoard finds the run."""


def check_reporters(names: Sequence[str]) -> None:
    """Refuse what cannot be reported to.

    Raises:
        RequestError: an unknown name, or a package that is not installed.
    """
    for name in names:
        if name not in REPORTERS:
            raise RequestError(
                expected=f"some of {', '.join(REPORTERS)}",
                got=f"A run cannot report to {name!r}",
                remedy="Correct the name, or use a callback of your own from Python",
            )
        available, package = REPORTERS[name]
        if not available():
            raise RequestError(
                expected=f"the package {package}, with which a run reports to {name}",
                got="It is not installed",
                remedy=f"Install it (pip install {package}), or leave {name} out",
            )


def reporting_callbacks(names: Sequence[str], run: RunFolder) -> list[TrainerCallback]:
    """The Trainer's own callbacks for these names, each of which is set by its usual variables (WANDB_MODE=offline,
    WANDB_PROJECT, MLFLOW_TRACKING_URI, TENSORBOARD_LOGGING_DIR ...). TensorBoard's files lie in the run folder unless
    its variable says otherwise.

    Args:
        names: out of `REPORTERS`, checked.
        run: the run.
    """
    callbacks = [make() for make in get_reporting_integration_callbacks(list(names))]
    for callback in callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(run.path / TENSORBOARD_NAME)
    return callbacks
