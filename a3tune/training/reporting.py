"""Where else a run reports to: TensorBoard, Weights & Biases and MLflow, through the Trainer's own callbacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

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
    callbacks: list[TrainerCallback] = []
    for name in names:
        for make in get_reporting_integration_callbacks([name]):
            callback = make()
            if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
                callback.logging_dir = str(run.path / TENSORBOARD_NAME)
            for event in dir(TrainerCallback):
                if event.startswith("on_"):
                    setattr(callback, event, _failures_named(name, getattr(callback, event)))
            callbacks.append(callback)
    return callbacks


def _failures_named(name: str, report: Callable[..., Any]) -> Callable[..., Any]:
    """What a callback does with an event; that it could not be reported (no login, a server out of reach) is told as
    that, whatever the package raises."""

    @wraps(report)
    def told(*arguments: Any, **options: Any) -> Any:
        try:
            return report(*arguments, **options)
        except Exception as error:
            raise RequestError(
                expected=f"{name} to take what the run reports",
                got=f"{name} does not: {str(error).strip() or type(error).__name__}",
                remedy=f"Set it by its variables, log in, or leave {name} out; the same run then goes on",
            ) from error

    return told
