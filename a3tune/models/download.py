"""From a hub id to a folder with the files that a model needs; taken up again where a download was cut off."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import httpx, tqdm

from a3tune.errors import ModelError
from a3tune.models import checkpoint

Progress = Callable[[str, float], None]
"""Called with what is being done and the share done, 0 to 1."""

WANTED = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")
"""Files of a checkpoint that are fetched; pickled weights only of original LLaVA checkpoints that have no others."""


def locate(source: str | Path, on_progress: Progress | None = None) -> Path:
    """The folder that ``source`` names; a hub id is fetched into the hub's cache first.

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
    return fetch(name, on_progress)


def fetch(name: str, on_progress: Progress | None = None) -> Path:
    """Fetch a model from the hub, or find it in the hub's cache; parts that are there already are kept.

    Its configuration comes first, so that a model of the wrong kind costs no download.

    Args:
        name: the hub id.
        on_progress: told how many bytes have come.

    Raises:
        ModelError: one clear message each for: a wrong name, a gated or private model, no connection and no cached
            copy, the wrong kind of model, a full disk, a download that broke off.
    """
    report = on_progress or (lambda what, share: None)
    command = f"hf download {name}"
    try:
        config = checkpoint.read_json(Path(hf_hub_download(name, "config.json")))
        original = checkpoint.is_original(config)
        if not original:
            checkpoint.check_kind(config, name)
        wanted = list(WANTED)
        if constants.HF_HUB_OFFLINE:
            return Path(snapshot_download(name, allow_patterns=wanted))
        files = snapshot_download(name, allow_patterns=[*wanted, "*.bin"] if original else wanted, dry_run=True)
        if original and not any(file.filename.endswith(".safetensors") for file in files):
            wanted.append("*.bin")
        else:
            files = [file for file in files if not file.filename.endswith(".bin")]
        missing = sum(file.file_size for file in files if file.will_download)
        _check_disk(missing)
        bars = _bars(name, missing, report) if missing else None
        return Path(snapshot_download(name, allow_patterns=wanted, tqdm_class=bars))
    except GatedRepoError as error:
        raise ModelError(
            expected="access to a gated model",
            got=f"{name} asks for its licence to be accepted",
            remedy=f"Accept it at https://huggingface.co/{name}, run `hf auth login`, then `{command}`",
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            expected="a model on the hub",
            got=f"no model named {name}, or a private one",
            remedy="Check the name, or log in with `hf auth login`",
        ) from error
    except HFValidationError as error:
        raise ModelError(expected="a hub id such as owner/name", got=f"{name!r}", remedy="Check the name") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise ModelError(
            expected=f"{name} from the hub or in the local cache",
            got="the hub is out of reach and the files are not in the cache",
            remedy=f"Run `{command}` while connected, or name a folder that holds the model",
        ) from error
    except EntryNotFoundError as error:
        raise ModelError(
            expected="config.json among the model's files",
            got=f"{name} has none",
            remedy="Choose a repository with a checkpoint in transformers' format",
        ) from error
    except (HfHubHTTPError, httpx.HTTPError, OSError) as error:
        raise ModelError(
            expected=f"{name} from the hub",
            got=f"the download broke off ({error})",
            remedy=f"Try again: what has come is kept. Or run `{command}` and try then",
        ) from error


def _check_disk(missing: int) -> None:
    place = Path(constants.HF_HUB_CACHE)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if missing > free:
        raise ModelError(
            expected=f"{missing / 1e9:.1f} GB of free space in {constants.HF_HUB_CACHE}",
            got=f"{free / 1e9:.1f} GB",
            remedy="Free some space, or set HF_HOME to a folder on a larger disk",
        )


def _bars(name: str, missing: int, report: Progress) -> type[tqdm]:
    """The hub's progress bars, silent; the one that counts bytes on the disk reports them."""

    class Bar(tqdm):
        def __init__(self, *arguments, **options) -> None:
            # Of two bars that count bytes one counts what comes over the wire, which may be packed.
            self._counts = options.get("unit") == "B" and options.get("desc") != "Downloading bytes"
            self._come = options.get("initial") or 0
            super().__init__(*arguments, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            if self._counts:
                self._come += n or 0
                share = min(self._come / missing, 1.0)
                report(f"fetching {name}: {self._come / 1e9:.1f} of {missing / 1e9:.1f} GB", share)
            return super().update(n)

    return Bar
