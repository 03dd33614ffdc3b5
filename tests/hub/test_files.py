"""Downloads: by plain HTTP, by the client, and by the libraries that load models and data."""

import hashlib
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from hub_process import HubProcess
from huggingface_hub import HfApi, HfFileSystem, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from hypothesis import given
from hypothesis import strategies as st

from lmcommons.hub.api.content import parse_range
from lmcommons.hub.errors import RangeNotSatisfiable
from lmcommons.hub.repos.git import AddLfs, GitRepository

LARGE = random.Random(0).randbytes(3 << 20)
SHA256 = hashlib.sha256(LARGE).hexdigest()
NAME = "häß & \"o'.txt"


@pytest.fixture(scope="module")
def repo_id(api: HfApi, new_repository: Callable[..., str]) -> str:
    """A public model repository with a large, a small, an empty and an oddly named file."""
    repo_id = new_repository()
    api.upload_file(path_or_fileobj=LARGE, path_in_repo="w.bin", repo_id=repo_id)
    api.upload_file(path_or_fileobj=b"0123456789", path_in_repo=f"d/{NAME}", repo_id=repo_id)
    api.upload_file(path_or_fileobj=b"", path_in_repo="empty.txt", repo_id=repo_id)
    return repo_id


@pytest.fixture(scope="module")
def get(hub: HubProcess, repo_id: str) -> Callable[..., httpx.Response]:
    """HEAD or GET of a file of the repository at main, as nobody; the content from wherever the hub leads."""

    def get(path: str, method: str = "GET", **headers: str) -> httpx.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        address = f"{hub.endpoint}/{repo_id}/resolve/main/{path}"
        return httpx.request(method, address, headers=given, follow_redirects=method == "GET")

    return get


def test_a_large_file_is_described_by_its_sha256(api: HfApi, repo_id: str, get: Callable[..., httpx.Response]) -> None:
    for method, body in (("HEAD", b""), ("GET", LARGE)):
        answer = get("w.bin", method)
        assert answer.content == body
        assert answer.headers["Accept-Ranges"] == "bytes"
        first = answer.history[0] if answer.history else answer
        assert first.headers["X-Repo-Commit"] == api.repo_info(repo_id).sha
        assert first.headers["ETag"] == first.headers["X-Linked-Etag"] == f'"{SHA256}"'
        assert first.headers["X-Linked-Size"] == str(len(LARGE))
        assert "x-xet-hash" not in first.headers


@pytest.mark.embedded("a bucket sends the content, and its length")
def test_the_length_of_a_large_file_is_told(get: Callable[..., httpx.Response]) -> None:
    for method in ("HEAD", "GET"):
        answer = get("w.bin", method)
        assert (answer.status_code, answer.headers["Content-Length"]) == (200, str(len(LARGE)))


def test_a_small_file_is_described_by_its_git_id(get: Callable[..., httpx.Response]) -> None:
    for method, body in (("HEAD", b""), ("GET", b"0123456789")):
        answer = get(f"d/{NAME}", method)
        assert answer.content == body
        assert answer.headers["ETag"] == f'"{hashlib.sha1(b"blob 10" + bytes(1) + b"0123456789").hexdigest()}"'
        assert answer.headers["Content-Length"] == "10"
        assert "x-linked-size" not in answer.headers


def test_raw_is_what_git_holds(hub: HubProcess, repo_id: str) -> None:
    answer = httpx.get(f"{hub.endpoint}/{repo_id}/raw/main/w.bin")
    assert answer.text == f"version https://git-lfs.github.com/spec/v1\noid sha256:{SHA256}\nsize {len(LARGE)}\n"
    assert answer.headers["Content-Length"] == str(len(answer.content))


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [("bytes=0-0", 0, 1), ("bytes=5-", 5, None), ("bytes=-3", -3, None), ("bytes=2-99999999", 2, None)],
)
def test_a_range_is_answered_with_that_part(
    get: Callable[..., httpx.Response], wanted: str, start: int, stop: int | None
) -> None:
    for path, content in (("w.bin", LARGE), (f"d/{NAME}", b"0123456789")):
        answer = get(path, Range=wanted)
        assert answer.status_code == 206
        assert answer.content == content[start:stop]
        first = start % len(content)
        last = first + len(answer.content) - 1
        assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(content)}"


