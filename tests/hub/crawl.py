"""Walks a hub's pages by their links, as one visitor, and remembers what each one was."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote, urljoin, urlsplit

import httpx
from browser import Browser
from starlette.routing import Match, Route
from web_page import Page

from lmcommons.hub.web.routes import router

PER_ROUTE = 8  # pages of one kind that are looked at
UNVISITED = ("/language/",)  # would change what the rest of the walk sees


@dataclass
class Visit:
    """One answer: the route that made it, its HTML where it was a page, and who linked to it."""

    path: str
    route: str
    status: int
    linked_from: str
    headers: httpx.Headers
    page: Page | None
    size: int  # bytes as sent, compressed

    @property
    def where(self) -> str:
        return f"{self.path} (from {self.linked_from})"


@dataclass
class Crawl:
    """The pages that one visitor reaches from `starts`."""

    browser: Browser
    starts: tuple[str, ...]
    visits: dict[str, Visit] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._origin = str(self.browser.client.base_url).rstrip("/")
        self._by_route: Counter[str] = Counter()
        waiting = [(path, "the test") for path in self.starts]
        while waiting:
            path, linked_from = waiting.pop(0)
            visit = self._visit(path, linked_from)
            if visit is not None:
                waiting += [(target, path) for target in self.targets(visit) if target not in self.visits]

    @property
    def pages(self) -> Iterator[tuple[Visit, Page]]:
        """The visits that were pages."""
        for visit in self.visits.values():
            if visit.page is not None:
                yield visit, visit.page

    def targets(self, visit: Visit) -> Iterator[str]:
        """The addresses on this hub that a page links to or loads, or that an answer leads to."""
        found = [visit.headers["location"]] if "location" in visit.headers else []
        if visit.page is not None:
            found += visit.page.attributes("href") + visit.page.attributes("src")
        for target in found:
            address = urlsplit(urljoin(self._origin + visit.path, target))
            if f"{address.scheme}://{address.netloc}" == self._origin:
                yield address.path + (f"?{address.query}" if address.query else "")

    def _visit(self, path: str, linked_from: str) -> Visit | None:
        route = route_of(path)
        if path in self.visits or path.startswith(UNVISITED) or self._by_route[route] >= PER_ROUTE:
            return None
        self._by_route[route] += 1
        with self.browser.client.stream("GET", path, follow_redirects=False) as answer:
            raw = b"".join(answer.iter_raw())
        page = None
        if answer.headers.get("content-type", "").startswith("text/html"):
            decoded = httpx.Response(200, headers=answer.headers, content=raw)
            page = Page(decoded.text)
        visit = Visit(path, route, answer.status_code, linked_from, answer.headers, page, len(raw))
        self.visits[path] = visit
        return visit


def route_of(path: str) -> str:
    """The pattern of the page at a path; of what is no page, its first segment."""
    plain = unquote(urlsplit(path).path)
    scope = {"type": "http", "path": plain, "method": "GET", "headers": []}
    for route in router.routes:
        if isinstance(route, Route) and route.matches(scope)[0] is Match.FULL:
            return route.path
    return "/" + plain.split("/")[1]


def pages_of_the_hub() -> set[str]:
    """The patterns of all pages."""
    return {route.path for route in router.routes if isinstance(route, Route) and "GET" in (route.methods or ())}
