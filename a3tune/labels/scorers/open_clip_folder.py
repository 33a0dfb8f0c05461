"""An open_clip model from a folder or the hub, with plain words for what is missing."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from PIL import Image
from transformers import AutoConfig, AutoModel, BertConfig, PreTrainedConfig

from a3tune import hub
from a3tune.checkpoints import read_checkpoint
from a3tune.errors import LabelError, is_lack_of_memory
from a3tune.hub_errors import hub_errors
from a3tune.labels.scorers.crops import CROPS, CropStyle
from a3tune.progress import Progress, no_progress
from a3tune.state_dicts import first_difference
from a3tune.storage import first_stand_in, read_json

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
# What open_clip, torch and the tokenizers raise where a configuration is not that of its weights.
_UNFIT = (
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    OSError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    NotImplementedError,
    ImportError,
)
_LARGEST, _MOST_LAYERS = 1024, 256
_SMALL = (".json", ".txt", ".model", ".jinja")
_TEXT = "text.transformer."
_SAID_BY = {
    "positional_embedding": " (context_length)",
    "pos_embed": " (image_size)",
    "token_embedding": " (vocab_size)",
}
_PURPOSE = "the weights of an open_clip model"
_BUNDLED = "or use the scorer that comes with the program (assets/demo/scorer), which knows synthetic images only"


class ClipParts(NamedTuple):
    """A model, its image transform and tokenizer, the name in its configuration (may be empty), its crops, and 16 hex
    digits that change with what the folder says of model, transform and tokenizer."""

    model: torch.nn.Module
    preprocess: Callable[..., torch.Tensor]
    tokenizer: Any
    name: str
    crop_style: CropStyle
    configuration: str


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
    which BiomedCLIP leaves in another repository, is read off the weights where it is missing or another model's.
    The configuration has to agree with the weights, and files of several forms with each other.

    Raises:
        LabelError: something is missing, damaged, hostile or does not fit.
    """
    config = _read_config(folder)
    if stand_in := first_stand_in(folder, _SMALL):
        path, found = stand_in
        raise LabelError(expected="the model's own files", got=f"{path.name} is {found.what}", remedy=found.remedy)
    state = _read_weights(folder)
    text = dict(config["model_cfg"]["text_cfg"], hf_model_pretrained=False)
    with tempfile.TemporaryDirectory() as scratch:
        if text.get("hf_model_name"):
            text["hf_model_name"] = _text_model(folder, text, state, Path(scratch))
        try:
            _check_numbers(config["model_cfg"], state)
            with _no_word_of_random_weights():
                model, _, preprocess = open_clip.create_model_and_transforms(
                    f"local-dir:{folder}", load_weights=False, pretrained_text=False, text_cfg=text
                )
            _load_weights(model, state)
            files = _tokenizer_files(folder, Path(scratch))
            tokenizer = open_clip.get_tokenizer(f"local-dir:{files}")
            configuration = _configuration_digest(config, files)
            _check_sizes(config, state, tokenizer, model)
            _try(model, preprocess, tokenizer)
        except _UNFIT as error:
            if is_lack_of_memory(error):
                raise
            raise LabelError(
                expected="an open_clip folder whose configuration, weights and tokenizer belong together",
                got=f"{folder} does not load ({str(error).strip().splitlines()[0] if str(error).strip() else error!r})",
                remedy=f"Fetch all files of one model again, {_BUNDLED}",
            ) from error
    name, crops = str(config.get("name", "")), config.get(CROP_KEY, "region")
    return ClipParts(model, preprocess, tokenizer, name, crops, configuration)


