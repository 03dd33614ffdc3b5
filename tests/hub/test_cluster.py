"""The main paths on PostgreSQL, S3 and two worker processes, all real; `--stack=cluster` runs the other tests there."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import asyncssh
import httpx
import pytest
import stack
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hub_process import PATIENCE, HubProcess, free_port, lmc_hub, start_hub
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError
from open_rooms import open_rooms
from posting import Posting
from receiver import Receiver
from sqlalchemy import create_engine, select

from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.community.runs import Description
from lmcommons.hub.community.runs import Progress as How
from lmcommons.hub.database.tables import (
    Import,
    LinkPurpose,
    Progress,
    RepositoryType,
    Role,
    RunState,
    SplitStatistics,
    Table,
    TokenRole,
)
from lmcommons.hub.errors import Conflict, RevisionNotFound, Unauthorized
from lmcommons.hub.operating.imports import Imports
from lmcommons.hub.repos.git import AddFile
from lmcommons.hub.rooms import Hub
from lmcommons.hub.settings import Settings

XET_CLIENT = """
import sys
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download
api = HfApi()
api.create_commit("ada/x", [CommitOperationAdd("w.bin", open(sys.argv[1], "rb").read())], commit_message="Weights")
assert open(hf_hub_download("ada/x", "w.bin"), "rb").read() == open(sys.argv[1], "rb").read()
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(stack.CLUSTER, "1")
        running = HubProcess(tmp_path_factory.mktemp("cluster") / "hub", free_port())
        running.options = ("--import-from", running.endpoint)  # it is as good another hub as any
        running.start()
        yield running
        assert running.stop() == 0


@pytest.fixture(scope="module")
def api(cluster: HubProcess) -> HfApi:
    return HfApi(cluster.endpoint, token=cluster.add_user("ada"))


def content(cluster: HubProcess, api: HfApi, address: str) -> bytes:
    answer = httpx.get(
        f"{cluster.endpoint}/{address}", headers={"Authorization": f"Bearer {api.token}"}, follow_redirects=True
    )
    assert answer.status_code == 200
    return answer.content


def test_small_and_large_files_come_back_as_they_went(cluster: HubProcess, api: HfApi):
    api.create_repo("ada/m", private=True)
    files = {"config.json": b"{}", "w.bin": os.urandom(300_000)}
    api.create_commit("ada/m", [CommitOperationAdd(*file) for file in files.items()], commit_message="Files")
    for path, expected in files.items():
        assert content(cluster, api, f"ada/m/resolve/main/{path}") == expected
    assert [entry.path for entry in api.list_repo_tree("ada/m")] == [".gitattributes", "config.json", "w.bin"]
    assert httpx.get(f"{cluster.endpoint}/api/models/ada/m").status_code == 404


def test_a_client_with_xet_uploads_and_downloads(cluster: HubProcess, api: HfApi, tmp_path: Path):
    api.create_repo("ada/x")
    (tmp_path / "w.bin").write_bytes(os.urandom(3_000_000))
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_XET"}
    environment |= {"HF_ENDPOINT": cluster.endpoint, "HF_TOKEN": api.token, "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", XET_CLIENT, tmp_path / "w.bin"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert content(cluster, api, "ada/x/resolve/main/w.bin") == (tmp_path / "w.bin").read_bytes()


def test_words_and_parts_of_names_are_found_in_english_and_chinese(api: HfApi):
    api.create_repo("ada/distilbert-small")
    card = "---\nlicense: mit\n---\n# 中文语言模型\nA model of reviews.\n"
    api.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id="ada/distilbert-small")
    for words in ("bert", "reviews", "语言模型"):
        assert "ada/distilbert-small" in [model.id for model in api.list_models(search=words)]
    assert [model.id for model in api.list_models(filter="license:mit")] == ["ada/distilbert-small"]


def test_a_pull_request_is_opened_and_merged(api: HfApi):
    api.create_repo("ada/p")
    commit = api.upload_file(path_or_fileobj=b"a", path_in_repo="a.txt", repo_id="ada/p", create_pr=True)
    number = int(commit.pr_revision.rpartition("/")[2])
    api.merge_pull_request("ada/p", number)
    assert "a.txt" in api.list_repo_files("ada/p")
    assert api.get_discussion_details("ada/p", number).status == "merged"


