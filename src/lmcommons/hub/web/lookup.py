"""What the address of a page asks for: a repository that the visitor may see, a revision, a page of a list."""

import re
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request

from lmcommons.hub import addresses
from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest, HubError
from lmcommons.hub.repos.git import GitRepository
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web.markdown import Place
from lmcommons.hub.web.visitors import visitor

ROW_DIGITS = 18  # of a number that a database keeps in 64 bits
LISTED = (RepositoryType.MODEL, RepositoryType.DATASET)  # spaces are kept, and have no pages


def repository_of(
    request: Request, kind: RepositoryType, action: Action = Action.SEE
) -> tuple[Hub, Repository, GitRepository]:
    """The hub, the repository that the address names, and its git directory.

    Raises:
        RepositoryNotFound, GatedRepository, Unauthorized, Forbidden: as `permissions.require`.
    """
    hub: Hub = request.app.state.hub
    name = "{namespace}/{name}".format_map(request.path_params)
    repository = hub.repositories.find(visitor(request), kind, name, action)
    return hub, repository, hub.repositories.git(repository)


def page_of(request: Request, kind: RepositoryType, name: str) -> str | None:
    """The page of the repository `name`, when it is on this hub and the visitor may see it."""
    hub: Hub = request.app.state.hub
    try:
        return addresses.repository(hub.repositories.find(visitor(request), kind, name, Action.SEE))
    except HubError:
        return None


def place(hub: Hub, repository: Repository, revision: str, path: str) -> Place:
    """Where relative links of the Markdown file at `path` lead."""
    return Place(
        addresses.at(repository, "blob", revision),
        addresses.at(repository, "resolve", revision),
        path.rpartition("/")[0],
        hub.settings.public_url,
    )


def page_number(request: Request) -> int:
    """The page of a list, from 1.

    Raises:
        BadRequest: it is no number from 1 to 9999.
    """
    text = request.query_params.get("page", "1")
    if not re.fullmatch("[1-9][0-9]{0,3}", text):
        raise BadRequest("page={text} is not a page: it is a number from 1 to 9999", text=text[:20])
    return int(text)


def row_number(name: str, text: str) -> int:
    """The number of something stored, which the field or parameter `name` of a request gives.

    Raises:
        BadRequest: it is no number, or none that anything can have.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= ROW_DIGITS):
        raise BadRequest("{name}={text} is not the number of anything here", name=name, text=text[:20])
    return int(text)


def neighbours(request: Request, number: int, *, more: bool) -> dict[str, Any]:
    """The addresses of the pages before and after this one, as the macro `pages` takes them."""

    def address(wanted: int) -> str:
        others = [pair for pair in request.query_params.multi_items() if pair[0] != "page"]
        return "?" + urlencode([*others, ("page", wanted)])

    return {"previous": address(number - 1) if number > 1 else None, "next": address(number + 1) if more else None}
