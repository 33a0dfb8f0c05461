"""What a person is told when the hub refuses or cannot be reached: a gated model, a wrong name, no network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import httpx

from a3tune.errors import A3TuneError


@contextmanager
def hub_errors(
    name: str, error_class: type[A3TuneError], *, what: str, command: str, otherwise: str = ""
) -> Iterator[None]:
    """One clear message for each way in which the hub can fail inside the block.

    Args:
        name: the hub id.
        error_class: what is raised.
        what: what is wanted, as it should read in an error ("config.json among the model's files").
        command: fetches the same on a command line.
        otherwise: one more way out, to end a remedy with (", or ...").
    """
    try:
        yield
    except GatedRepoError as error:
        raise gated(error_class, name, f"run `hf auth login`, then `{command}`{otherwise}") from error
    except RepositoryNotFoundError as error:
        raise error_class(
            expected=what,
            got=f"There is no model named {name} on the hub, or it is a private one",
            remedy=f"Check the name, or log in with `hf auth login`{otherwise}",
        ) from error
    except HFValidationError as error:
        raise error_class(
            expected="a hub id such as owner/name", got=f"{name!r}", remedy=f"Check the name{otherwise}"
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise error_class(
            expected=what,
            got=f"The hub is out of reach, and the files of {name} are not on this machine: they could not be fetched",
            remedy=f"Run `{command}` while connected, or name a folder that holds them{otherwise}",
        ) from error
    except EntryNotFoundError as error:
        raise error_class(
            expected=what,
            got=f"{name} has no such file",
            remedy=f"Choose a repository that has it{otherwise}",
        ) from error
    except (HfHubHTTPError, httpx.HTTPError, OSError) as error:
        raise error_class(
            expected=what,
            got=f"The download of {name} broke off ({_first_line(error)})",
            remedy=f"Try again: what has come is kept. Or run `{command}` and try then{otherwise}",
        ) from error


def gated(error_class: type[A3TuneError], page: str, then: str) -> A3TuneError:
    """What is told of a repository whose licence has to be accepted first.

    Args:
        error_class: the error's.
        page: the repository below the hub's address: "owner/name", "datasets/owner/name".
        then: what to do once it is accepted, to end the remedy with.
    """
    return error_class(
        expected="access to a gated repository",
        got=f"{page.removeprefix('datasets/')} asks for its licence to be accepted",
        remedy=f"Accept it at https://huggingface.co/{page}, {then}",
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
