"""Rows and Parquet files of datasets, and what reads and writes repositories unmodified: `datasets`, `transformers`,
DuckDB, and the requests that vLLM makes.
"""

import io
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_process import HubProcess
from huggingface_hub import CommitOperationAdd, HfApi, HfFileSystem
from tiny_model import write_tiny_model
from weights import safetensors

ROWS = [{"text": f"row {number}", "label": number % 2} for number in range(25)]


def parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


@pytest.fixture(scope="module")
def dataset(api: HfApi) -> str:
    """Two configurations: `plain` of Parquet in two splits, `lines` of JSON; and a page of CSV that neither names."""
    card = """
    configs:
    - config_name: plain
      data_files:
      - {split: train, path: plain/train-*.parquet}
      - {split: test, path: plain/test.parquet}
    - config_name: lines
      data_files: lines/*.jsonl
    """
    files = {
        "README.md": f"---\n{textwrap.dedent(card)}---\n".encode(),
        "plain/train-0.parquet": parquet(ROWS[:10]),
        "plain/train-1.parquet": parquet(ROWS[10:20]),
        "plain/test.parquet": parquet(ROWS[20:]),
        "lines/a.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
        "other.csv": b"a,b\n1,2\n",
    }
    api.create_repo("ann/tables", repo_type="dataset")
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    api.create_commit("ann/tables", operations, commit_message="files", repo_type="dataset")
    return "ann/tables"


