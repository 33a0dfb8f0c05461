"""Load any Hugging Face image-text-to-text checkpoint, from the hub or a folder."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoProcessor,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
)

from a3tune.bundle import DEMO, DEMO_NAME, model_source
from a3tune.decoder_layers import attention_layers
from a3tune.device import choose_device
from a3tune.errors import ModelError, RequestError
from a3tune.lack_of_memory import memory_for
from a3tune.memory_advice import TO_LOAD_A_MODEL
from a3tune.models.checkpoint_folder import PROVEN, check_weights
from a3tune.models.conversion import model_folder, prepares_with_pil
from a3tune.models.memory import ON_THE_GPU, available_memory, check_room, memory_needed, total_memory
from a3tune.models.model import VisionLanguageModel
from a3tune.models.precision import Quantization, usual_precision
from a3tune.models.profiles import convention_of
from a3tune.models.tensors import check_copies, lazy_weights, list_tensors
from a3tune.models.token_alignment import check_token_alignment
from a3tune.progress import Progress, no_progress
from a3tune.storage import is_folder
from a3tune.wording import counted

LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""The plain dialogue of LLaVA-1.5, ``USER: <image>\\nquestion ASSISTANT:``: used, with a note, for LLaVA checkpoints
that come without a chat template."""

PALIGEMMA_TEMPLATE = (
    "{% for message in messages %}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)
"""PaliGemma knows no roles: the question follows the image, and its processor adds the line break before the answer."""

# As transformers compares names: a regular expression that matches whatever lies outside of the language model's
# layers. What sees the image, and what chooses the next word, stay as they are.
_NOT_QUANTIZED = r"(?!(?:.*\.)?(?:language_model|text_model)\.(?:.*\.)?layers\.).+"

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(
    source: str | Path,
    *,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    name: str | None = None,
    chat_template: str | None = None,
    allow_unused_weights: bool = False,
    quantization: Quantization = "none",
    offload: bool = False,
    vision_tower: str | Path | None = None,
    on_progress: Progress = no_progress,
) -> VisionLanguageModel:
    """Load a vision-language model with its processor.

    No code that a checkpoint brings is ever run. An original checkpoint of LLaVA-Med or LLaVA is written once as
    transformers' own into the cache folder, and loaded from there.

    Args:
        source: a folder that ``save_pretrained`` wrote, an original checkpoint of LLaVA-Med v1.5 or LLaVA 1.5 / 1.6,
            a hub id, or "demo", the bundled model.
        device: "auto" (CUDA, else Apple's MPS, else CPU), or a torch device.
        dtype: "float32", "bfloat16", "float16" or "auto": float32 on a CPU (half-precision files are widened), or
            bfloat16, with a note, for a model that would never fit there in float32; on CUDA bfloat16 where it is
            supported and float16 elsewhere, on MPS float16.
        name: display name; by default the folder's name or the hub id.
        chat_template: a Jinja chat template that replaces the checkpoint's.
        allow_unused_weights: accept a checkpoint that holds weights the model has no place for.
        quantization: "8bit" or "4bit" (NF4) keep the language model's matrices in that precision, through the package
            bitsandbytes, on CUDA and on a CPU; ``dtype`` is then what is computed in.
        offload: leave what does not fit on the GPU in the machine's memory; slow, and on CUDA only. Never on a disk,
            and not with 8 or 4 bit, whose weights have to be where they are computed with.
        vision_tower: for an original checkpoint, the folder of the vision tower that its configuration names; see
            :func:`a3tune.models.llava_med.read_original`.
        on_progress: called with what is being done and the share done, 0 to 1.

    Raises:
        ModelError: the checkpoint is missing, incomplete, damaged, of another kind, pickled, or larger than the memory
            that is free; the hub is out of reach; it has no processor or no chat template; its image tokens are no
            places in the image.
        RequestError: an unknown device, data type or quantization, or one that the device cannot do.
    """
    if source == DEMO:
        source, name = model_source(DEMO), name or DEMO_NAME
    target = choose_device(device)
    precision = _dtype(dtype, target)
    placement = _placement(target, precision, quantization, offload)
    folder = model_folder(source, vision_tower=vision_tower, on_progress=on_progress)
    check_weights(folder)
    check_copies(folder)
    notes: list[str] = []
    processor = _load_processor(folder)
    weights = count_weights(folder)
    if dtype == "auto" and quantization == "none":
        precision = _usual_dtype(target, weights, notes)
    kept = str(precision).removeprefix("torch.") if quantization == "none" else quantization
    # Quantized weights cannot leave the device that computes with them.
    check_room(
        memory_needed(weights, kept),
        target,
        f"{weights / 1e9:.2g} billion weights in {kept}",
        and_machine=offload and quantization == "none",
    )
    on_progress("loading the weights", 0.0)
    model = _load_weights(folder, target, precision, placement, allow_unused_weights, notes)
    on_progress("loading the weights", 1.0)
    _complete_processor(processor, model, chat_template, notes)
    display = name or (Path(source).name if is_folder(source) else str(source))
    kind = model.config.model_type
    tower = getattr(getattr(model.config, "vision_config", None), "model_type", None)
    if kind not in PROVEN or tower not in (PROVEN[kind] or (tower,)):
        on_progress("trying where its image tokens lie", 1.0)
        check_token_alignment(VisionLanguageModel(display, model.eval(), processor))
        notes.append(
            f"This program was not tested with models of type {kind} that see with {tower}. Where this one's image "
            "tokens lie was tried; `python -m a3tune parity --checkpoint` also compares its attention."
        )
    return VisionLanguageModel(display, model.eval(), processor, notes, convention_of(str(source), kind), str(source))


def count_weights(folder: Path) -> int:
    """How many weights a checkpoint folder holds, from the headers of its files.

    Raises:
        ModelError: weights are missing or damaged.
    """
    return sum(math.prod(tensor.shape) for tensor in list_tensors(folder).values())


def _dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    dtype = str(dtype).removeprefix("torch.")
    if dtype == "auto":
        return _DTYPES[usual_precision(device)]
    if dtype not in _DTYPES:
        raise RequestError(
            expected=f"a data type among auto, {', '.join(_DTYPES)}", got=f"{dtype!r}", remedy="Choose one of them"
        )
    return _DTYPES[dtype]


def _usual_dtype(device: torch.device, weights: int, notes: list[str]) -> torch.dtype:
    """What "auto" stands for with so many weights; a note when their number made the difference."""
    kept, otherwise = usual_precision(device, weights), usual_precision(device)
    if kept != otherwise:
        notes.append(
            f"Kept and computed in {kept}: in {otherwise} it would take "
            f"{memory_needed(weights, otherwise) / 1e9:.0f} GB, this machine has {total_memory(device) / 1e9:.0f} GB."
        )
    return _DTYPES[kept]


def _placement(device: torch.device, dtype: torch.dtype, quantization: Quantization, offload: bool) -> dict[str, Any]:
    """What ``from_pretrained`` is told about where and how weights are kept."""
    if quantization not in get_args(Quantization):
        raise RequestError(
            expected='a quantization among "none", "8bit" and "4bit"', got=f"{quantization!r}", remedy="Choose one"
        )
    if offload and device.type != "cuda":
        raise RequestError(
            expected="an NVIDIA GPU for offloading",
            got=f"the device {device}",
            remedy="Load in bfloat16, 8 or 4 bit instead, or on a machine with such a GPU",
        )
    if quantization != "none" and device.type not in ("cuda", "cpu"):
        raise RequestError(
            expected="an NVIDIA GPU or the processor for 8 and 4 bit",
            got=f"the device {device}",
            remedy="Load in float16 instead, or on the device cpu",
        )
    # Straight to the device, never a second copy in the machine's memory.
    whole = device.type == "cpu" and quantization == "none"
    placement: dict[str, Any] = {"device_map": None if whole else {"": device}}
    if offload and quantization == "none":
        # What is left over goes to the machine's memory, however little: that there is enough was seen before, and
        # weights on a disk would take minutes for each word.
        room = {device.index: int(available_memory(device) * ON_THE_GPU), "cpu": 1 << 62}
        placement = {"device_map": "auto", "max_memory": room}
    if quantization == "none":
        return placement
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            expected="the package bitsandbytes for 8 and 4 bit",
            got="it is not installed",
            remedy="Run `pip install bitsandbytes` in this environment, or load in bfloat16",
        )
    bits: dict[str, dict[str, Any]] = {
        "8bit": {"load_in_8bit": True},
        "4bit": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    }
    settings = {**bits[quantization], "bnb_4bit_compute_dtype": dtype, "llm_int8_skip_modules": [_NOT_QUANTIZED]}
    return {**placement, "quantization_config": BitsAndBytesConfig(**settings)}


