"""Chapter 3: what the API says about a repository, property by property."""

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from starlette.responses import JSONResponse

from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.api.dependencies import timestamp
from lmcommons.hub.api.identities import object_id
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest, EntryNotFound
from lmcommons.hub.repos import downloads, gguf
from lmcommons.hub.repos.details import CARD, CONFIGURATION, read_object, read_text
from lmcommons.hub.repos.evaluation import result_files
from lmcommons.hub.repos.git import Entry, GitRepository
from lmcommons.hub.repos.index import Description, auto_class, describe, open_file
from lmcommons.hub.repos.search import Listing
from lmcommons.hub.rooms import Hub

CITATION = re.compile(r"```(?:bibtex|bib|latex)?[ \t]*\r?\n(\s*@\w+\s*\{.*?)```", re.DOTALL)
SPACES_LIMIT = 100


class Answer(JSONResponse):
    """JSON with what members' files hold: half characters, which UTF-8 cannot write, stay escaped."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


@dataclass
class View:
    """A repository at a commit, for an actor; None is the head of the default branch, which the index describes."""

    hub: Hub
    actor: Actor
    repository: Repository
    commit: str | None = None
    blobs: bool = False  # sizes and hashes of files too

    @cached_property
    def git(self) -> GitRepository:
        """Its files and history."""
        return self.hub.repositories.git(self.repository)

    @cached_property
    def sha(self) -> str:
        """The commit's id."""
        return self.commit or self.repository.head or ""

    @cached_property
    def facts(self) -> Repository | Description:
        """What the commit says: the index, or for another commit the same read from its files."""
        if self.sha == (self.repository.head or ""):
            return self.repository
        return describe(self.git, self.hub.objects, self.sha, self.repository.type)

    @property
    def card(self) -> dict[str, Any]:
        """The metadata of README.md."""
        return self.facts.card

    @property
    def base_models(self) -> dict[str, Any] | None:
        """What it was made from, by the card."""
        models = _names(self.card.get("base_model"))
        if not models:
            return None
        return {
            "relation": self.card.get("base_model_relation", "finetune"),
            "models": [{"id": name} for name in models],
        }

    @property
    def children(self) -> int:
        """How many models name it as their base."""
        listing = Listing(tags=(f"base_model:{self.repository.full_name}",))
        return self.hub.search.count(self.actor, RepositoryType.MODEL, listing)

    @property
    def spaces(self) -> list[str]:
        """The spaces that name it."""
        listing = Listing(tags=(f"model:{self.repository.full_name}",), limit=SPACES_LIMIT)
        found, _ = self.hub.search.listing(self.actor, RepositoryType.SPACE, listing)
        return [space.full_name for space in found]

    @property
    def config(self) -> dict[str, Any]:
        """The part of the configuration that tells how to load it."""
        found = self._configuration
        return {name: found[name] for name in ("architectures", "model_type") if name in found}

    @property
    def transformers_info(self) -> dict[str, Any] | None:
        """The class of `transformers` that loads it."""
        name = auto_class(self._configuration)
        if name is None or self.facts.library != "transformers":
            return None
        info = {"auto_model": name, "pipeline_tag": self.facts.pipeline_tag}
        return info | ({"processor": "AutoTokenizer"} if self._tokenizer else {})

    @property
    def mask_token(self) -> str | None:
        """What stands for a missing word in its input."""
        token = self._tokenizer.get("mask_token")
        text = token.get("content") if isinstance(token, dict) else token
        return text if isinstance(text, str) else None

    @cached_property
    def _tokenizer(self) -> dict[str, Any]:
        return read_object(self.git, self.sha, "tokenizer_config.json")

    @cached_property
    def _configuration(self) -> dict[str, Any]:
        return read_object(self.git, self.sha, CONFIGURATION)

    @property
    def safetensors(self) -> dict[str, Any] | None:
        """How many numbers of each dtype the weights hold."""
        counts = self.facts.parameters
        return {"parameters": counts, "total": sum(counts.values())} if counts is not None else None

    @property
    def gguf(self) -> dict[str, Any] | None:
        """What the first of its GGUF files says about the model."""
        if "gguf" not in self.facts.tags:
            return None
        files = (entry for entry in self.git.entries(self.sha, recursive=True) if entry.path.endswith(".gguf"))
        try:
            with open_file(self.git, self.hub.objects, next(files)) as file:
                return gguf.summary(file)
        except (ValueError, EntryNotFound):
            return None

    @property
    def evaluation_results(self) -> list[dict[str, Any]]:
        """The entries of its files of results, each with its file; of a file that cannot be read, why."""
        found: list[dict[str, Any]] = []
        for file in result_files(self.git, self.sha):
            if file.error is not None:
                found.append({"filename": file.filename, "error": file.error})
            found += [{"filename": file.filename, "data": entry} for entry in file.entries]
        return found

    @property
    def citation(self) -> str | None:
        """The BibTeX of its card."""
        match = CITATION.search(read_text(self.git, self.sha, CARD))
        return match[1].strip() if match else None

    @property
    def siblings(self) -> list[dict[str, Any]]:
        """The files."""
        files = [entry for entry in self.git.entries(self.sha, recursive=True) if entry.type == "file"]
        return [_sibling(entry) if self.blobs else {"rfilename": entry.path} for entry in files]


