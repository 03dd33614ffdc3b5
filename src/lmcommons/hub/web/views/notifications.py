"""What the visitor was told, by thread."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub.rooms import Hub
from lmcommons.hub.web.forms import own_name
from lmcommons.hub.web.lookup import neighbours, page_number, row_number
from lmcommons.hub.web.rendering import page
from lmcommons.hub.web.visitors import Form, form_handler, signed_in, visitor

PAGE = 30  # threads
ADDRESS = "/notifications"


@signed_in
def notifications(request: Request) -> Response:
    """What the visitor was told, the latest first; at first what is not read yet."""
    hub: Hub = request.app.state.hub
    actor, number = visitor(request), page_number(request)
    everything = "all" in request.query_params
    found = hub.notifications.threads(actor, unread=not everything, offset=(number - 1) * PAGE, limit=PAGE + 1)
    return page(
        request,
        "notifications.html",
        threads=found[:PAGE],
        invitations=hub.organisation_invitations.of_user(actor),
        everything=everything,
        mail=hub.mail.is_sent,
        has_address=bool(hub.accounts.find(own_name(request)).email),
        wants_mail=hub.notifications.wants_mail(actor),
        **neighbours(request, number, more=len(found) > PAGE),
    )


def mark(request: Request, form: Form) -> Response:
    """Mark one thread, or all, as read."""
    hub: Hub = request.app.state.hub
    hub.notifications.mark(visitor(request), row_number("thread", form["thread"]) if "thread" in form else None)
    return RedirectResponse(f"{ADDRESS}?all=" if "all" in form else ADDRESS, 303)


def choose_mail(request: Request, form: Form) -> Response:
    """Be told by mail too, or not."""
    hub: Hub = request.app.state.hub
    hub.notifications.choose_mail(visitor(request), wanted="wanted" in form)
    return RedirectResponse(ADDRESS, 303)


def add_routes(router: APIRouter) -> None:
    """The page of notifications."""
    router.add_route(ADDRESS, notifications)
    router.add_route(f"{ADDRESS}/read", form_handler(mark), methods=["POST"])
    router.add_route(f"{ADDRESS}/mail", form_handler(choose_mail), methods=["POST"])