@pytest.mark.parametrize("wanted", ["bytes=99999999-", "bytes=-0"])
def test_a_range_past_the_end_is_416(get: Callable[..., httpx.Response], wanted: str) -> None:
    for path, size in (("w.bin", len(LARGE)), (f"d/{NAME}", 10), ("empty.txt", 0)):
        answer = get(path, Range=wanted)
        assert answer.status_code == 416
        assert answer.headers["Content-Range"] == f"bytes */{size}"


@pytest.mark.parametrize("wanted", ["bytes=0-1,3-4", "lines=1-2", "bytes=5-2", "bytes=-", "bytes=a-b", "bytes"])
def test_a_range_that_is_not_understood_is_ignored(get: Callable[..., httpx.Response], wanted: str) -> None:
    answer = get(f"d/{NAME}", Range=wanted)
    assert (answer.status_code, answer.content) == (200, b"0123456789")


@pytest.mark.embedded("a bucket sends the content, and compares it with its own tag")
def test_a_range_of_other_content_is_ignored(get: Callable[..., httpx.Response]) -> None:
    tag = get("w.bin", "HEAD").headers["ETag"]
    assert get("w.bin", Range="bytes=0-1", If_Range=tag).status_code == 206
    assert get("w.bin", Range="bytes=0-1", If_Range='"other"').status_code == 200


@given(st.integers(0, 60), st.integers(0, 80), st.integers(0, 80))
def test_ranges_are_slices(size: int, first: int, last: int) -> None:
    content = bytes(range(size))
    for header, expected in (
        (f"bytes={first}-{last}", content[first : last + 1]),
        (f"bytes={first}-", content[first:]),
        (f"bytes=-{last}", content[-last:] if last else b""),
    ):
        try:
            found = parse_range(header, size)
        except RangeNotSatisfiable:
            assert expected == b""
            continue
        if found is None:
            assert last < first
        else:
            assert content[slice(*found)] == expected != b""


@given(st.text(max_size=30))
def test_any_text_may_stand_where_a_range_does(text: str) -> None:
    for header in (text, f"bytes={text}"):
        try:
            found = parse_range(header, 100)
        except RangeNotSatisfiable:
            continue
        assert found is None or 0 <= found[0] < found[1] <= 100