def test_what_happens_at_once_in_two_processes_is_kept(cluster: HubProcess, api: HfApi):
    api.create_repo("ada/race")

    def write(number: int) -> tuple[str, int]:
        files = [
            CommitOperationAdd(f"{number}.txt", b"%d" % number),
            CommitOperationAdd(f"{number}.bin", b"%d" % number),
        ]
        commit = api.create_commit("ada/race", files, commit_message=str(number))
        return commit.oid, api.create_discussion("ada/race", title=f"words {number}").num

    with ThreadPoolExecutor(6) as pool:
        commits, discussions = zip(*pool.map(write, range(18)), strict=True)
    assert set(commits) <= {commit.commit_id for commit in api.list_repo_commits("ada/race")}
    assert sorted(discussions) == list(range(1, 19))
    assert len(api.list_repo_files("ada/race")) == 37

    def create(_: int) -> int:
        try:
            api.create_repo("ada/once")
        except HfHubHTTPError as error:
            return error.response.status_code
        return 200

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(create, range(6))) == [200, 409, 409, 409, 409, 409]


@pytest.fixture(scope="module")
def rooms(cluster: HubProcess) -> Iterator[Hub]:
    with cluster.rooms() as opened:
        yield opened


@pytest.fixture(scope="module")
def kay(rooms: Hub) -> Actor:
    return rooms.tokens.actor(rooms.accounts.add_user("kay", admin=True))


def test_what_works_beside_the_answers_is_shared_by_the_processes(cluster: HubProcess, rooms: Hub, kay: Actor):
    imports = Imports(open_rooms(cluster.data, import_from=[cluster.endpoint]))
    for number in range(4):
        made = rooms.commits.create_repository(kay, RepositoryType.DATASET, None, f"rows-{number}")
        files = [AddFile("train.jsonl", b'{"a": %d}\n' % number)]
        rooms.commits.commit(kay, made, "main", files, message="Rows")
        source = f"datasets/kay/rows-{number}"
        imports.begin(kay, endpoint=cluster.endpoint, source=source, owner=None, name=f"copy-{number}")
        made = rooms.commits.refresh(made)
        rooms.statistics.of(made, rooms.datasets.splits(made)[1][0])
    deadline = time.monotonic() + PATIENCE
    while True:
        with rooms.database.read() as session:
            rows = [row for table in (Import, SplitStatistics) for row in session.scalars(select(table))]
        if all(row.progress is not Progress.WAITING for row in rows):
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert [(row.progress, row.attempts, row.error) for row in rows] == [(Progress.DONE, 1, None)] * 8
    for number in range(4):
        names = (f"kay/copy-{number}", f"kay/rows-{number}")
        here, there = (rooms.repositories.find(kay, RepositoryType.DATASET, name) for name in names)
        assert here.head == there.head
        assert rooms.statistics.of(there, rooms.datasets.splits(there)[1][0]).found["columns"][0]["max"] == number


def test_a_run_is_told_of_while_it_goes_on(rooms: Hub, kay: Actor):
    model = rooms.commits.create_repository(kay, RepositoryType.MODEL, None, "trained")
    for key in ("first", "second"):
        rooms.runs.begin(kay, model, key, Description(key))
    points = [{"step": step, "loss": 8 / step} for step in range(1, 5)]
    rooms.runs.report(kay, model, "second", How(step=4, steps=9, tokens=1 << 40), points)
    found = rooms.runs.find(model, "second")
    assert (found.step, found.tokens, rooms.runs.curves(found)["loss"].last) == (4, 1 << 40, 2)
    rooms.runs.report(kay, model, "first", How(state=RunState.FINISHED))
    assert [run.key for run, _ in rooms.runs.in_progress(kay, limit=5)] == ["second"]
    assert {run.key for run in rooms.runs.of(model)} == {"first", "second"}


def test_followers_are_told_and_what_is_hidden_is_gone_until_it_is_shown(rooms: Hub, kay: Actor):
    flo = rooms.tokens.actor(rooms.accounts.add_user("flo"))
    model = rooms.commits.create_repository(flo, RepositoryType.MODEL, None, "followed")
    rooms.follows.follow_repository(kay, model)
    assert rooms.follows.of_repository(kay, model) == (1, True)
    proposed = rooms.pull_requests.propose(flo, model, "main", [AddFile("a", b"a")], title="Words")[0]
    assert rooms.notifications.unread(kay) == 1
    git, ref = rooms.repositories.git(model), f"refs/pr/{proposed.number}"
    commit = git.all_refs()[ref]
    case = rooms.reports.report(kay, model, "bad", number=proposed.number)
    rooms.moderation.decide(kay, case.id, hide=True, note="bad")
    assert ref not in git.all_refs()
    with pytest.raises(RevisionNotFound):
        git.resolve(commit)
    rooms.moderation.restore(kay, case.id, note="well")
    assert git.resolve(ref) == commit


