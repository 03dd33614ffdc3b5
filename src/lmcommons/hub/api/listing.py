"""Chapter 3: list and search repositories, say what one is, and which tags there are."""

import hashlib
import hmac
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace
from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Query, Request, Response

from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.api.dependencies import Kind, actor, find_repository, hub_of, next_link, repository_type
from lmcommons.hub.api.information import (
    BRIEF,
    BRIEF_OF,
    FULL,
    FULL_OF,
    OF_THE_CARD,
    Answer,
    View,
    check_expand,
    information,
)
from lmcommons.hub.errors import BadRequest, RepositoryNotFound
from lmcommons.hub.repos.search import Listing, Position

PAGE = 1_000  # repositories in one answer, at most
SLOW_PAGE = 100  # where each needs a look into its files, or questions of its own
SLOW = frozenset(
    (
        "childrenModelCount",
        "citation",
        "config",
        "evalResults",
        "gguf",
        "mask_token",
        "siblings",
        "spaces",
        "transformersInfo",
    )
)
SORT_NAMES = {  # as clients and people write them
    "created_at": "createdAt",
    "last_modified": "lastModified",
    "modified": "lastModified",
    "trending": "trendingScore",
    "trending_score": "trendingScore",
}

# What programs can run, by the tags of a model.
GGUF_APPS = ("llama.cpp", "ollama", "lmstudio", "jan", "koboldcpp", "gpt4all")
SAFETENSORS_APPS = ("vllm", "sglang", "text-generation-inference", "transformers")
APPS = dict.fromkeys(GGUF_APPS, ("gguf",)) | dict.fromkeys(SAFETENSORS_APPS, ("transformers", "safetensors"))

SIZES = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}

router = APIRouter(prefix="/api")


@router.get("/{kind}-tags-by-type")
def tags_by_type(request: Request, kind: Kind) -> dict[str, list[dict[str, str]]]:
    """The tags of public repositories, by what they tell, the most used first."""
    groups: dict[str, list[dict[str, str]]] = {}
    for group, tag in hub_of(request).search.tags(repository_type(kind)):
        label = tag.removeprefix(f"{group}:")
        groups.setdefault(group, []).append({"id": tag, "label": label, "type": group})
    return groups


@router.get("/{kind}")
def listing(
    request: Request,
    kind: Kind,
    search: list[str] = Query([]),
    author: str | None = None,
    filter_: list[str] = Query([], alias="filter"),
    pipeline_tag: str | None = None,
    num_parameters: str | None = None,
    apps: list[str] = Query([]),
    gated: bool | None = None,
    inference: str | None = None,
    inference_provider: list[str] = Query([]),
    datasets: list[str] = Query([]),
    models: list[str] = Query([]),
    linked: bool = False,
    sort: str | None = None,
    direction: Literal["-1", "1"] = "-1",
    limit: int = Query(PAGE, ge=1),
    cursor: str | None = None,
    full: bool = False,
    config: bool = False,
    card_data: bool = Query(False, alias="cardData"),
    expand: list[str] = Query([]),
) -> Response:
    """Repositories that the sender may see; the next page is in the Link header."""
    hub, sender, type_ = hub_of(request), actor(request), repository_type(kind)
    check_expand(type_, expand)
    if any("\0" in value for _, value in request.query_params.multi_items()):
        raise BadRequest("A parameter holds the character NUL")
    names = set(expand)
    if not expand:
        names.update(BRIEF, BRIEF_OF[type_])
        if full:
            names.update(("cardData", "disabled", "sha", "siblings"))
        if config and kind == "models":
            names.add("config")
        if card_data:
            names.add("cardData")
    if inference or inference_provider:
        return Answer([])  # no provider serves the models of this hub
    query = Listing(
        search=" ".join(search) or None,
        author=author,
        tags=[*(tag for part in filter_ for tag in part.split(",") if tag), *_app_tags(apps)],
        any_tags=[*(f"dataset:{name}" for name in datasets), *(f"model:{name}" for name in models)],
        pipeline_tag=pipeline_tag,
        gated=gated,
        parameters=_range(num_parameters),
        linked=linked,
        sort=SORT_NAMES.get(sort, sort) if sort else None,
        ascending=direction == "1",
        limit=min(limit, SLOW_PAGE if names & SLOW else PAGE),
    )
    if cursor is not None:
        query = replace(query, after=_read_cursor(hub.secret, query, cursor))
    found, position = hub.search.listing(sender, type_, query, cards=bool(names & OF_THE_CARD))
    answer = [information(View(hub, sender, repository), sorted(names)) for repository in found]
    headers = next_link(request, cursor=_write_cursor(hub.secret, query, position)) if position else None
    return Answer(answer, headers=headers)


