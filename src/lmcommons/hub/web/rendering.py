"""Templates become responses here: the environment, its filters and the headers that every page carries."""

import gzip
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from lmcommons.hub import addresses
from lmcommons.hub.accounts.sign_in import COOKIE, form_secret
from lmcommons.hub.database.tables import Repository
from lmcommons.hub.web import formatting, highlight
from lmcommons.hub.web.visitors import visitor_known

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
COMPRESSED_FROM = 2000  # bytes; smaller pages fit into the first packets anyway

_STYLE = (Path(__file__).parent / "static" / "style.css").read_bytes()
STYLE_ADDRESS = f"/static/{hashlib.sha256(_STYLE).hexdigest()[:12]}/style.css"


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """The template with `values`, as a page for this browser."""
    hub = request.app.state.hub
    seen_by = visitor_known(request)
    html = _ENVIRONMENT.get_template(template).render(
        hub_url=hub.settings.public_url,
        status=status,
        visitor=seen_by,
        form_secret=form_secret(request.cookies[COOKIE]) if seen_by.name else "",
        **values,
    )
    return _compressed(request, HTMLResponse(html, status, {**HEADERS, "Cache-Control": "private, no-cache"}))


def style(request: Request) -> Response:
    """The style sheet; its address changes with its content, so browsers keep it."""
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return _compressed(request, Response(_STYLE, 200, headers, "text/css"))


def _compressed(request: Request, response: Response) -> Response:
    response.headers["Vary"] = "Accept-Encoding"
    if len(response.body) >= COMPRESSED_FROM and "gzip" in request.headers.get("Accept-Encoding", ""):
        response.body = gzip.compress(response.body, 5, mtime=0)
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Content-Length"] = str(len(response.body))
    return response


def _short(revision: str) -> str:
    """A commit's id as people say it; other names of revisions as they are."""
    return revision[:8] if len(revision) >= 40 and not set(revision) - set("0123456789abcdef") else revision


def _parameters(repository: Repository) -> int:
    return sum((repository.parameters or {}).values())


def _steps(path: str, repository: Repository, revision: str) -> list[tuple[str, str]]:
    """The names on the way to a file or folder, each with the page of the folder it names."""
    names = path.split("/") if path else []
    return [
        (name, addresses.at(repository, "tree", revision, "/".join(names[: number + 1])))
        for number, name in enumerate(names)
    ]


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("lmcommons.hub.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "address": addresses.repository,
        "at": addresses.at,
        "age": formatting.age,
        "count": formatting.count,
        "size": formatting.size,
        "hunks": highlight.hunks,
        "short": _short,
        "parameters": _parameters,
        "steps": _steps,
    }
    environment.globals |= {"stylesheet": STYLE_ADDRESS, "section": None, "hide_search": False}
    return environment


_ENVIRONMENT = _environment()