def test_content_that_is_known_is_not_sent_again(get: Callable[..., httpx.Response]) -> None:
    tag = get("w.bin", "HEAD").headers["ETag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = get("w.bin", If_None_Match=known)
        assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", tag)
    assert get("w.bin", If_None_Match='"other"').status_code == 200


def test_a_name_survives_the_download_header(get: Callable[..., httpx.Response]) -> None:
    disposition = get(f"d/{NAME}", "HEAD").headers["Content-Disposition"]
    assert disposition == ("inline; filename*=UTF-8''h%C3%A4%C3%9F%20%26%20%22o%27.txt; filename=\"h__ & _o'.txt\"")
    assert get("w.bin?download=true", "HEAD").headers["Content-Disposition"].startswith("attachment;")


def test_no_file_becomes_a_page_of_the_hub(hub: HubProcess, api: HfApi, new_repository: Callable[..., str]) -> None:
    repo_id = new_repository()
    script = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    for path in ("page.html", "page.HTM", "image.svg", "page.xhtml", "page"):
        api.upload_file(path_or_fileobj=script, path_in_repo=path, repo_id=repo_id)
        for door in ("resolve", "raw"):
            answer = httpx.get(f"{hub.endpoint}/{repo_id}/{door}/main/{path}")
            assert answer.content == script
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert re.search(r"default-src 'none';.* sandbox$", answer.headers["Content-Security-Policy"])
            assert answer.headers["Content-Type"].split(";")[0] in (
                "text/plain",
                "application/octet-stream",
                "image/svg+xml",
            )


def test_what_is_absent_is_named_by_its_code(hub: HubProcess, api: HfApi, repo_id: str) -> None:
    commit = api.repo_info(repo_id).sha
    for path, code in (
        (f"{repo_id}/resolve/main/nope.txt", "EntryNotFound"),
        (f"{repo_id}/resolve/main/d", "EntryNotFound"),
        (f"{repo_id}/resolve/main/", "EntryNotFound"),
        (f"{repo_id}/resolve/main/w.bin/x", "EntryNotFound"),
        (f"{repo_id}/resolve/nope/w.bin", "RevisionNotFound"),
        (f"{repo_id}/raw/main%00/w.bin", "RevisionNotFound"),
        ("ann/nope/resolve/main/w.bin", "RepoNotFound"),
        ("nope/resolve/main/w.bin", "RepoNotFound"),
        (f"datasets/{repo_id}/resolve/main/w.bin", "RepoNotFound"),
    ):
        answer = httpx.get(f"{hub.endpoint}/{path}")
        assert (answer.status_code, answer.headers.get("X-Error-Code")) == (404, code), path
        assert answer.headers.get("X-Repo-Commit") == (commit if code == "EntryNotFound" else None), path
    assert httpx.get(f"{hub.endpoint}/{repo_id}/resolve/main/%ff").status_code == 400
    quoted = repo_id.replace("/", "%2F")
    for path in (
        f"{quoted}/resolve/main/w.bin",
        f"{quoted}%2Fresolve%2Fmain/w.bin",
        f"api/models/{quoted}/tree/main",
        f"api/models/{quoted}%2Fcommits%2Fmain",
    ):
        assert httpx.get(f"{hub.endpoint}/{path}").status_code in (200, 404), path


def test_the_client_raises_what_it_should(api: HfApi, repo_id: str, tmp_path: Path) -> None:
    for repository, revision, path, error in (
        (repo_id, None, "nope.txt", EntryNotFoundError),
        (repo_id, "nope", "w.bin", RevisionNotFoundError),
        ("ann/nope", None, "w.bin", RepositoryNotFoundError),
    ):
        with pytest.raises(error):
            api.hf_hub_download(repository, path, revision=revision, cache_dir=tmp_path)
    # An absent file is remembered with the commit, and the hub is not asked again.
    with pytest.raises(LocalEntryNotFoundError):
        api.hf_hub_download(repo_id, "other.txt", cache_dir=tmp_path, local_files_only=True)
    assert list(tmp_path.glob("models--*/.no_exist/*/nope.txt"))


def test_private_files_are_absent_for_others(
    hub: HubProcess, api: HfApi, token: str, new_repository: Callable[..., str]
) -> None:
    repo_id = new_repository(private=True)
    api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=repo_id)
    url = f"{hub.endpoint}/{repo_id}/resolve/main/a.txt"
    other = hub.add_user(f"other-{repo_id.split('/')[1]}")
    for headers in ({}, {"Authorization": f"Bearer {other}"}):
        answer = httpx.get(url, headers=headers)
        assert answer.status_code in (401, 404)
        assert answer.headers["X-Error-Code"] == "RepoNotFound"
    assert httpx.get(url, headers={"Authorization": f"Bearer {token}"}).text == "x"
    assert httpx.get(url, headers={"Authorization": "Bearer hf_wrong"}).status_code == 401


