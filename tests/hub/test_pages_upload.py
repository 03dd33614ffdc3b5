"""The script of the upload page in a real browser: files go one by one, again where that helps; then one commit."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Person, person
from hub_process import HubProcess, start_hub
from huggingface_hub import HfApi
from playwright.sync_api import Browser, Route, expect

PASSWORD = "correct horse battery"
QUOTA = 20_000_000  # bytes of ann


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with start_hub(tmp_path_factory.mktemp("upload") / "hub") as hub:
        token = hub.add_user("ann")
        with hub.rooms() as rooms:
            rooms.sign_in.set_password("ann", PASSWORD)
            rooms.accounts.set_quota("ann", QUOTA)
        for name in ("files", "dropped", "full"):
            HfApi(hub.endpoint, token=token).create_repo(name)
        yield hub


@pytest.fixture
def ann(chromium: Browser, hub: HubProcess) -> Iterator[Person]:
    with person(chromium, hub.endpoint) as ann:
        ann.goto("/login")
        ann.page.get_by_label("Name").fill("ann")
        ann.page.get_by_label("Password").fill(PASSWORD)
        ann.page.locator("main button").click()
        ann.page.wait_for_url("**/")
        yield ann


def files_of(hub: HubProcess, name: str) -> list[str]:
    return HfApi(hub.endpoint, token=False).list_repo_files(f"ann/{name}")


def test_a_file_that_did_not_arrive_is_sent_again_and_all_make_one_commit(hub: HubProcess, ann: Person, tmp_path: Path):
    contents = {"a b.txt": b"hello", "model.safetensors": bytes(range(256)) * 8_000}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    lost = 2

    def lose(route: Route) -> None:
        nonlocal lost
        lost -= 1
        route.abort() if lost >= 0 else route.continue_()

    ann.page.route("**/upload-file", lose)
    ann.goto("/ann/files/upload/main")
    ann.page.get_by_label("Files").set_input_files([tmp_path / name for name in contents])
    ann.page.get_by_label("Folder").fill("in/here")
    ann.page.get_by_label("What changed").fill("Two files")
    ann.page.get_by_role("button", name="Upload").click()
    ann.page.wait_for_url("**/ann/files/tree/main/in/here")
    assert lost < 0
    api = HfApi(hub.endpoint, token=False)
    assert [commit.title for commit in api.list_repo_commits("ann/files")] == ["Two files", "initial commit"]
    (weights,) = api.get_paths_info("ann/files", "in/here/model.safetensors")
    assert weights.lfs.sha256 == hashlib.sha256(contents["model.safetensors"]).hexdigest()


def test_what_is_dropped_is_listed_and_sent(hub: HubProcess, ann: Person):
    ann.goto("/ann/dropped/upload/main")
    dropped = ann.page.evaluate_handle(
        "() => { const data = new DataTransfer(); data.items.add(new File(['<b>'], '<b>.txt')); return data; }"
    )
    ann.page.dispatch_event(".drop", "drop", {"dataTransfer": dropped})
    expect(ann.page.locator("#chosen li")).to_have_text("<b>.txt")
    ann.page.get_by_role("button", name="Upload").click()
    ann.page.wait_for_url("**/tree/main")
    assert files_of(hub, "dropped") == [".gitattributes", "<b>.txt"]


def test_what_cannot_be_sent_is_said_and_nothing_is_committed(hub: HubProcess, ann: Person, tmp_path: Path):
    ann.goto("/ann/full/upload/main")
    button = ann.page.get_by_role("button", name="Upload")
    button.click()
    expect(ann.page.get_by_role("alert")).to_have_text("Choose at least one file.")
    (tmp_path / "large.bin").write_bytes(bytes(QUOTA + 1))
    ann.page.get_by_label("Files").set_input_files(tmp_path / "large.bin")
    button.click()
    expect(ann.page.get_by_role("alert")).to_contain_text("The quota of ann is")
    expect(button).to_be_enabled()
    assert files_of(hub, "full") == [".gitattributes"]
