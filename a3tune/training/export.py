"""An adapter made ready to give away: LoRA merged into its base and checked, or the adapter with another strength."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from transformers import PreTrainedModel

from a3tune.adapters.origin import short_name
from a3tune.adapters.stored import read_adapter
from a3tune.adapters.switch import AdapterSet
from a3tune.bundle import EXAMPLES, model_source
from a3tune.errors import AdapterError, DataError, RequestError
from a3tune.images import load_image
from a3tune.models.load import load_model
from a3tune.models.model import VisionLanguageModel
from a3tune.models.profiles import convention_of
from a3tune.progress import Progress, no_progress
from a3tune.storage import place_folder, read_json
from a3tune.types import MedicalImage

STRONGEST = 2.0
"""Largest strength of an adapter; 1 is as it was tuned."""

CARD_NAME = "README.md"
_NAME = "adapter"
_TOKENS = 24
_QUESTIONS = ("Where is the lesion?", "Is there an abnormality?", "Describe the image.")
# What LoRA replaces or normalises as a whole, whatever its scale.
_BEYOND_THE_SCALE = ("use_dora", "bias", "modules_to_save", "trainable_token_indices")
# Largest difference of two logits, by the largest of them: rounding of sums in another order.
_ROUNDING = {torch.float32: 1e-4, torch.bfloat16: 0.06, torch.float16: 0.01}


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Attributes:
        folder: where it lies.
        checks: how many questions were answered by base and adapter and by the merged model; 0 where nothing was
            merged.
        error: the largest difference between their logits, by the largest logit.
    """

    folder: Path
    checks: int = 0
    error: float = 0.0


@dataclass(frozen=True)
class _Answers:
    """Logits [tokens, vocabulary] of the last prompt token and the answer, and the answer's ids, for each question."""

    logits: tuple[torch.Tensor, ...]
    ids: tuple[tuple[int, ...], ...]


