"""What stands under "Use this model" and "Use this dataset", typed by a reader who has nothing but the page."""

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import unescape
from importlib.util import find_spec
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import Browser
from hub_process import PATIENCE, HubProcess, free_port, start_hub
from huggingface_hub import HfApi, constants, snapshot_download
from tiny_model import write_tiny_model
from tiny_transformers import write_bert, write_marian
from transformers import (
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
)

from lmcommons.cli import main

PASSWORD = "correct horse battery"
EMBEDS = """---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
---
"""
OF_TASKS: dict[str, Callable[[Path], object]] = {
    "fill": lambda directory: write_bert(directory, BertForMaskedLM),
    "classify": lambda directory: write_bert(directory, BertForSequenceClassification, id2label={0: "x", 1: "y"}),
    "tag": lambda directory: write_bert(directory, BertForTokenClassification, id2label={0: "O", 1: "NAME"}),
    "answer": lambda directory: write_bert(directory, BertForQuestionAnswering),
    "translate": write_marian,
}


@dataclass
class Site:
    """A hub with models and datasets of ann, who looks at their pages."""

    hub: HubProcess
    token: str
    ann: Browser
    folder: Path

    def snippets(self, path: str) -> tuple[dict[str, str], dict[str, str]]:
        """The variables that a page says to export, and its snippets by their headings."""
        page = self.ann.get(path).text
        exports = re.search(r"<pre><code>(export HF_ENDPOINT=.*?)</code></pre>", page, re.DOTALL)
        assert exports is not None
        variables = dict(line.removeprefix("export ").split("=", 1) for line in exports[1].splitlines() if line)
        found = re.findall(r"<summary>([^<]*)</summary><pre><code>(.*?)</code></pre>", page, re.DOTALL)
        return variables, {name: unescape(text) for name, text in found}

    def run(self, path: str, name: str) -> str:
        """What a snippet of a page prints, in an empty folder."""
        variables, snippets = self.snippets(path)
        return self.shell(variables, snippets[name], python=snippets[name].startswith(("from", "import")))

    def shell(self, variables: dict[str, str], text: str, *, python: bool = False) -> str:
        command = [sys.executable, "-c", text] if python else ["bash", "-ec", text]
        done = subprocess.run(
            command, env=self.environment(variables), cwd=self.folder, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def environment(self, variables: dict[str, str]) -> dict[str, str]:
        if "HF_TOKEN" in variables:
            variables = {**variables, "HF_TOKEN": self.token}
        found = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**found, "PATH": path, "HOME": str(self.folder), "HF_HOME": str(self.folder / "hf"), **variables}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("snippets")
    with start_hub(folder / "hub") as hub:
        token = hub.add_user("ann")
        with hub.rooms() as rooms:
            rooms.sign_in.set_password("ann", PASSWORD)
        api = HfApi(hub.endpoint, token=token)
        tiny = write_tiny_model(folder / "tiny")
        for name, private in (("tiny", False), ("hidden", True)):
            api.create_repo(f"ann/{name}", private=private)
            api.upload_folder(repo_id=f"ann/{name}", folder_path=tiny)
        for name, write in OF_TASKS.items():
            write(folder / name)
            api.create_repo(f"ann/{name}")
            api.upload_folder(repo_id=f"ann/{name}", folder_path=folder / name)
        write_bert(folder / "embeds", BertModel)
        (folder / "embeds" / "README.md").write_text(EMBEDS)
        api.create_repo("ann/embeds")
        api.upload_folder(repo_id="ann/embeds", folder_path=folder / "embeds")
        rows = io.BytesIO()
        pq.write_table(pa.table({"text": [f"row {number}" for number in range(7)]}), rows)
        api.create_repo("ann/rows", repo_type="dataset")
        api.upload_file(
            path_or_fileobj=rows.getvalue(), path_in_repo="data/train.parquet", repo_id="ann/rows", repo_type="dataset"
        )
        ann = Browser(hub)
        ann.sign_in("ann", PASSWORD)
        yield Site(hub, token, ann, folder)


@pytest.fixture(autouse=True)
def empty_folder(site: Site, tmp_path: Path) -> None:
    site.folder = tmp_path


def test_every_snippet_has_a_test(site: Site):
    paths = ("/ann/tiny", "/ann/fill", "/ann/embeds", "/datasets/ann/rows")
    found = {path: list(site.snippets(path)[1]) for path in paths}
    assert found == {
        "/ann/tiny": ["transformers", "lmc", "vLLM", "git", "hf", "curl"],
        "/ann/fill": ["transformers", "lmc", "git", "hf", "curl"],
        "/ann/embeds": ["sentence-transformers", "git", "hf", "curl"],
        "/datasets/ann/rows": ["datasets", "DuckDB", "git", "hf"],
    }
    assert "HF_TOKEN" in site.snippets("/ann/hidden")[0]
    assert "HF_TOKEN" not in site.snippets("/ann/tiny")[0]


@pytest.mark.parametrize("path", ["/ann/tiny", "/ann/hidden"])
def test_a_causal_model_speaks_by_transformers(site: Site, path: str):
    assert site.run(path, "transformers").startswith("The ")


