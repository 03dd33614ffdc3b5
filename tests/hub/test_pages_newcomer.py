"""A newcomer's first day in a real browser, in each language, with scripts and without."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from chromium import Person, person
from filled_hub import PASSWORD
from hub_process import HubProcess, start_hub
from huggingface_hub import HfApi
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Locator, expect
from weights import safetensors

from lmcommons.hub.words import translations

HF = Path(sys.executable).with_name("hf")
CARD = "---\nlicense: mit\ntags: [first]\n---\n# My first model\n\nIt says hello.\n"
DROP = """(zone, files) => {
    const carried = new DataTransfer();
    for (const [name, text] of Object.entries(files)) carried.items.add(new File([text], name));
    zone.dispatchEvent(new DragEvent("drop", {dataTransfer: carried, bubbles: true, cancelable: true}));
}"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with start_hub(tmp_path_factory.mktemp("newcomer") / "hub", "--sign-up", "open") as running:
        token = running.add_user("ben")
        running.command("user", "password", "ben", typed=f"{PASSWORD}\n")
        HfApi(running.endpoint, token=token).create_repo("ben/other")
        yield running


@dataclass
class Member:
    """Somebody who clicks on words and fills in fields, in one language."""

    browser: Person
    language: str
    scripts: bool

    def open(self, path: str) -> None:
        """Go to a page that is in the member's language."""
        answer = self.browser.goto(path)
        assert answer.status == 200, path
        tag = {"en": "en", "zh": "zh-Hans"}[self.language]
        expect(self.browser.page.locator("html")).to_have_attribute("lang", tag)

    def say(self, message: str, **values: str) -> str:
        """A message of the pages in the member's language."""
        return translations(self.language).gettext(message) % values

    def form(self, action: str) -> Locator:
        """The form that is sent to an address that ends so."""
        return self.browser.page.locator(f'form[action$="{action}"]').first

    def follow(self, message: str) -> None:
        """Click on the link of the page's content that says so."""
        self.browser.page.locator("main").get_by_role("link", name=self.say(message), exact=True).first.click()

    def press(self, form: Locator, message: str, **values: str) -> None:
        """Press the button of a form that says so, and wait for what follows."""
        form.get_by_role("button", name=self.say(message, **values), exact=True).first.click()
        self.browser.page.wait_for_load_state()

    def sees(self, *texts: str) -> None:
        for text in texts:
            expect(self.browser.page.locator("body")).to_contain_text(text)


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_newcomer_finds_the_whole_way(
    hub: HubProcess, chromium: Chromium, tmp_path: Path, language: str, *, scripts: bool
):
    name = f"new-{language}-{'with' if scripts else 'without'}"
    ways = {"language": language, "scripts": scripts}
    with person(chromium, hub.endpoint, **ways) as first, person(chromium, hub.endpoint, **ways) as second:
        newcomer, ben = Member(first, **ways), Member(second, **ways)
        sign_up(newcomer, name)
        create_a_model(newcomer, name)
        upload_files(newcomer, name, tmp_path)
        upload_by_hf(newcomer, hub, name, tmp_path)
        edit_the_card(newcomer, name)
        open_a_discussion(newcomer, name)
        sign_in(ben, "ben")
        propose_a_change(ben, name)
        review_and_merge(newcomer, name)
        compare(newcomer, name)
        like(ben, name)
    api = HfApi(hub.endpoint, token=False)
    model = api.model_info(f"{name}/hello")
    assert model.likes == 1
    assert {file.rfilename for file in model.siblings or ()} >= {"README.md", "config.json", "notes.txt", "more.txt"}
    assert [found.status for found in api.get_repo_discussions(f"{name}/hello")] == ["merged", "open"]


def sign_up(newcomer: Member, name: str) -> None:
    newcomer.open("/")
    newcomer.browser.page.locator("header").get_by_role("link", name=newcomer.say("Sign in"), exact=True).click()
    newcomer.follow("Make an account")
    form = newcomer.form("/join")
    form.locator("[name=name]").fill(name)
    form.locator("[name=fullname]").fill("A Newcomer")
    form.locator("[name=email]").fill(f"{name}@example.org")
    form.locator("[name=password]").fill(PASSWORD)
    newcomer.press(form, "Join")
    expect(newcomer.browser.page.locator("header")).to_contain_text(name)


def sign_in(member: Member, name: str) -> None:
    member.open("/login")
    form = member.form("/login")
    form.locator("[name=name]").fill(name)
    form.locator("[name=password]").fill(PASSWORD)
    member.press(form, "Sign in")
    expect(member.browser.page.locator("header")).to_contain_text(name)


def create_a_model(newcomer: Member, name: str) -> None:
    newcomer.browser.page.locator("header").get_by_role("link", name=newcomer.say("New"), exact=True).click()
    form = newcomer.form("/new")
    form.locator("[name=name]").fill("hello")
    form.locator("[name=card]").uncheck()
    newcomer.press(form, "Create")
    newcomer.sees(f"{name}/hello", newcomer.say("This repository is empty"))


