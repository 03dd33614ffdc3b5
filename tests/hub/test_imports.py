"""Repositories that members bring from the hubs that the operator names."""

import hashlib
import os
import re
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from browser import Browser
from hub_process import PATIENCE, HubProcess, children, lmc_hub, start_hub
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, HfApi
from open_rooms import open_rooms
from sqlalchemy import select, update

from lmcommons.hub.database.tables import Import, Progress, now
from lmcommons.hub.objects.store import object_key
from lmcommons.hub.operating import imports
from lmcommons.hub.operating.imports import Imports

PASSWORD = "correct horse battery"
LARGE = b"weights " * 200_000


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """The hub from which members import."""
    with start_hub(tmp_path_factory.mktemp("other") / "hub") as running:
        yield running


@pytest.fixture(scope="module")
def origin(other: HubProcess) -> HfApi:
    """A model with a large file and a tag, a dataset, and a model that not everybody sees."""
    api = HfApi(other.endpoint, token=other.add_user("ada"))
    for name, kind in (("ada/tales", "model"), ("ada/rows", "dataset"), ("ada/secret", "model")):
        api.create_repo(name, repo_type=kind, private=name == "ada/secret")
        files = [CommitOperationAdd("w.bin", LARGE), CommitOperationAdd("README.md", f"# {name}".encode())]
        api.create_commit(name, files, commit_message="Files", repo_type=kind)
    api.create_tag("ada/tales", tag="v1")
    return api


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, other: HubProcess) -> Iterator[HubProcess]:
    """A hub of two processes whose members may import from the other one."""
    options = ("--import-from", other.endpoint, "--workers", "2", "--log-level", "info")
    with start_hub(tmp_path_factory.mktemp("here") / "hub", *options) as running:
        running.add_organisation("lab")
        yield running


def member(hub: HubProcess, name: str) -> tuple[Browser, HfApi]:
    token = hub.add_user(name)
    hub.command("user", "password", name, typed=f"{PASSWORD}\n")
    browser = Browser(hub)
    browser.sign_in(name, PASSWORD)
    return browser, HfApi(hub.endpoint, token=token)


def asked(browser: Browser, hub: HubProcess, source: str, **fields: str) -> httpx.Response:
    page = browser.get("/imports")
    chosen = re.search(r"<option[^>]*>(http[^<]*)</option>", page.text)
    assert chosen is not None
    return browser.submit(page, "/imports", source=source, **{"from": chosen[1], **fields})


def ended(browser: Browser) -> str:
    """The page of imports once none is under way."""
    deadline = time.monotonic() + PATIENCE
    while ">Stop<" in (page := browser.get("/imports").text):
        assert time.monotonic() < deadline, page
        time.sleep(0.2)
    return page


def test_a_model_comes_with_its_history_large_files_and_tags(here: HubProcess, origin: HfApi):
    browser, api = member(here, "ann")
    assert asked(browser, here, "ada/tales", owner="ann").url.path == "/imports"
    assert 'href="/ann/tales"' in ended(browser)
    assert api.model_info("ann/tales").sha == origin.model_info("ada/tales").sha
    assert [tag.name for tag in api.list_repo_refs("ann/tales").tags] == ["v1"]
    assert Path(api.hf_hub_download("ann/tales", "w.bin")).read_bytes() == LARGE
    assert browser.get("/ann/tales").status_code == 200


def test_asked_for_again_what_is_new_comes_and_what_was_changed_here_stays(here: HubProcess, origin: HfApi):
    browser, api = member(here, "again")
    origin.create_repo("ada/moving")
    asked(browser, here, "ada/moving", owner="again")
    ended(browser)
    added = CommitOperationAdd("new.txt", b"new")
    origin.create_commit("ada/moving", [added], commit_message="More")
    asked(browser, here, "ada/moving", owner="again")
    ended(browser)
    assert api.file_exists("again/moving", "new.txt")
    api.create_commit("again/moving", [CommitOperationAdd("own.txt", b"own")], commit_message="Own")
    origin.create_commit("ada/moving", [CommitOperationCopy("new.txt", "newer.txt")], commit_message="Newer")
    asked(browser, here, "ada/moving", owner="again")
    assert "work that is only here" in ended(browser)
    assert api.file_exists("again/moving", "own.txt")


