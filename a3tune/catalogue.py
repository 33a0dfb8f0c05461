"""What can be loaded on this machine: models and the parts that find and rank regions, what they take, and getting
them ready."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch

from a3tune import hub
from a3tune.bundle import DEMO, model_source
from a3tune.checkpoints import HUB_PREFIX
from a3tune.device import choose_device
from a3tune.errors import ModelError, RequestError
from a3tune.labels import segmenters_and_scorers as parts
from a3tune.labels.segmenters.weight_pages import stay_in_their_file
from a3tune.memory_advice import TO_LOAD_A_MODEL
from a3tune.models.checkpoint_folder import check_weights
from a3tune.models.conversion import model_folder
from a3tune.models.download import is_complete
from a3tune.models.load import count_weights
from a3tune.models.memory import BYTES_PER_WEIGHT, ON_THE_GPU, available_memory, memory_needed, total_memory
from a3tune.models.precision import BITS, Precision, list_precisions, offload_obstacle, usual_precision
from a3tune.models.profiles import PROFILES, find_profile
from a3tune.progress import Progress, no_progress
from a3tune.storage import is_folder, is_hub_id, named_path

Kind = Literal["model", "segmenter", "scorer"]

AUTO = "auto"

# What Segment Anything needs beside its weights, and that of them which is at work: the same for all sizes of model and
# image, see docs/region_memory.md.
_REGION_MEMORY = 1_000_000_000


@dataclass(frozen=True)
class Entry:
    """One thing that can be chosen.

    Attributes:
        kind: what it is.
        key: short name, unique within its kind.
        source: what loads it: "demo", a folder, a hub id, a place on the hub.
        title, about, licence: words for a person; about and licence are "" for what is not known here.
        page: its page on the hub, or None.
        gated: whether the hub asks for the licence to be accepted first.
        weights: number of parameters; 0 when that is not known before it was fetched.
        download: bytes to fetch from the hub in all; 0 for what needs no fetching, or is not known.
        here: whether nothing has to be fetched any more.
        came: bytes of it that are in the hub's cache.
    """

    kind: Kind
    key: str
    source: str
    title: str
    about: str = ""
    licence: str = ""
    page: str | None = None
    gated: bool = False
    weights: int = 0
    download: int = 0
    here: bool = True
    came: int = 0

    def needs(self, precision: str, device: torch.device) -> int:
        """Bytes of memory that it takes in use on a device; 0 when that is not known."""
        if not self.weights:
            return 0
        if self.kind == "model":
            return memory_needed(self.weights, precision)
        weights = int(self.weights * BYTES_PER_WEIGHT["float32"])
        if self.kind == "scorer" or not self.download:
            return weights
        return _REGION_MEMORY if stay_in_their_file(device) else weights + _REGION_MEMORY


@dataclass(frozen=True)
class Machine:
    """What this machine offers.

    Attributes:
        device: its name for a person.
        total, free: bytes of memory of the device.
        precisions: all of them, with what stands in their way.
        offload_obstacle: why weights cannot be left outside of the GPU; "" when they can.
        target: the device itself.
    """

    device: str
    total: int
    free: int
    precisions: tuple[Precision, ...]
    offload_obstacle: str
    target: torch.device = field(repr=False)

    def usual(self, weights: int) -> str:
        """The precision that "auto" stands for with so many weights; 0 when their number is not known."""
        return usual_precision(self.target, weights)


def machine(device: str = AUTO) -> Machine:
    """What a device offers.

    Raises:
        RequestError: there is no such device.
    """
    target = choose_device(device)
    name = torch.cuda.get_device_name(target) if target.type == "cuda" else "processor"
    return Machine(
        "Apple GPU" if target.type == "mps" else name,
        total_memory(target),
        available_memory(target),
        list_precisions(target),
        offload_obstacle(target),
        target,
    )


def entries(offered: Sequence[str] | None = None) -> tuple[Entry, ...]:
    """What is on offer, models first.

    Args:
        offered: keys, hub ids and folders of models, keys and places of parts; all that is known by name when None.
    """
    if offered is None:
        models = [profile.key for profile in PROFILES]
        named = [(part.kind, part.key) for part in parts.PARTS]
    else:
        others = [name for name in offered if name != DEMO]
        # What comes with the program is always there.
        known = [part for part in parts.PARTS if not part.download or part.key in others or part.source in others]
        named = [(part.kind, part.key) for part in known]
        taken = {name for part in known for name in (part.key, part.source)} - {DEMO}
        named += [("segmenter", name) for name in others if name.startswith(HUB_PREFIX) and name not in taken]
        models = [name for name in offered if name not in taken and not name.startswith(HUB_PREFIX)]
    return (*(entry("model", name) for name in models), *(entry(kind, name) for kind, name in named))


def entry(kind: Kind, name: str) -> Entry:
    """One thing by its key or source; what is not known by name is described by its place alone."""
    return _model_entry(name) if kind == "model" else _part_entry(kind, name)


def fetch(kind: Kind, source: str, on_progress: Progress = no_progress) -> None:
    """Bring it onto this machine, ready to be loaded: fetched, and converted where that is needed.

    Raises:
        ModelError, LabelError: it is missing, gated, out of reach, damaged or of the wrong kind.
        RequestError: the disk is full.
    """
    if kind == "model":
        check_weights(model_folder(model_source(source), on_progress=on_progress))
    else:
        parts.fetch_part(source, kind, on_progress)


def check_choice(source: str, precision: str, offload: bool, *, device: str = AUTO, freed: int = 0) -> None:
    """Refuse what cannot be loaded on this machine, before the model in memory is let go.

    Args:
        source: a model that is on this machine.
        precision: "auto" or a key of `a3tune.models.memory.BYTES_PER_WEIGHT`.
        offload: whether the machine's memory helps out.
        device: where it is to go.
        freed: bytes that the model in memory will give back.

    Raises:
        ModelError: it is larger than the memory, missing, damaged or of the wrong kind.
        RequestError: a precision that this machine does not do, or offloading without a GPU.
    """
    target = choose_device(device)
    check_precision(precision, offload, device=device)
    folder = model_folder(model_source(source))
    check_weights(folder)
    weights = count_weights(folder)
    kept = usual_precision(target, weights) if precision == AUTO else precision
    needed = memory_needed(weights, kept)
    room = available_memory(target) + freed
    if offload and kept not in BITS:  # quantized weights have to be where they are computed with
        room = int(room * ON_THE_GPU) + available_memory(torch.device("cpu"))
    if needed > room:
        raise ModelError(
            expected=f"a model that fits: this one needs about {needed / 1e9:.1f} GB in {kept}",
            got=f"{room / 1e9:.1f} GB of memory are free, the model in memory counted as gone",
            remedy=TO_LOAD_A_MODEL,
        )


def check_precision(precision: str, offload: bool, *, device: str = AUTO) -> None:
    """Refuse a precision, or offloading, that this machine does not do.

    Raises:
        RequestError: with what would help.
    """
    offers = machine(device)
    known = {choice.key: choice.obstacle for choice in offers.precisions} | {AUTO: ""}
    if precision not in known:
        raise RequestError(expected=f"one of {', '.join(known)}", got=f"{precision!r}", remedy="Choose one of them")
    obstacle = known[precision] or (offers.offload_obstacle if offload else "")
    if obstacle:
        usable = [choice.key for choice in offers.precisions if not choice.obstacle]
        raise RequestError(
            expected="a way of keeping weights that this machine can do",
            got=f"{precision}{' with offloading' if offload else ''} is not possible here: {obstacle}",
            remedy=f"Choose one of {', '.join(usable)}",
        )


def _model_entry(name: str) -> Entry:
    profile = find_profile(name)
    if profile is None:
        folder = named_path(name)
        if folder.is_absolute() or is_folder(folder):
            return Entry("model", name, name, folder.name, "A folder on this machine.", weights=_counted(folder))
        if not is_hub_id(name):
            return Entry("model", name, name, name, "Neither a folder on this machine nor a hub id.")
        state = hub.held(name)
        page = f"https://huggingface.co/{name}"
        here = state.folder is not None and is_complete(state.folder)
        weights = _counted(state.folder) if here and state.folder is not None else 0
        return Entry("model", name, name, name, "From the hub.", page=page, weights=weights, here=here, came=state.size)
    state = hub.held(profile.source) if profile.download else hub.Held(None, 0, False)
    here = not profile.download or (state.folder is not None and is_complete(state.folder))
    return Entry(
        "model", profile.key, profile.source, profile.title, profile.about, profile.licence, profile.page,
        profile.gated, profile.weights, profile.download, here, state.size,
    )  # fmt: skip


def _part_entry(kind: parts.Kind, name: str) -> Entry:
    part = parts.find_part(name, kind)
    source = name if part is None else part.source
    repository = parts.repository_of(source, kind)
    state = hub.Held(None, 0, False) if repository is None else hub.held(repository)
    page = None if repository is None else f"https://huggingface.co/{repository}"
    here = parts.is_here(source, kind)
    if part is None:
        about = "A file on this machine." if page is None else "From the hub."
        return Entry(kind, name, name, Path(name).name, about, page=page, here=here, came=state.size)
    return Entry(
        kind, part.key, source, part.title, part.about, part.licence, page, False, part.weights, part.download, here,
        state.size,
    )  # fmt: skip


def _counted(folder: Path) -> int:
    """How many weights a folder's safetensors files hold; 0 where there are none, or they cannot be read."""
    stamp = max((path.stat().st_mtime_ns for path in folder.glob("*.safetensors")), default=0)
    return _count(folder, stamp) if stamp else 0


@lru_cache(maxsize=64)
def _count(folder: Path, stamp: int) -> int:
    # The time stamp tells a folder from what it was before.
    try:
        return count_weights(folder)
    except ModelError:
        return 0
