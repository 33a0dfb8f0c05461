"""A tuned adapter to the hub, with the user's own token, which is passed on and kept nowhere."""

from __future__ import annotations

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

from a3tune.errors import RequestError
from a3tune.training.export import with_strength
from a3tune.training.model_card import adapter_files
from a3tune.training.run_folder import RunFolder


def push_adapter(run: RunFolder, repository: str, token: str, *, private: bool = True, strength: float = 1.0) -> str:
    """Put a run's adapter and its card into a repository of the hub, which is made where it is not there.

    Args:
        run: the run.
        repository: ``name/repository``.
        token: the user's own, with the right to write; neither written nor logged.
        private: whether a new repository is seen by its owner only.
        strength: by how much the adapter's change of the base is multiplied, above 0 to
            `a3tune.training.export.STRONGEST`; 1 is as tuned.

    Returns:
        The address of the repository.

    Raises:
        DataError: the run has no adapter yet.
        AdapterError: the adapter has no other strength than the one it was tuned with.
        RequestError: a strength out of range, no token, a name that cannot be, or the hub refuses or is out of reach.
    """
    files = with_strength(adapter_files(run), strength)
    if not token.strip():
        raise RequestError(
            expected="a token of yours with the right to write",
            got="There is no token",
            remedy="Make one at huggingface.co/settings/tokens",
        )
    api = HfApi(token=token.strip())
    try:
        made = api.create_repo(repository, private=private, exist_ok=True)
        api.create_commit(
            made.repo_id,
            [CommitOperationAdd(name, content) for name, content in files.items()],
            commit_message="Add the adapter and its card",
        )
    except (HfHubHTTPError, HFValidationError) as error:
        status: int = getattr(getattr(error, "response", None), "status_code", 0)
        refused = {401: "It does not know this token", 403: "The token may not write there"}
        # The message itself could quote the request.
        raise RequestError(
            expected="a repository of yours and a token with the right to write",
            got=refused.get(status, f"The hub does not take {repository[:100]!r}" + (f" ({status})" if status else "")),
            remedy="Check both",
        ) from None
    except (OfflineModeIsEnabled, OSError) as error:
        raise RequestError(
            expected="the hub within reach",
            got=f"It is not ({type(error).__name__})",
            remedy="Download the adapter and upload it from a machine with a connection",
        ) from None
    return str(made)
