"""A real browser for tests: the system's Chromium, driven by Playwright, and what it noticed while it showed pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    expect,
    sync_playwright,
)

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# It runs as root in containers, has no screen, and must not speak to anybody but the hub.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# What is written as an error and is none: by Chromium, each answer of 400 or more, which tests ask for themselves; by
# htmx, each request that it gives up for a later one (when one fails, it writes "htmx:sendError" too).
NO_TROUBLE = ("Failed to load resource", "htmx:afterRequest", "htmx:sendAbort")
WAIT = 60_000  # milliseconds for a page or an element; a busy machine is slow


def executable() -> str | None:
    """The browser's program, where there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def open_chromium(program: str) -> Iterator[Browser]:
    """The browser while the block runs."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS), timeout=WAIT)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Person:
    """Somebody with a browser of their own: cookies, a language, a window; `page` is their tab.

    `troubles` has a line for each script that failed, each part that was refused by the page's own policy, each answer
    of 500 or more, and each request to another host.
    """

    context: BrowserContext
    endpoint: str
    troubles: list[str] = field(default_factory=list)
    answers: list[Response] = field(default_factory=list)
    page: Page = field(init=False)

    def __post_init__(self) -> None:
        self.context.set_default_timeout(WAIT)
        expect.set_options(timeout=WAIT)
        self.context.on("request", self._on_request)
        self.context.on("response", self._on_response)
        self.page = self.context.new_page()
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.troubles.append(f"{self.page.url}: {error}"))

    def goto(self, path: str) -> Response:
        """The page at `path` of the hub; `answers` begins anew."""
        self.answers.clear()
        answer = self.page.goto(self.endpoint + path)
        assert answer is not None
        return answer

    @property
    def path(self) -> str:
        """Where the person is, without the hub's address."""
        parts = urlsplit(self.page.url)
        return parts.path + (f"?{parts.query}" if parts.query else "")

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((self.endpoint, "data:", "blob:")):
            self.troubles.append(f"{self.page.url} asked another host: {request.url}")

    def _on_response(self, answer: Response) -> None:
        self.answers.append(answer)
        if answer.status >= 500:
            self.troubles.append(f"{answer.request.method} {answer.url}: {answer.status}")

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(NO_TROUBLE):
            self.troubles.append(f"{self.page.url}: {message.text}")


@contextmanager
def person(
    browser: Browser, endpoint: str, *, language: str = "en", scripts: bool = True, width: int = 1280, **more: Any
) -> Iterator[Person]:
    """Somebody who visits the hub at `endpoint` while the block runs, in whose browser nothing may go wrong."""
    context = browser.new_context(
        locale={"en": "en-GB", "zh": "zh-CN"}[language],
        java_script_enabled=scripts,
        viewport={"width": width, "height": 900},
        **more,
    )
    somebody = Person(context, endpoint)
    try:
        yield somebody
    finally:
        context.close()
    assert not somebody.troubles, "\n".join(somebody.troubles)
