"""A repository's first page: its card, and what stands beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Literal

from fastapi import APIRouter
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub import addresses
from lmcommons.hub.accounts.permissions import Action, Actor, allowed
from lmcommons.hub.database.tables import AccessStatus, Repository, RepositoryType
from lmcommons.hub.errors import EntryNotFound
from lmcommons.hub.repos import cards, index
from lmcommons.hub.repos.details import CARD, CONFIGURATION, read_object
from lmcommons.hub.repos.evaluation import ResultFile, result_files
from lmcommons.hub.repos.git import Entry, GitRepository
from lmcommons.hub.repos.splits import data_format
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web import markdown
from lmcommons.hub.web.lookup import page_of, place, repository_of
from lmcommons.hub.web.previews.files import MAX_MARKDOWN, read_text
from lmcommons.hub.web.rendering import page
from lmcommons.hub.web.results import Result, result
from lmcommons.hub.web.visitors import Form, form_handler, visitor
from lmcommons.hub.words import Words

RELATED = 10  # datasets or base models beside a card
MAX_RESULTS = 50  # rows of the table of stated results
ATTRIBUTES = ".gitattributes"  # in every repository
LOOKED_AT = 100  # files of a folder, for what a snippet names
MAX_QUESTIONS, MAX_ANSWER = 20, 1000  # of a gated repository's card; characters
MAX_WORDS, MAX_WORD = 100, 200  # of a metadata field: entries, and characters of each


@dataclass(frozen=True)
class Gate:
    """Why the visitor may not have the files: where the request stands, and what the card asks for."""

    status: AccessStatus | None
    prompt: str | None
    questions: dict[str, bool]
    reason: str | None = None  # of a rejection


@dataclass(frozen=True)
class Card:
    """A card as HTML, or why there is none; and what is wrong with its metadata, a line each."""

    html: Markup | None = None
    problem: Literal["binary", "absent"] | None = None
    errors: Sequence[str] = ()
    is_cut: bool = False  # it goes on past what is rendered


@dataclass(frozen=True)
class Use:
    """What the snippets beside a card name: what loads a model, a pattern for a dataset's files, the first file."""

    config: bool
    auto_class: str
    rows: str | None
    first: str | None


def card(request: Request, kind: RepositoryType) -> Response:
    """A repository's first page: its card and what stands beside it."""
    hub, repository, git = repository_of(request, kind)
    last_commit = git.describe(git.default_branch)
    entries = {entry.path: entry for entry in git.entries(last_commit.oid, limit=LOOKED_AT)}
    entries |= {entry.path: entry for entry in git.existing(last_commit.oid, [CARD, CONFIGURATION])}
    stated = result_files(git, last_commit.oid)
    metadata = {name: _words(value) for name, value in repository.card.items()}
    readme = _card(hub, repository, git.default_branch, entries.get(CARD))
    return page(
        request,
        "repository/card.html",
        section=kind,
        repository=repository,
        branch=git.default_branch,
        use=_use(repository, git, last_commit.oid, entries),
        may_write=hub.pull_requests.may_write(visitor(request), repository, git.default_branch),
        last_commit=last_commit,
        metadata=metadata,
        language=next(iter(metadata.get("language", [])), None),
        gate=_gate(hub, visitor(request), repository),
        card=readme.html,
        problem=readme.problem,
        is_cut=readme.is_cut,
        errors=[*readme.errors, *(_of_file(file.filename, file.error) for file in stated if file.error)],
        results=_stated_results(request, stated),
        datasets=_related(request, RepositoryType.DATASET, metadata.get("datasets", [])),
        base_models=_related(request, RepositoryType.MODEL, metadata.get("base_model", [])),
    )


def ask_access(request: Request, form: Form, kind: RepositoryType) -> Response:
    """Ask for the files of a gated repository; the answers to its card's questions come along."""
    hub, repository, _ = repository_of(request, kind)
    fields = {name: form[f"answer {name}"][:MAX_ANSWER] for name in _questions(repository) if f"answer {name}" in form}
    hub.access.ask(visitor(request), repository, fields)
    return RedirectResponse(addresses.repository(repository), 303)


