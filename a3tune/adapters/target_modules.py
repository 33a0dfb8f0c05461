"""Which modules an adapter belongs to, from the names of its tensors: exact names in place of every pattern.

PEFT matches the patterns of an adapter's settings as regular expressions, at several places, against every module. A
pattern of a stranger can keep such a matcher busy for ever; the tensors' names say the same and can only be compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING
from peft.utils import CONFIG_NAME
from torch import nn

from a3tune.adapters.a3moe import A3MoeConfig
from a3tune.adapters.stored import StoredAdapter, is_literal
from a3tune.errors import AdapterError

# Methods in which every layer has tensors of its own, so that their names tell all layers.
_PER_LAYER = {
    "A3MOE", "ADALORA", "BEFT", "BOFT", "C3A", "DELORA", "FOURIERFT", "GLORA", "GRALORA", "HIRA", "HRA", "IA3",
    "LN_TUNING", "LOHA", "LOKR", "LORA", "MISS", "OFT", "RANDLORA", "ROAD", "SHIRA", "VBLORA",
    "VERA", "WAVEFT",
}  # fmt: skip
# Tensor, side, setting and its pattern by module: how large PEFT makes each layer's tensors.
_SIZES = {
    "C3A": ("c3a_kernel", -1, "block_size", "block_size_pattern"),
    "DELORA": ("delora_A", 0, "r", "rank_pattern"),
    "HIRA": ("hira_A", 0, "r", "rank_pattern"),
    "HRA": ("hra_u", -1, "r", ""),
    "LOHA": ("hada_w1_a", -1, "r", "rank_pattern"),
    "VERA": ("vera_lambda_d", 0, "r", ""),
}
CHEAP = {"A3MOE", "ADALORA", "BEFT", "IA3", "LN_TUNING", "LORA", "OFT", "ROAD", "TRAINABLE_TOKENS", *_SIZES}
"""Methods whose making costs no more time and memory than the sizes of their tensors say, which can be checked before:
no random permutation of whole layers, no singular values, no compiling."""
_DECOMPOSES = ("pissa", "olora", "orthogonal")
_MOST_START_RANK = 512
_MOST_PATTERNS = 256
_MOST_MASKS = 2_000


def check_bounded(stored: StoredAdapter) -> None:
    """Whether making this adapter is bounded by the size of its file, whoever wrote it.

    Raises:
        AdapterError: its method or one of its settings costs more, or its tensors are not of the sizes that it says.
    """
    start = str(stored.settings.get("init_lora_weights"))
    if stored.kind not in CHEAP or start.startswith(_DECOMPOSES) or stored.settings.get("target_parameters"):
        what = f"{stored.kind} adapters" if stored.kind not in CHEAP else f"a start with {start}"
        what = "target_parameters" if stored.settings.get("target_parameters") else what
        raise AdapterError(
            expected=f"an adapter of one of these kinds: {', '.join(sorted(CHEAP))}",
            got=f"Making it from what was given takes much time and memory ({what})",
            remedy="Save it as plain LoRA, or load it on the command line",
        )
    if stored.kind == "VERA" and "base_model.vera_A" not in stored.shapes:
        raise _misfit(stored, "it was saved without its projections (save_projection)")
    own = _own_names(stored)
    if stored.kind in _PER_LAYER and not own:
        raise _misfit(stored, "it has no tensors of its kind")
    check_sizes(stored, own)


def exact_config(stored: StoredAdapter, base: nn.Module) -> PeftConfig:
    """The settings for PEFT, with exact names of ``base``'s modules in place of patterns and suffixes.

    Raises:
        AdapterError: the tensors belong to modules that the base does not have, or are not of the sizes that the
            settings say; or a pattern cannot be replaced.
    """
    settings = dict(stored.settings)
    modules = {name: module for name, module in base.named_modules(remove_duplicate=False) if name}
    own = _own_names(stored)
    finder = _Places(modules)
    places = {path: finder.find(path) for path in own}
    exact = {place: own[path] for path, place in places.items() if place}
    if len(exact) < sum(map(bool, places.values())):
        raise _misfit(stored, "two of its parts belong to one module")
    check_sizes(stored, own)
    ours: tuple[str, ...] = ()
    if stored.kind in _PER_LAYER and exact and all(places.values()) and not settings.get("target_parameters"):
        settings["target_modules"] = _exact_names(exact, modules)
        for name in ("exclude_modules", "layers_to_transform", "layers_pattern"):
            settings.pop(name, None)
        if settings.pop("feedforward_modules", None) is not None:
            # IA3 scales the inputs of these, one row, and the outputs of the others, one column.
            settings["feedforward_modules"] = [
                place for place, shapes in exact.items() if any(shape[:1] == (1,) for shape in shapes.values())
            ]
        if stored.kind == "LORA":
            _exact_ranks(settings, stored, own, places)
            ours = ("rank_pattern", "alpha_pattern")
    elif stored.kind in _PER_LAYER and not settings.get("target_parameters"):
        lost = next((path for path, place in places.items() if not place), "")
        # Experts that were layers of their own in former versions of transformers are one tensor now, and PEFT joins
        # what was trained on them.
        if stored.kind != "LORA" or ".experts." not in lost or _reach(settings, modules) > len(own):
            raise _misfit(stored, f"the base model has no module {lost}" if lost else "it has no tensors of its kind")
    for name in ("target_modules", "exclude_modules", "feedforward_modules", "layers_pattern"):
        if isinstance(settings.get(name), str) and not is_literal(settings[name]):
            raise _pattern(name, settings[name])
    for name, given in settings.items():
        if name.endswith("_pattern") and isinstance(given, dict) and name not in ours:
            if len(given) > (_MOST_PATTERNS if stored.kind != "ADALORA" else _MOST_MASKS):
                raise _pattern(name, f"{len(given):,} patterns")
            settings[name] = {_plain_name(name, key): value for key, value in given.items()}
    _check_saved(settings, stored, base, finder)
    return _made(stored, settings)


def _made(stored: StoredAdapter, settings: Mapping[str, Any]) -> PeftConfig:
    try:
        return PEFT_TYPE_TO_CONFIG_MAPPING[stored.kind](**settings)
    except (ValueError, TypeError, KeyError) as error:
        raise AdapterError(
            expected=f"settings that PEFT takes for {stored.kind}",
            got=f"{CONFIG_NAME} cannot be used: {str(error)[:300]}",
            remedy="Save the adapter again with PEFT",
        ) from error


def _reach(settings: Mapping[str, Any], modules: Mapping[str, nn.Module]) -> int:
    """How many modules plain names stand for."""
    given = settings.get("target_modules")
    ends = tuple(f".{name}" for name in given) if isinstance(given, list) else (f".{given}",)
    return sum(f".{name}".endswith(ends) for name in modules)


def check_sizes(stored: StoredAdapter, own: Mapping[str, Mapping[str, tuple[int, ...]]]) -> None:
    """Whether the file's tensors are of the sizes that the settings say, before anything of these sizes is made.

    Args:
        own: module -> what follows its name -> shape.

    Raises:
        AdapterError: they are not; the first that differs is named.
    """
    settings, kind = stored.settings, stored.kind
    config: Any = _made(stored, settings) if kind in ("A3MOE", "OFT") else None
    allowed = _ranks(settings, kind) if kind in ("LORA", "ADALORA") else set()
    if kind in _SIZES:
        *_, setting, pattern = _SIZES[kind]
        usual = settings.get(setting, PEFT_TYPE_TO_CONFIG_MAPPING[kind].__dataclass_fields__[setting].default)
        by_module = settings.get(pattern) or {}
        if len(by_module) > _MOST_PATTERNS:
            raise _pattern(pattern, f"{len(by_module):,} patterns")
        said = _ByModule(pattern, by_module)
    for path, shapes in own.items():
        if isinstance(config, A3MoeConfig):
            experts, rank, _ = config.shape(path)
            _compare(stored, path, "experts", experts, shapes.get("expert_A"), 0)
            _compare(stored, path, "rank", rank, shapes.get("expert_A"), 1)
        elif kind == "OFT":
            shape, block = shapes.get("oft_R.weight", ()), config.oft_block_size
            if block:
                _compare(stored, path, "size", block * (block - 1) // 2, shape, 1)
            elif not settings.get("block_share"):
                _compare(stored, path, "r", config.r, shape, 0)
        elif kind in _SIZES:
            tensor, side, setting, _ = _SIZES[kind]
            _compare(stored, path, setting, said.get(path, usual), _first(shapes, (tensor,)), side)
        elif kind in ("LORA", "ADALORA"):
            found = _first(shapes, ("lora_A", "lora_embedding_A"))
            # A file without a rank is taken by its tensors, which decide in any case.
            if not found or (found[0] not in allowed and (kind == "ADALORA" or "r" in settings)):
                _compare(stored, path, "rank", max(allowed, default=0), found, 0)
        elif kind == "TRAINABLE_TOKENS":
            _compare(stored, path, "tokens", len(settings.get("token_indices") or ()), _first(shapes, ("",)), 0)
    indices = settings.get("trainable_token_indices") or {}
    deltas = [shape for name, shape in stored.shapes.items() if name.endswith("trainable_tokens_delta")]
    for tokens in indices.values() if isinstance(indices, dict) else [indices]:
        if not any(shape[:1] == (len(tokens),) for shape in deltas):
            _compare(stored, "trainable_token_indices", "tokens", len(tokens), next(iter(deltas), ()), 0)


def _first(shapes: Mapping[str, tuple[int, ...]], names: tuple[str, ...]) -> tuple[int, ...]:
    """The shape of the tensor whose name begins so; () where there is none."""
    return next((shape for rest, shape in shapes.items() if rest.split(".")[0] in names or names == ("",)), ())


class _ByModule:
    """Values of the settings by names of modules, each of which may be the end of a module's name; the first counts."""

    def __init__(self, setting: str, pattern: Mapping[str, Any]) -> None:
        self._values: dict[str, tuple[int, Any]] = {}
        for place, (name, value) in enumerate(pattern.items()):
            self._values.setdefault(_plain_name(setting, name), (place, value))

    def get(self, path: str, default: Any = None) -> Any:
        """What is said of a module."""
        # By the ends of its name, of which there are few, and not by the names, of which a file may give thousands.
        parts = path.split(".")
        ends = (".".join(parts[start:]) for start in range(len(parts)))
        said = [self._values[end] for end in ends if end in self._values]
        return min(said, key=lambda found: found[0])[1] if said else default


