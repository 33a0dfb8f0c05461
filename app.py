"""Serves A3Tune Studio in the browser: ``python app.py``, also the entry point of a Hugging Face Space."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

# Before Gradio is imported: it reads this when its modules load.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from app.ui import launch


def read_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options from the command line; where one is missing, from the environment, so that a Space can set them."""
    on_space = "SPACE_ID" in os.environ
    parser = argparse.ArgumentParser(description="Serve A3Tune Studio in the browser.")
    parser.add_argument(
        "--host",
        default=os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0" if on_space else "127.0.0.1"),
        help="address to listen on (default 127.0.0.1: this machine only)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=os.environ.get("GRADIO_SERVER_PORT", "7860"),
        help="port to listen on (default 7860)",
    )
    parser.add_argument(
        "--profile",
        default=os.environ.get("A3TUNE_PROFILE", "demo"),
        help="the model: demo, a checkpoint folder or a Hugging Face id (default demo)",
    )
    parser.add_argument(
        "--scorer",
        default=os.environ.get("A3TUNE_SCORER", "demo"),
        help="what ranks regions: demo, biomedclip, an open_clip folder or a Hugging Face id (default demo)",
    )
    parser.add_argument(
        "--segmenter",
        default=os.environ.get("A3TUNE_SEGMENTER", "litemedsam"),
        help="what finds regions: litemedsam, a checkpoint file or hub:OWNER/NAME/FILE (default litemedsam)",
    )
    parser.add_argument(
        "--models",
        default=os.environ.get("A3TUNE_MODELS"),
        metavar="LIST",
        help="what visitors may load under Models, separated by commas: keys such as llava-med-7b, medsam or "
        "biomedclip, hub ids, folders (default: all that is known by name; on a Space only what it starts with)",
    )
    parser.add_argument(
        "--any-model",
        action="store_true",
        default=os.environ.get("A3TUNE_ANY_MODEL") == "1",
        help="let visitors load any hub id, and any folder of this machine; not on a Space",
    )
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="an adapter in PEFT's format to compare the model with; may be given several times",
    )
    options = parser.parse_args(arguments)
    pairs = [tuple(part.strip() for part in text.partition("=")[::2]) for text in options.adapter]
    if not all(name and folder for name, folder in pairs) or len(dict(pairs)) < len(pairs):
        parser.error("Expected --adapter NAME=FOLDER, each name once, as in --adapter tuned=runs/first/adapter")
    options.adapter = {name: Path(folder) for name, folder in pairs}
    if options.any_model and on_space:
        parser.error("A Space is open to strangers: name what they may load with --models instead of --any-model")
    if options.models is None:
        options.models = [options.profile] if on_space else None
    else:
        options.models = [name.strip() for name in options.models.split(",") if name.strip()]
    return options


def main() -> None:
    """Read the options and serve."""
    options = read_options()
    launch(
        options.host,
        options.port,
        options.profile,
        options.scorer,
        options.adapter,
        segmenter=options.segmenter,
        offered=options.models,
        any_model=options.any_model,
    )


if __name__ == "__main__":
    main()