def test_a_dataset_comes_by_its_address_under_another_name_and_private(
    here: HubProcess, other: HubProcess, origin: HfApi
):
    browser, api = member(here, "dora")
    asked(browser, here, f"{other.endpoint}/datasets/ada/rows/", owner="dora", name="mine", private="yes")
    ended(browser)
    assert api.dataset_info("dora/mine").private
    assert httpx.get(f"{here.endpoint}/datasets/dora/mine", headers={"Accept": "text/html"}).status_code == 404


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"source": "ada"}, "names no repository"),
        ({"source": "spaces/ada/x"}, "names no repository"),
        ({"source": "ada/--upload-pack=x"}, "is not allowed"),
        ({"source": "ada/tales", "name": "../x"}, "is not allowed"),
        ({"source": "ada/tales", "owner": "lab"}, "may not create"),
        ({"source": "ada/tales", "owner": "nobody-here"}, "No such"),
        ({"source": "ada/tales", "from": "http://169.254.169.254"}, "is not a hub from which this one imports"),
        ({"source": "x" * 390}, "names no repository"),
    ],
)
def test_what_cannot_be_asked_for_is_said_in_a_line(here: HubProcess, origin: HfApi, fields: dict[str, str], said: str):
    browser, _ = member(here, f"wrong-{secrets.token_hex(5)}")
    answer = asked(browser, here, **fields)
    assert answer.status_code in (400, 403, 404)
    assert said in answer.text
    assert "You have not imported anything yet." in answer.text


def test_what_is_not_public_there_does_not_come_and_leaves_nothing_here(here: HubProcess, origin: HfApi):
    browser, api = member(here, "eve")
    asked(browser, here, "ada/secret", owner="eve")
    asked(browser, here, "ada/not-there", owner="eve")
    assert ended(browser).count('class="notice"') == 2
    assert not api.repo_exists("eve/secret")
    assert not api.repo_exists("eve/not-there")


def test_a_name_that_somebody_has_who_does_not_let_others_write_is_refused(here: HubProcess, origin: HfApi):
    _, api = member(here, "owner-1")
    api.create_repo("owner-1/tales")
    browser, _ = member(here, "guest-1")
    assert asked(browser, here, "ada/tales", owner="owner-1").status_code == 403


def test_a_quota_holds(here: HubProcess, origin: HfApi):
    browser, _ = member(here, "small")
    lmc_hub("user", "quota", "small", "100000", "--data", here.data)
    asked(browser, here, "ada/tales", owner="small")
    assert "The quota of small is 100,000 bytes" in ended(browser)


def test_a_hub_that_names_no_other_says_how_one_is_named(other: HubProcess):
    browser, _ = member(other, "curious")
    page = browser.get("/imports")
    assert "--import-from" in page.text
    assert 'action="/imports"' not in page.text


def test_imports_are_for_those_who_are_signed_in_and_nobody_ends_those_of_others(here: HubProcess, origin: HfApi):
    assert Browser(here).get("/imports").url.path == "/login"
    mine, _ = member(here, "mine-1")
    asked(mine, here, "ada/rows-not-there", owner="mine-1")
    page = mine.get("/imports")
    found = re.search(r'action="(/imports/\d+/end)"', page.text)
    assert found is not None
    theirs, _ = member(here, "theirs-1")
    asked(theirs, here, "ada/not-there", owner="theirs-1")
    own = theirs.get("/imports")
    action = re.search(r'action="(/imports/\d+/end)"', own.text)
    assert action is not None
    assert theirs.submit(own, action[1]).status_code == 200
    forged = own.text.replace(action[1], found[1])
    stolen = httpx.Response(200, text=forged, request=own.request)
    assert theirs.submit(stolen, found[1]).status_code == 404
    assert mine.submit(mine.get("/imports"), found[1]).status_code == 200
    assert "You have not imported anything yet." in mine.get("/imports").text


def test_a_history_that_names_a_private_object_of_somebody_here_does_not_open_it(
    here: HubProcess, other: HubProcess, origin: HfApi
):
    """Who knows the sha256 of a file that is private here can name it elsewhere; the content must come from there."""
    secret = b"private weights " * 100_000
    _, victim = member(here, "victim")
    victim.create_repo("victim/private", private=True)
    victim.create_commit("victim/private", [CommitOperationAdd("w.bin", secret)], commit_message="Files")
    origin.create_repo("ada/forged")
    origin.create_commit("ada/forged", [CommitOperationAdd("w.bin", secret)], commit_message="Files")
    sha256 = hashlib.sha256(secret).hexdigest()
    with other.rooms() as rooms:
        rooms.objects.delete(sha256)  # as if it had never been there
    thief, api = member(here, "thief")
    asked(thief, here, "ada/forged", owner="thief")
    assert sha256 in ended(thief)
    assert api.list_repo_files("thief/forged") == [".gitattributes"]
    with other.rooms() as rooms:
        rooms.objects.blobs.put(object_key(sha256), secret)


