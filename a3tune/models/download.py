"""From a hub id to a folder with the files that a model needs; taken up again where a download was cut off."""

from __future__ import annotations

import os
from pathlib import Path

from a3tune import hub
from a3tune.errors import ModelError
from a3tune.hub_errors import hub_errors
from a3tune.models import checkpoint_folder
from a3tune.progress import Progress, no_progress
from a3tune.storage import is_folder, is_hub_id, named_path

WANTED = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")
"""Files of a checkpoint that are fetched; pickled weights only of original LLaVA checkpoints that have no others."""


def locate(source: str | Path, on_progress: Progress = no_progress) -> Path:
    """The folder that ``source`` names; a hub id is fetched into the hub's cache first.

    Raises:
        ModelError: there is no such folder, or the hub cannot give the files; the message says how to fetch them.
    """
    path = named_path(source)
    if is_folder(path):
        return path
    if os.path.exists(path):
        raise ModelError(
            expected="a model folder or a hub id", got=f"the file {path}", remedy="Name the folder that holds it"
        )
    name = str(source)
    if isinstance(source, Path) or not is_hub_id(name):
        raise ModelError(
            expected="a model folder or a hub id such as owner/name",
            got=f"no folder at {name!r}",
            remedy="Check the path; a folder must hold config.json and model.safetensors",
        )
    return fetch(name, on_progress)


def fetch(name: str, on_progress: Progress = no_progress) -> Path:
    """Fetch a model from the hub, or find it in the hub's cache; parts that are there already are kept.

    Its configuration comes first, so that a model of the wrong kind costs no download.

    Args:
        name: the hub id.
        on_progress: told how many bytes have come; what it raises ends the download.

    Raises:
        ModelError: one clear message each for: a wrong name, a gated or private model, no connection and no cached
            copy, the wrong kind of model, a download that broke off.
        RequestError: the disk is full.
    """
    command = f"hf download {name}"
    with hub_errors(name, ModelError, what=f"a model with a config.json at {name}", command=command):
        config = checkpoint_folder.read_json(hub.fetch_file(name, "config.json"))
        original = checkpoint_folder.is_original(config)
        if not original:
            checkpoint_folder.check_kind(config, name)
        wanted = list(WANTED)
        if original and hub.reachable() and not hub.list_files(name, ["*.safetensors"]):
            wanted.append("*.bin")
        return hub.fetch_files(name, wanted, on_progress)


def fetch_tower(name: str, on_progress: Progress = no_progress) -> Path:
    """Fetch the CLIP model that an original LLaVA checkpoint sees with, or find it in the hub's cache.

    Args:
        name: the hub id.
        on_progress: told how many bytes have come.

    Raises:
        ModelError: as `fetch`.
        RequestError: the disk is full.
    """
    there = hub.held(name).folder
    if there is not None and is_complete(there):
        return there
    command = f"hf download {name} --local-dir FOLDER"
    with hub_errors(
        name,
        ModelError,
        what=f"the vision tower {name}, whose weights the checkpoint does not hold",
        command=command,
        otherwise=" (--vision-tower)",
    ):
        wanted = ["config.json", "preprocessor_config.json", "model.safetensors"]
        if hub.reachable() and not hub.list_files(name, ["model.safetensors"]):
            wanted.append("pytorch_model.bin")
        return hub.fetch_files(name, wanted, on_progress)


def is_complete(folder: Path) -> bool:
    """Whether a folder of the hub's cache holds all weights of a model, as far as its files tell."""
    if not (folder / "config.json").is_file():
        return False
    for stem, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
        index = folder / f"{stem}.{suffix}.index.json"
        if index.is_file():
            places = checkpoint_folder.read_json(index).get("weight_map") or {}
            return bool(places) and all((folder / str(file)).is_file() for file in set(places.values()))
        if (folder / f"{stem}.{suffix}").is_file():
            return True
    return False
