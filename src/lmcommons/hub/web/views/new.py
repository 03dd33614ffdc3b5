"""A new model or dataset, with its owner, visibility, licence and the headings of a card."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub import addresses
from lmcommons.hub.database.tables import RepositoryType
from lmcommons.hub.errors import BadRequest, HubError
from lmcommons.hub.repos.licenses import LICENSES
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web.lookup import LISTED
from lmcommons.hub.web.rendering import page, text
from lmcommons.hub.web.visitors import Form, form_handler, signed_in, visitor

COMMON = ("apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc0-1.0", "openmdw-1.0")  # stand first
VISIBILITIES = {"": None, "public": False, "private": True}  # the first is what the owner's repositories usually are


def new(request: Request) -> Response:
    """The form for a new repository; `?type=` and `?owner=` fill it in."""
    return _form_page(request, dict(request.query_params))


def create(request: Request, form: Form) -> Response:
    """Make the repository."""
    hub: Hub = request.app.state.hub
    try:
        kind, name, licence = _kind(form.get("type", "")), form.get("name", "").strip(), form.get("licence", "")
        if licence and licence not in LICENSES:
            raise BadRequest("{licence!r} is not a licence that a card can name", licence=licence[:40])
        if form.get("visibility", "") not in VISIBILITIES:
            raise BadRequest("visibility is public or private, not {visibility!r}", visibility=form["visibility"][:40])
        card = None
        if form.get("card"):
            card = text(request, "repository/card.md", name=name, kind=kind, licence=licence)
        elif licence:
            card = f"---\nlicense: {licence}\n---\n"
        repository = hub.commits.create_repository(
            visitor(request), kind, form.get("owner"), name, private=VISIBILITIES[form.get("visibility", "")], card=card
        )
    except HubError as error:
        return _form_page(request, form, error)
    return RedirectResponse(addresses.repository(repository), 303)


def _kind(name: str) -> RepositoryType:
    if name not in LISTED:
        raise BadRequest("A new repository is a model or a dataset, not {name!r}", name=name[:40])
    return RepositoryType(name)


def _form_page(request: Request, filled: Form, error: HubError | None = None) -> Response:
    hub: Hub = request.app.state.hub
    licences = [*COMMON, *sorted(LICENSES - set(COMMON))]
    return page(
        request,
        "repository/new.html",
        status=error.status if error else 200,
        filled=filled,
        owners=hub.organisations.namespaces(visitor(request)),
        licences=licences,
        error=error and error.message,
    )


def add_routes(router: APIRouter) -> None:
    """The page for a new repository."""
    router.add_route("/new", signed_in(new))
    router.add_route("/new", form_handler(create), methods=["POST"])