def upload_files(newcomer: Member, name: str, folder: Path) -> None:
    """By dropping them where scripts run, else by choosing them."""
    newcomer.open(f"/{name}/hello")
    newcomer.follow("Upload files")
    form = newcomer.browser.page.locator("form#upload")
    config = json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]})
    if newcomer.scripts:
        expect(form.locator("[data-script]")).to_be_visible()
        form.locator(".drop").evaluate(DROP, {"config.json": config, "notes.txt": "dropped"})
        expect(form.locator("#chosen li")).to_have_count(2)
    else:
        for file, text in {"config.json": config, "notes.txt": "chosen"}.items():
            (folder / file).write_text(text)
        form.locator("[name=files]").set_input_files([folder / "config.json", folder / "notes.txt"])
    form.locator("[name=message]").fill("First files")
    newcomer.press(form, "Upload")
    newcomer.sees("config.json", "notes.txt", "First files")


def upload_by_hf(newcomer: Member, hub: HubProcess, name: str, folder: Path) -> None:
    """With a token from the settings."""
    newcomer.open("/settings/tokens")
    form = newcomer.form("/settings/tokens")
    form.locator("[name=name]").fill("laptop")
    form.locator("[name=role]").select_option("write")
    newcomer.press(form, "Make the token")
    token = newcomer.browser.page.locator("[role=status] code").inner_text()
    weights = folder / "weights"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(safetensors(a=[10]))
    (weights / "more.txt").write_text("by hf")
    environment = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": token, "HF_HOME": str(folder / "home")}
    command = [str(HF), "upload", f"{name}/hello", str(weights), ".", "--commit-message", "Weights"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    newcomer.open(f"/{name}/hello/tree/main")
    newcomer.sees("model.safetensors", "more.txt", "Weights")


def edit_the_card(newcomer: Member, name: str) -> None:
    newcomer.open(f"/{name}/hello")
    newcomer.follow("Write the card")
    form = newcomer.browser.page.locator("form.editor")
    form.locator("[name=text]").fill(CARD)
    newcomer.press(form, "Preview")
    expect(newcomer.browser.page.locator("#preview")).to_contain_text("It says hello.")
    form.locator("[name=message]").fill("Say what it is")
    newcomer.press(form, "Save")
    newcomer.browser.page.wait_for_url(f"**/{name}/hello/blob/main/README.md")
    newcomer.open(f"/{name}/hello")
    expect(newcomer.browser.page.locator("article.card")).to_contain_text("It says hello.")


def open_a_discussion(newcomer: Member, name: str) -> None:
    newcomer.open(f"/{name}/hello")
    newcomer.browser.page.locator("nav.tabs").get_by_role("link", name=newcomer.say("Discussions")).click()
    newcomer.follow("New discussion")
    form = newcomer.form("/discussions/new")
    form.locator("[name=title]").fill("What next?")
    form.locator("[name=text]").fill("Tell me **everything**.")
    newcomer.press(form, "Open the discussion")
    newcomer.sees("What next?", "everything")


def propose_a_change(ben: Member, name: str) -> None:
    ben.open(f"/{name}/hello")
    ben.follow("Propose a change to this card")
    form = ben.browser.page.locator("form.editor")
    form.locator("[name=text]").fill(CARD.replace("hello", "good morning"))
    form.locator("[name=message]").fill("A better greeting")
    ben.press(form, "Propose the change")
    ben.sees("A better greeting")
    assert ben.browser.path.startswith(f"/{name}/hello/discussions/2")


def review_and_merge(newcomer: Member, name: str) -> None:
    newcomer.open(f"/{name}/hello/discussions/2")
    newcomer.browser.page.locator("main").get_by_role("link", name=newcomer.say("Changes")).first.click()
    newcomer.sees("good morning")
    newcomer.open(f"/{name}/hello/discussions/2")
    form = newcomer.form("/review")
    newcomer.browser.page.locator("details", has=form).locator("> summary").click()
    form.locator("[name=verdict][value=approve]").check()
    form.locator("[name=text]").fill("Well said.")
    newcomer.press(form, "Send the review")
    newcomer.sees("Well said.")
    newcomer.press(newcomer.form("/merge"), "Merge into %(base)s", base="main")
    expect(newcomer.form("/merge")).to_have_count(0)
    newcomer.open(f"/{name}/hello")
    expect(newcomer.browser.page.locator("article.card")).to_contain_text("It says good morning.")


def compare(newcomer: Member, name: str) -> None:
    newcomer.open(f"/compare?models={name}/hello&models=ben/other")
    newcomer.sees(f"{name}/hello", "ben/other")


def like(ben: Member, name: str) -> None:
    ben.open(f"/{name}/hello")
    ben.press(ben.form("/likes"), "Like")
    expect(ben.form("/likes").get_by_role("button")).to_have_attribute("aria-pressed", "true")
