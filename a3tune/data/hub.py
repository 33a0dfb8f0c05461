"""A public data set from the hub into a folder: its tables and images, no code."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

from a3tune.data.intake import LIMITS, Intake, IntakeLimits, check_room, check_totals, kind_of, new_folder, parts_of
from a3tune.errors import DataError
from a3tune.progress import Progress, no_progress
from a3tune.storage import cache_folder, is_hub_id, named_path


def dataset_place(name: str | Path, on_progress: Progress = no_progress) -> Path:
    """Where a data set lies that a command names: the file or folder of that name, or else a public data set of the
    hub, which is fetched once into the cache folder.

    Args:
        name: a path, or ``name/repository``.
        on_progress: told that something is fetched.

    Raises:
        DataError: the hub does not give such a data set out, or is out of reach.
    """
    path = named_path(name)
    if path.exists() or not is_hub_id(str(name)):
        return path
    place = cache_folder() / "datasets" / hashlib.sha256(str(name).encode()).hexdigest()[:16]
    if not place.is_dir():
        on_progress(f"Fetching {name}", 0.0)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            fetch_dataset(str(name), place)
        except DataError as error:
            raise DataError(
                expected=f"a file or folder, or {error.expected}",
                got=f"There is no {name} here. {error.got}",
                remedy="Correct the name, or download the data set elsewhere and name its folder",
            ) from error
    return place


def fetch_dataset(hub_id: str, folder: str | Path, limits: IntakeLimits = LIMITS) -> Intake:
    """Download the tables and images of a data set; loading scripts and archives are left where they are.

    Args:
        hub_id: ``name/repository`` of a data set that anybody may read.
        folder: a folder that does not exist yet.
        limits: how much is taken.

    Raises:
        DataError: there is no such data set, nothing of it can be used, it is too large, or the hub is out of reach.
    """
    folder = Path(folder)
    try:
        info = HfApi(token=False).dataset_info(hub_id, files_metadata=True)
        files = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        chosen = {
            name: size
            for name, size in files.items()
            if kind_of(PurePosixPath(name).name) in ("table", "image") and not PurePosixPath(name).name.startswith(".")
        }
        if not chosen:
            raise DataError(
                expected="a data set with tables and images, or with Parquet files",
                got=f"{hub_id} has none of these",
                remedy="Download it, unpack it, and upload it as ZIP",
            )
        check_totals(len(chosen), list(chosen.values()), list(chosen), limits)
        check_room(folder.parent, sum(chosen.values()), limits)
        with new_folder(folder) as part:
            for name in chosen:
                parts_of(name, limits)
                hf_hub_download(hub_id, name, repo_type="dataset", revision=info.sha, local_dir=part, token=False)
            # The hub's client keeps notes of its own beside what it fetches.
            shutil.rmtree(part / ".cache", ignore_errors=True)
    except (HfHubHTTPError, HFValidationError) as error:
        raise DataError(
            expected="the id of a public data set, like name/repository",
            got=f"The hub does not give {hub_id[:100]!r} out",
            remedy="Check the id; a private one can be downloaded and uploaded here as ZIP",
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise DataError(
            expected="the hub within reach",
            got=f"{hub_id} cannot be fetched: there is no connection, or it is switched off",
            remedy="Download the data set elsewhere and upload it here as ZIP",
        ) from error
    left_out = [name for name in files if name not in chosen]
    return Intake(folder, len(chosen), sum(chosen.values()), tuple(left_out[:5]), len(left_out))
