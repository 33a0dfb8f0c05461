"""LLaVA-Med v1.5 and LLaVA 1.5 / 1.6 as their authors publish them, in transformers' own terms.

Such checkpoints name a model type that transformers does not know (``llava_mistral``, ``llava_llama``), keep the
projector and the vision tower under names of their own, and leave the image token, the conversation template and the
padding of images to code outside the checkpoint. All of that is restated here from the checkpoint's configuration;
no code of a checkpoint is run. The parts are published in: Liu et al., "Visual Instruction Tuning", NeurIPS 2023; Liu
et al., "Improved Baselines with Visual Instruction Tuning", CVPR 2024; Li et al., "LLaVA-Med", NeurIPS 2023.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaNextConfig,
    LlavaNextProcessor,
    LlavaProcessor,
    MistralConfig,
    PreTrainedTokenizerFast,
    ProcessorMixin,
)
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from a3tune.errors import ModelError
from a3tune.models.checkpoint_folder import read_json
from a3tune.models.llava_tokenizer import IMAGE_TOKEN, build_tokenizer
from a3tune.models.tensors import StoredTensor, check_copies, list_tensors
from a3tune.storage import named_path

TEXT_CONFIGS = {"llava_mistral": MistralConfig, "llava_llama": LlamaConfig}
"""Model type of an original checkpoint -> configuration class of its language model."""

MISTRAL_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ 'IMAGE\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}{{ ' [/INST]' }}"
    "{% else %}{% for part in message['content'] %}{{ ' ' + part['text'] }}{% endfor %}{{ '</s>' }}{% endif %}"
    "{% endfor %}"
)
"""One turn reads ``[INST] <image>\\nquestion [/INST] answer</s>``."""

VICUNA_TEMPLATE = (
    "{{ 'A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives detailed, helpful, and polite answers to the user\\'s questions.' }}"
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ ' USER: ' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ 'IMAGE\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% else %}{{ ' ASSISTANT:' }}{% for part in message['content'] %}{{ ' ' + part['text'] }}{% endfor %}{{ '</s>' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"
)
"""One turn reads ``... USER: <image>\\nquestion ASSISTANT: answer</s>``."""

KNOWN_TOWERS = {
    f"openai/clip-vit-large-patch14{name}": {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "image_size": size, "patch_size": 14, "projection_dim": 768, "hidden_act": "quick_gelu",
    }
    for name, size in (("", 224), ("-336", 336))
}  # fmt: skip
"""Shapes of the vision towers that LLaVA was published with (Radford et al., "Learning Transferable Visual Models
From Natural Language Supervision", ICML 2021), so that a checkpoint that holds its tower's weights needs no other."""

_RENAMINGS = (
    (re.compile(r"^model\.vision_tower\.vision_tower\."), "vision_tower."),
    (re.compile(r"^model\.mm_projector\.0\."), "multi_modal_projector.linear_1."),
    (re.compile(r"^model\.mm_projector\.2\."), "multi_modal_projector.linear_2."),
    (re.compile(r"^model\.image_newline$"), "image_newline"),
    (re.compile(r"^(model\.(?:embed_tokens|layers|norm)\.)"), r"language_model.\1"),
    (re.compile(r"^lm_head\."), "language_model.lm_head."),
    # A vision tower in a folder of its own; newer files leave the prefix out.
    (
        re.compile(r"^(?:vision_model\.)?((?:embeddings|encoder|pre_layrnorm|post_layernorm)\.)"),
        r"vision_tower.vision_model.\1",
    ),
)
# What older releases stored although it follows from the configuration, and the rest of a CLIP model.
_DERIVED = re.compile(r"(rotary_emb\.inv_freq|embeddings\.position_ids)$|^(text_|visual_projection|logit_scale)")
_IN_MEMORY = (
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head.", "lm_head."),
    ("vision_tower.vision_model.", "model.vision_tower."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
    ("image_newline", "model.image_newline"),
)


@dataclass(frozen=True, eq=False)
class OriginalCheckpoint:
    """An original checkpoint restated, its weights not read yet.

    Attributes:
        folder: where it lies.
        config: a :class:`LlavaConfig`, or a :class:`LlavaNextConfig` for LLaVA 1.6.
        processor: tokenizer with the image token, chat template, and an image processor that pads as LLaVA does.
        tensors: name as in transformers' published LLaVA checkpoints -> where it is stored.
        rows: rows of the token embeddings and of the output layer; more than stored when the image token needs one.
    """

    folder: Path
    config: LlavaConfig | LlavaNextConfig
    processor: ProcessorMixin
    tensors: Mapping[str, StoredTensor]
    rows: int

    @property
    def size(self) -> int:
        """Bytes of all weights."""
        return sum(tensor.size for tensor in self.tensors.values())


def read_original(folder: Path, vision_tower: str | Path | None = None) -> OriginalCheckpoint:
    """Read the configuration, the tokenizer and the headers of the weights.

    Args:
        folder: the original checkpoint.
        vision_tower: a folder with the CLIP model that the configuration names; needed when it is another model than
            that name says, or when the checkpoint does not hold the tower's weights. A folder ``vision_tower`` in or
            beside the checkpoint is found without being named.

    Raises:
        ModelError: something is missing, damaged, or of a kind that cannot be restated.
    """
    original = read_json(folder / "config.json")
    name = str(original.get("mm_vision_tower"))
    beside = tower_folder(folder, name, vision_tower)
    tower = _read_tower(beside, name)
    check_copies(folder)
    tensors = _renamed(list_tensors(folder))
    if not any(name.startswith("vision_tower.") for name in tensors):
        if beside is None:
            raise ModelError(
                expected="the vision tower's weights, in the checkpoint or in a folder of their own",
                got=f"{folder.name} holds none, and its tower {name} is not at hand",
                remedy=f"Run `hf download {name} --local-dir FOLDER` and name that folder (--vision-tower)",
            )
        check_copies(beside)
        found = _renamed(list_tensors(beside))
        tensors |= {name: tensor for name, tensor in found.items() if name.startswith("vision_tower.")}
    tokenizer = build_tokenizer(folder)
    config = _config(original, tower.config, tokenizer)
    rows = config.text_config.vocab_size
    _check_shapes(tensors, config, rows, tower_name=tower.name)
    return OriginalCheckpoint(folder, config, _processor(original, config, tokenizer, tower), tensors, rows)


def holds_tower(folder: Path) -> bool:
    """Whether an original checkpoint brings the weights of its vision tower.

    Raises:
        ModelError: its weights are missing or damaged.
    """
    return any(name.startswith("vision_tower.") for name in _renamed(list_tensors(folder)))


@dataclass(frozen=True)
class _Tower:
    name: str
    config: CLIPVisionConfig
    preprocessing: dict[str, Any]


def tower_folder(folder: Path, name: str, given: str | Path | None = None) -> Path | None:
    """The folder of an original checkpoint's vision tower, or None when there is none at hand.

    Args:
        folder: the original checkpoint.
        name: what its configuration calls the tower: a folder or a hub id.
        given: the folder that the caller names instead.

    Raises:
        ModelError: the named folder is no CLIP model.
    """
    if given is not None:
        if not (named_path(given) / "config.json").is_file():
            raise ModelError(
                expected="a folder with a CLIP model's config.json as vision tower",
                got=f"{given} without one",
                remedy=f"Name the folder that `hf download {name} --local-dir FOLDER` wrote",
            )
        return named_path(given)
    own = name.rsplit("/", 1)[-1]
    places = [folder / name, *(parent / part for parent in (folder, folder.parent) for part in ("vision_tower", own))]
    return next((place for place in places if (place / "config.json").is_file()), None)


def _read_tower(folder: Path | None, name: str) -> _Tower:
    if folder is not None:
        config = read_json(folder / "config.json")
        settings = folder / "preprocessor_config.json"
        shape = config.get("vision_config", config)
        return _Tower(name, CLIPVisionConfig(**shape), read_json(settings) if settings.is_file() else {})
    if name in KNOWN_TOWERS:
        return _Tower(name, CLIPVisionConfig(**KNOWN_TOWERS[name]), {})
    raise ModelError(
        expected=f"a vision tower among {', '.join(KNOWN_TOWERS)}, or one given as a folder",
        got=f"the checkpoint's tower is {name}",
        remedy=f"Fetch it with `hf download {name} --local-dir FOLDER` and name that folder (--vision-tower)",
    )


def _renamed(stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    renamed = {}
    for name, tensor in stored.items():
        if _DERIVED.search(name):
            continue
        for pattern, replacement in _RENAMINGS:
            new, count = pattern.subn(replacement, name)
            if count:
                renamed[new] = tensor
                break
        else:
            renamed[name] = tensor
    return renamed


def _config(
    original: Mapping[str, Any], vision: CLIPVisionConfig, tokenizer: PreTrainedTokenizerFast
) -> LlavaConfig | LlavaNextConfig:
    def only(key: str, *accepted: Any) -> None:
        if original.get(key, accepted[0]) not in accepted:
            raise ModelError(
                expected=f"{key} {' or '.join(map(repr, accepted))}, which transformers' LLaVA can express",
                got=f"{original[key]!r}",
                remedy="Choose a checkpoint of LLaVA-Med v1.5 or LLaVA 1.5 / 1.6",
            )

    only("mm_projector_type", "mlp2x_gelu")
    only("mm_vision_select_feature", "patch", "cls_patch")
    tiles = original.get("image_aspect_ratio") == "anyres"
    only("mm_patch_merge_type", *(("spatial_unpad",) if tiles else ("flat", None)))
    kind = TEXT_CONFIGS[original["model_type"]]
    known = set(kind().to_dict()) | {"rope_theta", "rope_scaling", "head_dim"}
    image_token = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    text = {key: value for key, value in original.items() if key in known - {"model_type", "architectures", "dtype"}}
    text["vocab_size"] = max(original["vocab_size"], image_token + 1)
    settings = {
        "vision_config": vision,
        "text_config": kind(**text),
        "image_token_index": image_token,
        "image_seq_length": (vision.image_size // vision.patch_size) ** 2,
        "vision_feature_layer": original.get("mm_vision_select_layer", -2),
        "vision_feature_select_strategy": _strategy(original),
        "tie_word_embeddings": bool(original.get("tie_word_embeddings", False)),
    }
    if tiles:
        return LlavaNextConfig(**settings, image_grid_pinpoints=original["image_grid_pinpoints"])
    return LlavaConfig(**settings)


def _strategy(original: Mapping[str, Any]) -> str:
    return "full" if original.get("mm_vision_select_feature") == "cls_patch" else "default"


def _processor(
    original: Mapping[str, Any],
    config: LlavaConfig | LlavaNextConfig,
    tokenizer: PreTrainedTokenizerFast,
    tower: _Tower,
) -> ProcessorMixin:
    size = tower.config.image_size
    settings = {
        "size": {"shortest_edge": size},
        "crop_size": {"height": size, "width": size},
        **{key: value for key, value in tower.preprocessing.items() if key in _PREPROCESSING},
    }
    image = f"<im_start>{IMAGE_TOKEN}<im_end>" if original.get("mm_use_im_start_end") else IMAGE_TOKEN
    template = MISTRAL_TEMPLATE if original["model_type"] == "llava_mistral" else VICUNA_TEMPLATE
    parts = {
        "tokenizer": tokenizer,
        "patch_size": tower.config.patch_size,
        "vision_feature_select_strategy": _strategy(original),
        "num_additional_image_tokens": 1,  # CLIP's class token
        "chat_template": template.replace("IMAGE", image),
    }
    if isinstance(config, LlavaNextConfig):
        tiled = LlavaNextImageProcessorPil(**settings, image_grid_pinpoints=config.image_grid_pinpoints)
        return LlavaNextProcessor(image_processor=tiled, **parts)
    # LLaVA squares an image with a border in CLIP's mean colour when told to pad, and crops its middle otherwise.
    square = LlavaImageProcessorPil(**settings, do_pad=original.get("image_aspect_ratio") == "pad")
    return LlavaProcessor(image_processor=square, **parts)


_PREPROCESSING = {
    "crop_size", "do_center_crop", "do_convert_rgb", "do_normalize", "do_rescale", "do_resize", "image_mean",
    "image_std", "resample", "rescale_factor", "size",
}  # fmt: skip


def _check_shapes(
    tensors: Mapping[str, StoredTensor], config: LlavaConfig | LlavaNextConfig, rows: int, *, tower_name: str
) -> None:
    """Name what is missing, left over or of another shape before gigabytes are read."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {in_memory(name): tensor.shape for name, tensor in tensors.items()}
    for name in ("model.language_model.embed_tokens.weight", "lm_head.weight"):
        if name in found and found[name][0] < rows:
            found[name] = (rows, *found[name][1:])
    if config.tie_word_embeddings:
        found.setdefault("lm_head.weight", expected["lm_head.weight"])
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if not wrong:
        return
    # Another tower also changes the projector: then the tower is to blame.
    tower = next((name for name in wrong if name.startswith("model.vision_tower.")), None)
    name = tower or wrong[0]
    raise ModelError(
        expected=f"weights that fit {'the vision tower ' + tower_name if tower else 'config.json'}",
        got=f"{len(wrong)} that do not; {name} is {found.get(name, 'missing')}, not {expected.get(name, 'known')}",
        remedy="Name the folder of the vision tower that the checkpoint was made with (--vision-tower)"
        if tower
        else "Fetch the complete checkpoint again",
    )


def in_memory(name: str) -> str:
    """A parameter's name in a loaded model, from its name in a published checkpoint."""
    for stored, loaded in _IN_MEMORY:
        if name.startswith(stored):
            return loaded + name[len(stored) :]
    return name