def _card(hub: Hub, repository: Repository, branch: str, entry: Entry | None) -> Card:
    if entry is None or entry.type == "directory":
        return Card()
    try:
        with hub.contents.open(repository, entry) as file:
            text, is_whole = read_text(file, MAX_MARKDOWN)
    except EntryNotFound:
        return Card(problem="absent")
    if text is None:
        return Card(problem="binary")
    _, body = cards.split(text)
    errors = [_of_file(CARD, error) for error in cards.metadata_errors(text)]
    is_cut = not is_whole or len(body) > len(markdown.beginning(body))
    return Card(markdown.render(body, place(hub, repository, branch, CARD)), None, errors, is_cut)


def _of_file(name: str, error: str) -> Words:
    return Words("{file}: {reason}", file=name, reason=error)


def _use(repository: Repository, git: GitRepository, commit: str, entries: dict[str, Entry]) -> Use | None:
    """How to use a repository; None when it has no files."""
    files = [path for path, entry in entries.items() if entry.type == "file" and path != ATTRIBUTES]
    folders = [path for path, entry in entries.items() if entry.type == "directory"]
    if not files and not folders:
        return None
    config, rows, auto_class = CONFIGURATION in files, None, None
    if repository.type is RepositoryType.DATASET:
        inside = (entry.path for folder in folders for entry in git.entries(commit, folder, limit=LOOKED_AT))
        data = next((path for path in (*files, *inside) if data_format(path)), None)
        rows = data and f"**/*{PurePosixPath(data).suffix}"
    elif config:
        auto_class = index.auto_class(read_object(git, commit, CONFIGURATION))
    return Use(config, auto_class or "AutoModel", rows, next(iter(files), None))


def _gate(hub: Hub, actor: Actor, repository: Repository) -> Gate | None:
    if allowed(actor, Action.READ, repository):
        return None
    asked = hub.access.of(actor, repository)
    prompt = _words(repository.card.get("extra_gated_prompt"))
    text, questions = prompt[0] if prompt else None, _questions(repository)
    return Gate(asked.status if asked else None, text, questions, asked.reason if asked else None)


def _questions(repository: Repository) -> dict[str, bool]:
    """What the card wants to know of those who ask for its files, and which of it is answered by a tick."""
    asked = repository.card.get("extra_gated_fields")
    if not isinstance(asked, dict):
        return {}
    return {str(name)[:MAX_WORD]: kind == "checkbox" for name, kind in list(asked.items())[:MAX_QUESTIONS]}


def _stated_results(request: Request, found: list[ResultFile]) -> list[tuple[Result, str | None]]:
    """The results that could be read, each with the page of its dataset when that is on this hub."""
    rows = [result(entry) for file in found for entry in file.entries][:MAX_RESULTS]
    pages = dict(_related(request, RepositoryType.DATASET, list({row.dataset: None for row in rows})))
    return [(row, pages.get(row.dataset)) for row in rows]


def _related(request: Request, kind: RepositoryType, names: list[str]) -> list[tuple[str, str | None]]:
    """Repositories that a card names, each with its page when it is on this hub."""
    return [(name, page_of(request, kind, name)) for name in names[:RELATED]]


def _words(value: Any) -> list[str]:
    """The texts of a metadata field that holds one or a list of them."""
    values = value if isinstance(value, list) else [value]
    return [item[:MAX_WORD] for item in values[:MAX_WORDS] if isinstance(item, str)]


def add_repository_routes(router: APIRouter, kind: RepositoryType, base: str) -> None:
    """The pages of a repository at `base`."""
    router.add_route(base, partial(card, kind=kind))
    router.add_route(f"{base}/request-access", form_handler(partial(ask_access, kind=kind)), methods=["POST"])