def test_many_at_once_are_shared_by_the_processes_and_each_is_brought_once(here: HubProcess, origin: HfApi):
    names = [f"ada/many-{number}" for number in range(4)]
    for number, name in enumerate(names):
        origin.create_repo(name)
        origin.create_commit(name, [CommitOperationAdd("w.bin", b"%d" % number * 500_000)], commit_message="Files")
    browser, api = member(here, "max")
    for name in names:
        asked(browser, here, name, owner="max")
    ended(browser)
    with here.rooms() as rooms, rooms.database.read() as session:
        rows = session.scalars(select(Import).where(Import.target.startswith("max/"))).all()
    assert {(row.progress, row.attempts, row.received) for row in rows} == {(Progress.DONE, 1, 500_000)}
    for name in names:
        assert api.model_info(name.replace("ada", "max")).sha == origin.model_info(name).sha
        assert here.log.read_text().count(f"{name.replace('ada', 'max')}: 1 branches and tags moved") == 1


def test_what_is_being_imported_is_not_asked_for_twice(here: HubProcess, other: HubProcess, origin: HfApi):
    browser, _ = member(here, "twice")
    with stopped(other):
        asked(browser, here, "ada/tales", owner="twice")
        answer = asked(browser, here, "ada/tales", owner="twice")
    assert answer.status_code == 409
    assert "twice/tales is being imported already" in answer.text
    assert 'href="/twice/tales"' in ended(browser)
    assert asked(browser, here, "ada/tales", owner="twice").status_code == 200
    ended(browser)


def test_the_import_of_a_process_that_is_killed_goes_on_in_another(here: HubProcess, other: HubProcess, origin: HfApi):
    browser, api = member(here, "kim")
    with stopped(other):
        asked(browser, here, "ada/tales", owner="kim")
        [(worker, git)] = until(lambda: [(pid, git) for pid in here.workers() for git in children(pid)])
        os.kill(worker, signal.SIGKILL)
        os.kill(git, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{worker}").exists())
    with here.rooms() as rooms, rooms.database.write() as session:  # half a minute passes
        session.execute(update(Import).where(Import.target == "kim/tales").values(leased_until=now()))
    assert 'href="/kim/tales"' in ended(browser)
    assert api.model_info("kim/tales").sha == origin.model_info("ada/tales").sha
    with here.rooms() as rooms, rooms.database.read() as session:
        assert session.scalar(select(Import.attempts).where(Import.target == "kim/tales")) == 2
    until(lambda: len(here.workers() - {worker}) == 2)


@contextmanager
def stopped(hub: HubProcess) -> Iterator[None]:
    """A block in which a hub takes requests and does not answer them."""
    os.killpg(hub.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(hub.process.pid, signal.SIGCONT)


def until(found):
    """What is found, once there is something."""
    deadline = time.monotonic() + PATIENCE
    while not (there := found()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return there


def test_what_a_process_left_when_it_died_is_taken_up_and_given_up_in_the_end(
    tmp_path: Path, other: HubProcess, origin: HfApi
):
    with closing(open_rooms(tmp_path / "hub", import_from=[other.endpoint])) as hub:
        ann = hub.tokens.actor(hub.accounts.add_user("ann"))
        work = Imports(hub)
        work.begin(ann, endpoint=other.endpoint, source="ada/tales", owner=None)
        assert work.take() is not None  # and the process dies
        assert not work.work()  # somebody else may be at it still
        with hub.database.write() as session:
            session.get_one(Import, 1).leased_until = now()
        assert work.work()
        assert work.of(ann)[0].progress is Progress.DONE
        for number in range(2, 2 + imports.ATTEMPTS):
            if number == 2:
                work.begin(ann, endpoint=other.endpoint, source="ada/rows-2", owner=None)
            assert work.take() is not None
            with hub.database.write() as session:
                session.get_one(Import, 2).leased_until = now()
        assert work.work()
        found = work.of(ann)[0]
        assert (found.progress, found.error) == (Progress.FAILED, "it was begun 3 times and never ended")


def test_a_hub_that_stops_leaves_the_import_for_the_next(tmp_path: Path, other: HubProcess, origin: HfApi):
    with closing(open_rooms(tmp_path / "hub", import_from=[other.endpoint])) as hub:
        ann = hub.tokens.actor(hub.accounts.add_user("ann"))
        work = Imports(hub)
        work.begin(ann, endpoint=other.endpoint, source="ada/tales", owner=None)
        work.stop()
        assert work.work()
        found = work.of(ann)[0]
        assert (found.progress, found.attempts) == (Progress.WAITING, 0)
        again = Imports(hub)
        assert again.work()
        assert again.of(ann)[0].progress is Progress.DONE


@pytest.mark.parametrize(
    "url", ["huggingface.co", "ftp://hub.example.org", "https://user:pw@hub.example.org", "https://"]
)
def test_what_is_no_hub_is_refused_at_the_start(tmp_path: Path, url: str):
    done = lmc_hub("serve", "--data", tmp_path / "hub", "--import-from", url)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
