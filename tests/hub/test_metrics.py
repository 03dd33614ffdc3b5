"""What operators see of a running hub: health, counts, and lines about requests, in which no secret is."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hub_process import HubProcess, start_hub
from huggingface_hub import CommitOperationAdd, HfApi
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from lmcommons.hub.operating.logs import redact


@pytest.fixture(scope="module")
def logging_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with start_hub(tmp_path_factory.mktemp("o") / "hub", "--log-level", "info", "--log-format", "json") as running:
        yield running


@pytest.fixture(scope="module")
def admin(logging_hub: HubProcess) -> str:
    return logging_hub.add_user("root", "--admin")


@pytest.fixture(scope="module")
def user(logging_hub: HubProcess) -> str:
    return logging_hub.add_user("ada")


def counts(hub: HubProcess, token: str) -> dict[tuple[str, ...], float]:
    """Every sample, by its name and the values of its labels."""
    answer = httpx.get(f"{hub.endpoint}/metrics", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def lines(hub: HubProcess) -> list[dict[str, object]]:
    return [json.loads(line) for line in hub.log.read_text().splitlines() if line.startswith("{")]


def test_a_hub_that_can_serve_says_so_to_everybody(logging_hub: HubProcess):
    answer = httpx.get(f"{logging_hub.endpoint}/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_a_hub_that_cannot_reach_its_disk_says_which_part(tmp_path: Path):
    with start_hub(tmp_path / "hub", "--workers", "1") as hub:  # another would make them again when it starts
        for part in ("repositories", "objects"):
            (hub.data / part).rename(tmp_path / part)
            answer = httpx.get(f"{hub.endpoint}/healthz")
            assert (answer.status_code, answer.json()["status"]) == (503, "failing")
            assert part in answer.json()
            assert str(tmp_path) not in answer.text
            (tmp_path / part).rename(hub.data / part)
        assert httpx.get(f"{hub.endpoint}/healthz").status_code == 200


def test_counts_are_for_administrators(logging_hub: HubProcess, admin: str, user: str):
    url = f"{logging_hub.endpoint}/metrics"
    assert httpx.get(url).status_code == 401
    assert httpx.get(url, headers={"Authorization": f"Bearer {user}"}).status_code == 403
    reading = logging_hub.add_token("root", "read")
    assert httpx.get(url, headers={"Authorization": f"Bearer {reading}"}).status_code == 200


def test_requests_bytes_and_commits_are_counted(logging_hub: HubProcess, admin: str, user: str):
    before = counts(logging_hub, admin)
    api = HfApi(logging_hub.endpoint, token=user)
    api.create_repo("ada/m")
    operations = [CommitOperationAdd("w.bin", b"w"), CommitOperationAdd("a.txt", b"a" * 5000)]
    api.create_commit("ada/m", operations, commit_message="Files")
    assert len(httpx.get(f"{logging_hub.endpoint}/ada/m/resolve/main/a.txt").content) == 5000
    assert httpx.get(f"{logging_hub.endpoint}/ada/m/resolve/main/none").status_code == 404
    after = counts(logging_hub, admin)

    def grown(*key: str) -> float:
        return after.get(key, 0) - before.get(key, 0)

    resolve = "/{namespace}/{name}/resolve/{revision}/{path:path}"
    assert grown("lmcommons_requests_total", "GET", resolve, "200") == 1
    assert grown("lmcommons_requests_total", "GET", resolve, "404") == 1
    assert grown("lmcommons_request_seconds_count", "GET", resolve) == 2
    assert grown("lmcommons_sent_bytes_total") > 5000
    assert grown("lmcommons_received_bytes_total") > 5000
    assert grown("lmcommons_ref_moves_total") == 1
    assert grown("lmcommons_repositories", "model") == 1
    assert grown("lmcommons_linked_objects") == 1


def test_what_a_stranger_asks_for_makes_no_new_counters(logging_hub: HubProcess, admin: str):
    before = counts(logging_hub, admin)
    with httpx.Client(base_url=logging_hub.endpoint) as client:
        for number in range(30):
            client.request(f"WORD{number}", f"/api/none{number}")
            client.get(f"/nobody{number}/none/resolve/main/a{number}?q={number}")
    new = counts(logging_hub, admin).keys() - before.keys()
    assert len(new) < 60  # one address template and two methods, each with its buckets


def test_each_request_is_one_line_without_what_was_sent(logging_hub: HubProcess, user: str):
    secret = "hf_" + "s3cret" * 6
    headers = {"Authorization": f"Bearer {user}", "X-Request-Id": "line-1"}
    httpx.get(f"{logging_hub.endpoint}/api/whoami-v2?token={secret}&signature=0123456789abcdef", headers=headers)
    httpx.get(f"{logging_hub.endpoint}/api/whoami-v2", headers={"Authorization": f"Bearer {secret}"})
    content = b"a body that nobody should read in a log"
    HfApi(logging_hub.endpoint, token=user).create_repo("ada/log", exist_ok=True)
    HfApi(logging_hub.endpoint, token=user).upload_file(path_or_fileobj=content, path_in_repo="a", repo_id="ada/log")
    (line,) = [line for line in lines(logging_hub) if line.get("request") == "line-1"]
    assert line["message"] == "GET /api/whoami-v2"
    assert (line["status"], line["account"], line["level"]) == (200, "ada", "info")
    assert line["ms"] > 0
    text = logging_hub.log.read_text()
    for hidden in (secret, user, "0123456789abcdef", content.decode()):
        assert hidden not in text


@given(st.text(alphabet="ab ./:?&=\"'\n", max_size=20), st.from_regex(r"[A-Za-z0-9]{16,40}", fullmatch=True))
def test_no_form_of_a_secret_stays_in_a_line(words: str, secret: str):
    for form in (
        "hf_{}",
        "Authorization: Bearer {}",
        "authorization: basic {}",
        "/api/x?token={}",
        "?X-Amz-Signature={}&X-Amz-Date=1",
        '{{"password": "{}"}}',
        "postgresql://hub:{}@db/commons",
        "secret={}",
    ):
        assert secret not in redact(f"{words} {form.format(secret)} {words}")


def test_lines_without_secrets_stay_as_they_are():
    for line in ("GET /ada/m/resolve/main/token.txt 200", "token ids: 17", "https://hub.example.org/ada/basic-model"):
        assert redact(line) == line


def test_the_described_api_is_served(logging_hub: HubProcess):
    paths = httpx.get(f"{logging_hub.endpoint}/api/openapi.json").json()["paths"]
    assert "/api/whoami-v2" in paths


def test_wrong_options_are_one_line(tmp_path: Path):
    from hub_process import lmc_hub

    for options in (("--log-format", "xml"), ("--log-level", "loud"), ("--workers", "0")):
        done = lmc_hub("serve", "--data", tmp_path / "hub", "--port", 0, *options)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "hub").exists()
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