def test_another_model_is_loaded_by_the_class_for_its_task(site: Site):
    assert "AutoModelForMaskedLM" in site.snippets("/ann/fill")[1]["transformers"]
    site.run("/ann/fill", "transformers")


@pytest.mark.skipif(find_spec("sentence_transformers") is None, reason="sentence-transformers is missing")
def test_a_model_of_sentence_transformers_makes_vectors(site: Site):
    assert site.run("/ann/embeds", "sentence-transformers").strip() == "(1, 32)"


@pytest.mark.parametrize("name", OF_TASKS)
def test_every_task_has_its_command(
    site: Site, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    variables, snippets = site.snippets(f"/ann/{name}")
    monkeypatch.setenv("HF_ENDPOINT", variables["HF_ENDPOINT"])
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(site.folder))
    program, *words = shlex.split(snippets["lmc"])
    assert (program, main.run(words)) == ("lmc", 0)
    assert capsys.readouterr().out.strip()


def test_a_model_speaks_and_is_served_by_lmc(site: Site):
    variables, snippets = site.snippets("/ann/tiny")
    generate, serve = snippets["lmc"].splitlines()
    assert site.shell(variables, generate)
    port = free_port()
    command = serve.replace("8001", str(port)).split()
    process = subprocess.Popen(command, env=site.environment(variables), cwd=site.folder, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 240
        while True:
            try:
                served = httpx.get(f"http://127.0.0.1:{port}/v1/models").json()
                break
            except httpx.TransportError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.3)
    finally:
        process.terminate()
        process.wait(PATIENCE)
    assert served["data"][0]["id"] == "ann/tiny"


def test_vllm_gets_the_files_that_it_asks_for(site: Site, monkeypatch: pytest.MonkeyPatch):
    variables, snippets = site.snippets("/ann/tiny")
    name = snippets["vLLM"].removeprefix("vllm serve ").split()[0]
    api = HfApi(variables["HF_ENDPOINT"], token=False, library_name="vllm")
    listed = api.list_repo_files(name)
    assert {"config.json", "tokenizer.json", "model.safetensors"} <= set(listed)
    patterns = {"allow_patterns": ["*.safetensors", "*.json"], "ignore_patterns": ["original/**/*"]}
    folder = snapshot_download(name, endpoint=api.endpoint, cache_dir=site.folder, token=False, **patterns)
    assert (Path(folder) / "model.safetensors").stat().st_size > 0
    assert api.get_safetensors_metadata(name).parameter_count


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is missing")
@pytest.mark.parametrize(
    ("path", "file"), [("/ann/tiny", "model.safetensors"), ("/datasets/ann/rows", "data/train.parquet")]
)
def test_a_repository_is_cloned(site: Site, path: str, file: str):
    site.run(path, "git")
    cloned = site.folder / Path(path).name / file
    assert cloned.stat().st_size > 400  # more than a pointer


@pytest.mark.parametrize("path", ["/ann/tiny", "/ann/hidden", "/datasets/ann/rows"])
def test_a_repository_is_downloaded_by_hf(site: Site, path: str):
    said = re.search(r"/\S+/snapshots/\w+", site.run(path, "hf"))
    assert said is not None
    assert len(list(Path(said[0]).iterdir())) > 1


@pytest.mark.parametrize("path", ["/ann/tiny", "/ann/hidden"])
def test_a_file_is_fetched_by_curl(site: Site, path: str):
    site.run(path, "curl")
    (file,) = site.folder.iterdir()
    assert file.name in httpx.get(f"{site.hub.endpoint}/ann/tiny/tree/main").text
    assert b"Repository not found" not in file.read_bytes()


def test_a_dataset_is_loaded_by_datasets_and_read_by_duckdb(site: Site):
    assert "num_rows: 7" in site.run("/datasets/ann/rows", "datasets")
    assert "row 4" in site.run("/datasets/ann/rows", "DuckDB")


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is missing")
def test_an_empty_repository_says_how_to_begin_with_hf_and_with_git(site: Site):
    site.ann.submit(site.ann.get("/new"), "/new", type="model", owner="ann", name="begun")
    page = site.ann.get("/ann/begun").text
    by_hf, by_git = (unescape(text) for text in re.findall(r"<pre><code>(.*?)</code></pre>", page, re.DOTALL))
    (site.folder / "my-folder").mkdir()
    (site.folder / "my-folder" / "a.txt").write_text("by hf")
    login = next(line for line in by_hf.splitlines() if line.startswith("hf auth login"))
    site.shell({"HF_TOKEN": "mine"}, by_hf.replace(login, ""))
    answers = site.folder / "answers.sh"
    answers.write_text(f"#!/bin/sh\necho {site.token}\n")
    answers.chmod(0o700)
    settings = {"GIT_ASKPASS": str(answers), "GIT_AUTHOR_NAME": "ann", "GIT_AUTHOR_EMAIL": "ann@example.org"}
    settings |= {"GIT_COMMITTER_NAME": "ann", "GIT_COMMITTER_EMAIL": "ann@example.org"}
    site.shell(settings, by_git.replace("# put your files here, then", "echo by git > b.txt"))
    listed = HfApi(site.hub.endpoint, token=site.token).list_repo_files("ann/begun")
    assert listed == [".gitattributes", "a.txt", "b.txt"]
