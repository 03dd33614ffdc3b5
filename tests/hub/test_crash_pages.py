"""What a browser asked for, when the hub is killed meanwhile: whole or not there, nothing left over, and it goes on."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import Browser
from hub_process import PATIENCE, HubProcess, free_port
from huggingface_hub import HfApi
from sqlalchemy import select, update

from lmcommons.hub.accounts.sent_forms import AT_WORK
from lmcommons.hub.database.tables import Progress, SentForm, SplitStatistics, now
from lmcommons.hub.rooms import Hub

PASSWORD = "correct horse battery"
ROUNDS = 3


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    running = HubProcess(tmp_path / "hub", free_port())
    running.start()
    yield running
    running.kill()


@pytest.fixture
def api(hub: HubProcess) -> HfApi:
    token = hub.add_user("ann")
    with hub.rooms() as rooms:
        rooms.sign_in.set_password("ann", PASSWORD)
    return HfApi(hub.endpoint, token=token)


@pytest.fixture
def browser(hub: HubProcess, api: HfApi) -> Browser:
    browser = Browser(hub)
    assert browser.sign_in("ann", PASSWORD).status_code == 200
    return browser


def restart(hub: HubProcess) -> None:
    """Kill the hub and start it again; all that it holds is sound, and nothing unfinished is left."""
    hub.kill()
    assert hub.command("fsck") == ""
    hub.start()
    with hub.rooms() as rooms:
        assert list(rooms.objects.blobs.staging.iterdir()) == []


def a_minute_passes(hub: HubProcess) -> None:
    """What a process that died had taken is free again."""
    with hub.rooms() as rooms, rooms.database.write() as session:
        session.execute(update(SplitStatistics).values(leased_until=now() - timedelta(seconds=1)))
        session.execute(update(SentForm).values(sent_at=now() - AT_WORK))


def test_statistics_that_a_kill_broke_off_end_by_themselves(hub: HubProcess, api: HfApi):
    rows = pa.table({"number": range(400_000), "text": [f"row {number}" for number in range(400_000)]})
    file = BytesIO()
    pq.write_table(rows, file)
    api.create_repo("ann/rows", repo_type="dataset")
    api.upload_file(
        path_or_fileobj=file.getvalue(), path_in_repo="train.parquet", repo_id="ann/rows", repo_type="dataset"
    )
    with hub.rooms() as rooms:
        assert httpx.get(f"{hub.endpoint}/datasets/ann/rows/viewer").status_code == 200
        assert _statistics(rooms, lambda row: row.attempts == 1).progress is Progress.WAITING
        restart(hub)
        broken_off = _statistics(rooms, lambda row: True)
        assert (broken_off.progress, broken_off.found) == (Progress.WAITING, None)
        a_minute_passes(hub)
        done = _statistics(rooms, lambda row: row.progress is not Progress.WAITING)
    assert (done.progress, done.attempts, done.found["rows"]) == (Progress.DONE, 2, 400_000)
    assert done.found["columns"][0]["distinct"] == 400_000
    assert "Computing" not in httpx.get(f"{hub.endpoint}/datasets/ann/rows/viewer").text


def _statistics(rooms: Hub, wanted: Callable[[SplitStatistics], bool]) -> SplitStatistics:
    """The one row of statistics, once it is as wanted."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with rooms.database.read() as session:
            row = session.scalar(select(SplitStatistics))
        if row is not None and wanted(row):
            return row
        time.sleep(0.005)
    raise AssertionError("the statistics did not come so far")


