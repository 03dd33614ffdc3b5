"""Pages of files in a real browser: what scripts swap in place, and the same by pages of its own without them."""

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from chromium import person
from hub_process import HubProcess, start_hub
from huggingface_hub import CommitOperationAdd, HfApi
from playwright.sync_api import Browser, expect
from weights import safetensors

from lmcommons.hub.database.tables import Import, Progress, RepositoryType, SplitStatistics, TokenRole, now
from lmcommons.hub.repos.git import AddFile

PASSWORD = "correct horse battery"
SCRIPTS = pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])


def weights(size: int) -> bytes:
    return safetensors(**{"embed.weight": [size], "embed.bias": [4]})


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with start_hub(tmp_path_factory.mktemp("files") / "hub") as running:
        api = HfApi(running.endpoint, token=running.add_user("ann"))
        api.create_repo("ann/m")
        text = b"".join(b"line %d\n" % number for number in range(1, 1201))
        for message, size, more in (("One", 2, {}), ("Two", 3, {"create_pr": True})):
            files = {"model.safetensors": weights(size), "notes.txt": text}
            operations = [CommitOperationAdd(path, content) for path, content in files.items()]
            api.create_commit("ann/m", operations, commit_message=message, **more)
        yield running


@SCRIPTS
def test_the_statistics_of_a_tensor_come_where_it_stands_or_on_a_page(
    chromium: Browser, hub: HubProcess, *, scripts: bool
):
    with person(chromium, hub.endpoint, scripts=scripts) as somebody:
        somebody.goto("/ann/m/blob/main/model.safetensors")
        page = somebody.page
        page.get_by_role("link", name="bias", exact=True).click()
        statistics = page.locator(".statistics")
        expect(statistics).to_contain_text("4 values")
        expect(statistics.locator("dd").first).to_have_text("0")
        expect(statistics.locator("svg[role=img]")).to_be_visible()
        if scripts:
            assert somebody.path == "/ann/m/blob/main/model.safetensors"
            expect(page.get_by_role("link", name="weight", exact=True)).to_be_visible()
        else:
            assert somebody.path == "/ann/m/tensor/main/model.safetensors?name=embed.bias"
            page.get_by_role("link", name="All tensors").click()
            page.wait_for_url("**/ann/m/blob/main/model.safetensors")


@SCRIPTS
def test_the_tensors_that_a_pull_request_changes_are_told_among_its_changes(
    chromium: Browser, hub: HubProcess, *, scripts: bool
):
    with person(chromium, hub.endpoint, scripts=scripts) as somebody:
        somebody.goto("/ann/m/discussions/1/changes")
        page = somebody.page
        file = page.get_by_label("model.safetensors", exact=True)
        expect(file).to_contain_text(f"large file {len(weights(2))} B → {len(weights(3))} B")
        page.get_by_role("link", name="Which tensors changed").click()
        expect((file if scripts else page.locator("main")).locator(".read")).to_contain_text("1 reshaped 1 the same")
        assert somebody.path.startswith("/ann/m/discussions/1/changes" if scripts else "/ann/m/difference/")