def _compare(stored: StoredAdapter, path: str, what: str, said: Any, shape: tuple[int, ...] | None, side: int) -> None:
    found = shape[side] if shape and -len(shape) <= side < len(shape) else None
    if said != found:
        raise AdapterError(
            expected="tensors of the sizes that the settings say",
            got=f"{CONFIG_NAME} says {what} {said} for {path}, its tensors have {'none' if found is None else found}",
            remedy="Save the adapter again with PEFT",
        )


def _ranks(settings: Mapping[str, Any], kind: str) -> set[float]:
    """The ranks that an adapter's tensors may have."""
    if kind == "LORA":
        return {settings.get("r", 8), *_numbers(settings.get("rank_pattern"))}
    start, masks = settings.get("init_r", 12), [*(settings.get("rank_pattern") or {}).values()]
    if not masks:
        return {start}
    fits = start <= _MOST_START_RANK and all(isinstance(mask, list) and len(mask) == start for mask in masks)
    return {sum(map(bool, mask)) for mask in masks} if fits else set()


def _numbers(pattern: Any) -> list[float]:
    return [value for value in (pattern or {}).values() if isinstance(value, (int, float))]


def _own_names(stored: StoredAdapter) -> dict[str, dict[str, tuple[int, ...]]]:
    """Module as the file names it -> what follows its name -> shape, for every tensor of the method's own."""
    prefix = PEFT_TYPE_TO_PREFIX_MAPPING[stored.kind]
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in stored.shapes.items():
        parts = name.removeprefix("base_model.").removeprefix("model.").split(".")
        cut = next((place for place, part in enumerate(parts) if part.startswith(prefix)), 0)
        # Trained tokens have their own place in a file beside the method that they came with.
        if cut and (stored.kind == "TRAINABLE_TOKENS" or parts[cut - 1] != "token_adapter"):
            path = ".".join(parts[:cut]).removesuffix(".token_adapter")
            found.setdefault(path, {})[".".join(parts[cut:])] = shape
    return found


