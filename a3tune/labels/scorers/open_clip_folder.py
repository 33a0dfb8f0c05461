"""An open_clip model from a folder or the hub, with plain words for what is missing."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from transformers import BertConfig

from a3tune import hub
from a3tune.checkpoints import read_checkpoint
from a3tune.errors import LabelError
from a3tune.hub_errors import hub_errors
from a3tune.labels.scorers.crops import CROPS, CropStyle
from a3tune.progress import Progress, no_progress
from a3tune.storage import read_json

CONFIG = "open_clip_config.json"
CROP_KEY = "a3tune_crop"
"""Key of the configuration that names the crop style; without it crops are the method's."""
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
)
_FILES = [CONFIG, *WEIGHTS, "tokenizer*", "vocab*", "special_tokens_map.json", "config.json"]
_PURPOSE = "the weights of an open_clip model"
_BUNDLED = "or use the scorer that comes with the program (assets/demo/scorer), which knows synthetic images only"


class ClipParts(NamedTuple):
    """A model, its image transform and tokenizer, the name in its configuration (may be empty), and its crops."""

    model: torch.nn.Module
    preprocess: Callable[..., torch.Tensor]
    tokenizer: Any
    name: str
    crop_style: CropStyle


def fetch_folder(repository: str, on_progress: Progress = no_progress) -> Path:
    """The local copy of a repository on the hub; downloaded when it is not there yet.

    Args:
        repository: the hub id.
        on_progress: told how many bytes have come.

    Raises:
        LabelError: the hub cannot be reached and no copy is there, or the repository does not exist.
        RequestError: the disk is full.
    """
    with hub_errors(
        repository,
        LabelError,
        what=f"{CONFIG} and {WEIGHTS[2]} of {repository}, which score how well a region fits a text",
        command=f"hf download {repository} --local-dir FOLDER",
        otherwise=f", {_BUNDLED}",
    ):
        # One file of weights is enough; pickled ones come only where there are no others.
        safe = hub.list_files(repository, WEIGHTS[:2]) if hub.reachable() else []
        wanted = [file for file in _FILES if not (safe and file.endswith((".bin", ".pth")))]
        return hub.fetch_files(repository, wanted, on_progress)


def load_folder(folder: Path) -> ClipParts:
    """Build the model that a folder describes and put its weights in; no network, no code from the folder.

    The folder has the form that open_clip calls ``local-dir``: ``open_clip_config.json``, weights, and the
    files of a Hugging Face tokenizer where the configuration names one. The text encoder's own configuration,
    which BiomedCLIP leaves in another repository, is read off the weights where it is missing.

    Raises:
        LabelError: something is missing, damaged, hostile or does not fit.
    """
    config = _read_config(folder)
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise LabelError(
            expected=f"one of {', '.join(WEIGHTS)}: {_PURPOSE}",
            got=f"{folder} holds none of them",
            remedy=f"Fetch the file into the folder, {_BUNDLED}",
        )
    state = read_checkpoint(weights, purpose=_PURPOSE)
    text = dict(config["model_cfg"]["text_cfg"], hf_model_pretrained=False)
    with tempfile.TemporaryDirectory() as scratch:
        if text.get("hf_model_name"):
            text["hf_model_name"] = _text_model(folder, text, state, Path(scratch))
        try:
            with _no_word_of_random_weights():
                model, _, preprocess = open_clip.create_model_and_transforms(
                    f"local-dir:{folder}", load_weights=False, pretrained_text=False, text_cfg=text
                )
            open_clip.load_checkpoint(model, str(weights), weights_only=True)
            tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
        except (RuntimeError, ValueError, TypeError, KeyError, OSError, AttributeError) as error:
            raise LabelError(
                expected="an open_clip folder whose configuration, weights and tokenizer belong together",
                got=f"{folder} does not load ({str(error).strip().splitlines()[0] if str(error).strip() else error!r})",
                remedy=f"Fetch all files of one model again, {_BUNDLED}",
            ) from error
    return ClipParts(model, preprocess, tokenizer, str(config.get("name", "")), config.get(CROP_KEY, "region"))


@contextmanager
def _no_word_of_random_weights() -> Iterator[None]:
    """Keep open_clip from warning that the model is random: the weights are put in right after it is built."""

    def keep(entry: logging.LogRecord) -> bool:
        return "initialized randomly" not in entry.getMessage()

    root = logging.getLogger()
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise LabelError(
            expected=f"a folder with {CONFIG}, which describes the scorer",
            got=f"{path} is missing",
            remedy=f"Fetch the file of the model's repository into the folder, {_BUNDLED}",
        )
    try:
        config = read_json(path)
        if not isinstance(config["model_cfg"]["text_cfg"], dict) or not isinstance(
            config["model_cfg"]["vision_cfg"], dict
        ):
            raise TypeError("text_cfg and vision_cfg must be objects")
        if config.get(CROP_KEY, "region") not in CROPS:
            raise ValueError(f"{CROP_KEY} must be one of {', '.join(CROPS)}")
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise LabelError(
            expected="open_clip's configuration with model_cfg, text_cfg and vision_cfg",
            got=f"{path} is not one ({error})",
            remedy="Fetch the file again",
        ) from error
    return config


def _text_model(folder: Path, text: Mapping[str, Any], state: Mapping[str, torch.Tensor], scratch: Path) -> str:
    """A folder that holds the configuration of the Hugging Face text encoder."""
    if (folder / "config.json").is_file():
        return str(folder)
    embeddings = state.get("text.transformer.embeddings.word_embeddings.weight")
    positions = state.get("text.transformer.embeddings.position_embeddings.weight")
    types = state.get("text.transformer.embeddings.token_type_embeddings.weight")
    inner = state.get("text.transformer.encoder.layer.0.intermediate.dense.weight")
    if embeddings is None or positions is None or types is None or inner is None:
        raise LabelError(
            expected=f"the configuration of the text encoder {text['hf_model_name']} as config.json in the folder",
            got="It is missing, and the weights are not those of a BERT, from which it could be read",
            remedy="Put that model's config.json into the folder",
        )
    prefix = "text.transformer.encoder.layer."
    layers = {key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)}
    width = embeddings.shape[1]
    config = BertConfig(
        vocab_size=embeddings.shape[0],
        hidden_size=width,
        num_hidden_layers=len(layers),
        # Every BERT published has heads of width 64; the weights do not tell.
        num_attention_heads=max(1, width // 64),
        intermediate_size=inner.shape[0],
        max_position_embeddings=positions.shape[0],
        type_vocab_size=types.shape[0],
    )
    config.save_pretrained(scratch)
    return str(scratch)