def _load_processor(folder: Path) -> ProcessorMixin:
    expected = "the processor's files (preprocessor_config.json or processor_config.json, tokenizer files)"
    remedy = "Fetch them into the folder, or save them there with the processor's save_pretrained"
    try:
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        if prepares_with_pil(folder):
            processor.image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
    # Processors are built by many classes from many files: what a missing one raises differs from class to class.
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        raise ModelError(
            expected=expected, got=f"a folder whose processor cannot be built: {error}", remedy=remedy
        ) from error
    if not isinstance(processor, ProcessorMixin) or not all(
        getattr(processor, part, None) is not None for part in ("tokenizer", "image_processor")
    ):
        raise ModelError(expected=expected, got=f"only a {type(processor).__name__}", remedy=remedy)
    return processor


def _load_weights(
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    placement: dict[str, Any],
    allow_unused: bool,
    notes: list[str],
) -> PreTrainedModel:
    try:
        with memory_for(f"the model on {device}", TO_LOAD_A_MODEL), _without_load_report(), _one_reader(device):
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
            _note_layers(config.get_text_config(decoder=True), notes)
            model, report = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)].from_pretrained(
                None,
                config=config,
                state_dict=lazy_weights(folder),  # from files that are read, not mapped: no page of them stays
                dtype=dtype,
                attn_implementation="sdpa",
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, by name
                **placement,
            )
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            expected=f"a checkpoint in {folder} that fits its configuration",
            got=f"loading failed with {type(error).__name__}: {error}",
            remedy="Fetch the files again; if that does not help, the checkpoint is not in transformers' format",
        ) from error
    missing = sorted(report["missing_keys"]) + sorted(str(key[0]) for key in report["mismatched_keys"])
    if missing:
        raise ModelError(
            expected="a weight for every part of the model",
            got=f"a checkpoint in which {len(missing)} are missing or of another shape ({_some(missing)})",
            remedy="Fetch the complete checkpoint; an adapter alone must be loaded onto its base model",
        )
    unused = sorted(report["unexpected_keys"])
    if unused and not allow_unused:
        raise ModelError(
            expected="weights that all belong to the model",
            got=f"a checkpoint with {len(unused)} that do not ({_some(unused)})",
            remedy="Use a checkpoint that fits its config.json, or load with allow_unused_weights=True",
        )
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    if unused:
        notes.append(
            f"{counted(len(unused), 'weight of the checkpoint is', 'weights of the checkpoint are')} not used: "
            f"{_some(unused)}."
        )
    return model


