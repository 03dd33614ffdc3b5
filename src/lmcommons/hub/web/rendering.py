"""Templates become responses here: an environment for each language, its filters and the headers that pages carry."""

import gzip
import secrets
from datetime import datetime
from functools import cache, partial
from typing import Any

from babel import dates, numbers
from jinja2 import BytecodeCache, Environment, PackageLoader, StrictUndefined
from jinja2.bccache import Bucket
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from lmcommons.hub import addresses
from lmcommons.hub.accounts.browser_sessions import COOKIE, form_secret
from lmcommons.hub.accounts.permissions import Action, allowed
from lmcommons.hub.database.tables import Repository
from lmcommons.hub.errors import NotFound
from lmcommons.hub.repos import patches
from lmcommons.hub.web import formatting, highlight
from lmcommons.hub.web.assets import ASSETS, static
from lmcommons.hub.web.language import language_of
from lmcommons.hub.web.visitors import present_page, visitor_known
from lmcommons.hub.words import LANGUAGES, translated, translations

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
COMPRESSED_FROM = 2000  # bytes; smaller pages fit into the first packets anyway


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """The template with `values`, as a page, or a part of one, for this browser in its visitor's language."""
    html = text(request, template, status=status, **values)
    return _compressed(request, HTMLResponse(html, status, HEADERS))


def text(request: Request, template: str, **values: Any) -> str:
    """The template with `values`, in the visitor's language."""
    hub = request.app.state.hub
    seen_by = visitor_known(request)
    return (
        _environment(language_of(request))
        .get_template(template)
        .render(
            hub_url=hub.settings.public_url,
            ssh_url=hub.settings.ssh_url,
            ssh_fingerprint=lambda: hub.keys.host_key.get_fingerprint(),
            address=present_page(request),
            visitor=seen_by,
            may=lambda action, target: allowed(seen_by, Action(action), target),
            can_try=hub.trials.can_try,
            waiting_cases=lambda: hub.moderation.waiting(seen_by),
            followers=lambda repository: hub.follows.of_repository(seen_by, repository),
            open_discussions=hub.discussions.count_open,
            likes=lambda repository: hub.likes.likes(seen_by, repository),
            unread=lambda: hub.notifications.unread(seen_by),
            form_secret=form_secret(request.cookies[COOKIE]) if seen_by.name else "",
            **values,
        )
    )


def wants_part(request: Request) -> bool:
    """Whether a script asks for what replaces a part of the page that the browser has, not for a whole page."""
    return "HX-Request" in request.headers and "HX-History-Restore-Request" not in request.headers


def compile_templates(language: str) -> None:
    """Make all templates ready in a language; else each would take some 10 ms of the first page that needs it."""
    environment = _environment(language)
    for template in environment.list_templates():
        environment.get_template(template)


def asset(request: Request) -> Response:
    """A file of `static/`; its address changes with its content, so browsers keep it.

    Raises:
        NotFound: no such file.
    """
    found = ASSETS.get(request.path_params["name"])
    if found is None:
        raise NotFound("Nothing at {path}", path=request.url.path)
    is_this = found.address == request.url.path  # else a page from before an upgrade asks
    cache_control = "public, max-age=31536000, immutable" if is_this else "no-cache"
    headers = {"Cache-Control": cache_control}
    return _compressed(request, Response(found.content, 200, headers, found.kind))


def _compressed(request: Request, response: Response) -> Response:
    response.headers["Vary"] = "Accept-Encoding, Accept-Language, Cookie, HX-Request"
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


def _date(then: datetime, *, language: str) -> str:
    return dates.format_datetime(then, "medium", locale=language)


def _age(then: datetime, *, language: str) -> str:
    return dates.format_timedelta(then - datetime.now(then.tzinfo), add_direction=True, locale=language, threshold=1)


def _duration(seconds: int, *, language: str) -> str:
    return dates.format_timedelta(seconds, locale=language, threshold=2)


class _Compiled(BytecodeCache):
    """Templates as Python compiled them: what one language has, the others need not compile again."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._kept:
            bucket.bytecode_from_string(self._kept[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._kept[bucket.key] = bucket.bytecode_to_string()


_COMPILED = _Compiled()


@cache
def _environment(language: str) -> Environment:
    environment = Environment(
        loader=PackageLoader("lmcommons.hub.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        bytecode_cache=_COMPILED,
        optimized=False,  # nothing that a filter makes in one language may be compiled into a template
        finalize=partial(translated, language=language),  # Words are said in the language wherever they stand alone
        extensions=["jinja2.ext.i18n"],
    )
    words = translations(language)
    environment.install_gettext_callables(words.gettext, words.ngettext, newstyle=True, pgettext=words.pgettext)  # type: ignore[attr-defined]
    environment.filters |= {
        "address": addresses.repository,
        "at": addresses.at,
        "age": partial(_age, language=language),
        "count": formatting.count,
        "duration": partial(_duration, language=language),
        "date": partial(_date, language=language),
        "exact_size": formatting.exact_size,
        "lines": lambda patch: patches.marked(patches.lines(patch)),
        "initials": formatting.initials,
        "number": partial(numbers.format_decimal, locale=language),
        "parameters": _parameters,
        "short": _short,
        "size": formatting.size,
        "steps": _steps,
        "visible": highlight.visible,
    }
    environment.globals |= {
        "static": static,
        "once": partial(secrets.token_urlsafe, 12),
        "languages": LANGUAGES,
        "page_language": language,
        "space": "" if language == "zh" else " ",  # between sentences
        "section": None,
        "hide_search": False,
    }
    return environment
