"""The pages' addresses and views. A view asks the rooms and fills a template; it decides nothing.

A page shows what its visitor may see: to others a private repository is as absent as one that is not there.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub import addresses
from lmcommons.hub.accounts.permissions import Action, Actor, allowed
from lmcommons.hub.database.tables import AccessStatus, Repository, RepositoryType
from lmcommons.hub.errors import BadRequest, EntryNotFound, HubError
from lmcommons.hub.repos import cards
from lmcommons.hub.repos.details import CARD
from lmcommons.hub.repos.evaluation import ResultFile, result_files
from lmcommons.hub.repos.git import Entry, GitRepository
from lmcommons.hub.repos.search import Listing
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web import markdown
from lmcommons.hub.web.previews import preview
from lmcommons.hub.web.rendering import STYLE_ADDRESS, page, style
from lmcommons.hub.web.results import Result, result
from lmcommons.hub.web.visitors import Form, form_handler, visitor

RECENT = 8  # repositories of each type on the first page
PAGE = 30  # repositories, commits
FOLDER_PAGE = 100  # files; each is followed to its last commit
CHANGES = 200  # files of a commit's page
RELATED = 10  # datasets or base models beside a card
MAX_RESULTS = 50  # rows of the table of stated results
MAX_CARD = 4 * markdown.MAX_MARKDOWN + cards.METADATA_LIMIT  # bytes; a longer README.md is not read
MAX_QUESTIONS, MAX_ANSWER = 20, 1000  # of a gated repository's card; characters
MAX_WORDS, MAX_WORD = 100, 200  # of a metadata field: entries, and characters of each
LISTED = (RepositoryType.MODEL, RepositoryType.DATASET)  # spaces are kept, and have no pages


@dataclass(frozen=True)
class Shown:
    """A part of a list, and how many there are in all."""

    repositories: list[Repository]
    total: int


@dataclass(frozen=True)
class Gate:
    """Why the visitor may not have the files: where the request stands, and what the card asks for."""

    status: AccessStatus | None
    prompt: str | None
    questions: dict[str, bool]


@dataclass(frozen=True)
class Card:
    """A card as HTML, or why there is none; and what is wrong with its metadata, a line each."""

    html: Markup | None = None
    problem: Literal["long", "binary", "absent"] | None = None
    errors: Sequence[str] = ()


def home(request: Request) -> Response:
    """What this commons is, and what was updated last."""
    models, datasets = (_shown(request, kind, Listing(sort="lastModified", limit=RECENT)) for kind in LISTED)
    return page(request, "home.html", models=models, datasets=datasets)


def listing(request: Request, kind: RepositoryType) -> Response:
    """Search among models or datasets."""
    number = _page_number(request)
    search = request.query_params.get("search", "").strip()[:200]
    author = request.query_params.get("author") or None
    sort = request.query_params.get("sort") or (None if search else "lastModified")
    query = Listing(search or None, author, sort=sort, offset=(number - 1) * PAGE, limit=PAGE)
    shown = _shown(request, kind, query)
    return page(
        request,
        "listing.html",
        section=kind,
        listing=shown,
        search=search,
        author=author,
        sort=sort,
        **_neighbours(request, number, more=number * PAGE < shown.total),
    )


def account(request: Request) -> Response:
    """What a person or an organisation shares."""
    hub: Hub = request.app.state.hub
    found = hub.accounts.find(request.path_params["namespace"])
    models, datasets = (
        _shown(request, kind, Listing(author=found.name, sort="lastModified", limit=PAGE)) for kind in LISTED
    )
    return page(request, "account.html", account=found, models=models, datasets=datasets)


def card(request: Request, kind: RepositoryType) -> Response:
    """A repository's first page: its card and what stands beside it."""
    hub, repository, git = _repository(request, kind)
    last_commit = git.describe(git.default_branch)
    entries = {entry.path: entry for entry in git.entries(last_commit.oid)}
    stated = result_files(git, last_commit.oid)
    metadata = {name: _words(value) for name, value in repository.card.items()}
    readme = _card(hub, repository, git.default_branch, entries.get(CARD))
    return page(
        request,
        "card.html",
        section=kind,
        repository=repository,
        branch=git.default_branch,
        files=[path for path, entry in entries.items() if entry.type == "file" and path != ".gitattributes"],
        last_commit=last_commit,
        metadata=metadata,
        language=next(iter(metadata.get("language", [])), None),
        gate=_gate(hub, visitor(request), repository),
        card=readme.html,
        problem=readme.problem,
        errors=[*readme.errors, *(f"{file.filename}: {file.error}" for file in stated if file.error)],
        results=_stated_results(request, stated),
        datasets=_related(request, RepositoryType.DATASET, metadata.get("datasets", [])),
        base_models=_related(request, RepositoryType.MODEL, metadata.get("base_model", [])),
    )