def export_merged(
    adapter: str | Path,
    out: str | Path,
    model: str = "demo",
    *,
    strength: float = 1.0,
    device: str = "auto",
    dtype: str = "auto",
    allow_other_base: bool = False,
    images: Sequence[MedicalImage] = (),
    on_progress: Progress = no_progress,
) -> Exported:
    """Merge a LoRA adapter into its base model and save that as a model of its own.

    The saved model is loaded again and asked: its answers have to be those of base and adapter, word for word, and its
    logits the same within rounding. If they are not, nothing is left behind.

    Args:
        adapter: a folder in PEFT's format.
        out: a new or empty folder.
        model: the base: "demo", a checkpoint folder or a hub id.
        strength: by how much the adapter's change of the weights is multiplied, above 0 to `STRONGEST`.
        device, dtype: as of `a3tune.models.load.load_model`; what is saved is in this data type.
        allow_other_base: take an adapter that was made for other weights.
        images: what is asked about; the program's example phantoms and noise when there are none.
        on_progress: told what is done and the share done, 0 to 1.

    Raises:
        AdapterError: the adapter cannot be merged (its method depends on the input), does not fit the base, has more
            than its scale reaches, which no strength but 1 can give, or the merged model does not answer as base and
            adapter do.
        RequestError: the strength is out of range.
        DataError: the output folder is taken.
        ModelError: the base cannot be loaded.
    """
    out = Path(out)
    _check(strength, out)
    stored = read_adapter(adapter)
    if stored.kind != "LORA":
        experts = "its experts are mixed anew for every question and image patch, so no fixed weights do the same"
        raise AdapterError(
            expected="a LoRA adapter, whose change of the weights is the same for every input",
            got=f"This is {stored.kind}{f': {experts}' if stored.kind == 'A3MOE' else ''}",
            remedy="Give the adapter's own folder away (export --as adapter): PEFT loads it on the base"
            + (" after import a3tune" if stored.kind == "A3MOE" else ""),
        )
    scaled_settings(stored.settings, stored.kind, strength)
    on_progress("Loading the model", 0.0)
    loaded = load_model(model_source(model), device=device, dtype=dtype)
    adapters = AdapterSet(loaded.model, {_NAME: adapter}, identity=loaded, allow_other_base=allow_other_base)
    tuned = cast(PeftModel, adapters.activate(_NAME))
    for layer in tuned.modules():
        if isinstance(layer, LoraLayer):
            layer.scale_layer(strength)
    asked = tuple(images) or _images()
    on_progress("Asking base and adapter", 0.3)
    loaded.model = cast(PreTrainedModel, tuned)
    before = _ask(loaded, asked, None)
    on_progress("Merging", 0.5)
    merged = cast(PreTrainedModel, tuned.merge_and_unload(safe_merge=True))
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        merged.save_pretrained(part)
        loaded.processor.save_pretrained(part)
        del adapters, tuned, merged
        loaded.model = None
        on_progress("Asking the merged model", 0.7)
        again = load_model(part, device=device, dtype=dtype)
        error = _compare(before, _ask(again, asked, before), again.dtype)
        kind = str(read_json(part / "config.json").get("model_type"))
        if convention_of(str(out.resolve()), kind) != loaded.convention:
            raise RequestError(
                expected="a folder by whose name it is known how the model sees computed tomography, as the base does",
                got=f"{out.name} does not say so",
                remedy="Put medgemma into its name" if loaded.convention else "Leave medgemma out of its name",
            )
        (part / CARD_NAME).write_text(_card(model, adapter, strength, len(before.ids), error), encoding="utf-8")
        if out.is_dir():
            out.rmdir()
        place_folder(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    on_progress("Done", 1.0)
    return Exported(out, len(before.ids), error)


def export_adapter(adapter: str | Path, out: str | Path, *, strength: float = 1.0) -> Exported:
    """Copy an adapter's settings, weights and card, with another strength.

    Args:
        adapter: a folder in PEFT's format, LoRA or A3MoE.
        out: a new or empty folder.
        strength: by how much its change of the base is multiplied, above 0 to `STRONGEST`.

    Raises:
        AdapterError: the folder holds no adapter, or one whose strength is no setting.
        RequestError, DataError: as `export_merged`.
    """
    out, source = Path(out), Path(adapter)
    _check(strength, out)
    stored = read_adapter(source)
    settings = scaled_settings(read_json(source / CONFIG_NAME), stored.kind, strength)
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        for name in (SAFETENSORS_WEIGHTS_NAME, CARD_NAME):
            if (source / name).is_file():
                shutil.copyfile(source / name, part / name)
        settings["base_model_name_or_path"] = short_name(str(settings.get("base_model_name_or_path") or ""))
        (part / CONFIG_NAME).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        if strength != 1 and (part / CARD_NAME).is_file():
            with (part / CARD_NAME).open("a", encoding="utf-8") as card:
                card.write(_strength_note(strength))
        if out.is_dir():
            out.rmdir()
        place_folder(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Exported(out)


def with_strength(files: Mapping[str, bytes], strength: float) -> dict[str, bytes]:
    """An adapter's files with another strength in its settings and a note of it on its card.

    Args:
        files: name -> content of settings, weights and card.
        strength: as of `export_adapter`.

    Raises:
        AdapterError: as `scaled_settings`.
        RequestError: the strength is out of range.
    """
    _check_strength(strength)
    if strength == 1:
        return dict(files)
    settings = json.loads(files[CONFIG_NAME])
    scaled = scaled_settings(settings, str(settings.get("peft_type")), strength)
    return {
        **files,
        CONFIG_NAME: (json.dumps(scaled, indent=2) + "\n").encode(),
        CARD_NAME: files[CARD_NAME] + _strength_note(strength).encode(),
    }


def scaled_settings(settings: Mapping[str, Any], kind: str, strength: float) -> dict[str, Any]:
    """An adapter's settings with all of its scales multiplied.

    Raises:
        AdapterError: the method has no scale that multiplies its change, or it changes more than its scale reaches.
    """
    names = {"LORA": ("lora_alpha",), "A3MOE": ("alpha", "expert_alpha")}.get(kind)
    if strength == 1:
        return dict(settings)
    beyond = [name for name in _BEYOND_THE_SCALE if settings.get(name) not in (None, False, "none", [], {})]
    if beyond:
        raise AdapterError(
            expected="an adapter all of whose change is multiplied by its scale",
            got=f"This one changes more than that: {', '.join(f'{name} {settings[name]}' for name in beyond)}",
            remedy="Export it with strength 1",
        )
    if names is None or any(not isinstance(settings.get(name), (int, float)) for name in names):
        raise AdapterError(
            expected="LoRA or A3MoE, whose scale multiplies the change of the weights",
            got=f"This is {kind}",
            remedy="Export it with strength 1",
        )
    patterns = settings.get("alpha_pattern") or {}
    scaled: dict[str, Any] = {name: float(settings[name]) * strength for name in names}
    if patterns:
        scaled["alpha_pattern"] = {name: value * strength for name, value in patterns.items()}
    return {**settings, **scaled}


def _strength_note(strength: float) -> str:
    return (
        f"\nPublished with {strength:g} times the strength it was tuned with: the figures above are those of the full "
        "strength.\n"
    )


def _check_strength(strength: float) -> None:
    if not 0 < strength <= STRONGEST:
        raise RequestError(
            expected=f"a strength above 0, at most {STRONGEST:g}; 1 is as tuned",
            got=f"The strength is {strength:g}",
            remedy="Correct it",
        )


def _check(strength: float, out: Path) -> None:
    _check_strength(strength)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(expected="a new or empty folder", got=f"{out} is taken", remedy="Choose another folder")


def _images() -> tuple[MedicalImage, ...]:
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    return (*(load_image(path) for path in sorted(EXAMPLES.glob("*.png"))[:3]), MedicalImage(noise))


@torch.no_grad()
def _ask(model: VisionLanguageModel, images: Sequence[MedicalImage], answers: _Answers | None) -> _Answers:
    """Ask every question about every image; logits are those along the given answers, or else the model's own."""
    found, ids = [], []
    for number, (image, question) in enumerate((image, question) for image in images for question in _QUESTIONS):
        prompt = model.encode(image, question)
        own = model.generate(prompt, max_new_tokens=_TOKENS).token_ids
        ids.append(own)
        whole = model.append_answer(prompt, own if answers is None else answers.ids[number])
        logits = model.model(**whole.inputs, use_cache=False).logits[0, prompt.length - 1 :]
        found.append(logits.float().cpu())
    return _Answers(tuple(found), tuple(ids))


def _compare(before: _Answers, after: _Answers, dtype: torch.dtype) -> float:
    """The largest difference between logits, by the largest of them.

    Raises:
        AdapterError: it is more than rounding, or an answer differs.
    """
    pairs = zip(before.logits, after.logits, strict=True)
    error = max(float((one - other).abs().max() / one.abs().max().clamp(min=1e-12)) for one, other in pairs)
    allowed = _ROUNDING.get(dtype, 0.0)
    differing = sum(one != other for one, other in zip(before.ids, after.ids, strict=True))
    if differing or not error <= allowed:
        raise AdapterError(
            expected=f"the answers of base and adapter, and their logits within {allowed:g} of the largest",
            got=f"The merged model gives {differing} of {len(before.ids)} answers in other words; its logits differ by "
            f"{error:.2g}",
            remedy="Merge in another precision (--dtype float32), or give the adapter itself away (--as adapter)",
        )
    return error


def _card(model: str, adapter: str | Path, strength: float, checks: int, error: float) -> str:
    card = Path(adapter) / CARD_NAME
    about = f"\n## The adapter's card\n\n{_body(card.read_text('utf-8'))}" if card.is_file() else ""
    return (
        "---\nlibrary_name: transformers\npipeline_tag: image-text-to-text\n---\n\n"
        f"# {short_name(model)} with an adapter merged in\n\n"
        "**For research only. Not a medical device: do not use it for diagnosis or treatment.**\n\n"
        f"LoRA with {strength:g} times its tuned strength, merged by A3Tune Studio. On {checks} questions its answers "
        f"are those of base and adapter, word for word; its logits differ by {error:.1g} of the largest. The licence "
        f"of the base model counts for this one too.\n{about}"
    )


def _body(card: str) -> str:
    """A card without the hub's header, its headings one level down."""
    text = card.split("---\n", 2)[2] if card.startswith("---\n") and card.count("---\n") > 1 else card
    return "\n".join(f"#{line}" if line.startswith("#") else line for line in text.strip().splitlines()) + "\n"