@router.get("/{kind}/{namespace}/{name}")
@router.get("/{kind}/{namespace}/{name}/revision/{revision:path}")
def info(
    request: Request,
    kind: Kind,
    namespace: str,
    name: str,
    revision: str | None = None,
    blobs: bool = False,
    expand: list[str] = Query([]),
) -> Response:
    """Everything about a repository at a revision, or only what `expand` names."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.SEE)
    check_expand(repository.type, expand)
    repository = hub.commits.refresh(repository)
    commit = hub.repositories.git(repository).resolve(revision) if revision is not None else None
    names = expand or [*FULL, *BRIEF_OF[repository.type], *FULL_OF[repository.type]]
    return Answer(information(View(hub, sender, repository, commit, blobs), names))


@router.get("/{kind}/{name}")
@router.get("/{kind}/{name}/revision/{revision:path}")
def without_namespace(kind: Kind, name: str) -> None:
    """Every repository here has a namespace."""
    raise RepositoryNotFound


def _app_tags(apps: list[str]) -> list[str]:
    """The tags of models that all of the programs can run.

    Raises:
        BadRequest: a program that this hub does not know.
    """
    for app in apps:
        if app not in APPS:
            raise BadRequest(f"Unknown app: {app[:80]}; one of {', '.join(APPS)}")
    return list(dict.fromkeys(tag for app in apps for tag in APPS[app]))


def _range(text: str | None) -> tuple[int | None, int | None]:
    """`min:6B,max:128B`, or one of the two.

    Raises:
        BadRequest: it reads otherwise.
    """
    bounds: dict[str, int] = {}
    for part in text.split(",") if text else ():
        match = re.fullmatch(r"\s*(min|max):(\d{1,6}(?:\.\d{1,6})?)([KMBT]?)\s*", part, re.IGNORECASE | re.ASCII)
        if match is None:
            raise BadRequest(f"num_parameters={text!r:.100} is not a range like 'min:6B,max:128B'")
        bounds[match[1].lower()] = round(float(match[2]) * SIZES[match[3].upper()])
    return bounds.get("min"), bounds.get("max")


def _write_cursor(secret: bytes, query: Listing, position: Position) -> str:
    values = [value.isoformat() if isinstance(value, datetime) else value for value in position]
    payload = urlsafe_b64encode(json.dumps([query.order, query.ascending, *values]).encode())
    return f"{payload.decode().rstrip('=')}.{_signature(secret, payload.rstrip(b'='))}"


def _read_cursor(secret: bytes, query: Listing, cursor: str) -> Position:
    payload, _, signature = cursor.partition(".")
    signed = payload.encode(errors="replace")
    if not hmac.compare_digest(_signature(secret, signed).encode(), signature.encode(errors="replace")):
        raise BadRequest("The cursor is not one that this hub gave")
    order, ascending, first, *others = json.loads(urlsafe_b64decode(signed + b"=" * (-len(signed) % 4)))
    if (order, ascending) != (query.order, query.ascending):
        raise BadRequest("The cursor belongs to a list in another order")
    return datetime.fromisoformat(first) if isinstance(first, str) else first, *others


def _signature(secret: bytes, payload: bytes) -> str:
    return hmac.new(secret, b"listing:" + payload, hashlib.sha256).hexdigest()[:32]
