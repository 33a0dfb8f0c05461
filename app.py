"""Serves A3Tune Studio in the browser: ``python app.py``, also the entry point of a Hugging Face Space."""

from __future__ import annotations

import os

# Before Gradio is imported: it reads this when its modules load.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from a3tune.cli.app import read_options
from a3tune.errors import A3TuneError
from app.access.deployment import read_deployment
from app.ui import launch


def main() -> None:
    """Read the options and serve."""
    options = read_options()
    try:
        deployment = read_deployment(options.deployment, os.environ)
    except A3TuneError as error:
        raise SystemExit(str(error)) from None
    launch(
        options.host,
        options.port,
        options.profile,
        options.scorer,
        options.adapter,
        deployment=deployment,
        hosts=options.allowed_host,
        root_path=options.root_path,
        segmenter=options.segmenter,
        offered=options.models,
        any_model=options.any_model,
        allow_other_base=options.allow_other_base,
    )


if __name__ == "__main__":
    main()
