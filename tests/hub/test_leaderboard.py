"""Evaluation results of models, and the leaderboards that they make, through the real client."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml
from hub_process import HubProcess, start_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, DatasetLeaderboardEntry, EvalResultEntry, HfApi
from huggingface_hub._eval_results import eval_result_entries_to_yaml
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.hf_api import Organization, User
from hypothesis import given
from hypothesis import strategies as st

from lmcommons.hub.repos.leaderboards import open_places

ENDS = st.lists(st.integers(0, 9), min_size=2, max_size=2).map(lambda ends: (min(ends), max(ends)))

BENCHMARK = """
name: Exam
tasks:
- {id: all, config: default, split: test}
- {id: perplexity, higher_is_better: false}
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with start_hub(tmp_path_factory.mktemp("leaderboard")) as running:
        yield running


@pytest.fixture(scope="module")
def apis(hub: HubProcess) -> dict[str, HfApi]:
    tokens = {name: hub.add_user(name) for name in ("ada", "ben")}
    hub.add_organisation("lab", "--fullname", "The Lab", "--member", "ada:write")
    return {name: HfApi(hub.endpoint, token=token) for name, token in tokens.items()} | {
        "": HfApi(hub.endpoint, token=False)
    }


@pytest.fixture
def exam(apis: dict[str, HfApi], request: pytest.FixtureRequest) -> str:
    """A benchmark of its own for each test."""
    name = f"ada/exam{abs(hash(request.node.nodeid)) % 10**12}"
    api = apis["ada"]
    api.create_repo(name, repo_type="dataset")
    api.upload_file(path_or_fileobj=BENCHMARK.encode(), path_in_repo="eval.yaml", repo_id=name, repo_type="dataset")
    return name


def results(exam: str, value: float, task: str = "all", **more: Any) -> bytes:
    return yaml.dump(eval_result_entries_to_yaml([EvalResultEntry(exam, task, value, **more)])).encode()


def model(apis: dict[str, HfApi], name: str, *contents: bytes, card: str = "", **settings: Any) -> str:
    """A model with files of results 0.yaml, 1.yaml, …, deleted by nobody: each test has names of its own."""
    api = apis["ada" if name.startswith(("ada/", "lab/")) else "ben"]
    api.create_repo(name, **settings)
    files = {f".eval_results/{number}.yaml": content for number, content in enumerate(contents)}
    if card:
        files["README.md"] = f"---\n{card}\n---\n".encode()
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    api.create_commit(name, operations, commit_message="results")
    return name


def board(api: HfApi, exam: str, **options: Any) -> list[tuple[int, str, float]]:
    return [(row.rank, row.model_id, row.value) for row in api.get_dataset_leaderboard(exam, **options)]


def raw(hub: HubProcess, exam: str, **parameters: Any) -> httpx.Response:
    return httpx.get(f"{hub.endpoint}/api/datasets/{exam}/leaderboard", params=parameters)


def test_the_best_comes_first_and_equals_share_a_rank(apis: dict[str, HfApi], exam: str):
    for name, value in (("ada/r1", 0.5), ("ada/r2", 0.9), ("ben/r3", 0.5), ("ben/r4", 0.1)):
        model(apis, name, results(exam, value))
    assert board(apis[""], exam) == [(1, "ada/r2", 0.9), (2, "ada/r1", 0.5), (2, "ben/r3", 0.5), (4, "ben/r4", 0.1)]


@given(st.lists(ENDS, max_size=9), st.booleans())
def test_a_result_can_have_each_place_but_those_that_intervals_rule_out(reaches: list[tuple[int, int]], higher: bool):
    for (low, high), place in zip(reaches, open_places(reaches, higher_is_better=higher), strict=True):
        above, below = sum(other[0] > high for other in reaches), sum(other[1] < low for other in reaches)
        ahead, behind = (above, below) if higher else (below, above)
        assert place == (1 + ahead, len(reaches) - behind)


