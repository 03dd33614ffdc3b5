"""What scripts save in discussions: previews, comments on lines and reactions in place, files that are pasted."""

import base64
import re
from collections.abc import Iterator

import pytest
from chromium import Person, person
from hub_process import HubProcess, start_hub
from huggingface_hub import CommitOperationAdd, HfApi
from playwright.sync_api import Browser, Route, expect

PASSWORD = "correct horse battery"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)
PASTE = """(area, [name, content]) => {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File([bytes], name));
    area.focus();
    area.dispatchEvent(new ClipboardEvent("paste", {clipboardData, bubbles: true, cancelable: true}));
}"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with start_hub(tmp_path_factory.mktemp("scripts") / "hub") as running:
        token = running.add_user("ann")
        running.command("user", "password", "ann", typed=f"{PASSWORD}\n")
        api = HfApi(running.endpoint, token=token)
        api.create_repo("ann/m")
        operation = CommitOperationAdd("a.txt", b"one\ntwo\nthree\n")
        api.create_commit("ann/m", [operation], commit_message="Add", create_pr=True)
        yield running


@pytest.fixture
def ann(hub: HubProcess, chromium: Browser) -> Iterator[Person]:
    with person(chromium, hub.endpoint) as somebody:
        somebody.goto("/login")
        somebody.page.fill("input[name=name]", "ann")
        somebody.page.fill("input[name=password]", PASSWORD)
        somebody.page.click("main form button")
        somebody.page.wait_for_url(lambda address: "/login" not in address)
        yield somebody


def paste(somebody: Person, area: str, name: str, content: bytes) -> None:
    somebody.page.locator(area).evaluate(PASTE, [name, base64.b64encode(content).decode()])


def test_a_line_is_commented_on_where_it_stands(ann: Person):
    ann.goto("/ann/m/discussions/1/changes")
    ann.page.get_by_role("link", name="2", exact=True).click()
    form = ann.page.locator("tr.talk form")
    expect(form.locator("textarea")).to_be_focused()
    ann.page.keyboard.type("Why *two*?")
    form.get_by_role("button", name="Preview").click()
    expect(form.locator(".preview em")).to_have_text("two")
    assert ann.path == "/ann/m/discussions/1/changes"
    form.get_by_role("button", name="Comment").click()
    expect(ann.page.locator("tr.talk .said")).to_contain_text("Why two?")
    ann.page.locator(".said summary[aria-label=React]").click()
    ann.page.get_by_role("button", name="React with 🎉").click()
    mine = ann.page.locator(".reactions button[aria-pressed=true]")
    expect(mine).to_have_text("🎉 1")
    mine.click()
    expect(mine).to_have_count(0)


def test_a_picture_that_is_pasted_is_there_at_once_and_what_is_none_says_so(ann: Person):
    ann.goto("/ann/m/discussions/new")
    area = ann.page.locator("textarea")
    area.fill("See ")
    paste(ann, "textarea", "p.png", PNG)
    expect(area).to_have_value(re.compile(r"^See !\[p\.png\]\(/uploads/[0-9a-f]{64}\.png\)$"))
    area.fill("And ")
    paste(ann, "textarea", "p.exe", b"MZ")
    expect(area).to_have_value(re.compile(r"^And \[An attachment is a picture.*\]$"))


def test_a_comment_waits_for_the_files_that_are_pasted_into_it(ann: Person):
    ann.goto("/ann/m/discussions/new")
    area = ann.page.locator("textarea")
    waits: list[bool] = []

    def ask(route: Route) -> None:
        waits.append(area.evaluate("area => area.validity.customError"))
        route.continue_()

    ann.page.route("**/discussions/attach", ask)
    paste(ann, "textarea", "p.png", PNG)
    expect(area).to_have_value(re.compile(r"^!\[p\.png\]"))
    assert waits == [True]
    assert not area.evaluate("area => area.validity.customError")


def test_what_did_not_reach_the_hub_is_said_until_it_is_tried_again(ann: Person):
    ann.goto("/ann/m")
    ann.page.route("**/likes", lambda route: route.abort())
    like, told = ann.page.locator("#like-button"), ann.page.get_by_role("alert")
    like.click()
    expect(told).to_have_text("The connection was lost; try again.")
    ann.page.unroute("**/likes")
    like.click()
    expect(like).to_have_attribute("aria-pressed", "true")
    expect(told).to_have_count(0)
    ann.troubles.clear()  # htmx writes of the lost request too
