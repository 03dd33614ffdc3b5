"""The script of the upload page in a real browser: files go one by one, again where that helps; then one commit."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
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
        for name in ("files", "dropped", "folder", "full", "plain", "scripted"):
            HfApi(hub.endpoint, token=token).create_repo(name)
        yield hub


@contextmanager
def signed_in(chromium: Browser, hub: HubProcess, *, scripts: bool = True) -> Iterator[Person]:
    with person(chromium, hub.endpoint, scripts=scripts) as ann:
        ann.goto("/login")
        ann.page.get_by_label("Name").fill("ann")
        ann.page.get_by_label("Password").fill(PASSWORD)
        ann.page.locator("main button").click()
        ann.page.wait_for_url("**/")
        yield ann


@pytest.fixture
def ann(chromium: Browser, hub: HubProcess) -> Iterator[Person]:
    with signed_in(chromium, hub) as ann:
        yield ann


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as people have them, with folders in it."""
    for path in ("data/train/文 1.txt", "data/train/b.txt", "data/README.md"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    return tmp_path / "data"


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
    ann.page.get_by_label("Files", exact=True).set_input_files([tmp_path / name for name in contents])
    ann.page.get_by_label("Folder in the repository").fill("in/here")
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
    expect(ann.page.locator("#chosen li span")).to_have_text("<b>.txt")
    ann.page.get_by_role("button", name="Upload").click()
    ann.page.wait_for_url("**/tree/main")
    assert files_of(hub, "dropped") == [".gitattributes", "<b>.txt"]


IN_FOLDER = ["data/README.md", "data/train/b.txt", "data/train/文 1.txt"]


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_a_whole_folder_keeps_its_paths(chromium: Browser, hub: HubProcess, folder: Path, *, scripts: bool):
    name = "scripted" if scripts else "plain"
    with signed_in(chromium, hub, scripts=scripts) as ann:
        ann.goto(f"/ann/{name}/upload/main")
        ann.page.get_by_label("Folder in the repository").fill("here")
        ann.page.get_by_label("Or a whole folder").set_input_files(folder)
        if scripts:
            listed = ann.page.locator("#chosen li span")
            expect(listed).to_have_count(len(IN_FOLDER))
            assert sorted(listed.all_text_contents()) == IN_FOLDER
        ann.page.get_by_role("button", name="Upload").click()
        ann.page.wait_for_url("**/tree/main/here")
    assert files_of(hub, name) == [".gitattributes", *(f"here/{path}" for path in IN_FOLDER)]


def test_a_folder_that_is_dropped_is_listed_with_its_paths_and_without_what_is_left_out(
    hub: HubProcess, ann: Person, folder: Path
):
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("of a clone")
    ann.goto("/ann/folder/upload/main")
    box = ann.page.locator(".drop").bounding_box()
    at = {"x": box["x"] + 5, "y": box["y"] + 5}
    data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    devtools = ann.context.new_cdp_session(ann.page)
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, **at, "data": data})
    listed = ann.page.locator("#chosen li span")
    expect(listed).to_have_count(len(IN_FOLDER))
    assert sorted(listed.all_text_contents()) == IN_FOLDER
    ann.page.get_by_role("button", name="Leave out data/README.md").click()
    ann.page.get_by_role("button", name="Upload").click()
    ann.page.wait_for_url("**/tree/main")
    assert files_of(hub, "folder") == [".gitattributes", *IN_FOLDER[1:]]


def test_what_cannot_be_sent_is_said_and_nothing_is_committed(hub: HubProcess, ann: Person, tmp_path: Path):
    ann.goto("/ann/full/upload/main")
    button = ann.page.get_by_role("button", name="Upload")
    button.click()
    expect(ann.page.get_by_role("alert")).to_have_text("Choose at least one file.")
    (tmp_path / "large.bin").write_bytes(bytes(QUOTA + 1))
    ann.page.get_by_label("Files", exact=True).set_input_files(tmp_path / "large.bin")
    button.click()
    expect(ann.page.get_by_role("alert")).to_contain_text("The quota of ann is")
    expect(button).to_be_enabled()
    assert files_of(hub, "full") == [".gitattributes"]
