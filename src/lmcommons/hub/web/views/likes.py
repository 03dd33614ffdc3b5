"""Likes of repositories, and following them, people and organisations: a button each, and who pressed it."""

from collections.abc import Callable
from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub import addresses
from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.database.tables import Account, Repository, RepositoryType
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web.lookup import neighbours, page_number, repository_of
from lmcommons.hub.web.rendering import page, wants_part
from lmcommons.hub.web.visitors import Form, form_handler, visitor

PAGE = 100  # people


def likers(request: Request, kind: RepositoryType) -> Response:
    """Who likes a repository, the first to do so first."""
    hub: Hub = request.app.state.hub
    return _people(request, kind, "repository/likes.html", hub.likes.likers)


def followers(request: Request, kind: RepositoryType) -> Response:
    """Who follows a repository, the last to begin first."""
    hub: Hub = request.app.state.hub
    return _people(request, kind, "repository/followers.html", hub.follows.repository_followers)


def like(request: Request, form: Form, kind: RepositoryType) -> Response:
    """Like a repository, or take the like back."""
    hub: Hub = request.app.state.hub
    act = hub.likes.unlike if form.get("like") == "no" else hub.likes.like
    return _pressed(request, kind, act, "repository/like.html")


def follow_repository(request: Request, form: Form, kind: RepositoryType) -> Response:
    """Follow a repository, or follow it no more."""
    hub: Hub = request.app.state.hub
    act = hub.follows.unfollow_repository if form.get("follow") == "no" else hub.follows.follow_repository
    return _pressed(request, kind, act, "repository/follow.html")


def follow(request: Request, form: Form) -> Response:
    """Follow a person or an organisation, or follow them no more."""
    hub: Hub = request.app.state.hub
    account = hub.accounts.find(request.path_params["namespace"])
    act = hub.follows.unfollow if form.get("follow") == "no" else hub.follows.follow
    act(visitor(request), account.name, account.kind)
    return RedirectResponse(f"/{account.name}", 303)


def _people(request: Request, kind: RepositoryType, template: str, find: Callable[..., list[Account]]) -> Response:
    _, repository, git = repository_of(request, kind)
    number = page_number(request)
    found = find(repository, offset=(number - 1) * PAGE, limit=PAGE + 1)
    return page(
        request,
        template,
        section=kind,
        repository=repository,
        branch=git.default_branch,
        people=found[:PAGE],
        **neighbours(request, number, more=len(found) > PAGE),
    )


def _pressed(request: Request, kind: RepositoryType, act: Callable[[Actor, Repository], None], button: str) -> Response:
    """What follows a press of a button: for a script, the button as it is now."""
    _, repository, _ = repository_of(request, kind)
    act(visitor(request), repository)
    if wants_part(request):
        _, repository, _ = repository_of(request, kind)  # with the numbers that it has now
        return page(request, button, repository=repository)
    return RedirectResponse(addresses.repository(repository), 303)


def add_routes(router: APIRouter) -> None:
    """The button of an account's page."""
    router.add_route("/{namespace}/follow", form_handler(follow), methods=["POST"])


def add_repository_routes(router: APIRouter, kind: RepositoryType, base: str) -> None:
    """The buttons of a repository's pages, and the lists of those who pressed them."""
    router.add_route(f"{base}/followers", partial(followers, kind=kind))
    router.add_route(f"{base}/followers", form_handler(partial(follow_repository, kind=kind)), methods=["POST"])
    router.add_route(f"{base}/likes", partial(likers, kind=kind))
    router.add_route(f"{base}/likes", form_handler(partial(like, kind=kind)), methods=["POST"])
