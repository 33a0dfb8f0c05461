"""From a hub id or a folder to a checkpoint folder whose files are all there and safe to read."""

from __future__ import annotations

import json
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from safetensors import SafetensorError, safe_open
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from a3tune.errors import ModelError

_WANTED = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


_CROSS = "its text layers read the image through cross-attention, so no word looks at a patch in the prompt"
_QUERIES = "a resampler boils the whole image down to query tokens, so an image token is no place in the image"
_ENCODER = "it is an encoder-decoder, whose answer reads the image through cross-attention"
UNFIT = {
    **dict.fromkeys(("mllama", "idefics", "evolla"), _CROSS),
    **dict.fromkeys(("blip-2", "instructblip", "instructblipvideo", "idefics2", "kosmos-2", "kosmos-2.5"), _QUERIES),
    **dict.fromkeys(("blip", "florence2", "pix2struct", "udop", "t5gemma2", "vision-encoder-decoder"), _ENCODER),
}
"""Image-text-to-text model types whose attention to the image cannot be shown as a map of patches, and why."""


def locate(source: str | Path) -> Path:
    """The folder that ``source`` names; a hub id is fetched into the hub's cache first, without pickled weights.

    Raises:
        ModelError: there is no such folder, or the hub cannot give the files; the message says how to fetch them.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ModelError(
            expected="a model folder or a hub id", got=f"the file {path}", remedy="Name the folder that holds it"
        )
    name = str(source)
    if isinstance(source, Path) or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelError(
            expected="a model folder or a hub id such as owner/name",
            got=f"no folder at {name!r}",
            remedy="Check the path; a folder must hold config.json and model.safetensors",
        )
    return _fetch(name)


def _fetch(name: str) -> Path:
    fetch = f"hf download {name}"
    try:
        return Path(snapshot_download(name, allow_patterns=_WANTED))
    except GatedRepoError as error:
        raise ModelError(
            expected="access to a gated model",
            got=f"{name} asks for its licence to be accepted",
            remedy=f"Accept it at https://huggingface.co/{name}, run `hf auth login`, then `{fetch}`",
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            expected="a model on the hub",
            got=f"no model named {name}, or a private one",
            remedy="Check the name, or log in with `hf auth login`",
        ) from error
    except HFValidationError as error:
        raise ModelError(expected="a hub id such as owner/name", got=f"{name!r}", remedy="Check the name") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        raise ModelError(
            expected=f"{name} from the hub or in the local cache",
            got="the hub is out of reach and the files are not in the cache",
            remedy=f"Run `{fetch}` while connected, or name a folder that holds the model",
        ) from error


def read_configuration_file(folder: Path) -> dict:
    """What the checkpoint's config.json says.

    Raises:
        ModelError: there is none, or it is damaged.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(
            expected="config.json in the model folder",
            got=f"{folder} without one",
            remedy="Name a folder written by save_pretrained, or fetch the missing file",
        )
    return read_json(path)


def read_config(folder: Path) -> dict:
    """The checkpoint's configuration, once it names an image-text-to-text model that needs no code of its own.

    Raises:
        ModelError: no or a damaged config.json, an unknown model type, or another kind of model.
    """
    config = read_configuration_file(folder)
    path = folder / "config.json"
    kind = config.get("model_type")
    if kind not in CONFIG_MAPPING_NAMES:
        own_code = " and brings its own code, which is never run" if "auto_map" in config else ""
        raise ModelError(
            expected="a model type that the installed transformers knows",
            got=f"{path} says model_type {kind!r}{own_code}",
            remedy="Choose a checkpoint in transformers' own format (often a repository whose name ends in -hf)",
        )
    if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise ModelError(
            expected="a model that answers questions about images (image-text-to-text)",
            got=f"a model of type {kind}",
            remedy="Choose a vision-language model such as LLaVA, Qwen2.5-VL, Gemma 3 or InternVL",
        )
    if kind in UNFIT:
        raise ModelError(
            expected="a model that puts the patches of its image into the prompt as tokens",
            got=f"a model of type {kind}: {UNFIT[kind]}",
            remedy="Choose a model such as LLaVA, Qwen2.5-VL, Gemma 3, PaliGemma, Idefics3, SmolVLM or InternVL",
        )
    return config


def check_weights(folder: Path) -> None:
    """Open each weight file's header, so that what is missing, damaged or a pickle is named before anything is built.

    Raises:
        ModelError: naming the file and the remedy.
    """
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if single.is_file():
        files = {single: None}
    elif index.is_file():
        places = read_json(index).get("weight_map")
        if not isinstance(places, dict) or not places:
            raise ModelError(
                expected=f"a weight_map in {index}", got="none", remedy="Fetch the file again, it is damaged"
            )
        files = {folder / name: None for name in sorted(set(places.values()))}
    else:
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        if pickles:
            raise ModelError(
                expected="weights in safetensors format",
                got=f"pickled weights ({', '.join(pickles)}), which can run any code when they are opened",
                remedy="Convert them with transformers' save_pretrained on a machine that trusts them",
            )
        raise ModelError(
            expected="model.safetensors (or its shards and their index)",
            got=f"{folder} without weights",
            remedy="Fetch the missing files, or name the folder that save_pretrained wrote",
        )
    for path in files:
        if not path.is_file():
            raise ModelError(
                expected=f"the weight file {path.name}, which {index.name} names",
                got="a folder without it",
                remedy="Fetch the missing file into the folder",
            )
        try:
            with safe_open(path, framework="pt") as tensors:
                tensors.keys()
        except (SafetensorError, OSError) as error:
            raise ModelError(
                expected=f"a complete safetensors file {path.name}",
                got=f"a damaged one ({error})",
                remedy="Fetch the file again; an interrupted download or copy leaves it cut off",
            ) from error


def read_json(path: Path) -> dict:
    """A JSON object from a checkpoint file.

    Raises:
        ModelError: the file is not one.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            expected=f"{path.name} as JSON", got=f"a damaged file ({error})", remedy="Fetch the file again"
        ) from error
    if not isinstance(value, dict):
        raise ModelError(
            expected=f"{path.name} as a JSON object", got=type(value).__name__, remedy="Fetch the file again"
        )
    return value
