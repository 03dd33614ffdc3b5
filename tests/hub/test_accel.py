"""Large files behind a proxy that reads them from the disk itself when the hub names them (`test_nginx.py` has one)."""

import hashlib
import os
from collections.abc import Iterator

import httpx
import pytest
from hub_process import HubProcess, start_hub
from huggingface_hub import HfApi

pytestmark = pytest.mark.embedded("nginx reads a directory of objects; a bucket sends them itself")

CONTENT = os.urandom(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub that leaves large files to nginx."""
    with start_hub(tmp_path_factory.mktemp("accel") / "hub", "--accel", "/internal") as hub:
        yield hub


@pytest.fixture(scope="module")
def api(hub: HubProcess) -> HfApi:
    """A client of the hub itself, which has sent a large file."""
    api = HfApi(hub.endpoint, token=hub.add_user("ada"))
    api.create_repo("ada/m", private=True)
    api.upload_file(path_or_fileobj=CONTENT, path_in_repo="w.bin", repo_id="ada/m")
    return api


def get(api: HfApi, path: str = "w.bin", method: str = "GET", **headers: str) -> httpx.Response:
    allowed = {"Authorization": f"Bearer {api.token}"}
    return httpx.request(method, f"{api.endpoint}/ada/m/resolve/main/{path}", headers=allowed | headers)


def test_the_hub_names_the_file_and_sends_nothing(hub: HubProcess, api: HfApi):
    answer = get(api)
    assert answer.headers["X-Accel-Redirect"] == f"/internal/{SHA256[:2]}/{SHA256[2:4]}/{SHA256}"
    assert (answer.status_code, answer.content) == (200, b"")
    assert "x-accel-redirect" not in get(api, method="HEAD").headers
    assert get(api, method="HEAD").headers["Content-Length"] == str(len(CONTENT))
    assert "x-accel-redirect" not in get(api, ".gitattributes").headers
    assert httpx.get(f"{hub.endpoint}/ada/m/resolve/main/w.bin").status_code in (401, 404)
