"""People and organisations as others see them: what they share, like and do, who follows them and whom they follow."""

from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lmcommons.hub.database.tables import Account, AccountKind, RepositoryType
from lmcommons.hub.errors import NotFound
from lmcommons.hub.repos.search import Listing
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web.lookup import LISTED, neighbours, page_number
from lmcommons.hub.web.rendering import page
from lmcommons.hub.web.views.listing import shown
from lmcommons.hub.web.visitors import visitor

FIRST = 6  # repositories of each type, and acts, on the first page
BESIDE = 12  # members or organisations beside them
PAGE = 30  # of anything on a page of its own

Tab = Callable[[Request, Account, int], dict[str, Any]]


def account(request: Request) -> Response:
    """A person or an organisation: the first page, or the one that `tab` names."""
    hub: Hub = request.app.state.hub
    found = hub.accounts.find(request.path_params["namespace"])
    tabs = USER_TABS if found.kind is AccountKind.USER else ORGANISATION_TABS
    tab = request.query_params.get("tab", "")
    if tab not in tabs:
        raise NotFound(
            "{account} has no page called {tab}: one of {pages}",
            account=found.name,
            tab=tab[:20],
            pages=", ".join(filter(None, tabs)),
        )
    actor = visitor(request)
    followers, following = hub.follows.numbers(found)
    numbers = hub.search.numbers(actor, found.id)
    members = hub.organisations.number_of_members(found.id)  # of a user, none
    organisations = len(hub.organisations.of(found.id))  # of an organisation, none
    return page(
        request,
        "people/account.html",
        account=found,
        tab=tab,
        counts={
            "model": numbers.get(RepositoryType.MODEL, 0),
            "dataset": numbers.get(RepositoryType.DATASET, 0),
            "likes": hub.likes.number(actor, found),
            "followers": followers,
            "following": following,
            "members": members,
            "organisations": organisations,
        },
        is_following=hub.follows.is_following(actor, found),
        **tabs[tab](request, found, page_number(request)),
    )


def _overview(request: Request, found: Account, number: int) -> dict[str, Any]:
    hub: Hub = request.app.state.hub
    models, datasets = (
        shown(request, kind, Listing(author=found.name, sort="lastModified", limit=FIRST)) for kind in LISTED
    )
    beside = [
        *(each for each, _ in hub.organisations.members(found.id, limit=BESIDE)),
        *(each for each, _ in hub.organisations.of(found.id)[:BESIDE]),
    ]
    return {"models": models, "datasets": datasets, "activity": _acts(hub, request, found, FIRST), "beside": beside}


def _repositories(request: Request, found: Account, number: int, *, kind: RepositoryType) -> dict[str, Any]:
    query = Listing(author=found.name, sort="lastModified", offset=(number - 1) * PAGE, limit=PAGE)
    listed = shown(request, kind, query)
    return {"repositories": listed.repositories, **neighbours(request, number, more=number * PAGE < listed.total)}


def _likes(request: Request, found: Account, number: int) -> dict[str, Any]:
    hub: Hub = request.app.state.hub
    likes = hub.likes.of_user(visitor(request), found.name, offset=(number - 1) * PAGE, limit=PAGE + 1)
    listed = [like.repository for like in likes[:PAGE]]
    return {"repositories": listed, **neighbours(request, number, more=len(likes) > PAGE)}


def _activity(request: Request, found: Account, number: int) -> dict[str, Any]:
    return {"activity": _acts(request.app.state.hub, request, found, PAGE)}


def _acts(hub: Hub, request: Request, found: Account, limit: int) -> list[Any]:
    return hub.activity.latest(visitor(request), by=found.name, limit=limit) if found.kind is AccountKind.USER else []


def _followers(request: Request, found: Account, number: int) -> dict[str, Any]:
    hub: Hub = request.app.state.hub
    listed = hub.follows.followers(found.name, found.kind, offset=(number - 1) * PAGE, limit=PAGE + 1)
    return {"people": listed[:PAGE], **neighbours(request, number, more=len(listed) > PAGE)}


def _following(request: Request, found: Account, number: int) -> dict[str, Any]:
    hub: Hub = request.app.state.hub
    listed = hub.follows.following(found.name, offset=(number - 1) * PAGE, limit=PAGE + 1)
    return {"people": listed[:PAGE], **neighbours(request, number, more=len(listed) > PAGE)}


def _members(request: Request, found: Account, number: int) -> dict[str, Any]:
    hub: Hub = request.app.state.hub
    listed = hub.organisations.members(found.id, offset=(number - 1) * PAGE, limit=PAGE + 1)
    return {"memberships": listed[:PAGE], **neighbours(request, number, more=len(listed) > PAGE)}


def _organisations(request: Request, found: Account, number: int) -> dict[str, Any]:
    hub: Hub = request.app.state.hub
    listed = hub.organisations.of(found.id)[(number - 1) * PAGE :]
    return {"memberships": listed[:PAGE], **neighbours(request, number, more=len(listed) > PAGE)}


BOTH: dict[str, Tab] = {
    "": _overview,
    "models": partial(_repositories, kind=RepositoryType.MODEL),
    "datasets": partial(_repositories, kind=RepositoryType.DATASET),
    "followers": _followers,
}
USER_TABS: dict[str, Tab] = {
    **BOTH,
    "likes": _likes,
    "activity": _activity,
    "organisations": _organisations,
    "following": _following,
}
ORGANISATION_TABS: dict[str, Tab] = {**BOTH, "members": _members}


def add_routes(router: APIRouter) -> None:
    """/NAME, which is asked for after all other first parts of addresses."""
    router.add_route("/{namespace}", account)