def test_the_client_downloads_what_was_uploaded(api: HfApi, repo_id: str, tmp_path: Path) -> None:
    folder = Path(api.snapshot_download(repo_id, cache_dir=tmp_path))
    assert (folder / "w.bin").read_bytes() == LARGE
    assert (folder / "d" / NAME).read_text() == "0123456789"
    assert (folder / "empty.txt").read_bytes() == b""
    assert folder.name == api.repo_info(repo_id).sha
    assert Path(api.hf_hub_download(repo_id, "w.bin", cache_dir=tmp_path)).read_bytes() == LARGE


def test_a_download_that_was_cut_off_is_resumed(hub: HubProcess, repo_id: str, tmp_path: Path) -> None:
    with (tmp_path / "w.bin").open("w+b") as file:
        file.write(LARGE[:1_000_000])
        url = f"{hub.endpoint}/{repo_id}/resolve/main/w.bin"
        http_get(url, file, resume_size=1_000_000, expected_size=len(LARGE), headers={})
    assert (tmp_path / "w.bin").read_bytes() == LARGE


def test_revisions_with_slashes_are_read(hub: HubProcess, api: HfApi, repo_id: str, tmp_path: Path) -> None:
    api.create_branch(repo_id, branch="feature/deep/er")
    api.upload_file(path_or_fileobj=b"there", path_in_repo="d/n.txt", repo_id=repo_id, revision="feature/deep/er")
    path = api.hf_hub_download(repo_id, "d/n.txt", revision="feature/deep/er", cache_dir=tmp_path)
    assert Path(path).read_bytes() == b"there"
    assert httpx.get(f"{hub.endpoint}/{repo_id}/resolve/refs%2Fheads%2Fmain/empty.txt").status_code == 200


def test_the_file_system_reads_pieces(hub: HubProcess, token: str, repo_id: str) -> None:
    files = HfFileSystem(endpoint=hub.endpoint, token=token)
    assert sorted(files.ls(repo_id, detail=False)) == [
        f"{repo_id}/.gitattributes",
        f"{repo_id}/d",
        f"{repo_id}/empty.txt",
        f"{repo_id}/w.bin",
    ]
    with files.open(f"{repo_id}/w.bin", block_size=1 << 16) as file:
        file.seek(1_000_000)
        assert file.read(100) == LARGE[1_000_000:1_000_100]
    assert files.cat_file(f"{repo_id}/d/{NAME}") == b"0123456789"


def test_downloads_are_counted(api: HfApi, new_repository: Callable[..., str], tmp_path: Path) -> None:
    repo_id = new_repository()
    for path, content in (("config.json", b"{}"), ("README.md", b"---\nlicense: mit\n---\n")):
        api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=repo_id)
    before = api.model_info(repo_id).downloads
    api.snapshot_download(repo_id, cache_dir=tmp_path)
    assert api.model_info(repo_id).downloads == before + 1


def test_a_pointer_to_what_the_repository_was_never_given_is_no_way_in(
    hub: HubProcess, api: HfApi, token: str, new_repository: Callable[..., str], tmp_path: Path
) -> None:
    secret, other = new_repository(private=True), new_repository()
    api.upload_file(path_or_fileobj=LARGE[:1000], path_in_repo="s.bin", repo_id=secret)
    sha256 = hashlib.sha256(LARGE[:1000]).hexdigest()
    # Put the pointer into git behind the hub's back, as a push might.
    commit = api.upload_file(path_or_fileobj=other.encode(), path_in_repo="a.txt", repo_id=other).oid
    [path] = [path for path in (hub.data / "repositories").glob("*/*.git") if commit_is_in(path, commit)]
    GitRepository(path).commit(
        "main", [AddLfs("s.bin", sha256, 1000)], message="x", author_name="eve", author_email="e@x"
    )
    answer = httpx.get(f"{hub.endpoint}/{other}/resolve/main/s.bin", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.headers["X-Error-Code"]) == (404, "EntryNotFound")


def commit_is_in(repository: Path, commit: str) -> bool:
    return subprocess.run(["git", "-C", repository, "cat-file", "-e", commit], capture_output=True).returncode == 0