def test_the_lowest_is_the_best_where_the_task_says_so(hub: HubProcess, apis: dict[str, HfApi], exam: str):
    for name, value in (("ada/p1", 12.5), ("ada/p2", 9.5), ("ada/p3", 30)):
        model(apis, name, results(exam, value, "perplexity"))
    assert board(apis[""], exam) == []
    found = raw(hub, exam, task="perplexity").json()
    assert [(row["rank"], row["modelId"]) for row in found] == [(1, "ada/p2"), (2, "ada/p1"), (3, "ada/p3")]
    assert {row["taskId"] for row in found} == {"perplexity"}


def test_an_entry_says_all_that_was_stated(hub: HubProcess, apis: dict[str, HfApi], exam: str):
    more = {
        "source_url": "https://example.org/traces",
        "source_name": "Traces",
        "source_user": "ada",
        "notes": "no-tools",
        "date": "2026-01-15",
        "verify_token": "anything",
    }
    model(apis, "lab/stated", results(exam, 7, **more))
    (row,) = apis[""].get_dataset_leaderboard(exam)
    assert isinstance(row, DatasetLeaderboardEntry)
    assert (row.rank, row.model_id, row.value, row.filename) == (1, "lab/stated", 7, ".eval_results/0.yaml")
    assert row.source == {"url": "https://example.org/traces", "name": "Traces", "user": "ada", "isExternal": True}
    assert (row.notes, row.pull_request, row.verified) == ("no-tools", None, False)
    assert isinstance(row.author, Organization)
    assert (row.author.name, row.author.fullname) == ("lab", "The Lab")


def test_a_source_on_the_hub_is_not_external(hub: HubProcess, apis: dict[str, HfApi], exam: str):
    model(apis, "ben/inside", results(exam, 1, source_url=f"{hub.endpoint}/datasets/ben/traces"))
    (row,) = apis[""].get_dataset_leaderboard(exam)
    assert row.source is not None
    assert row.source["isExternal"] is False
    assert isinstance(row.author, User)
    assert row.author.username == "ben"


def test_models_made_from_others_are_listed_when_asked_for(apis: dict[str, HfApi], exam: str):
    model(apis, "ada/base", results(exam, 1))
    model(apis, "ada/tuned", results(exam, 2), card="base_model: ada/base")
    assert board(apis[""], exam) == board(apis[""], exam, base_model_only=True) == [(1, "ada/base", 1)]
    assert board(apis[""], exam, base_model_only=False) == [(1, "ada/tuned", 2), (2, "ada/base", 1)]


def test_private_models_are_listed_for_those_who_may_see_them(apis: dict[str, HfApi], exam: str):
    model(apis, "ben/hidden", results(exam, 3), private=True)
    model(apis, "ben/shown", results(exam, 1))
    assert board(apis[""], exam) == board(apis["ada"], exam) == [(1, "ben/shown", 1)]
    assert board(apis["ben"], exam) == [(1, "ben/hidden", 3), (2, "ben/shown", 1)]
    apis["ben"].update_repo_settings("ben/hidden", private=False)
    assert board(apis[""], exam)[0] == (1, "ben/hidden", 3)


def test_the_leaderboard_of_a_private_dataset_is_absent(hub: HubProcess, apis: dict[str, HfApi], exam: str):
    apis["ada"].update_repo_settings(exam, repo_type="dataset", private=True)
    with pytest.raises(RepositoryNotFoundError):
        apis["ben"].get_dataset_leaderboard(exam)
    assert apis["ada"].get_dataset_leaderboard(exam) == []


def test_moved_models_and_datasets_keep_their_results(apis: dict[str, HfApi], exam: str):
    model(apis, "ada/old-model", results(exam.upper(), 1))
    apis["ada"].move_repo("ada/old-model", "lab/new-model")
    moved = exam.replace("ada/", "lab/")
    apis["ada"].move_repo(exam, moved, repo_type="dataset")
    model(apis, "ada/later", results(moved, 2))
    assert board(apis[""], moved) == [(1, "ada/later", 2), (2, "lab/new-model", 1)]


