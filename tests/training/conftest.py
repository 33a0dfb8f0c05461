"""Finished runs that several tests give away or look at, and must not change."""

from __future__ import annotations

import pytest

from a3tune.training.run_folder import RunFolder
from a3tune.training.tuning import tune
from tests.support.tuning_data import tiny_config, write_data


@pytest.fixture(scope="session")
def finished(tiny_checkpoint, tmp_path_factory):
    """method -> the run folder of a finished run on the tiny LLaVA."""
    folder = tmp_path_factory.mktemp("given")
    rows = write_data(folder / "data", images=4)
    runs = {}

    def run(method):
        if method not in runs:
            config = tiny_config(method=method, max_steps=2, evaluate_every=1)
            tune(config, rows, folder / method, str(tiny_checkpoint("llava")), device="cpu")
            runs[method] = RunFolder(folder / method)
        return runs[method]

    return run
