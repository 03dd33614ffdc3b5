"""A hub behind nginx, with the configuration that docs/deployment.md gives."""

import hashlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hub_process import PATIENCE, HubProcess, free_port, start_hub
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download

pytestmark = [
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed: apt-get install nginx-light"),
    pytest.mark.embedded("nginx reads a directory of objects; a bucket sends them itself"),
]
GUIDE = Path(__file__).parents[2] / "docs" / "deployment.md"
FRAME = """
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
{user}
events {{ }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {server}
}}
"""


def configuration(folder: Path, hub_port: int, port: int, objects: Path) -> str:
    """The guide's block, without TLS, on other ports and directories."""
    (block,) = re.findall(r"```nginx\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    block = re.sub(r"    ssl_certificate.*\n", "", block)
    for before, after in (
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{port};"),
        ("server 127.0.0.1:7860;", f"server 127.0.0.1:{hub_port};"),
        ("alias /srv/commons/objects/;", f"alias {objects}/;"),
    ):
        assert before in block
        block = block.replace(before, after)
    return FRAME.format(folder=folder, server=block, user="user root;" if os.getuid() == 0 else "")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubProcess, str]]:
    """The hub, and its address by way of nginx."""
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    public = f"http://127.0.0.1:{port}"
    with start_hub(folder / "hub", "--public-url", public, "--accel", "/internal/", "--log-level", "info") as hub:
        (folder / "nginx.conf").write_text(configuration(folder, hub.port, port, hub.data / "objects"))
        nginx = subprocess.Popen(["nginx", "-p", folder, "-c", folder / "nginx.conf"], stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    assert nginx.poll() is None, (folder / "error.log").read_text()
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            yield hub, public
        finally:
            nginx.terminate()
            nginx.wait(PATIENCE)


@pytest.fixture(scope="module")
def api(address: tuple[HubProcess, str]) -> HfApi:
    return HfApi(address[1], token=address[0].add_user("ada"))


WEIGHTS = os.urandom(30 << 20)


@pytest.fixture(scope="module")
def published(api: HfApi) -> str:
    """The address of a large private file."""
    api.create_repo("ada/m", private=True)
    api.create_commit("ada/m", [CommitOperationAdd("w.bin", WEIGHTS)], commit_message="Weights")
    return f"{api.endpoint}/ada/m/resolve/main/w.bin"


def test_large_files_are_sent_by_nginx_with_the_hubs_headers(address, api: HfApi, published: str):
    headers = {"Authorization": f"Bearer {api.token}"}
    whole = httpx.get(published, headers=headers)
    assert whole.content == WEIGHTS
    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    assert whole.headers["ETag"] == f'"{sha256}"'
    assert whole.headers["X-Repo-Commit"] == api.model_info("ada/m").sha
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in whole.headers["Content-Security-Policy"]
    assert "X-Accel-Redirect" not in whole.headers
    part = httpx.get(published, headers=headers | {"Range": "bytes=5-14"})
    assert (part.status_code, part.content) == (206, WEIGHTS[5:15])
    assert httpx.get(published, headers=headers | {"If-None-Match": whole.headers["ETag"]}).status_code == 304
    # The hub itself sent no byte of it.
    found = [line for line in address[0].log.read_text().splitlines() if "GET" in line and "/resolve/" in line]
    lines = [line for line in found if " status=404 " not in line]
    assert lines
    assert all(line.endswith("sent=0") for line in lines)


def test_nobody_reaches_the_objects_past_the_hub(address, api: HfApi, published: str):
    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    for path in (f"/internal/{sha256[:2]}/{sha256[2:4]}/{sha256}", "/internal/", "/internal/../hub.json"):
        assert httpx.get(f"{api.endpoint}{path}").status_code == 404
    assert httpx.get(published).status_code == 404


def test_the_client_and_git_work_through_nginx(api: HfApi, published: str, tmp_path: Path):
    path = hf_hub_download("ada/m", "w.bin", endpoint=api.endpoint, token=api.token, cache_dir=tmp_path / "cache")
    assert Path(path).read_bytes() == WEIGHTS
    url = published.replace("http://", f"http://ada:{api.token}@").partition("/resolve")[0]
    environment = os.environ | {"GIT_LFS_SKIP_SMUDGE": "1"}
    subprocess.run(["git", "clone", "--quiet", url, tmp_path / "m"], check=True, env=environment)
    assert "sha256" in (tmp_path / "m" / "w.bin").read_text()
