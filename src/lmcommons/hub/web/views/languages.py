"""Choosing the language of the pages."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub.errors import NotFound
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web.language import COOKIE
from lmcommons.hub.web.visitors import local, visitor
from lmcommons.hub.words import LANGUAGES

KEPT = 365 * 24 * 3600  # seconds


def choose(request: Request) -> Response:
    """Keep the language in this browser and for the visitor's account, and go back to the page."""
    hub: Hub = request.app.state.hub
    language = request.path_params["language"]
    if language not in LANGUAGES:
        raise NotFound(
            "The pages speak {choices}, not {language}", choices=", ".join(LANGUAGES), language=language[:20]
        )
    response = RedirectResponse(local(request.query_params.get("next", "")), 303)
    if request.headers.get("sec-fetch-dest", "document") != "document":  # an image in somebody's text chooses nothing
        return response
    actor = visitor(request)
    from_here = request.headers.get("sec-fetch-site", "same-origin") == "same-origin"  # no other site's link chooses
    if from_here and not actor.is_anonymous and actor.language != language:
        hub.profiles.choose_language(actor, language)
    secure = hub.settings.public_url.startswith("https:")
    response.set_cookie(COOKIE, language, max_age=KEPT, secure=secure, httponly=True, samesite="lax")
    return response


def add_routes(router: APIRouter) -> None:
    """/language/CODE."""
    router.add_route("/language/{language}", choose)