def test_changed_and_deleted_results_follow(apis: dict[str, HfApi], exam: str):
    name = model(apis, "ada/changing", results(exam, 1), results(exam, 2))
    assert board(apis[""], exam) == [(1, name, 2), (2, name, 1)]
    apis["ada"].upload_file(path_or_fileobj=results(exam, 5), path_in_repo=".eval_results/0.yaml", repo_id=name)
    assert board(apis[""], exam) == [(1, name, 5), (2, name, 2)]
    apis["ada"].create_commit(name, [CommitOperationDelete(".eval_results/1.yaml")], commit_message="delete")
    assert board(apis[""], exam) == [(1, name, 5)]
    apis["ada"].delete_repo(name)
    assert board(apis[""], exam) == []


def test_results_outside_the_folder_or_on_other_branches_do_not_count(apis: dict[str, HfApi], exam: str):
    name = model(apis, "ada/elsewhere", b"[]")
    api = apis["ada"]
    api.upload_file(path_or_fileobj=results(exam, 1), path_in_repo="results/x.yaml", repo_id=name)
    api.upload_file(path_or_fileobj=results(exam, 1), path_in_repo=".eval_results/deeper/x.yaml", repo_id=name)
    api.upload_file(path_or_fileobj=results(exam, 1), path_in_repo=".eval_results/x.txt", repo_id=name)
    api.create_branch(name, branch="try")
    api.upload_file(path_or_fileobj=results(exam, 1), path_in_repo=".eval_results/x.yaml", repo_id=name, revision="try")
    assert board(apis[""], exam) == []


def test_results_of_datasets_do_not_count(apis: dict[str, HfApi], exam: str):
    apis["ada"].upload_file(
        path_or_fileobj=results(exam, 1), path_in_repo=".eval_results/x.yaml", repo_id=exam, repo_type="dataset"
    )
    assert board(apis[""], exam) == []


def propose(api: HfApi, name: str, content: bytes, path: str = ".eval_results/proposed.yaml") -> int:
    commit = api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=name, create_pr=True)
    assert commit.pr_num is not None
    return commit.pr_num


def test_an_open_pull_request_counts_until_it_is_closed(apis: dict[str, HfApi], exam: str):
    name = model(apis, "ada/proposed-to", results(exam, 1))
    number = propose(apis["ben"], name, results(exam, 8))
    rows = apis[""].get_dataset_leaderboard(exam)
    assert [(row.rank, row.value, row.pull_request) for row in rows] == [(1, 8, number), (2, 1, None)]
    apis["ada"].change_discussion_status(name, number, "closed")
    assert board(apis[""], exam) == [(1, name, 1)]
    apis["ada"].change_discussion_status(name, number, "open")
    assert board(apis[""], exam) == [(1, name, 8), (2, name, 1)]


def test_a_merged_pull_request_counts_once_for_main(apis: dict[str, HfApi], exam: str):
    name = model(apis, "ada/merged-into", results(exam, 1))
    number = propose(apis["ben"], name, results(exam, 8))
    apis["ada"].merge_pull_request(name, number)
    rows = apis[""].get_dataset_leaderboard(exam)
    assert [(row.value, row.pull_request, row.filename) for row in rows] == [
        (8, None, ".eval_results/proposed.yaml"),
        (1, None, ".eval_results/0.yaml"),
    ]


def test_a_pull_request_adds_only_what_it_states_itself(apis: dict[str, HfApi], exam: str):
    name = model(apis, "ada/untouched", results(exam, 1))
    number = propose(apis["ben"], name, b"text", "notes.txt")
    assert board(apis[""], exam) == [(1, name, 1)]
    apis["ben"].upload_file(
        path_or_fileobj=results(exam, 4),
        path_in_repo=".eval_results/0.yaml",
        repo_id=name,
        revision=f"refs/pr/{number}",
    )
    rows = apis[""].get_dataset_leaderboard(exam)
    assert [(row.value, row.pull_request) for row in rows] == [(4, number), (1, None)]