def _configuration_digest(config: Mapping[str, Any], files: Path) -> str:
    """16 hex digits of what is said of model and transform, and of the tokenizer's files with the configuration of the
    text encoder that counts."""
    said = [config["model_cfg"], config.get("preprocess_cfg")]
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for path in sorted(path for path in files.iterdir() if path.name != CONFIG):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The weights; files of several forms must hold the same."""
    files = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    if not files:
        raise LabelError(
            expected=f"one of {', '.join(WEIGHTS)}: {_PURPOSE}",
            got=f"{folder} holds none of them",
            remedy=f"Fetch the file into the folder, {_BUNDLED}",
        )
    state = read_checkpoint(files[0], purpose=_PURPOSE)
    for other in files[1:]:
        if fault := first_difference(state, read_checkpoint(other, purpose=_PURPOSE)):
            raise LabelError(
                expected="one set of weights in the folder",
                got=f"{files[0].name} and {other.name} differ: {fault}",
                remedy="Move the file that is not meant, often the older one, out of the folder",
            )
    return state


def _load_weights(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Put the weights in as open_clip would, but resize nothing: what was trained on another image size or for longer
    texts is not what the configuration says.

    Raises:
        ValueError: the configuration says otherwise than the weights.
    """
    state = open_clip.convert.convert_state_dict(model, state)
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = open_clip.model.convert_to_custom_text_state_dict(state)
    own = model.state_dict()
    for name in ("logit_scale", "logit_bias"):
        if name in state and name in own and state[name].numel() == own[name].numel():
            state[name] = state[name].reshape(own[name].shape)
    # Buffers of counted positions, which newer versions of transformers no longer keep.
    state = {name: value for name, value in state.items() if name in own or not name.endswith(".position_ids")}
    for name, value in state.items():
        if name in own and own[name].shape != value.shape:
            said, found = tuple(own[name].shape), tuple(value.shape)
            what = next((said for part, said in _SAID_BY.items() if part in name), "")
            if name.startswith("visual."):
                what = what.replace("context_length", "image_size")
            raise ValueError(f"{name} has the shape {found}, the configuration says {said}{what}")
        if name in own and own[name].is_floating_point() != value.is_floating_point():
            raise ValueError(f"{name} is stored as {value.dtype}, which is no weight")
    missing, unknown = [name for name in own if name not in state], [name for name in state if name not in own]
    if missing or unknown:
        told = ((missing, "that the configuration asks for are missing"), (unknown, "are none of the configuration's"))
        raise ValueError(", ".join(f"{len(names)} weights {what} (first: {names[0]})" for names, what in told if names))
    model.load_state_dict(state)


@torch.inference_mode()
def _try(model: Any, preprocess: Callable[..., torch.Tensor], tokenizer: Any) -> None:
    """One black picture and one text of the full length: what a model raises at a size that is not its own."""
    model.eval()
    length = int(tokenizer.context_length)
    model.encode_image(preprocess(Image.new("RGB", (8, 8)))[None])
    model.encode_text(tokenizer([" ".join(["a"] * length)]))


def _check_numbers(value: Any, state: Mapping[str, torch.Tensor]) -> None:
    """Numbers far beyond the weights' own would have a model built that takes all memory, or for ever.

    Raises:
        ValueError: there is such a number.
    """
    largest = 4 * max([_LARGEST, *(size for tensor in state.values() for size in tensor.shape)])
    for entry in value.values() if isinstance(value, dict) else value:
        if isinstance(entry, (dict, list)):
            _check_numbers(entry, state)
        elif isinstance(entry, (int, float)) and not -largest <= entry <= largest:
            raise ValueError(f"it names the number {str(entry)[:20]}, over four times the largest size of its weights")
    layers = value.get("layers") if isinstance(value, dict) else None
    counts = [layers] if isinstance(layers, int) else layers if isinstance(layers, list) else []
    if any(isinstance(count, int) and count > _MOST_LAYERS for count in counts):
        raise ValueError(f"it has over {_MOST_LAYERS} layers")