def test_links_keep_the_focus_when_what_they_stand_in_is_replaced(chromium: Browser, hub: HubProcess):
    at_work = {"leased_until": now() + timedelta(hours=1), "attempts": 1}
    with hub.rooms() as rooms, person(chromium, hub.endpoint) as somebody, person(chromium, hub.endpoint) as ann:
        rooms.sign_in.set_password("ann", PASSWORD)
        actor = rooms.tokens.actor(rooms.tokens.add("ann", "browser", TokenRole.WRITE))
        dataset = rooms.commits.create_repository(actor, RepositoryType.DATASET, None, "rows")
        rooms.commits.commit(actor, dataset, "main", [AddFile("train.jsonl", b'{"a": 1}\n')], message="Rows")
        dataset = rooms.commits.refresh(dataset)
        with rooms.database.write() as session:
            statistics = SplitStatistics(
                repository_id=dataset.id, commit=dataset.head, config="default", split="train", **at_work
            )
            asked = Import(
                account_id=actor.account_id,
                endpoint=hub.endpoint,
                type=RepositoryType.MODEL,
                source="bob/m",
                target="ann/m",
                private=False,
                **at_work,
            )
            session.add_all([statistics, asked])
        somebody.goto("/datasets/ann/rows/viewer")
        somebody.page.get_by_role("link", name="Look again").focus()
        ann.goto("/login?next=/imports")
        ann.page.locator("[name=name]").fill("ann")
        ann.page.locator("[name=password]").fill(PASSWORD)
        ann.page.keyboard.press("Enter")
        ann.page.wait_for_url(lambda address: "/login" not in address)
        ann.page.get_by_role("button", name="Stop the import").focus()
        with rooms.database.write() as session:
            session.get_one(SplitStatistics, statistics.id).rows = 500
            session.get_one(Import, asked.id).progress = Progress.DONE
            session.get_one(Import, asked.id).ended_at = now()
        expect(somebody.page.locator("#statistics")).to_contain_text("500 rows read so far")
        expect(somebody.page.get_by_role("link", name="Look again")).to_be_focused()
        expect(ann.page.get_by_role("button", name="Remove ann/m")).to_be_focused()


def test_commands_and_names_are_copied(chromium: Browser, hub: HubProcess):
    with person(chromium, hub.endpoint, permissions=["clipboard-read", "clipboard-write"]) as somebody:
        somebody.page.clock.install()
        somebody.goto("/ann/m/blob/main/notes.txt")
        somebody.page.clock.pause_at(now() + timedelta(hours=1))  # what says so for two seconds stays
        read = "navigator.clipboard.readText()"
        name, path = (somebody.page.get_by_role("button", name="Copy").nth(number) for number in range(2))
        path.click()
        expect(somebody.page.get_by_role("button", name="Copied")).to_be_visible()
        assert somebody.page.evaluate(read) == "notes.txt"
        name.click()
        expect(somebody.page.get_by_role("button", name="Copied")).to_have_count(2)
        assert somebody.page.evaluate(read) == "ann/m"
        somebody.goto("/ann/m")
        somebody.page.locator(".copied", has_text="HF_ENDPOINT").first.get_by_role("button").click()
        expect(somebody.page.get_by_role("button", name="Copied")).to_be_visible()
        assert somebody.page.evaluate(read) == f"export HF_ENDPOINT={hub.endpoint}"


def test_without_a_clipboard_what_was_to_be_copied_is_selected(chromium: Browser, hub: HubProcess):
    with person(chromium, hub.endpoint) as somebody:
        somebody.page.add_init_script("delete Navigator.prototype.clipboard")
        somebody.goto("/ann/m")
        somebody.page.locator(".copied", has_text="HF_ENDPOINT").first.get_by_role("button").click()
        assert somebody.page.evaluate("getSelection().toString()") == f"export HF_ENDPOINT={hub.endpoint}"


def test_a_line_of_a_long_file_has_an_address(chromium: Browser, hub: HubProcess):
    with person(chromium, hub.endpoint, scripts=False) as somebody:
        somebody.goto("/ann/m/blob/main/notes.txt?line=700#L700")
        expect(somebody.page.locator("#L700")).to_be_in_viewport()
        expect(somebody.page.locator("#L700")).to_contain_text("line 700")
        expect(somebody.page.locator(":target")).to_have_id("L700")
        somebody.page.get_by_role("link", name="Next").click()
        expect(somebody.page.locator("#L1200")).to_have_count(1)
        somebody.page.get_by_role("link", name="Permalink").click()
        somebody.page.wait_for_url(re.compile("/ann/m/blob/[0-9a-f]{40}/notes.txt"))
        expect(somebody.page.get_by_role("link", name="Permalink")).to_have_count(0)