def _note_layers(text_config: PreTrainedConfig, notes: list[str]) -> None:
    """Say which layers are meant where not every one has attention weights; refuse a model without any."""
    layers = attention_layers(text_config)
    if len(layers) < text_config.num_hidden_layers:
        notes.append(
            f"Of the language model's {text_config.num_hidden_layers} layers {len(layers)} have softmax attention, "
            f"whose maps are shown: layers {', '.join(map(str, layers))} (from 0), which are numbered 0 to "
            f"{len(layers) - 1} here. The others have no weights on single tokens."
        )


@contextmanager
def _without_load_report() -> Iterator[None]:
    """Keep transformers' table of weights off the terminal: it advises to train what is missing, which is refused here
    in one line."""
    logger = logging.getLogger("transformers.modeling_utils")

    def not_the_report(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    logger.addFilter(not_the_report)
    try:
        yield
    finally:
        logger.removeFilter(not_the_report)


@contextmanager
def _one_reader(device: torch.device) -> Iterator[None]:
    """Let one thread read the weights that stay on the CPU.

    transformers reads with several, and what a thread allocated cannot always be handed back to the system once the
    model is gone: a quarter of a small model was seen to stay. For a GPU several readers are faster and keep nothing.
    """
    name = "HF_DEACTIVATE_ASYNC_LOAD"
    before = os.environ.get(name)
    if device.type == "cpu":
        os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


def _complete_processor(
    processor: ProcessorMixin, model: PreTrainedModel, chat_template: str | None, notes: list[str]
) -> None:
    """Fill in what older LLaVA and PaliGemma checkpoints leave out, each with a note; refuse what cannot be known."""
    llava = type(processor).__name__ == "LlavaProcessor"
    if chat_template is not None:
        processor.chat_template = chat_template
    elif processor.chat_template is None and processor.tokenizer.chat_template is not None:
        processor.chat_template = processor.tokenizer.chat_template
    elif processor.chat_template is None and llava:
        processor.chat_template = LLAVA_TEMPLATE
        notes.append("The checkpoint has no chat template: LLaVA-1.5's plain USER / ASSISTANT dialogue is used.")
    elif processor.chat_template is None and type(processor).__name__ == "PaliGemmaProcessor":
        processor.chat_template = PALIGEMMA_TEMPLATE
        notes.append("PaliGemma has no dialogue: the question is put as it is; mixed checkpoints want 'answer en ...'.")
    elif processor.chat_template is None:
        raise ModelError(
            expected="a chat template (chat_template.jinja, or chat_template in tokenizer_config.json)",
            got=f"a {type(processor).__name__} without one",
            remedy="Add the file from the model's hub page, or pass chat_template",
        )
    if llava and processor.patch_size is None:
        processor.patch_size = model.config.vision_config.patch_size
        processor.vision_feature_select_strategy = model.config.vision_feature_select_strategy
        processor.num_additional_image_tokens = 1  # CLIP's class token, which "default" drops again
        notes.append("The processor does not say its patch size: it is taken from the model's configuration.")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