class _Places:
    """Finds the base's module that a file means."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._modules = modules
        self._by_layer: dict[tuple[str, bool], list[str]] = {}
        for name in modules:
            self._by_layer.setdefault(self._layer(name), []).append(name)

    def find(self, path: str) -> str:
        """The module of that name, or, since models were named otherwise in former versions of transformers, the only
        one of the same tower in the same place of the same layer; "" where there is none."""
        if path in self._modules:
            return path
        found = self._by_layer.get(self._layer(path), []) if "layers" in path.split(".") else []
        return found[0] if len(found) == 1 else ""

    @staticmethod
    def _layer(path: str) -> tuple[str, bool]:
        parts = path.split(".")
        return ".".join(parts[parts.index("layers") :] if "layers" in parts else parts), is_vision(path)


def is_vision(name: str) -> bool:
    """Whether a tensor or module of this name belongs to what sees the image."""
    return any(word in name for word in ("vision", "visual"))


def _exact_names(names: Iterable[str], modules: Iterable[str]) -> list[str] | str:
    """A list, which PEFT takes for suffixes; where one ends another module's name, an alternative of all in full."""
    chosen = set(names)
    ends = (
        name.split(".", skipped)[-1]
        for name in modules
        if name not in chosen
        for skipped in range(1, name.count(".") + 1)
    )
    if chosen.isdisjoint(ends):
        return sorted(chosen)
    return "|".join(map(re.escape, sorted(chosen)))