def ask_access(request: Request, form: Form, kind: RepositoryType) -> Response:
    """Ask for the files of a gated repository; the answers to its card's questions come along."""
    hub, repository, _ = _repository(request, kind)
    fields = {name: form[f"answer {name}"][:MAX_ANSWER] for name in _questions(repository) if f"answer {name}" in form}
    hub.access.ask(visitor(request), repository, fields)
    return RedirectResponse(addresses.repository(repository), 303)


def tree(request: Request, kind: RepositoryType) -> Response:
    """The files of a folder, each with its last commit."""
    hub, repository, git = _repository(request, kind)
    revision, path = addresses.revision_and_path(request)
    number = _page_number(request)
    head = git.describe(revision)
    start = (number - 1) * FOLDER_PAGE
    entries = git.entries(head.oid, path, start=start, limit=FOLDER_PAGE + 1)
    if number > 1 and not entries:
        raise EntryNotFound(f"{path or 'The first folder'} has no page {number}")
    shown = [path, *(entry.path for entry in entries[:FOLDER_PAGE])]
    last_commits = hub.last_commits.of(repository, head.oid, shown)
    return page(
        request,
        "tree.html",
        section=kind,
        repository=repository,
        branch=git.default_branch,
        revision=revision,
        path=path,
        refs=git.refs(),
        commit=last_commits.get(path, head),
        entries=entries[:FOLDER_PAGE],
        last_commits=last_commits,
        **_neighbours(request, number, more=len(entries) > FOLDER_PAGE),
    )


def blob(request: Request, kind: RepositoryType) -> Response:
    """A file."""
    hub, repository, git = _repository(request, kind, Action.READ)
    revision, path = addresses.revision_and_path(request)
    commit = git.resolve(revision)
    entry = git.entry(commit, path)
    if entry.type == "directory":
        raise EntryNotFound(f"{path} is a folder; its files are at {addresses.at(repository, 'tree', revision, path)}")
    return page(
        request,
        "blob.html",
        section=kind,
        repository=repository,
        branch=git.default_branch,
        revision=revision,
        path=path,
        refs=git.refs(),
        entry=entry,
        last=hub.last_commits.of(repository, commit, [path]).get(path),
        preview=preview(entry, partial(hub.contents.open, repository, entry), _place(repository, revision, path)),
    )


def commits(request: Request, kind: RepositoryType) -> Response:
    """The history of a revision, or of one file or folder in it."""
    _, repository, git = _repository(request, kind)
    revision, path = addresses.revision_and_path(request)
    number = _page_number(request)
    found = git.commits(revision, start=(number - 1) * PAGE, limit=PAGE + 1, path=path or None)
    if not found:
        raise EntryNotFound(f"{path or 'this page'} has no history at {revision}")
    return page(
        request,
        "commits.html",
        section=kind,
        repository=repository,
        branch=git.default_branch,
        revision=revision,
        path=path,
        refs=git.refs(),
        commits=found[:PAGE],
        **_neighbours(request, number, more=len(found) > PAGE),
    )


def commit(request: Request, kind: RepositoryType) -> Response:
    """What a commit changed."""
    _, repository, git = _repository(request, kind, Action.READ)
    revision, path = addresses.revision_and_path(request)
    if path:
        raise EntryNotFound(f"A commit's page shows all of it: {addresses.at(repository, 'commit', revision)}")
    found = git.describe(revision)
    changes = git.changes(found.oid)
    return page(
        request,
        "commit.html",
        section=kind,
        repository=repository,
        branch=git.default_branch,
        commit=found,
        changes=changes[:CHANGES],
        total=len(changes),
        additions=sum(change.additions for change in changes),
        deletions=sum(change.deletions for change in changes),
    )


def error_page(request: Request, error: HubError) -> Response:
    """An error as a browser's user reads it."""
    return page(
        request, "error.html", status=error.status, message=error.message, identity=getattr(request.state, "id", None)
    )


def _repository(
    request: Request, kind: RepositoryType, action: Action = Action.SEE
) -> tuple[Hub, Repository, GitRepository]:
    hub: Hub = request.app.state.hub
    name = "{namespace}/{name}".format_map(request.path_params)
    repository = hub.repositories.find(visitor(request), kind, name, action)
    return hub, repository, hub.repositories.git(repository)