def _sibling(entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = {"rfilename": entry.path, "size": entry.size, "blobId": entry.oid}
    if entry.lfs:
        found["lfs"] = {"sha256": entry.lfs.sha256, "size": entry.lfs.size, "pointerSize": entry.lfs.pointer_size}
    return found


def _names(value: Any) -> list[str]:
    return [name for name in (value if isinstance(value, list) else [value]) if isinstance(name, str)]


Property = Callable[[View], Any]

COMMON: dict[str, Property] = {
    "author": lambda view: view.repository.account.name,
    "cardData": lambda view: view.card or None,
    "createdAt": lambda view: timestamp(view.repository.created_at),
    "disabled": lambda view: False,
    "downloads": lambda view: view.repository.downloads,
    "downloadsAllTime": lambda view: view.repository.downloads_all_time,
    "gated": lambda view: view.repository.gated or False,
    "lastModified": lambda view: timestamp(view.repository.updated_at),
    "likes": lambda view: view.repository.likes,
    "private": lambda view: view.repository.private,
    "resourceGroup": lambda view: None,
    "sha": lambda view: view.sha,
    "siblings": lambda view: view.siblings,
    "tags": lambda view: view.facts.tags,
    "trendingScore": lambda view: downloads.score(view.repository.trending),
    "usedStorage": lambda view: view.facts.storage,
    "xetEnabled": lambda view: True,
}
PROPERTIES: dict[RepositoryType, dict[str, Property]] = {
    RepositoryType.MODEL: COMMON
    | {
        "baseModels": lambda view: view.base_models,
        "childrenModelCount": lambda view: view.children,
        "config": lambda view: view.config,
        "evalResults": lambda view: view.evaluation_results,
        "gguf": lambda view: view.gguf,
        "inference": lambda view: None,
        "inferenceProviderMapping": lambda view: [],
        "library_name": lambda view: view.facts.library,
        "mask_token": lambda view: view.mask_token,
        "model-index": lambda view: view.card.get("model-index"),
        "pipeline_tag": lambda view: view.facts.pipeline_tag,
        "safetensors": lambda view: view.safetensors,
        "spaces": lambda view: view.spaces,
        "transformersInfo": lambda view: view.transformers_info,
        "widgetData": lambda view: view.card.get("widget"),
    },
    RepositoryType.DATASET: COMMON
    | {
        "citation": lambda view: view.citation,
        "description": lambda view: view.facts.summary,
        "mainSize": lambda view: view.repository.storage,
        "paperswithcode_id": lambda view: view.card.get("paperswithcode_id"),
    },
    RepositoryType.SPACE: COMMON
    | {
        "datasets": lambda view: _names(view.card.get("datasets")),
        "models": lambda view: _names(view.card.get("models")),
        "region": lambda view: None,
        "runtime": lambda view: None,
        "sdk": lambda view: view.card.get("sdk"),
        "subdomain": lambda view: view.repository.full_name.lower().replace("/", "-").replace(".", "-"),
    },
}

BRIEF = ("author", "createdAt", "gated", "lastModified", "likes", "private", "tags", "trendingScore")
BRIEF_OF: dict[RepositoryType, tuple[str, ...]] = {
    RepositoryType.MODEL: ("downloads", "library_name", "pipeline_tag"),
    RepositoryType.DATASET: ("description", "disabled", "downloads", "sha"),
    RepositoryType.SPACE: (),
}
FULL = (*BRIEF, "disabled", "sha", "siblings", "cardData", "usedStorage")
FULL_OF: dict[RepositoryType, tuple[str, ...]] = {
    RepositoryType.MODEL: ("config", "gguf", "model-index", "safetensors", "spaces", "transformersInfo", "widgetData"),
    RepositoryType.DATASET: ("citation", "paperswithcode_id"),
    RepositoryType.SPACE: ("datasets", "models", "sdk", "subdomain"),
}

OF_THE_CARD = frozenset(
    ("baseModels", "cardData", "datasets", "model-index", "models", "paperswithcode_id", "sdk", "widgetData")
)


def check_expand(type_: RepositoryType, names: Collection[str]) -> None:
    """Raises BadRequest for a property that repositories of this type do not have."""
    for name in names:
        if name not in PROPERTIES[type_]:
            raise BadRequest(f'"expand" must be one of [{", ".join(sorted(PROPERTIES[type_]))}], not {name!r}')


def information(view: View, names: Collection[str]) -> dict[str, Any]:
    """The named properties, after the names that every answer has."""
    repository = view.repository
    answer: dict[str, Any] = {"_id": object_id(repository.id), "id": repository.full_name}
    if repository.type is RepositoryType.MODEL:
        answer["modelId"] = repository.full_name
    known = PROPERTIES[repository.type]
    answer |= {name: known[name](view) for name in dict.fromkeys(names)}
    # The client tells a property that a repository lacks from one that was not asked for by its absence.
    return {name: value for name, value in answer.items() if value is not None}