def get(hub: HubProcess, path: str, token: str | None = None, **parameters: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.get(f"{hub.endpoint}/api/datasets/{path}", params=parameters, headers=headers)


# ------------------------------------------------------------ rows


def test_rows_come_with_their_columns_and_count(hub: HubProcess, dataset: str):
    answer = get(hub, f"{dataset}/rows", config="plain", split="train", offset=8, length=4).raise_for_status().json()
    assert answer["features"] == [
        {"feature_idx": 0, "name": "text", "type": {"dtype": "string", "_type": "Value"}},
        {"feature_idx": 1, "name": "label", "type": {"dtype": "int64", "_type": "Value"}},
    ]
    assert answer["rows"] == [
        {"row_idx": number, "row": ROWS[number], "truncated_cells": []} for number in range(8, 12)
    ]
    assert (answer["num_rows_total"], answer["partial"]) == (20, False)


def test_the_first_split_is_shown_unless_another_is_named(hub: HubProcess, dataset: str):
    for parameters, shown in (
        ({}, ("plain", "train")),
        ({"split": "test"}, ("plain", "test")),
        ({"config": "lines"}, ("lines", "train")),
    ):
        answer = get(hub, f"{dataset}/rows", **parameters).raise_for_status().json()
        assert (answer["config"], answer["split"]) == shown
    assert answer["num_rows_total"] == len(answer["rows"]) == 25


def test_splits_are_listed(hub: HubProcess, dataset: str):
    found = get(hub, f"{dataset}/splits").raise_for_status().json()["splits"]
    assert [(split["config"], split["split"], split["format"], len(split["files"])) for split in found] == [
        ("plain", "train", "parquet", 2),
        ("plain", "test", "parquet", 1),
        ("lines", "train", "json", 1),
    ]


@pytest.mark.parametrize(
    ("parameters", "status", "reason"),
    [
        ({"config": "absent"}, 404, "it has plain/train, plain/test, lines/train"),
        ({"config": "lines", "split": "test"}, 404, "no split lines/test"),
        ({"offset": "-1"}, 400, "offset"),
        ({"offset": "9" * 30}, 400, "offset"),
        ({"length": "101"}, 400, "length"),
        ({"length": "many"}, 400, "length"),
    ],
)
def test_rows_that_cannot_be_are_refused(hub: HubProcess, dataset: str, parameters: dict, status: int, reason: str):
    answer = get(hub, f"{dataset}/rows", **parameters)
    assert (answer.status_code, reason in answer.json()["error"]) == (status, True), answer.json()


def test_damaged_files_and_cards_are_said(hub: HubProcess, api: HfApi):
    api.create_repo("ann/damaged", repo_type="dataset")
    put = {"repo_id": "ann/damaged", "repo_type": "dataset"}
    assert get(hub, "ann/damaged/rows").json()["error"].startswith("ann/damaged has no splits")
    api.upload_file(path_or_fileobj=b"PAR1 nothing PAR1", path_in_repo="train.parquet", **put)
    answer = get(hub, "ann/damaged/rows")
    assert (answer.status_code, answer.json()["error"][:38]) == (400, "train.parquet: cannot be read as parqu")
    api.upload_file(path_or_fileobj=b"---\nconfigs: all\n---\n", path_in_repo="README.md", **put)
    for what in ("rows", "splits", "parquet"):
        answer = get(hub, f"ann/damaged/{what}")
        assert (answer.status_code, "README.md: `configs` must be a list" in answer.json()["error"]) == (400, True)


def test_private_rows_are_absent(hub: HubProcess, api: HfApi):
    api.create_repo("ann/private-rows", repo_type="dataset", private=True)
    content = {"path_or_fileobj": parquet(ROWS), "path_in_repo": "train.parquet"}
    api.upload_file(**content, repo_id="ann/private-rows", repo_type="dataset")
    for what in (
        "rows",
        "splits",
        "parquet",
        "parquet/default",
        "parquet/default/train",
        "parquet/default/train/0.parquet",
    ):
        answer = get(hub, f"ann/private-rows/{what}")
        assert (answer.status_code, answer.headers["x-error-code"]) == (404, "RepoNotFound")
    assert get(hub, "ann/private-rows/rows", api.token).json()["num_rows_total"] == 25


# ------------------------------------------------------------ Parquet


def test_parquet_files_are_listed_and_lead_to_their_content(hub: HubProcess, dataset: str):
    base = f"{hub.endpoint}/api/datasets/{dataset}/parquet"
    train, test = (
        [f"{base}/plain/{split}/{n}.parquet" for n in range(count)] for split, count in (("train", 2), ("test", 1))
    )
    assert get(hub, f"{dataset}/parquet").json() == {"plain": {"train": train, "test": test}}
    assert get(hub, f"{dataset}/parquet/plain").json() == {"train": train, "test": test}
    assert get(hub, f"{dataset}/parquet/plain/train").json() == train
    assert httpx.head(train[1]).status_code == 302
    content = httpx.get(train[1], follow_redirects=True).raise_for_status().content
    assert pq.read_table(io.BytesIO(content)).to_pylist() == ROWS[10:20]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("lines", "no configuration 'lines' in Parquet; it has plain"),
        ("plain/absent", "no split 'absent' in Parquet; it has train, test"),
        ("plain/test/1.parquet", "has 1 Parquet files: there is no 1.parquet"),
        ("plain/absent/0.parquet", "no split plain/absent"),
        ("plain/test/x.parquet", "number"),
        ("plain/test/-1.parquet", "there is no -1.parquet"),
    ],
)
def test_parquet_that_is_not_there_is_said(hub: HubProcess, dataset: str, path: str, reason: str):
    answer = get(hub, f"{dataset}/parquet/{path}")
    assert answer.status_code in (400, 404)
    assert reason in answer.json()["error"] or "Nothing at" in answer.json()["error"]


def test_duckdb_reads_over_hf(hub: HubProcess, dataset: str):
    connection = duckdb.connect()
    connection.register_filesystem(HfFileSystem(endpoint=hub.endpoint, token=False))
    query = f"SELECT label, count(*) FROM 'hf://datasets/{dataset}/plain/*.parquet' GROUP BY label ORDER BY label"
    assert connection.sql(query).fetchall() == [(0, 13), (1, 12)]


def test_duckdb_reads_what_is_private_with_a_token_alone(hub: HubProcess, api: HfApi, token: str):
    put = {"repo_id": api.create_repo("ann/duck", repo_type="dataset", private=True).repo_id, "repo_type": "dataset"}
    api.upload_file(path_or_fileobj=parquet(ROWS[:7]), path_in_repo="a/one.parquet", **put)
    first = api.list_repo_commits("ann/duck", repo_type="dataset")[0].commit_id
    api.upload_file(path_or_fileobj=parquet(ROWS[7:]), path_in_repo="b/two.parquet", **put)

    def count(path: str, token: str | bool) -> int:
        connection = duckdb.connect()
        connection.register_filesystem(HfFileSystem(endpoint=hub.endpoint, token=token, skip_instance_cache=True))
        return int(
            connection.sql(f"SELECT count(text) FROM 'hf://datasets/ann/duck{path}/**/*.parquet'").fetchall()[0][0]
        )

    assert (count("", token), count(f"@{first}", token)) == (25, 7)
    with pytest.raises(duckdb.Error):
        count("", False)


