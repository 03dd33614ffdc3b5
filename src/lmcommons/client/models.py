"""From the name of a model to a directory with its files."""

import os
import re
from pathlib import Path

from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

from lmcommons.client.connection import HTTPError, hub
from lmcommons.errors import CommandError, RequestError

REPOSITORY = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^@\s]+))?")
MODEL_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "*.spm"]  # the last three of tokenizers
COMMIT = re.compile(r"[0-9a-f]{40}")
ANSWER_LIMIT = 10.0  # seconds for the first answer of the hub


def fetched(name: str, directory: Path) -> str | None:
    """`namespace/name@commit` of what was fetched as `name` to `directory`; None for a directory of one's own."""
    match = REPOSITORY.fullmatch(name)
    is_fetched = match is not None and directory.parent.name == "snapshots" and COMMIT.fullmatch(directory.name)
    return f"{match['repository']}@{directory.name}" if match and is_fetched else None


def model_directory(name: str) -> Path:
    """The directory of the model `name`: a directory, or `namespace/name[@revision]` fetched from the hub.

    The hub is the one that HF_ENDPOINT names, and HF_TOKEN is sent to it. The revision (a branch, tag or commit; `main`
    where none is given) is looked up on the hub each time; files in the cache of huggingface_hub are not fetched again.

    Raises:
        RequestError: no such directory, repository or revision, or no access: one line that says which.
        CommandError: the hub cannot be reached or fails.
    """
    directory = Path(name).expanduser()
    if directory.is_dir():
        return directory
    match = REPOSITORY.fullmatch(name)
    if match is None or directory.exists():
        raise RequestError(f"{name}: no such directory; a MODEL is a directory or namespace/name[@revision] on a hub")
    repository, revision = match["repository"], match["revision"] or "main"
    api = hub()
    where = api.endpoint if os.environ.get("HF_ENDPOINT") else f"{api.endpoint} (HF_ENDPOINT is not set)"
    try:
        commit = api.model_info(repository, revision=revision, timeout=ANSWER_LIMIT).sha
        return Path(api.snapshot_download(repository, revision=commit, allow_patterns=MODEL_FILES))
    except HFValidationError as error:
        raise RequestError(f"{name}: no such directory, and not a repository's name: {error}") from error
    except RevisionNotFoundError as error:
        raise RequestError(f"{name}: {repository} on {where} has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        access = "HF_TOKEN may not read it" if os.environ.get("HF_TOKEN") else "it is private and HF_TOKEN is not set"
        raise RequestError(f"{name}: no such directory, and no such model on {where}, or {access}") from error
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise RequestError(f"{name}: {where} does not accept HF_TOKEN for it") from error
        raise CommandError(f"{name}: {where} answered {error.response.status_code}") from error
    except (HTTPError, OSError, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise CommandError(f"{name}: no such directory, and the hub at {where} cannot be reached: {reason}") from error