def test_a_draft_does_not_count(apis: dict[str, HfApi], exam: str):
    name = model(apis, "ada/drafted", results(exam, 1))
    draft = apis["ben"].create_pull_request(name, title="Draft")
    apis["ben"].upload_file(
        path_or_fileobj=results(exam, 4),
        path_in_repo=".eval_results/0.yaml",
        repo_id=name,
        revision=draft.git_reference,
    )
    assert board(apis[""], exam) == [(1, name, 1)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "declares no tasks in eval.yaml"),
        (b"tasks: [", "eval.yaml: metadata is not YAML"),
        (b"tasks: []", "eval.yaml: `tasks` must be a list"),
        (b"tasks: [&a {id: a}, *a]", "aliases are not allowed"),
        (b"\xff\xfe\x00", "eval.yaml"),
    ],
)
def test_a_dataset_without_tasks_has_no_leaderboard(
    apis: dict[str, HfApi], hub: HubProcess, exam: str, content, reason
):
    operation = CommitOperationAdd("eval.yaml", content) if content else CommitOperationDelete("eval.yaml")
    apis["ada"].create_commit(exam, [operation], commit_message="change", repo_type="dataset")
    with pytest.raises(HfHubHTTPError) as error:
        apis[""].get_dataset_leaderboard(exam)
    assert not isinstance(error.value, RepositoryNotFoundError)
    answer = raw(hub, exam)
    assert (answer.status_code, reason in answer.json()["error"]) == (404, True), answer.json()


def test_a_task_that_is_not_declared_is_refused(hub: HubProcess, exam: str):
    answer = raw(hub, exam, task="absent")
    assert answer.status_code == 404
    assert answer.json()["error"].endswith("has no task 'absent'; eval.yaml declares 'all', 'perplexity'")


def test_a_model_shows_its_results_and_what_is_wrong_with_them(apis: dict[str, HfApi], exam: str):
    name = model(apis, "ada/showing", results(exam, 1, notes="tools"), b"- {value: 1}", b"a: &a [*a]")
    info = apis[""].model_info(name, expand=["evalResults"])
    assert info.eval_results == [EvalResultEntry(exam, "all", 1, notes="tools")]
    answer = httpx.get(f"{apis[''].endpoint}/api/models/{name}", params={"expand": "evalResults"}).json()["evalResults"]
    assert [(entry["filename"], "error" in entry) for entry in answer] == [
        (".eval_results/0.yaml", False),
        (".eval_results/1.yaml", True),
        (".eval_results/2.yaml", True),
    ]
    listed = next(iter(apis[""].list_models(search="ada/showing", expand=["evalResults"])))
    assert listed.eval_results == info.eval_results


def test_results_of_an_old_revision_are_those_of_then(apis: dict[str, HfApi], exam: str):
    name = model(apis, "ada/revised", results(exam, 1))
    before = apis[""].model_info(name).sha
    apis["ada"].upload_file(path_or_fileobj=results(exam, 2), path_in_repo=".eval_results/0.yaml", repo_id=name)
    then = apis[""].model_info(name, revision=before, expand=["evalResults"])
    now = apis[""].model_info(name, expand=["evalResults"])
    assert [then.eval_results[0].value, now.eval_results[0].value] == [1, 2]


def test_benchmarks_are_found_as_such(apis: dict[str, HfApi], exam: str):
    assert exam in {found.id for found in apis[""].list_datasets(benchmark=True)}


def test_the_command_line_prints_a_leaderboard(hub: HubProcess, apis: dict[str, HfApi], exam: str):
    model(apis, "ada/printed", results(exam, 42))
    command = [sys.executable, "-m", "huggingface_hub.cli.hf", "datasets", "leaderboard", exam, "--format", "json"]
    done = subprocess.run(command, env=os.environ | {"HF_ENDPOINT": hub.endpoint}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [(row["rank"], row["model_id"]) for row in json.loads(done.stdout)] == [(1, "ada/printed")]
