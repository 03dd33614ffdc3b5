"""Chapter 3: what the API says about a repository, property by property."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lmcommons.hub.api.dependencies import timestamp
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest
from lmcommons.hub.repos import cards
from lmcommons.hub.repos.details import CARD, configuration, evaluation_results, read_text
from lmcommons.hub.repos.git import Entry, GitRepository
from lmcommons.hub.rooms import Hub


@dataclass
class View:
    """A repository at a commit; None is the head of main, which the index describes."""

    hub: Hub
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
    def card(self) -> dict[str, Any]:
        """The metadata of README.md."""
        if self.sha == self.repository.head:
            return self.repository.card
        return cards.split(read_text(self.git, self.sha, CARD))[0]

    @property
    def library(self) -> Any:
        """What loads it: as the card says, or by its configuration."""
        named = self.card.get("library_name")
        return named or ("transformers" if "transformers" in self.repository.tags else None)

    @property
    def base_models(self) -> dict[str, Any] | None:
        """What it was made from, by the card."""
        named = self.card.get("base_model")
        models = [name for name in (named if isinstance(named, list) else [named]) if isinstance(name, str)]
        if not models:
            return None
        return {
            "relation": self.card.get("base_model_relation", "finetune"),
            "models": [{"id": name} for name in models],
        }

    @property
    def config(self) -> dict[str, Any]:
        """The part of the configuration that tells how to load it."""
        found = configuration(self.git, self.sha)
        return {name: found[name] for name in ("architectures", "model_type") if name in found}

    @property
    def safetensors(self) -> dict[str, Any] | None:
        """How many numbers of each dtype the weights hold."""
        counts = self.repository.parameters
        return {"parameters": counts, "total": sum(counts.values())} if counts is not None else None

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


Property = Callable[[View], Any]

COMMON: dict[str, Property] = {
    "author": lambda view: view.repository.account.name,
    "cardData": lambda view: view.card or None,
    "createdAt": lambda view: timestamp(view.repository.created_at),
    "disabled": lambda view: False,
    "downloads": lambda view: view.repository.downloads,
    "downloadsAllTime": lambda view: view.repository.downloads,
    "gated": lambda view: False,
    "lastModified": lambda view: timestamp(view.repository.updated_at),
    "likes": lambda view: view.repository.likes,
    "private": lambda view: view.repository.private,
    "resourceGroup": lambda view: None,
    "sha": lambda view: view.sha,
    "siblings": lambda view: view.siblings,
    "tags": lambda view: view.repository.tags,
    "trendingScore": lambda view: view.repository.likes,
    "usedStorage": lambda view: view.repository.storage,
    "xetEnabled": lambda view: False,
}
PROPERTIES: dict[RepositoryType, dict[str, Property]] = {
    RepositoryType.MODEL: COMMON
    | {
        "baseModels": lambda view: view.base_models,
        "childrenModelCount": lambda view: 0,
        "config": lambda view: view.config,
        "evalResults": lambda view: evaluation_results(view.git, view.sha),
        "gguf": lambda view: None,
        "inference": lambda view: None,
        "inferenceProviderMapping": lambda view: [],
        "library_name": lambda view: view.library,
        "mask_token": lambda view: None,
        "model-index": lambda view: view.card.get("model-index"),
        "pipeline_tag": lambda view: view.card.get("pipeline_tag"),
        "safetensors": lambda view: view.safetensors,
        "spaces": lambda view: [],
        "transformersInfo": lambda view: None,
        "widgetData": lambda view: view.card.get("widget"),
    },
    RepositoryType.DATASET: COMMON
    | {
        "citation": lambda view: None,
        "description": lambda view: view.repository.summary,
        "mainSize": lambda view: view.repository.storage,
        "paperswithcode_id": lambda view: view.card.get("paperswithcode_id"),
    },
}

BRIEF = ("author", "createdAt", "downloads", "gated", "lastModified", "likes", "private", "tags", "trendingScore")
FULL = (*BRIEF, "disabled", "sha", "siblings", "cardData", "usedStorage")
OF_MODELS = ("library_name", "pipeline_tag")
FULL_OF_MODELS = (*OF_MODELS, "config", "model-index", "safetensors", "spaces", "widgetData")


def check_expand(type_: RepositoryType, names: Collection[str]) -> None:
    """Raises BadRequest for a property that repositories of this type do not have."""
    for name in names:
        if name not in PROPERTIES[type_]:
            raise BadRequest(f'"expand" must be one of [{", ".join(sorted(PROPERTIES[type_]))}], not {name!r}')


def information(view: View, names: Collection[str]) -> dict[str, Any]:
    """The named properties, after the names that every answer has."""
    repository = view.repository
    answer: dict[str, Any] = {"_id": f"{repository.id:024x}", "id": repository.full_name}
    if repository.type is RepositoryType.MODEL:
        answer["modelId"] = repository.full_name
    known = PROPERTIES[repository.type]
    answer |= {name: known[name](view) for name in dict.fromkeys(names)}
    # The client tells a property that a repository lacks from one that was not asked for by its absence.
    return {name: value for name, value in answer.items() if value is not None}
