"""The first page and the lists: what they show, how they are narrowed down, and what errors look like."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from browser import Browser
from filled_hub import PASSWORD, FilledHub, fill
from hub_process import HubProcess, start_hub
from web_page import Element, Page

ABOUT = """# Our commons

We build **small** models. [Rules](https://example.org/rules)

<script>alert(1)</script>
"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilledHub]:
    folder = tmp_path_factory.mktemp("finding")
    about = folder / "about.md"
    about.write_text(ABOUT)
    with start_hub(folder / "hub", "--about", str(about)) as hub:
        yield fill(hub)


@pytest.fixture
def browser(filled: FilledHub) -> Browser:
    return Browser(filled.hub)


def page(answer: httpx.Response, status: int = 200) -> Page:
    assert answer.status_code == status, answer.text
    found = Page(answer.text)
    assert not found.problems, found.problems
    return found


def names(found: Page) -> list[str]:
    """The repositories of a list."""
    return [heading.text for heading in found.all("h3")]


def link(found: Page, text: str) -> Element:
    return next(each for each in found.all("a") if each.text.strip() == text)


# ------------------------------------------------------------ home


def test_the_operator_says_what_the_commons_is(browser: Browser):
    found = page(browser.get("/"))
    assert "We build small models." in found.text
    assert "A commons is something" not in found.text
    assert "https://example.org/rules" in found.attributes("href")
    assert not found.foreign_scripts()
    assert len(found.all("h1")) == 1


def test_home_tells_what_people_did_and_who_waits_for_them(browser: Browser):
    text = page(browser.get("/")).text
    assert "ben opened “从哪里来？” in lab/stories" in text
    assert "ada merged “Add thanks” into lab/tales" in text
    waiting = text.partition("Waiting for an answer")[2]
    assert "Which tales does it know?" in waiting
    assert "Licence?" not in waiting


def test_home_shows_what_is_used_apart_from_what_is_new(browser: Browser):
    popular = page(browser.get("/")).text.partition("Trending models")[2].partition("Recent models")[0]
    assert "lab/tales" in popular
    assert "3 likes" in popular
    assert "ada/empty" not in popular


def test_what_only_members_see_is_in_their_lists_alone(browser: Browser):
    assert "ada/hidden" not in browser.get("/models").text
    browser.sign_in("zoe", PASSWORD)
    assert "ada/hidden" not in browser.get("/models").text
    browser.sign_in("ada", PASSWORD)
    assert "ada/hidden" in browser.get("/models").text


# ------------------------------------------------------------ lists


def test_a_filter_is_a_link_that_leaves_as_many_as_it_says_and_can_be_taken_away(browser: Browser):
    everything = page(browser.get("/models"))
    narrowed = page(browser.get(link(everything, "zh 2").attributes["href"]))
    assert names(narrowed) == ["lab/tales", "ben/gushi"]
    again = page(browser.get(link(narrowed, "mit 1").attributes["href"]))
    assert names(again) == ["ben/gushi"]
    assert [each.text for each in again.all("a") if "Without the filter" in each.attributes.get("aria-label", "")] == [
        "zh ×",
        "mit ×",
    ]
    assert names(page(browser.get(link(again, "mit ×").attributes["href"]))) == names(narrowed)


def test_datasets_are_narrowed_by_their_own_kinds(browser: Browser):
    found = page(browser.get("/datasets?format=format:json&task=task_categories:text-generation"))
    assert names(found) == ["lab/stories"]
    assert "text-generation ×" in found.text


def test_filters_stay_while_searching_and_turning_pages(filled: FilledHub, browser: Browser):
    found = page(browser.get("/models?language=zh&tag=fiction&search=tales&page=1"))
    hidden = [(each.attributes["name"], each.attributes["value"]) for each in found.all("input")[:2]]
    assert hidden == [("language", "zh"), ("tag", "fiction")]
    for number in range(31):
        filled.apis["zoe"].create_repo(f"zoe/many-{number}")
    try:
        first = page(browser.get("/models?author=zoe&sort=createdAt"))
        following = next(each.attributes["href"] for each in first.all("a") if each.attributes.get("rel") == "next")
        assert following == "?author=zoe&sort=createdAt&page=2"
        assert names(page(browser.get(f"/models{following}"))) == ["zoe/many-0"]
    finally:
        for number in range(31):
            filled.apis["zoe"].delete_repo(f"zoe/many-{number}")


@pytest.mark.parametrize("search", ["讲故事", "故事 微调", "社区收集"])
def test_chinese_finds(browser: Browser, search: str):
    assert names(page(browser.get(f"/models?search={quote(search)}"))) == ["ben/gushi"]


def test_nothing_found_teaches_where_to_look(browser: Browser):
    found = page(browser.get("/models?search=zzzz&language=zh"))
    assert "Nothing matches" in found.text
    assert link(found, "The same without filters").attributes["href"] == "/models?search=zzzz"
    assert link(found, "The same words among datasets").attributes["href"] == "/datasets?search=zzzz"


@pytest.mark.parametrize("query", ["size=huge", "size=%3C10M&size=%3E10B", "sort=beauty", "page=0"])
def test_a_filter_that_does_not_exist_is_refused_with_a_reason(browser: Browser, query: str):
    assert query.partition("=")[0] in page(browser.get(f"/models?{query}"), 400).text


def test_filters_from_strangers_are_text(browser: Browser):
    found = page(browser.get('/models?tag="><script>alert(1)</script>&author="><script>'))
    assert not found.foreign_scripts()
    assert "Nothing matches" in found.text


# ------------------------------------------------------------ language


def test_the_language_follows_the_browser_until_one_is_chosen(browser: Browser):
    for accepted, language in {
        "zh-CN,zh;q=0.9,en;q=0.8": "zh-Hans",
        "zh-TW": "zh-Hans",
        "en-GB,zh;q=0.5": "en",
        "fr": "en",
        "fr;q=1,zh;q=0.1": "zh-Hans",
        ";;q=x,,": "en",
    }.items():
        answer = browser.client.get("/", headers={"Accept-Language": accepted})
        assert Page(answer.text).all("html")[0].attributes["lang"] == language, accepted
        assert "Accept-Language" in answer.headers["vary"]
    chosen = browser.get(link(page(browser.get("/models?search=tales")), "中文").attributes["href"])
    assert str(chosen.url).endswith("/models?search=tales")
    assert page(chosen).all("html")[0].attributes["lang"] == "zh-Hans"
    assert (
        page(browser.client.get("/", headers={"Accept-Language": "en"})).all("html")[0].attributes["lang"] == "zh-Hans"
    )


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_choosing_a_language_leads_to_no_other_site(browser: Browser, target: str):
    answer = browser.client.get(f"/language/zh?next={quote(target, safe='')}", follow_redirects=False)
    assert answer.headers["location"] == "/"
    assert page(browser.get("/language/xx"), 404)


# ------------------------------------------------------------ errors


def test_an_absent_page_says_so_to_whoever_is_signed_in(browser: Browser):
    browser.sign_in("zoe", PASSWORD)
    found = page(browser.get("/ada/hidden"), 404)
    assert "This page is not here" in found.text
    assert "Sign out" in found.text


def test_a_form_of_a_session_that_ended_keeps_what_was_written(filled: FilledHub, browser: Browser):
    browser.sign_in("zoe", PASSWORD)
    form = browser.get("/settings/tokens")
    browser.client.cookies.clear()
    sent = {
        "form": "of another session",
        "name": "a long explanation <b>",
        "password": "very secret words",
        "role": "read",
    }
    headers = {"Origin": filled.hub.endpoint, "Referer": f"{filled.hub.endpoint}/settings/tokens"}
    answer = browser.client.post("/settings/tokens", data=sent, headers=headers)
    found = page(answer, 403)
    assert form.status_code == 200
    assert "You were signed out meanwhile" in found.text
    assert link(found, "Sign in again").attributes["href"] == "/login?next=/settings/tokens"
    assert found.all("textarea")[0].text.strip() == "a long explanation <b>"
    assert "very secret" not in answer.text


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[HubProcess]:
    with start_hub(tmp_path / "hub", "--rate-limit", "3") as running:
        yield running


def test_too_many_requests_are_answered_with_a_page_that_says_when(strict: HubProcess, window: None):
    browser = Browser(strict)
    answers = [browser.get("/") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    found = page(answers[-1], 429)
    assert re.search(r"Try again in \d+ seconds?\.", found.text)
    assert answers[-1].headers["retry-after"]
    programs = httpx.get(f"{strict.endpoint}/api/models", headers={"Accept": "*/*"})
    assert programs.headers["content-type"] == "application/json"