def _shown(request: Request, kind: RepositoryType, query: Listing) -> Shown:
    hub, actor = request.app.state.hub, visitor(request)
    found, _ = hub.search.listing(actor, kind, query)
    return Shown(found, hub.search.count(actor, kind, query))


def _card(hub: Hub, repository: Repository, branch: str, entry: Entry | None) -> Card:
    if entry is None or entry.type == "directory":
        return Card()
    if entry.size > MAX_CARD:
        return Card(problem="long")
    try:
        with hub.contents.open(repository, entry) as file:
            text = file.read().decode()
    except UnicodeDecodeError:
        return Card(problem="binary")
    except EntryNotFound:
        return Card(problem="absent")
    _, body = cards.split(text)
    if len(body) > markdown.MAX_MARKDOWN:
        return Card(problem="long")
    errors = [f"{CARD}: {error}" for error in cards.metadata_errors(text)]
    return Card(markdown.render(body, _place(repository, branch, CARD)), None, errors)


def _gate(hub: Hub, actor: Actor, repository: Repository) -> Gate | None:
    if allowed(actor, Action.READ, repository):
        return None
    asked = hub.access.of(actor, repository)
    prompt = _words(repository.card.get("extra_gated_prompt"))
    return Gate(asked.status if asked else None, prompt[0] if prompt else None, _questions(repository))


def _questions(repository: Repository) -> dict[str, bool]:
    """What the card wants to know of those who ask for its files, and which of it is answered by a tick."""
    asked = repository.card.get("extra_gated_fields")
    if not isinstance(asked, dict):
        return {}
    return {str(name)[:MAX_WORD]: kind == "checkbox" for name, kind in list(asked.items())[:MAX_QUESTIONS]}


def _place(repository: Repository, revision: str, path: str) -> markdown.Place:
    return markdown.Place(
        addresses.at(repository, "blob", revision),
        addresses.at(repository, "resolve", revision),
        path.rpartition("/")[0],
    )


def _stated_results(request: Request, found: list[ResultFile]) -> list[tuple[Result, str | None]]:
    """The results that could be read, each with the page of its dataset when that is on this hub."""
    rows = [result(entry) for file in found for entry in file.entries][:MAX_RESULTS]
    pages = dict(_related(request, RepositoryType.DATASET, list({row.dataset: None for row in rows})))
    return [(row, pages.get(row.dataset)) for row in rows]


def _related(request: Request, kind: RepositoryType, names: list[str]) -> list[tuple[str, str | None]]:
    """Repositories that a card names, each with its page when it is on this hub."""
    return [(name, _page_of(request, kind, name)) for name in names[:RELATED]]


def _page_of(request: Request, kind: RepositoryType, name: str) -> str | None:
    try:
        hub: Hub = request.app.state.hub
        return addresses.repository(hub.repositories.find(visitor(request), kind, name, Action.SEE))
    except HubError:
        return None


def _words(value: Any) -> list[str]:
    """The texts of a metadata field that holds one or a list of them."""
    values = value if isinstance(value, list) else [value]
    return [item[:MAX_WORD] for item in values[:MAX_WORDS] if isinstance(item, str)]


def _page_number(request: Request) -> int:
    text = request.query_params.get("page", "1")
    if not re.fullmatch("[1-9][0-9]{0,3}", text):
        raise BadRequest(f"page={text[:20]} is not a page: it is a number from 1 to 9999")
    return int(text)


def _neighbours(request: Request, number: int, *, more: bool) -> dict[str, Any]:
    """The addresses of the pages before and after this one."""

    def address(wanted: int) -> str:
        return "?" + urlencode({**request.query_params, "page": wanted})

    return {"previous": address(number - 1) if number > 1 else None, "next": address(number + 1) if more else None}


def _router() -> APIRouter:
    found = APIRouter()
    found.add_route("/", home)
    found.add_route(STYLE_ADDRESS, style)
    for kind in (RepositoryType.DATASET, RepositoryType.MODEL):  # /datasets/… is no model of somebody called so
        base = f"/{kind.prefix}{{namespace}}/{{name}}"
        found.add_route(f"/{kind.plural}", partial(listing, kind=kind))
        found.add_route(base, partial(card, kind=kind))
        found.add_route(f"{base}/request-access", form_handler(partial(ask_access, kind=kind)), methods=["POST"])
        for view in (tree, blob, commits, commit):
            found.add_route(f"{base}/{view.__name__}/{{rest:path}}", partial(view, kind=kind))
    found.add_route("/{namespace}", account)
    return found


router = _router()