def test_an_upload_that_is_killed_in_its_midst_leaves_nothing(hub: HubProcess, api: HfApi, browser: Browser):
    api.create_repo("ann/files")
    at = "/ann/files/upload/main"
    form = browser.get(at)
    content = b"--x\r\n" + _field("form", _hidden(form)) + b"--x\r\n" + _field("files", "", filename="large.bin")[:-2]
    waiting = threading.Event()

    def body() -> Iterator[bytes]:
        yield content
        for _ in range(40):
            yield bytes(1 << 20)
        waiting.wait(60)

    headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(80 << 20)}
    with suppress(httpx.TransportError):
        sending = threading.Thread(target=_post, args=(browser, at, body(), headers))
        sending.start()
        with hub.rooms() as rooms:
            staging = rooms.objects.blobs.staging
            deadline = time.monotonic() + 60
            while sum(path.stat().st_size for path in staging.iterdir()) < 10 << 20 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert len(list(staging.iterdir())) == 1
    hub.kill()
    waiting.set()
    sending.join()
    restart(hub)
    assert api.list_repo_files("ann/files") == [".gitattributes"]
    answer = browser.submit(browser.get(at), at, [("large.bin", bytes(40 << 20))])
    assert answer.url.path == "/ann/files/tree/main"
    assert api.list_repo_files("ann/files") == [".gitattributes", "large.bin"]


def test_an_upload_that_is_killed_at_its_end_is_whole_or_absent(hub: HubProcess, api: HfApi, browser: Browser):
    api.create_repo("ann/files")
    at, delays = "/ann/files/upload/main", random.Random(5)
    for number in range(ROUNDS):
        before = set(api.list_repo_files("ann/files"))
        files = [(f"{number}.{suffix}", b"%d" % number * 100_000) for suffix in ("bin", "txt")]
        form = browser.get(at)
        sending = threading.Thread(target=_quietly, args=(browser.submit, form, at, files))
        sending.start()
        time.sleep(delays.uniform(0.02, 0.2))
        restart(hub)
        sending.join()
        after = set(api.list_repo_files("ann/files")) - before
        assert after in (set(), {name for name, _ in files})
        a_minute_passes(hub)
        browser.submit(form, at, files)  # the same form, as a browser offers to send it again
        for name, content in files:
            address = f"{hub.endpoint}/ann/files/resolve/main/{name}"
            assert httpx.get(address, follow_redirects=True).content == content
    titles = [commit.title for commit in api.list_repo_commits("ann/files")]
    assert titles == [*["Upload 2 files"] * ROUNDS, "initial commit"]


def test_an_edit_that_is_killed_is_whole_or_absent_and_is_saved_once(hub: HubProcess, api: HfApi, browser: Browser):
    api.create_repo("ann/card")
    api.upload_file(path_or_fileobj=b"text 0\n", path_in_repo="README.md", repo_id="ann/card")
    at, address = "/ann/card/edit/main/README.md", f"{hub.endpoint}/ann/card/resolve/main/README.md"
    delays = random.Random(6)
    for number in range(1, ROUNDS + 1):
        form = browser.get(at)
        fields = {"path": "README.md", "text": f"text {number}\r\n", "message": f"Edit {number}"}
        saving = threading.Thread(target=_quietly, args=(browser.submit, form, at), kwargs=fields)
        saving.start()
        time.sleep(delays.uniform(0, 0.06))
        restart(hub)
        saving.join()
        assert httpx.get(address).text in (f"text {number - 1}\n", f"text {number}\n")
        a_minute_passes(hub)
        again = browser.submit(form, at, **fields)
        assert (again.status_code, httpx.get(address).text) == (200, f"text {number}\n"), again.text
    titles = [commit.title for commit in api.list_repo_commits("ann/card")]
    assert titles[:ROUNDS] == [f"Edit {number}" for number in range(ROUNDS, 0, -1)]
    assert len(titles) == ROUNDS + 2


def _quietly(send, *arguments, **fields) -> None:
    with suppress(httpx.TransportError):
        send(*arguments, **fields)


def _post(browser: Browser, at: str, body: Iterator[bytes], headers: dict[str, str]) -> None:
    origin = {"Origin": str(browser.client.base_url), "Sec-Fetch-Site": "same-origin"}
    _quietly(browser.client.post, at, content=body, headers={**headers, **origin})


def _field(name: str, value: str, **more: str) -> bytes:
    options = "".join(f'; {key}="{text}"' for key, text in {"name": name, **more}.items())
    return f"Content-Disposition: form-data{options}\r\n\r\n{value}\r\n".encode()


def _hidden(page: httpx.Response) -> str:
    return page.text.partition('name="form" value="')[2].partition('"')[0]