def _check_sizes(config: Mapping[str, Any], state: Mapping[str, torch.Tensor], tokenizer: Any, model: Any) -> None:
    """What the weights' shapes leave open: lengths, words and pixels that go in.

    Raises:
        ValueError: two of them disagree.
    """
    positions = state.get(f"{_TEXT}embeddings.position_embeddings.weight")
    length = config["model_cfg"]["text_cfg"].get("context_length", 77)
    if type(length) is not int or length < 1:
        raise ValueError(f"its context_length is {length!r}, not a number of tokens")
    if positions is not None and length > len(positions):
        raise ValueError(f"its context_length is {length}, its text encoder has {len(positions)} positions")
    names = (f"{_TEXT}embeddings.word_embeddings.weight", "token_embedding.weight", "text.token_embedding.weight")
    rows = next((len(state[name]) for name in names if name in state), None)
    words = len(tokenizer.tokenizer) if hasattr(tokenizer, "tokenizer") else getattr(tokenizer, "vocab_size", 0)
    if rows is not None and words > rows:
        raise ValueError(f"its tokenizer knows {words} words, its text encoder {rows}")
    seen = config["model_cfg"]["vision_cfg"].get("image_size")
    # Some of timm's models take every size, and resize the places that they were trained with.
    trained = getattr(getattr(getattr(model.visual, "trunk", None), "patch_embed", None), "img_size", None)
    if seen and trained and _pair(seen) != _pair(trained):
        raise ValueError(f"its image_size is {seen}, its image encoder has places for {trained}")
    shown = config.get("preprocess_cfg", {}).get("size")
    if seen and shown and _pair(seen) != _pair(shown):
        raise ValueError(f"its preprocess_cfg makes images of {shown} pixels, its model sees {seen}")


def _pair(size: Any) -> tuple[Any, ...]:
    return tuple(size) if isinstance(size, (list, tuple)) else (size, size)


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


def _tokenizer_files(folder: Path, text_model: Path) -> Path:
    """The folder without its weights, with the text encoder's true configuration, from which a tokenizer's class may be
    read."""
    place = text_model / "tokenizer"
    place.mkdir()
    for path in folder.iterdir():
        if path.is_file() and path.suffix in _SMALL and path.name != "config.json":
            shutil.copy(path, place)
    if (text_model / "config.json").is_file():
        shutil.copy(text_model / "config.json", place)
    return place


def _text_model(folder: Path, text: Mapping[str, Any], state: Mapping[str, torch.Tensor], scratch: Path) -> str:
    """A folder that holds the configuration of the Hugging Face text encoder."""
    own = _own_text_config(folder, state)
    if own is not None:
        own.save_pretrained(scratch)
        return str(scratch)
    embeddings = state.get(f"{_TEXT}embeddings.word_embeddings.weight")
    positions = state.get(f"{_TEXT}embeddings.position_embeddings.weight")
    types = state.get(f"{_TEXT}embeddings.token_type_embeddings.weight")
    inner = state.get(f"{_TEXT}encoder.layer.0.intermediate.dense.weight")
    # RoBERTa has the same names, one kind of token, and counts positions otherwise.
    if embeddings is None or positions is None or types is None or inner is None or len(types) != 2:
        raise LabelError(
            expected=f"the configuration of the text encoder {text['hf_model_name']} as config.json in the folder",
            got="It is missing or another model's, and the weights are no BERT's, from which it could be read",
            remedy="Put that model's config.json into the folder",
        )
    prefix = f"{_TEXT}encoder.layer."
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


def _own_text_config(folder: Path, state: Mapping[str, torch.Tensor]) -> PreTrainedConfig | None:
    """The folder's config.json, if the model that it describes has the weights' names and shapes."""
    try:
        given = read_json(folder / "config.json")
        kind = given.pop("model_type")
        given.pop("auto_map", None)
        config = AutoConfig.for_model(kind, **given)
        with torch.device("meta"):
            model = AutoModel.from_config(config)
    except FileNotFoundError:
        return None
    # Many classes check what is said in their own ways.
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError, ArithmeticError, OSError, ImportError):
        return None
    described = model.state_dict()
    types = state.get(f"{_TEXT}embeddings.token_type_embeddings.weight")
    if types is not None and len(types) == 2 and hasattr(getattr(model, "embeddings", None), "padding_idx"):
        # RoBERTa's kind counts positions from its padding on, and has one kind of token where it is published.
        return None
    found = {name.removeprefix(_TEXT): tuple(value.shape) for name, value in state.items() if name.startswith(_TEXT)}
    optional = ("pooler.", "embeddings.position_ids", "embeddings.token_type_ids")
    names = {name for name in described.keys() | found.keys() if not name.startswith(optional)}
    fits = all(name in described and found.get(name) == tuple(described[name].shape) for name in names)
    return config if found and fits else None