@pytest.mark.embedded("a bucket sends the content")
def test_a_large_download_takes_no_memory(hub: HubProcess, api: HfApi, new_repository: Callable[..., str]) -> None:
    repo_id = new_repository()
    size = 200 << 20
    content = LARGE * (size // len(LARGE) + 1)
    api.upload_file(path_or_fileobj=content[:size], path_in_repo="big.bin", repo_id=repo_id)
    process = Path(f"/proc/{hub.process.pid}")

    def taken() -> int:
        (process / "clear_refs").write_text("5")  # begin a new peak
        before = peak_memory(process)
        digest = hashlib.sha256()
        with httpx.stream("GET", f"{hub.endpoint}/{repo_id}/resolve/main/big.bin") as answer:
            for block in answer.iter_bytes(1 << 20):
                digest.update(block)
        assert digest.hexdigest() == hashlib.sha256(content[:size]).hexdigest()
        return peak_memory(process) - before

    # What other tests left to do for the hub may fall into one of them.
    assert any(taken() < 40 << 20 for _ in range(3))


def peak_memory(process: Path) -> int:
    """Most bytes that the process has had in memory."""
    found = re.search(r"VmHWM:\s+(\d+) kB", (process / "status").read_text())
    assert found
    return int(found[1]) << 10


MODEL = """
import sys
from huggingface_hub import HfApi
import tempfile, torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from tokenizers import Tokenizer, models, pre_tokenizers
repo_id = sys.argv[1]
config = LlamaConfig(vocab_size=300, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
model = LlamaForCausalLM(config).eval()
inner = Tokenizer(models.WordLevel({"hello": 0, "there": 1, "[UNK]": 2}, unk_token="[UNK]"))
inner.pre_tokenizer = pre_tokenizers.Whitespace()
with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]").save_pretrained(folder)
    HfApi().upload_folder(repo_id=repo_id, folder_path=folder)
tokens = AutoTokenizer.from_pretrained(repo_id)("hello there", return_tensors="pt").input_ids
assert tokens.tolist() == [[0, 1]], tokens
loaded = AutoModelForCausalLM.from_pretrained(repo_id).eval()
with torch.no_grad():
    assert torch.equal(loaded(tokens).logits, model(tokens).logits)
"""

DATASET = """
import sys, io
import datasets, pyarrow as pa, pyarrow.parquet as pq
from huggingface_hub import HfApi
repo_id = sys.argv[1]
for split, texts in (("train", ["a", "b"]), ("test", ["c"])):
    file = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), file)
    HfApi().upload_file(path_or_fileobj=file.getvalue(), path_in_repo=f"data/{split}-00000-of-00001.parquet",
                        repo_id=repo_id, repo_type="dataset")
found = datasets.load_dataset(repo_id)
assert found["train"]["text"][:] == ["a", "b"] and found["test"]["text"][:] == ["c"], found
streamed = datasets.load_dataset(repo_id, split="train", streaming=True)
assert [row["text"] for row in streamed] == ["a", "b"]
"""


@pytest.mark.parametrize(("repo_type", "program"), [("model", MODEL), ("dataset", DATASET)])
def test_libraries_load_what_was_uploaded(
    hub: HubProcess, token: str, new_repository: Callable[..., str], tmp_path: Path, repo_type: str, program: str
) -> None:
    environment = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": token,
        "HF_HOME": str(tmp_path),
        "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "2",
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", program, new_repository(repo_type)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_snapshot_of_one_pattern_takes_only_that(hub: HubProcess, repo_id: str, tmp_path: Path) -> None:
    snapshot_download(repo_id, endpoint=hub.endpoint, allow_patterns="*.txt", local_dir=tmp_path)
    assert {path.name for path in tmp_path.rglob("*.txt")} == {NAME, "empty.txt"}
    assert not (tmp_path / "w.bin").exists()
