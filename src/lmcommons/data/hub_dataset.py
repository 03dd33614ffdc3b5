"""The files of a dataset repository, on the hub that HF_ENDPOINT names, at one commit."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from lmcommons.client import HTTPError, hub
from lmcommons.client.models import COMMIT
from lmcommons.errors import CommandError, RequestError
from lmcommons.recipe import HubDataset


@dataclass(frozen=True)
class HubFiles:
    """What `describe` found: the commit, the licence of the repository's card, the names of the files to read."""

    repository: str
    commit: str
    licence: str | None
    names: list[str]

    def download(self) -> Iterator[tuple[str, Path]]:
        """Fetch the files into the local cache, one after the other: name in the repository, path here."""
        for name in self.names:
            try:
                path = hub().hf_hub_download(self.repository, name, repo_type="dataset", revision=self.commit)
            except (HTTPError, EntryNotFoundError, OSError) as error:
                raise CommandError(f"dataset {self.repository}@{self.commit[:12]}: {name}: {_brief(error)}") from error
            yield name, Path(path)


def commit_of(source: HubDataset) -> str:
    """The commit that the source's revision means now; a commit stays what it is, without asking the hub."""
    return source.revision if COMMIT.fullmatch(source.revision) else describe(source).commit


def describe(source: HubDataset) -> HubFiles:
    """Ask the hub what the source's revision is and holds.

    Raises:
        RequestError: the repository, the revision, or files that match `files` do not exist, or are not ours to read.
        CommandError: the hub cannot be reached.
    """
    name = f"dataset {source.repository}"
    try:
        info = hub().dataset_info(source.repository, revision=source.revision)
    except HFValidationError as error:
        raise RequestError(f"{name}: not the name of a repository: {_brief(error)}") from error
    except RevisionNotFoundError as error:
        raise RequestError(f"{name}: no revision {source.revision!r}") from error
    except GatedRepoError as error:
        raise RequestError(f"{name}: access must be granted first; HF_TOKEN's owner has none") from error
    except RepositoryNotFoundError as error:
        raise RequestError(f"{name}: no such repository, or HF_TOKEN may not read it") from error
    except (HTTPError, OSError) as error:
        raise CommandError(f"{name}: {hub().endpoint} does not answer: {_brief(error)}") from error
    everything = sorted(file.rfilename for file in info.siblings or [])
    pattern = _glob(source.files)
    names = [file for file in everything if pattern.fullmatch(file)]
    if not names:
        raise RequestError(f"{name}: files: {source.files!r} matches none of its {len(everything)} files")
    if info.sha is None:
        raise CommandError(f"{name}: the hub did not say which commit {source.revision!r} is")
    card = vars(info.card_data) if info.card_data else {}
    licence = card.get("license")
    if licence == "other":  # hubs have a list of licences; others are named beside it
        licence = card.get("license_name", licence)
    return HubFiles(source.repository, info.sha, licence if isinstance(licence, str) else None, names)


def _glob(pattern: str) -> re.Pattern[str]:
    """A glob over repository paths: `**/` is any number of folders, `*` and `?` stay within a name."""
    special = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return re.compile("".join(special.get(part, re.escape(part)) for part in parts))


def _brief(error: Exception) -> str:
    """The first line of an error that may carry pages."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