def _exact_ranks(
    settings: dict[str, Any], stored: StoredAdapter, own: Mapping[str, Mapping[str, Any]], places: Mapping[str, str]
) -> None:
    """Ranks as the tensors have them, and scales of the settings, for each module by its exact name."""
    rank = settings.get("r", 8)
    found = {places[path]: _first(shapes, ("lora_A", "lora_embedding_A"))[0] for path, shapes in own.items()}
    ranks = {place: size for place, size in found.items() if size != rank}
    by_module = _ByModule("alpha_pattern", settings.get("alpha_pattern") or {})
    scales = {place: scale for place in places.values() if (scale := by_module.get(place)) is not None}
    settings["rank_pattern"], settings["alpha_pattern"] = _grouped(ranks), _grouped(scales)
    if max(map(len, (settings["rank_pattern"], settings["alpha_pattern"]))) > _MOST_PATTERNS:
        raise _misfit(stored, f"it has over {_MOST_PATTERNS} different ranks or scales")


def _grouped(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same as one alternative of exact names for each value: PEFT tries each pattern on each module."""
    groups: dict[Any, list[str]] = {}
    for name, value in values.items():
        groups.setdefault(value, []).append(re.escape(name))
    return {f"^(?:{'|'.join(names)})": value for value, names in groups.items()}


def _plain_name(setting: str, pattern: str) -> str:
    """A pattern that stands for one name, as that name."""
    plain = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".")
    if not is_literal(plain):
        raise _pattern(setting, pattern)
    return plain


def _check_saved(settings: Mapping[str, Any], stored: StoredAdapter, base: nn.Module, finder: _Places) -> None:
    """Whether the file holds what the settings say was saved whole: PEFT copies these modules before it looks."""
    saved = tuple(settings.get("modules_to_save") or ())
    if not saved:
        return
    names = (name.removeprefix("base_model.").removeprefix("model.").rpartition(".") for name in stored.shapes)
    held = {f"{finder.find(path)}.{weight}" for path, _, weight in names}
    for name, module in base.named_modules():
        if name.endswith(saved):
            lacking = next((weight for weight in module.state_dict() if f"{name}.{weight}" not in held), None)
            if lacking is not None:
                raise _misfit(stored, f"{name} was to be saved with it, and the file lacks its {lacking}")


def _pattern(setting: str, pattern: str) -> AdapterError:
    return AdapterError(
        expected=f"{setting} as plain names of modules",
        got=f"{CONFIG_NAME} gives the pattern {pattern[:60]!r}, which its tensors' names cannot replace",
        remedy=f"Write the modules' names into {setting}, and save the adapter again",
    )


def does_not_fit(folder: Path, why: str) -> AdapterError:
    """That an adapter is not for the model at hand, and why not."""
    return AdapterError(
        expected="an adapter that was trained on this base model",
        got=f"The adapter in {folder.name} does not fit: {why}",
        remedy="Load the base model named in its adapter_config.json, or train the adapter again",
    )


def _misfit(stored: StoredAdapter, why: str) -> AdapterError:
    made = stored.settings.get("base_model_name_or_path")
    return does_not_fit(stored.folder, why + (f"; it was trained on {made}" if made else ""))
