"""Fixtures of the hub's tests: a user, the unmodified client in that user's name, and new repositories."""

import secrets
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import stack
from hub_process import HubProcess
from huggingface_hub import HfApi, constants
from receiver import Receiver
from s3_server import S3Server, start_s3

from lmcommons.hub.accounts.limits import WINDOW
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.objects.blobs import Blobs
from lmcommons.hub.objects.store import ObjectStore
from lmcommons.hub.objects.xet.store import XetStore
from lmcommons.hub.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def token(hub: HubProcess) -> str:
    """The write token of the user `ann`."""
    return hub.add_user("ann")


@pytest.fixture(scope="session")
def api(hub: HubProcess, token: str) -> Iterator[HfApi]:
    """huggingface_hub's client, signed in as `ann`, uploading by LFS."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield HfApi(endpoint=hub.endpoint, token=token)


@pytest.fixture(scope="session")
def new_repository(api: HfApi) -> Callable[..., str]:
    """Makes a repository of `ann` with a new name: `new_repository(repo_type="model", private=False)`."""

    def make(repo_type: str = "model", **more: Any) -> str:
        return api.create_repo(f"ann/r{secrets.token_hex(6)}", repo_type=repo_type, **more).repo_id

    return make


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database in which tests of one room leave nothing that others would see."""
    data = tmp_path_factory.mktemp("database")
    url = stack.database_url(data) if stack.is_cluster() else None
    database = Database(Settings.make(data, database=url))
    yield database
    database.close()


@pytest.fixture
def store_in(database: Database) -> Callable[[Blobs], ObjectStore]:
    """Makes an object store of blobs."""
    return lambda blobs: ObjectStore(blobs, XetStore(database, blobs))


@pytest.fixture
def window() -> None:
    """The test begins early enough in a window of the rate limits to end in it: the next one counts from nothing."""
    left = WINDOW - time.monotonic() % WINDOW
    if left < 25:
        time.sleep(left)


@pytest.fixture
def receive() -> Iterator[Callable[..., Receiver]]:
    """Makes mail servers: `receive(password="…")`."""
    made: list[Receiver] = []

    def make(**more: Any) -> Receiver:
        made.append(Receiver(**more))
        return made[-1]

    yield make
    for receiver in made:
        receiver.controller.stop()


@pytest.fixture
def receiver(receive: Callable[..., Receiver]) -> Receiver:
    """A mail server that asks for no password."""
    return receive()


@pytest.fixture(scope="module")  # while it is open, nothing else in its thread can run an event loop
def chromium() -> "Iterator[Browser]":
    """The system's Chromium."""
    from chromium import executable, open_chromium

    program = executable()
    if program is None:
        pytest.skip("no Chromium on this machine; on Debian: apt-get install chromium")
    with open_chromium(program) as browser:
        yield browser


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server with a bucket, for the whole test session."""
    with start_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server