# ------------------------------------------------------------ libraries, each in a process of its own


def run(hub: HubProcess, token: str, folder: Path, program: str) -> Any:
    """What a program prints last, as JSON; it knows the hub by HF_ENDPOINT and HF_TOKEN alone."""
    environment = os.environ | {
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": token,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_datasets_loads_whole_and_streaming(hub: HubProcess, api: HfApi, token: str, dataset: str, tmp_path: Path):
    api.create_repo("ann/lines", repo_type="dataset")
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    api.upload_file(path_or_fileobj=lines, path_in_repo="dev.jsonl", repo_id="ann/lines", repo_type="dataset")
    found = run(
        hub,
        token,
        tmp_path,
        f"""
        import json
        from datasets import get_dataset_config_names, load_dataset
        names = get_dataset_config_names("{dataset}")
        whole = load_dataset("{dataset}", "plain")
        lines = load_dataset("ann/lines", split="validation")
        streamed = list(load_dataset("{dataset}", "plain", split="train", streaming=True))
        print(json.dumps([names, {{name: len(split) for name, split in whole.items()}}, lines[3], streamed[12]]))
        """,
    )
    assert found == [["plain", "lines"], {"train": 20, "test": 5}, ROWS[3], ROWS[12]]


def test_datasets_streams_what_is_private_at_a_revision(hub: HubProcess, api: HfApi, token: str, tmp_path: Path):
    put = {
        "repo_id": api.create_repo("ann/streamed", repo_type="dataset", private=True).repo_id,
        "repo_type": "dataset",
    }
    for number in range(3):
        lines = "".join(json.dumps(row) + "\n" for row in ROWS[number * 8 : number * 8 + 8]).encode()
        api.upload_file(path_or_fileobj=lines, path_in_repo=f"train-{number}.jsonl", **put)
    api.create_tag(put["repo_id"], tag="v1", repo_type="dataset")
    api.delete_file("train-2.jsonl", **put)
    program = """
        import json
        from datasets import load_dataset
        old, new = (load_dataset("ann/streamed", split="train", streaming=True, revision=r) for r in ("v1", "main"))
        shards = [len(list(old.shard(num_shards=3, index=index))) for index in range(3)]
        state = iter(new.skip(5).shuffle(seed=1, buffer_size=4))
        print(json.dumps([sum(1 for _ in old), shards, list(old.skip(15).take(2)), len(list(state))]))
    """
    assert run(hub, token, tmp_path, program) == [24, [8, 8, 8], ROWS[15:17], 11]


def test_datasets_pushes_and_loads_again(hub: HubProcess, token: str, tmp_path: Path):
    found = run(
        hub,
        token,
        tmp_path,
        f"""
        import json
        from datasets import Dataset, DatasetDict, load_dataset
        rows = {ROWS!r}
        DatasetDict(train=Dataset.from_list(rows[:20]), test=Dataset.from_list(rows[20:])).push_to_hub("ann/pushed")
        Dataset.from_list(rows[:3]).push_to_hub("ann/pushed", "small", split="validation")
        whole, small = load_dataset("ann/pushed"), load_dataset("ann/pushed", "small", split="validation")
        print(json.dumps([len(whole["train"]), whole["test"][0], len(small)]))
        """,
    )
    assert found == [20, ROWS[20], 3]
    listed = get(hub, "ann/pushed/parquet").json()
    assert {config: list(splits) for config, splits in listed.items()} == {
        "default": ["train", "test"],
        "small": ["validation"],
    }
    rows = get(hub, "ann/pushed/rows", config="default", split="test", length=1).json()
    assert (rows["rows"][0]["row"], rows["num_rows_total"]) == (ROWS[20], 5)


def test_transformers_pushes_and_loads_again(hub: HubProcess, token: str, api: HfApi, tmp_path: Path):
    write_tiny_model(tmp_path / "tiny")
    found = run(
        hub,
        token,
        tmp_path,
        """
        import json, torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        model, tokenizer = AutoModelForCausalLM.from_pretrained("tiny"), AutoTokenizer.from_pretrained("tiny")
        model.push_to_hub("ann/tiny-model")
        tokenizer.push_to_hub("ann/tiny-model")
        again = AutoModelForCausalLM.from_pretrained("ann/tiny-model")
        words = AutoTokenizer.from_pretrained("ann/tiny-model")("a word of text", return_tensors="pt")
        same = torch.equal(again(**words).logits, model(**words).logits)
        print(json.dumps([same, sum(p.numel() for p in again.parameters())]))
        """,
    )
    info = api.model_info("ann/tiny-model", expand=["safetensors", "pipeline_tag", "library_name"])
    assert found == [True, info.safetensors.total]
    assert (info.pipeline_tag, info.library_name) == ("text-generation", "transformers")


# ------------------------------------------------------------ what vLLM asks of a hub


def test_what_vllm_asks_of_a_hub_before_it_loads_a_model(hub: HubProcess, token: str, api: HfApi, tmp_path: Path):
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    files = {
        "config.json": b'{"model_type": "llama"}',
        shards[0]: safetensors(a=[4, 4]),
        shards[1]: safetensors(b=[2]),
        "model.safetensors.index.json": json.dumps({"weight_map": dict(zip("ab", shards, strict=True))}).encode(),
        "original/consolidated.00.safetensors": safetensors(a=[9]),
        "pytorch_model.bin": bytes(100),
    }
    api.create_repo("ann/for-vllm", private=True)
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    commit = api.create_commit("ann/for-vllm", operations, commit_message="weights").oid
    api.create_tag("ann/for-vllm", tag="v1")
    api.upload_file(path_or_fileobj=b"of later", path_in_repo=shards[0], repo_id="ann/for-vllm")
    found = run(
        hub,
        token,
        tmp_path,
        """
        import fnmatch, json, os
        from huggingface_hub import HfApi, HfFileSystem, _CACHED_NO_EXIST, try_to_load_from_cache
        from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError
        said = {"library_name": "vllm", "library_version": "0.20.0"}
        api, name = HfApi(**said), "ann/for-vllm"
        revision = api.resolve_revision(name, revision="v1", local_files_only=False, token=None)
        listed = api.list_repo_files(name, revision=revision, repo_type=None, token=None)
        mistral = [file for file in listed if fnmatch.fnmatch(os.path.basename(file), "consolidated*.safetensors")]
        config = json.load(open(api.hf_hub_download(name, "config.json", revision=revision)))
        try:
            api.hf_hub_download(name, "adapter_config.json", revision=revision)
        except EntryNotFoundError:
            absent = try_to_load_from_cache(name, "adapter_config.json", revision=revision) is _CACHED_NO_EXIST
        seen = HfFileSystem(**said).ls(name, detail=False, revision=revision)
        index = json.load(open(api.hf_hub_download(name, "model.safetensors.index.json", revision=revision)))
        wanted = sorted(set(index["weight_map"].values()))
        chosen = {"allow_patterns": wanted, "ignore_patterns": ["original/**/*"]}
        folder = api.snapshot_download(name, **chosen, revision=revision)
        weights = {file: os.path.getsize(os.path.join(folder, file)) for file in wanted}
        metadata = api.get_safetensors_metadata(name, revision=revision)
        again = api.snapshot_download(name, **chosen, revision=revision, local_files_only=True)
        try:
            HfApi(token=False).list_repo_files(name)
        except RepositoryNotFoundError as error:
            hidden = error.response.status_code
        print(json.dumps([
            os.path.basename(folder), sorted(listed), mistral, config, absent, sorted(seen), weights,
            metadata.parameter_count, again == folder, sorted(os.listdir(folder)), hidden,
        ]))
        """,
    )
    folder, listed, mistral, config, absent, seen, weights, parameters, again, kept, hidden = found
    assert folder == commit
    assert listed == sorted([".gitattributes", *files])
    assert mistral == ["original/consolidated.00.safetensors"]
    assert (config, absent, hidden) == ({"model_type": "llama"}, True, 404)
    assert seen == sorted(
        f"ann/for-vllm@v1/{path}" for path in (".gitattributes", "original", *files) if "/" not in path
    )
    assert weights == {name: len(files[name]) for name in shards}
    assert (parameters, again) == ({"F32": 18}, True)
    assert kept == sorted(["config.json", "model.safetensors.index.json", *shards])
