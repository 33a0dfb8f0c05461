"""Whether the files of a checkpoint folder are all there, of the right kind, and safe to read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from a3tune import storage
from a3tune.errors import ModelError

ORIGINAL_TYPES = ("llava_mistral", "llava_llama")
"""Model types of LLaVA checkpoints as their authors publish them, which transformers does not know."""

_READ = (".json", ".jinja", ".model", ".txt", ".safetensors")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


_CROSS = "its text layers read the image through cross-attention, so no word looks at a patch in the prompt"
_QUERIES = "a resampler boils the whole image down to query tokens, so an image token is no place in the image"
_ENCODER = "it is an encoder-decoder, whose answer reads the image through cross-attention"
_EAGER = "transformers runs its class without scaled-dot-product attention, from which maps are read here"
_INDEXED = "an index chooses which tokens its attention sees, so its weights are not those of plain softmax attention"
_DIFFUSION = "it writes its answer by diffusion, all words at once, so no word is written from a look at the image"
_ACTIONS = "it answers with a robot's movements, not with words"
UNFIT = {
    **dict.fromkeys(("mllama", "idefics", "evolla"), _CROSS),
    **dict.fromkeys(("blip-2", "instructblip", "instructblipvideo", "idefics2", "kosmos-2", "kosmos-2.5"), _QUERIES),
    **dict.fromkeys(("blip", "florence2", "pix2struct", "udop", "t5gemma2", "vision-encoder-decoder"), _ENCODER),
    "pp_formulanet": _ENCODER,
    **dict.fromkeys(("got_ocr2", "pp_chart2table", "git", "inkling2", "inkling_mm_model"), _EAGER),
    **dict.fromkeys(("dots3_note", "glm5_next", "mistral_large4"), _INDEXED),
    "diffusion_gemma": _DIFFUSION,
    "pi0": _ACTIONS,
}
"""Image-text-to-text model types whose attention to the image cannot be shown as a map of patches, and why."""

PROVEN: dict[str, tuple[str, ...] | None] = {
    "llava": ("clip_vision_model", "siglip_vision_model", "pixtral"),
    **dict.fromkeys(("llava_next", "llava_next_video", "vipllava"), ("clip_vision_model",)),
    **dict.fromkeys(("llava_onevision", "aya_vision", "cohere2_vision", "deepseek_vl"), ("siglip_vision_model",)),
    **dict.fromkeys(("mistral3", "lighton_ocr"), ("pixtral",)),
    "perception_lm": ("timm_wrapper",),
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "gemma3", "paligemma", "idefics3")),
    **dict.fromkeys(("smolvlm", "internvl", "glm4v", "glm4v_moe", "glm46v", "janus", "ovis2", "video_llama_3")),
    **dict.fromkeys(("qwen3_5", "qwen3_5_moe", "gemma4", "llama4")),
    "lfm2_vl": ("siglip2_vision_model",),
}
"""Model types of which a tiny model is put through every test, and the vision towers that it has there; None where
there is no other. A model of another type or tower is tried when it is loaded."""


def read_configuration_file(folder: Path) -> dict:
    """What the checkpoint's config.json says.

    Raises:
        ModelError: there is none, or it is damaged.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(
            expected="config.json in the model folder",
            got=f"No config.json in {folder}",
            remedy="Name a folder written by save_pretrained, or fetch the missing file",
        )
    return read_json(path)


def is_original(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is that of LLaVA-Med or LLaVA as their authors publish them."""
    return config.get("model_type") in ORIGINAL_TYPES


def check_kind(config: Mapping[str, Any], name: str) -> None:
    """Refuse what cannot be asked about an image, from its configuration alone.

    Args:
        config: what config.json says.
        name: how to call the model in an error.

    Raises:
        ModelError: an unknown model type, or another kind of model.
    """
    kind = config.get("model_type")
    if kind == "llava" and "mm_vision_tower" in config and "text_config" not in config:
        raise ModelError(
            expected="LLaVA-Med v1.5, LLaVA 1.5 or later",
            got=f"{name} is of the first LLaVA, whose projector and weight differences have no place here",
            remedy="Use microsoft/llava-med-v1.5-mistral-7b",
        )
    if kind not in CONFIG_MAPPING_NAMES:
        own_code = " and brings its own code, which is never run" if "auto_map" in config else ""
        raise ModelError(
            expected="a model type that the installed transformers knows",
            got=f"{name} says model_type {kind!r}{own_code}",
            remedy="Choose a checkpoint in transformers' own format (often a repository whose name ends in -hf)",
        )
    if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise ModelError(
            expected="a model that answers questions about images (image-text-to-text)",
            got=f"This is a model of type {kind}",
            remedy="Choose a vision-language model such as LLaVA, Qwen2.5-VL, Gemma 3 or InternVL",
        )
    if kind in UNFIT:
        raise ModelError(
            expected="a model whose words look at the patches of its image by softmax attention",
            got=f"This is a model of type {kind}: {UNFIT[kind]}",
            remedy="Choose a model of a class in docs/models.md, such as LLaVA, Qwen2.5-VL, Gemma 3 or InternVL",
        )


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
    if quantization := read_json(folder / "config.json").get("quantization_config"):
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        raise ModelError(
            expected="weights as plain numbers",
            got=f"config.json says that they are quantized ({method or 'by a method without a name'})",
            remedy="Choose a checkpoint that is not quantized; 8 and 4 bit can be chosen when loading",
        )
    if stand_in := storage.first_stand_in(folder, _READ):
        path, found = stand_in
        raise ModelError(expected="the checkpoint's own files", got=f"{path.name} is {found.what}", remedy=found.remedy)
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
                expected="a complete safetensors file",
                got=f"{path.name} is damaged ({error})",
                remedy=f"Fetch the file again; an interrupted download or copy leaves it cut off{_first_delete(path)}",
            ) from error


def _first_delete(path: Path) -> str:
    # A link is how the hub's cache puts a file into a folder; its client fetches nothing while the file is there.
    return f" (delete {path.resolve()} first)" if path.is_symlink() else ""


def read_json(path: Path) -> dict:
    """A JSON object from a checkpoint file.

    Raises:
        ModelError: the file is not one.
    """
    try:
        return storage.read_json(path)
    except (OSError, ValueError) as error:
        raise ModelError(
            expected=f"{path.name} as a JSON object", got=f"a damaged file ({error})", remedy="Fetch the file again"
        ) from error
