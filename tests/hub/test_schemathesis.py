"""Requests that nobody would write, made from the hub's own description of its API: each gets a clear answer.

`LMC_FUZZ_EXAMPLES=100` sends more of them to each address.
"""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hub_process import HubProcess, start_hub
from huggingface_hub import HfApi
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from requests.exceptions import ReadTimeout

EXAMPLES = int(os.environ.get("LMC_FUZZ_EXAMPLES", "4"))
TIMEOUT = 120  # seconds; a request that hangs is a defect
STREAMS = {"/api/buckets/{namespace}/{name}/events"}  # which are open as long as somebody listens

# What fields of bodies are called, and the values that one might have; the rest is made up.
FIELDS = st.sampled_from((
    "name", "type", "organization", "private", "visibility", "title", "description", "comment", "status", "content",
    "files", "paths", "operation", "objects", "oid", "size", "tag", "message", "startingPoint", "fromRepo", "toRepo",
    "webhook", "url", "items", "item", "note", "position", "repository", "sdk", "gated", "user", "role", "token",
    "expiresAt", "pullRequest", "sha", "path", "deletions", "rewriteHistory", "target", "source", "key", "value",
))  # fmt: skip
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30)
    | st.sampled_from(["ada", "ada/m", "model", "datasets", "main", "../x", "\0", "a" * 5000, "0" * 64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS | st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
BODIES = st.dictionaries(FIELDS, VALUES, max_size=5) | VALUES
KNOWN: dict[str, tuple[str, ...]] = {
    "kind": ("models", "datasets", "spaces"),
    "namespace": ("ada", "lab"),
    "name": ("m", "ada", "lab"),
    "revision": ("main", "refs%2Fpr%2F1"),
    "number": ("1",),
}


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with start_hub(tmp_path_factory.mktemp("fuzzed") / "hub", "--rate-limit", "0") as running:
        yield running


@pytest.fixture(scope="module")
def headers(fuzzed: HubProcess) -> dict[str, str]:
    """Those of a user with something at the addresses that are asked for most."""
    token = fuzzed.add_user("ada")
    fuzzed.add_organisation("lab", "--member", "ada:admin")
    api = HfApi(fuzzed.endpoint, token=token)
    for repo_type in ("model", "dataset"):
        api.create_repo("ada/m", repo_type=repo_type)
    api.create_discussion("ada/m", title="words")
    return {"Authorization": f"Bearer {token}"}


def test_no_request_makes_the_hub_fail(fuzzed: HubProcess, headers: dict[str, str]):
    schema = schemathesis.openapi.from_url(f"{fuzzed.endpoint}/api/openapi.json")
    failures: list[str] = []
    count = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path in STREAMS:
            continue
        count += 1

        @seed(count)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(), body=BODIES, data=st.data())
        def send(case: Any, body: Any, data: st.DataObject) -> None:
            for name, values in KNOWN.items():
                if name in (case.path_parameters or {}) and data.draw(st.integers(0, 3)):
                    case.path_parameters[name] = data.draw(st.sampled_from(values))
            if case.method in ("POST", "PUT", "PATCH", "DELETE") and not isinstance(case.body, dict):
                case.body, case.media_type = body, "application/json"
            try:
                answer = case.call(base_url=fuzzed.endpoint, headers=headers, timeout=TIMEOUT)
            except ReadTimeout:
                failures.append(f"no answer: {case.as_curl_command()}")
                return
            if answer.status_code >= 500 or "Traceback" in answer.text:
                failures.append(f"{answer.status_code} {answer.text[:200]}: {case.as_curl_command()[:600]}")

        send()
    assert count > 50
    assert failures == []
    assert "Traceback" not in fuzzed.log.read_text()
