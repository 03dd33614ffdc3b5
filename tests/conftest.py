"""Fixtures that several rooms share: a hub of the test session, and a tiny model that was trained and published."""

import inspect
import json
import os

import httpx
import hypothesis
import pytest
import stack
from hub_process import PATIENCE, HubProcess, start_hub
from tiny_run import TINY, Trained, lmc, write_documents

# Before torch is imported, here and in every process that a test starts: models of this size are faster with one
# thread, and tests that run beside others much faster.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# httpx waits five seconds where a test says nothing else, which is not long on a busy machine. All its functions and
# clients have one object as that default.
for part in ("connect", "read", "write", "pool"):
    setattr(inspect.signature(httpx.request).parameters["timeout"].default, part, PATIENCE)

# The same examples in each run, and however long one takes: `--hypothesis-profile=default` looks for new ones.
hypothesis.settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stack",
        choices=["embedded", "cluster"],
        default="embedded",
        help="what hubs run on: SQLite, disk and one process, or PostgreSQL, S3 and two processes",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "embedded(reason): a question that the cluster has no answer to")
    if config.getoption("--stack") == "cluster":
        os.environ[stack.CLUSTER] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if stack.is_cluster():
        for item in items:
            if embedded := item.get_closest_marker("embedded"):
                item.add_marker(pytest.mark.skip(reason=embedded.args[0]))


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory):
    """A hub that runs for the whole test session, in an own process."""
    with start_hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture(scope="session")
def member_token(hub: HubProcess) -> str:
    """The write token of the member `trainer`."""
    return hub.add_user("trainer")


@pytest.fixture(scope="session")
def trained(hub: HubProcess, member_token: str, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A tiny model on real text, published on the session's hub as `trainer/tiny`."""
    home = tmp_path_factory.mktemp("trained")
    write_documents(home)
    recipe = home / "tiny.yaml"
    recipe.write_text(TINY)
    environment = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": member_token}
    done = lmc("run", recipe, "--out", home / "runs", "--json", **environment)
    assert done.returncode == 0, done.stderr
    return Trained(recipe, home / "runs", json.loads(done.stdout), environment)