def test_a_key_speaks_for_its_user_until_it_is_removed(rooms: Hub, kay: Actor):
    text = asyncssh.generate_private_key("ssh-ed25519", comment="kay@laptop").export_public_key().decode()
    key = rooms.keys.add("kay", "laptop", text)
    rooms.keys.note_use(key.fingerprint)
    assert rooms.keys.actor(key.fingerprint).name == "kay"
    with pytest.raises(Conflict):
        rooms.keys.add("flo", "laptop", text)
    rooms.keys.remove("kay", key.id)
    with pytest.raises(Unauthorized):
        rooms.keys.actor(key.fingerprint)


def test_links_and_invitations_go_by_mail(cluster: HubProcess, receiver: Receiver):
    posting = Posting(cluster.data, receiver)
    with closing(posting.hub) as hub:
        mia = posting.join("mia", email="mia@example.org")
        posting.join("noa")
        hub.mail_links.confirm(posting.code())
        assert posting.address("mia") == "mia@example.org"
        hub.mail_links.forgotten("mia@example.org")
        assert hub.mail_links.find(posting.code(), LinkPurpose.PASSWORD).account.name == "mia"
        hub.organisations.add("club", members=[("noa", Role.ADMIN)])
        noa = hub.tokens.actor(hub.tokens.add("noa", "invites", TokenRole.WRITE))
        hub.organisation_invitations.invite(noa, "club", "mia", Role.WRITE)
        assert [to for to, _ in posting.delivered()] == ["mia@example.org"]
        hub.organisation_invitations.answer(mia, "club", accept=True)
        assert hub.organisation_invitations.of_user(mia) == []


def test_a_hub_moves_from_postgresql_and_s3_to_a_directory(cluster: HubProcess, api: HfApi, tmp_path: Path):
    api.create_repo("ada/moving")
    weights = os.urandom(100_000)
    api.upload_file(path_or_fileobj=weights, path_in_repo="w.bin", repo_id="ada/moving")
    assert cluster.command("fsck") == ""
    done = lmc_hub("backup", "--data", cluster.data, "--out", tmp_path / "backup")
    assert done.returncode == 0, done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(stack.CLUSTER)
        done = lmc_hub("restore", "--from", tmp_path / "backup", "--data", tmp_path / "hub")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        with start_hub(tmp_path / "hub") as hub:
            again = HfApi(hub.endpoint, token=api.token)
            assert {model.id for model in again.list_models()} == {model.id for model in api.list_models()}
            assert [model.id for model in again.list_models(search="moving")] == ["ada/moving"]
            assert content(hub, again, "ada/moving/resolve/main/w.bin") == weights
            again.create_repo("ada/new")


def test_a_hub_moves_from_a_directory_to_postgresql_and_s3(tmp_path: Path, cluster: HubProcess):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(stack.CLUSTER)
        with start_hub(tmp_path / "small") as hub:
            token = hub.add_user("bob")
            api = HfApi(hub.endpoint, token=token)
            api.create_repo("bob/m")
            api.upload_file(path_or_fileobj=b"weights", path_in_repo="w.bin", repo_id="bob/m")
            api.create_discussion("bob/m", title="words")
            assert lmc_hub("backup", "--data", hub.data, "--out", tmp_path / "backup").returncode == 0
    done = lmc_hub("restore", "--from", tmp_path / "backup", "--data", tmp_path / "large")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    with start_hub(tmp_path / "large") as hub:
        again = HfApi(hub.endpoint, token=token)
        assert content(hub, again, "bob/m/resolve/main/w.bin") == b"weights"
        assert again.create_discussion("bob/m", title="more words").num == 2
        assert again.create_repo("bob/n").repo_id == "bob/n"
        found = httpx.get(f"{hub.endpoint}/bob/m/discussions", params={"search": "MÖRE word"}).text
        assert "more words" in found
        assert 'discussions/1"' not in found


def test_migrations_make_the_tables_that_the_code_declares_on_postgresql(cluster: HubProcess):
    url = Settings.make(cluster.data, database=stack.database_url(cluster.data)).database_url
    with create_engine(url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": _declared})
        assert compare_metadata(context, Table.metadata) == []


def _declared(thing: object, name: str | None, kind: str, reflected: bool, compared: object) -> bool:
    """Whether the code declares it: the index of the search's words is the database's own."""
    return not (reflected and compared is None and (kind, name) in SEARCH)


SEARCH = {
    ("column", "vector"),
    ("index", "ix_discussion_terms_vector"),
    ("index", "ix_repository_terms_vector"),
}
