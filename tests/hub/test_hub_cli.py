"""`lmc hub`: what it prints, how it ends, and what it does when something is wrong with the directory."""

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest
from hub_process import LMC, PATIENCE, HubProcess, free_port, lmc_hub, start_hub
from huggingface_hub import HfApi
from open_rooms import open_rooms
from sqlalchemy import text

from lmcommons.hub.objects.store import object_key


def refused(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    """The command ended with `code` and one line that has all parts."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    for part in parts:
        assert part in done.stderr


def test_a_user_is_made_without_a_server_and_the_token_is_alone_on_stdout(tmp_path: Path):
    command = [*LMC, "hub", "user", "add", "ada", "--data", str(tmp_path / "hub")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("hf_")
    assert done.stdout.count("\n") == 1


def test_names_that_are_taken_wrong_or_reserved_are_refused(tmp_path: Path):
    data = tmp_path / "hub"
    assert lmc_hub("user", "add", "ada", "--data", data).returncode == 0
    refused(lmc_hub("user", "add", "Ada", "--data", data), 2, "Ada is taken")
    refused(lmc_hub("org", "add", "ada", "--data", data), 2, "ada is taken")
    refused(lmc_hub("user", "add", "a..b", "--data", data), 2, "'a..b' is not allowed")
    refused(lmc_hub("user", "add", "datasets", "--data", data), 2, "reserved")
    refused(lmc_hub("org", "add", "team", "--member", "ada:king", "--data", data), 2, "king", "contributor")
    refused(lmc_hub("org", "add", "team", "--member", "bob:write", "--data", data), 2, "No such user: bob")
    refused(lmc_hub("token", "add", "bob", "--data", data), 2, "No such user: bob")


def test_directories_that_cannot_be_a_hub_are_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    refused(lmc_hub("user", "add", "ada", "--data", tmp_path / "file"), 2, "is a file")
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("")
    refused(lmc_hub("user", "add", "ada", "--data", other), 2, "has files but no hub.json")
    assert [path.name for path in other.iterdir()] == ["thesis.tex"]
    refused(lmc_hub("fsck", "--data", tmp_path / "absent"), 2, "no such directory")
    refused(lmc_hub("user", "add", "ada", "--data", "/proc/hub"), 1, "/proc/hub")
    refused(lmc_hub("serve", "--port", 0, "--data", "/proc/hub"), 1, "/proc/hub")


def test_a_text_about_the_hub_that_cannot_be_read_is_refused(tmp_path: Path):
    serve = ("serve", "--port", 0, "--data", tmp_path / "hub", "--about")
    refused(lmc_hub(*serve, tmp_path / "absent.md"), 2, "--about", "absent.md", "No such file")
    refused(lmc_hub(*serve, tmp_path), 2, "Is a directory")
    (tmp_path / "long.md").write_text("字" * 7_000)
    refused(lmc_hub(*serve, tmp_path / "long.md"), 2, "longer than 20,000 bytes")
    (tmp_path / "latin.md").write_bytes(b"caf\xe9")
    refused(lmc_hub(*serve, tmp_path / "latin.md"), 2, "byte 3 is not UTF-8")
    assert not (tmp_path / "hub").exists()


def test_data_of_a_newer_version_is_left_alone(tmp_path: Path):
    data = tmp_path / "hub"
    assert lmc_hub("user", "add", "ada", "--data", data).returncode == 0
    marker = data / "hub.json"
    written = marker.read_text()
    marker.write_text(json.dumps(json.loads(written) | {"format": 99}))
    refused(lmc_hub("serve", "--port", 0, "--data", data), 1, "newer lmcommons", "99", "upgrade")
    marker.write_text(written)
    rooms = open_rooms(data)
    with rooms.database.write() as session:
        session.execute(text("update alembic_version set version_num = '9999'"))
    rooms.close()
    refused(lmc_hub("serve", "--port", 0, "--data", data), 1, "schema 9999", "newer lmcommons", "upgrade")


@pytest.mark.embedded("names another directory of objects")
def test_large_files_lie_where_the_operator_said_and_the_hub_remembers(tmp_path: Path):
    data, objects = tmp_path / "hub", tmp_path / "large"
    with start_hub(data, "--objects", f"file://{objects}") as hub:
        api = HfApi(endpoint=hub.endpoint, token=hub.add_user("ada"))
        api.create_repo("ada/model")
        api.upload_file(path_or_fileobj=b"x" * 5000, path_in_repo="model.safetensors", repo_id="ada/model")
    assert [path.stat().st_size for path in objects.rglob("*") if path.is_file()] == [5000]
    assert lmc_hub("fsck", "--data", data).returncode == 0
    [stored] = [path for path in objects.rglob("*") if path.is_file()]
    stored.write_bytes(b"y" * 5000)
    assert lmc_hub("fsck", "--data", data).returncode == 1
    refused(
        lmc_hub("serve", "--port", 0, "--data", data, "--objects", tmp_path / "b"), 2, "keeps them in", str(objects)
    )


def test_any_command_may_make_the_hub_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data, objects = tmp_path / "hub", tmp_path / "large"
    monkeypatch.setenv("LMC_OBJECTS", str(objects))
    assert lmc_hub("user", "add", "ada", "--data", data).returncode == 0
    monkeypatch.setenv("LMC_OBJECTS", str(tmp_path / "other"))
    refused(lmc_hub("user", "add", "bob", "--data", data), 2, "keeps them in", str(objects))


def test_options_that_cannot_work_are_named(tmp_path: Path):
    data = tmp_path / "hub"
    refused(lmc_hub("serve", "--port", 0, "--data", data, "--objects", "ftp://bucket"), 2, "ftp://bucket", "s3://")
    refused(lmc_hub("serve", "--port", 0, "--data", data, "--accel", "internal"), 2, "--accel internal", "/internal/")
    refused(lmc_hub("serve", "--port", 0, "--data", data, "--database", "mysql://x"), 2, "mysql", "postgresql://")
    refused(lmc_hub("serve", "--port", 0, "--data", data, "--public-url", "hub.example.org"), 2, "hub.example.org")
    refused(
        lmc_hub("serve", "--port", 0, "--data", data, "--database", "sqlite:////proc/x/db"),
        1,
        "database sqlite:////proc/x/db",
    )


def test_a_port_that_is_taken_is_one_line(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(lmc_hub("serve", "--data", tmp_path / "hub", "--port", port), 1, f"127.0.0.1:{port}", "--port")


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_server_stops_cleanly(tmp_path: Path, ending: signal.Signals):
    hub = HubProcess(tmp_path / "hub", free_port())
    hub.start()
    hub.process.send_signal(ending)
    assert hub.process.wait(PATIENCE) == 0
    assert "Traceback" not in hub.log.read_text()
    with pytest.raises(httpx.ConnectError):
        httpx.get(hub.endpoint)


@pytest.mark.embedded("measures the one process that serves")
def test_it_starts_with_five_seconds_of_work_and_idles_below_200_mb(tmp_path: Path):
    with start_hub(tmp_path / "hub") as hub:
        *_, user, system = Path(f"/proc/{hub.process.pid}/stat").read_text().split()[:15]
        assert (int(user) + int(system)) / os.sysconf("SC_CLK_TCK") < 5
        httpx.get(f"{hub.endpoint}/api/models").raise_for_status()
        status = Path(f"/proc/{hub.process.pid}/status").read_text()
        resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert resident < 200_000  # kB


def test_addresses_in_answers_are_the_public_ones(tmp_path: Path):
    with start_hub(tmp_path / "hub", "--public-url", "https://hub.example.org/") as hub:
        headers = {"Authorization": f"Bearer {hub.add_user('ada')}"}
        answer = httpx.post(f"{hub.endpoint}/api/repos/create", json={"name": "m"}, headers=headers)
    assert answer.json()["url"] == "https://hub.example.org/ada/m"


def test_fsck_finds_damaged_and_missing_objects_and_broken_repositories(tmp_path: Path):
    data = tmp_path / "hub"
    with start_hub(data) as hub:
        api = HfApi(hub.endpoint, token=hub.add_user("ada"))
        for name in ("damaged", "missing", "broken"):
            api.create_repo(f"ada/{name}")
            api.upload_file(path_or_fileobj=os.urandom(1000), path_in_repo="w.bin", repo_id=f"ada/{name}")
        hashes = {
            name: api.model_info(f"ada/{name}", files_metadata=True).siblings[1].lfs.sha256
            for name in ("damaged", "missing")
        }
        assert hub.command("fsck") == ""
    rooms = open_rooms(data)
    rooms.objects.blobs.put(object_key(hashes["damaged"]), b"x" * 1000)
    rooms.objects.delete(hashes["missing"])
    rooms.close()
    packs = sorted((data / "repositories").glob("*/3.git/objects/pack/*.pack"))
    packs[-1].unlink()
    done = lmc_hub("fsck", "--data", data)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert any(hashes["damaged"] in line for line in lines)
    assert any(line.startswith("ada/missing") and hashes["missing"] in line for line in lines)
    assert any(line.startswith("ada/broken") for line in lines)
    assert "problems" in done.stderr
