"""Headers of safetensors files: those that are fine through the client, and those that lie."""

import json
import struct
from io import BytesIO

import httpx
import pytest
from hub_process import HubProcess
from huggingface_hub import CommitOperationAdd, HfApi
from weights import safetensors

from lmcommons.hub.repos import safetensors as headers


@pytest.fixture(scope="module")
def repository(api: HfApi) -> str:
    """A model in two shards, in one file in a folder, and damaged in several ways."""
    api.create_repo("ann/sharded")
    index = {
        "metadata": {"total_size": 56},
        "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"},
    }
    lacking = {"metadata": {}, "weight_map": {"a": "absent.safetensors"}}
    escaping = {"metadata": {}, "weight_map": {"a": "../../../etc/passwd"}}
    files = {
        "model.safetensors.index.json": json.dumps(index).encode(),
        "model-00001-of-00002.safetensors": safetensors(a=[2, 3]),
        "model-00002-of-00002.safetensors": safetensors(b=[8]),
        "deep/model.safetensors": safetensors(c=[5]),
        "deep/model.safetensors.index.json": json.dumps({"weight_map": {"c": "model.safetensors"}}).encode(),
        "lacking.index.json": json.dumps(lacking).encode(),
        "escaping.index.json": json.dumps(escaping).encode(),
        "empty.index.json": b"{}",
        "broken.index.json": b"{",
        "broken.safetensors": b"\xff" * 100,
        "long.safetensors": struct.pack("<Q", 1 << 40) + b"{}",
    }
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    api.create_commit("ann/sharded", operations, commit_message="files")
    return "ann/sharded"


def test_the_client_reads_all_shards_in_one_question(api: HfApi, repository: str):
    found = api.get_sharded_safetensors_metadata(repository)
    assert found.sharded
    assert found.metadata == {"total_size": 56}
    assert found.weight_map == {
        "a": "model-00001-of-00002.safetensors",
        "b": "model-00002-of-00002.safetensors",
    }
    assert found.parameter_count == {"F32": 14}
    deep = api.get_sharded_safetensors_metadata(repository, filename="deep/model.safetensors.index.json")
    assert deep.files_metadata["model.safetensors"].tensors["c"].shape == [5]


def test_the_client_reads_shards_by_ranges(api: HfApi, repository: str):
    found = api.get_safetensors_metadata(repository)
    assert found.sharded
    assert found.parameter_count == {"F32": 14}
    assert api.parse_safetensors_file_metadata(repository, "deep/model.safetensors").parameter_count == {"F32": 5}


def test_one_file_is_answered_as_its_own_shard(hub: HubProcess, repository: str):
    url = f"{hub.endpoint}/api/models/{repository}/safetensors-metadata/deep/model.safetensors"
    answer = httpx.get(url).raise_for_status().json()
    assert answer == {
        "index": {},
        "headers": {"model.safetensors": {"c": {"dtype": "F32", "shape": [5], "data_offsets": [0, 20]}}},
    }


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("absent.index.json", 404, "absent.index.json"),
        ("deep", 404, "folder"),
        ("lacking.index.json", 404, "absent.safetensors"),
        ("escaping.index.json", 404, ""),
        ("empty.index.json", 400, "no `weight_map`"),
        ("broken.index.json", 400, "broken.index.json"),
        ("broken.safetensors", 400, "not one of safetensors"),
        ("long.safetensors", 400, "not one of safetensors"),
        ("README.md", 404, "README.md"),
    ],
)
def test_what_cannot_be_read_is_said(hub: HubProcess, repository: str, path: str, status: int, reason: str):
    answer = httpx.get(f"{hub.endpoint}/api/models/{repository}/safetensors-metadata/{path}")
    assert answer.status_code == status
    assert reason in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_private_weights_are_absent(hub: HubProcess, api: HfApi):
    api.create_repo("ann/private-weights", private=True)
    api.upload_file(path_or_fileobj=safetensors(a=[1]), path_in_repo="x.safetensors", repo_id="ann/private-weights")
    url = f"{hub.endpoint}/api/models/ann/private-weights/safetensors-metadata/x.safetensors"
    assert httpx.get(url).headers["x-error-code"] == "RepoNotFound"
    assert httpx.get(url, headers={"Authorization": f"Bearer {api.token}"}).status_code == 200


def file(header: bytes, length: int | None = None) -> BytesIO:
    return BytesIO(struct.pack("<Q", len(header) if length is None else length) + header)


TENSOR = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "hostile",
    [
        BytesIO(b""),
        BytesIO(b"\x01"),
        file(b"", 0),
        file(b"{}", 1 << 63),
        file(b"[]"),
        file(b"null"),
        file(b"{" * 10_000),
        file(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        file(b"\xff\xfe{}"),
        file(b'{"a": 1}'),
        file(b'{"__metadata__": NaN}'),
        file(b'{"__metadata__": 1e999}'),
        *(file(json.dumps({"a": TENSOR | change}).encode()) for change in (
            {"dtype": None}, {"dtype": ["F32"]}, {"shape": None}, {"shape": "1"}, {"shape": [-1]}, {"shape": [1.5]},
            {"shape": [True]}, {"shape": [10**30]}, {"shape": [1] * 65}, {"data_offsets": None}, {"data_offsets": [0]},
            {"data_offsets": [0, -4]}, {"data_offsets": "04"},
        )),
    ],
)  # fmt: skip
def test_hostile_headers_are_refused(hostile: BytesIO):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        headers.header(hostile)


def test_an_index_is_bounded(monkeypatch: pytest.MonkeyPatch):
    many = json.dumps({"weight_map": {str(n): f"{n}.safetensors" for n in range(headers.SHARDS_LIMIT + 1)}}).encode()
    with pytest.raises(ValueError, match="501 shards"):
        headers.headers(BytesIO(many), lambda name: BytesIO(safetensors(a=[1])))
    with pytest.raises(ValueError, match="more than 33,554,432 bytes"):
        headers.headers(BytesIO(b" " * (headers.INDEX_LIMIT + 1)), lambda name: BytesIO())
    monkeypatch.setattr(headers, "HEADERS_LIMIT", 10)
    one = json.dumps({"weight_map": {"a": "a.safetensors"}}).encode()
    with pytest.raises(ValueError, match="headers of more than 10 bytes"):
        headers.headers(BytesIO(one), lambda name: BytesIO(safetensors(a=[1])))


def test_names_that_utf8_cannot_write_are_answered(hub: HubProcess, api: HfApi):
    api.create_repo("ann/half")
    header = b'{"\\ud800": {"dtype": "\\udfff", "shape": [1], "data_offsets": [0, 4]}}'
    content = struct.pack("<Q", len(header)) + header + bytes(4)
    api.upload_file(path_or_fileobj=content, path_in_repo="model.safetensors", repo_id="ann/half")
    found = httpx.get(f"{hub.endpoint}/api/models/ann/half/safetensors-metadata/model.safetensors").raise_for_status()
    assert list(found.json()["headers"]["model.safetensors"]) == ["\ud800"]
    info = httpx.get(f"{hub.endpoint}/api/models/ann/half").raise_for_status().json()
    assert info["safetensors"] == {"parameters": {"\udfff": 1}, "total": 1}
