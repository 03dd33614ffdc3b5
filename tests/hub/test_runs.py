"""Training runs that report themselves: told once however often they say it, kept in bounds, seen by who may see."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from huggingface_hub import HfApi
from open_rooms import open_rooms

from lmcommons.hub.accounts.permissions import ANONYMOUS, Actor
from lmcommons.hub.community import runs
from lmcommons.hub.community.runs import Description, Progress, thinned
from lmcommons.hub.database.tables import Repository, RepositoryType, RunCurve, RunState, TrainingRun, now
from lmcommons.hub.errors import BadRequest, Forbidden, HubError, NotFound, Unauthorized
from lmcommons.hub.repos.curves import POINTS
from lmcommons.hub.rooms import Hub

TALES = Description("tales", "pretraining", "tales@1234", "one small machine")


@pytest.fixture
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    opened = open_rooms(tmp_path_factory.mktemp("runs") / "hub")
    yield opened
    opened.close()


@pytest.fixture
def ada(rooms: Hub) -> Actor:
    return rooms.tokens.actor(rooms.accounts.add_user("ada"))


@pytest.fixture
def model(rooms: Hub, ada: Actor) -> Repository:
    return rooms.commits.create_repository(ada, RepositoryType.MODEL, "ada", "tales")


def losses(*steps: int, of: float = 8.0) -> list[dict[str, Any]]:
    return [{"step": step, "tokens": 64 * step, "loss": of / step} for step in steps]


def age(rooms: Hub, run: TrainingRun, by: timedelta) -> None:
    with rooms.database.write() as session:
        session.get_one(TrainingRun, run.id).heard_at = now() - by


def refused(error: type[HubError], rooms: Hub, *arguments: Any) -> str:
    with pytest.raises(error) as caught:
        rooms.runs.report(*arguments)
    return caught.value.message


def test_a_run_tells_how_far_it_is(rooms: Hub, ada: Actor, model: Repository):
    rooms.runs.begin(ada, model, "one", TALES)
    rooms.runs.report(ada, model, "one", Progress(step=3, steps=10, tokens=192, seconds_left=70), losses(1, 2, 3))
    run = rooms.runs.find(model, "one")
    assert (run.name, run.stage, run.recipe, run.machine) == ("tales", "pretraining", "tales@1234", "one small machine")
    assert (run.state, run.step, run.steps, run.tokens, run.seconds_left) == (RunState.RUNNING, 3, 10, 192, 70)
    assert run.reporter is not None
    assert run.reporter.name == "ada"
    (loss,) = rooms.runs.curves(run).values()
    assert (loss.steps, loss.values, loss.tokens, loss.last) == ((1, 2, 3), (8.0, 4.0, 8 / 3), (64, 128, 192), 8 / 3)


def test_a_report_that_says_nothing_new_is_a_sign_of_life(rooms: Hub, ada: Actor, model: Repository):
    begun = rooms.runs.begin(ada, model, "one", TALES)
    rooms.runs.report(ada, model, "one", Progress(step=3, steps=10))
    age(rooms, begun, timedelta(minutes=6))
    assert rooms.runs.find(model, "one").is_silent
    assert rooms.runs.in_progress(ANONYMOUS, limit=5) == []
    rooms.runs.report(ada, model, "one", Progress())
    assert not rooms.runs.find(model, "one").is_silent
    assert [(run.key, run.step) for run, _ in rooms.runs.in_progress(ANONYMOUS, limit=5)] == [("one", 3)]


@pytest.mark.parametrize("state", [RunState.FINISHED, RunState.FAILED, RunState.STOPPED])
def test_a_run_that_ended_is_not_in_progress_and_never_silent(
    rooms: Hub, ada: Actor, model: Repository, state: RunState
):
    begun = rooms.runs.begin(ada, model, "one", TALES)
    rooms.runs.report(ada, model, "one", Progress(seconds_left=5))
    rooms.runs.report(ada, model, "one", Progress(state=state))
    age(rooms, begun, timedelta(days=2))
    found = rooms.runs.find(model, "one")
    assert (found.state, found.seconds_left, found.is_silent) == (state, None, False)
    assert rooms.runs.in_progress(ANONYMOUS, limit=5) == []


def test_a_run_that_goes_on_is_the_same_one_and_writes_over_what_it_computes_again(
    rooms: Hub, ada: Actor, model: Repository
):
    begun = rooms.runs.begin(ada, model, "one", TALES)
    rooms.runs.report(ada, model, "one", Progress(step=4), [*losses(1, 2, 3, 4), {"step": 4, "validation_loss": 1.0}])
    rooms.runs.report(ada, model, "one", Progress(state=RunState.STOPPED))
    again = rooms.runs.begin(ada, model, "one", replace(TALES, machine="another machine"))
    assert (again.id, again.started_at) == (begun.id, begun.started_at)
    assert (again.state, again.machine) == (RunState.RUNNING, "another machine")
    for _ in range(2):  # a report that is sent twice changes nothing
        rooms.runs.report(ada, model, "one", Progress(step=3), losses(3, of=9.0))
    curves = rooms.runs.curves(again)
    assert curves.keys() == {"loss"}  # the validation was at a step that is not done
    assert (curves["loss"].steps, curves["loss"].values) == ((1, 2, 3), (8.0, 4.0, 3.0))
    assert [act.kind for act in rooms.activity.latest(ANONYMOUS)].count("run.started") == 1


def test_points_without_tokens_have_steps_alone(rooms: Hub, ada: Actor, model: Repository):
    run = rooms.runs.begin(ada, model, "one", TALES)
    rooms.runs.report(ada, model, "one", Progress(), [{"step": 1, "loss": 2, "tokens": 64}, {"step": 2, "loss": 1}])
    assert rooms.runs.curves(run)["loss"].tokens is None


def test_a_long_curve_keeps_its_beginning_its_end_and_an_even_share_between(rooms: Hub, ada: Actor, model: Repository):
    run = rooms.runs.begin(ada, model, "one", TALES)
    last = 20 * POINTS
    for first in range(1, last, 500):
        points = losses(*range(first, first + 500))
        points[-1]["validation_loss"] = 1.0
        rooms.runs.report(ada, model, "one", Progress(), points)
    curves = rooms.runs.curves(run)
    steps = curves["loss"].steps
    assert len(steps) <= POINTS
    assert (steps[0], steps[-1]) == (1, last)
    gaps = [after - before for before, after in itertools.pairwise(steps)]
    assert max(gaps[: len(gaps) // 2]) <= 2 * last / (POINTS / 2)
    assert sum(step <= last / 4 for step in steps) >= len(steps) / 8
    assert curves["validation_loss"].count == last / 500  # a rare measure loses none to a frequent one


def test_thinning_leaves_what_fits():
    points = [[step, 0.0, None] for step in range(POINTS)]
    assert thinned(points) == points
    assert len(thinned([*points, [10 * POINTS, 0.0, None]])) <= POINTS / 2 + 1


def test_only_the_last_runs_of_a_repository_are_kept(
    rooms: Hub, ada: Actor, model: Repository, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runs, "RUNS", 3)
    for number in range(5):
        rooms.runs.begin(ada, model, f"run{number}", TALES)
        rooms.runs.report(ada, model, f"run{number}", Progress(), losses(1))
    assert [run.key for run in rooms.runs.of(model)] == ["run4", "run3", "run2"]
    with rooms.database.read() as session:
        assert session.query(RunCurve).count() == 3


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ([{"loss": 1.0}], "its step"),
        (["loss"], "its step"),
        ([{"step": True}], "its step"),
        ([{"step": -1}], "its step"),
        ([{"step": 1 << 63}], "its step"),
        ([{"step": 1, "loss": "low"}], "loss of step 1"),
        ([{"step": 1, "loss": float("nan")}], "loss of step 1"),
        ([{"step": 1, "loss": 10**400}], "loss of step 1"),
        ([{"step": 1, "loss": None}], "loss of step 1"),
        ([{"step": 1, "l" * 201: 1.0}], "short name"),
        ([{"step": 1, **{f"tag{number}": 1.0 for number in range(51)}}], "at most 50 curves"),
        (losses(*range(1, 1002)), "at most 1000 points, not 1001"),
    ],
)
def test_points_that_are_none_are_refused_whole(rooms: Hub, ada: Actor, model: Repository, points: Any, said: str):
    run = rooms.runs.begin(ada, model, "one", TALES)
    rooms.runs.report(ada, model, "one", Progress(step=1), losses(1))
    assert said in refused(BadRequest, rooms, ada, model, "one", Progress(step=2), points)
    assert rooms.runs.find(model, "one").step == 1
    assert rooms.runs.curves(run)["loss"].count == 1


def test_numbers_that_no_run_has_are_refused(rooms: Hub, ada: Actor, model: Repository):
    rooms.runs.begin(ada, model, "one", TALES)
    for wrong in (Progress(step=-1), Progress(tokens=1 << 63), Progress(seconds_left=-5)):
        assert "from 0 to" in refused(BadRequest, rooms, ada, model, "one", wrong)


@pytest.mark.parametrize("key", ["", "a/b", "ü", "a" * 65, ".."])
def test_a_key_is_a_short_word(rooms: Hub, ada: Actor, model: Repository, key: str):
    with pytest.raises(BadRequest, match="1 to 64 letters"):
        rooms.runs.begin(ada, model, key, TALES)


def test_a_run_has_a_name_of_some_length(rooms: Hub, ada: Actor, model: Repository):
    for wrong in (Description(" "), Description("r", machine="m" * 201)):
        with pytest.raises(BadRequest, match="at most 200 characters"):
            rooms.runs.begin(ada, model, "one", wrong)


def test_only_who_may_write_reports(rooms: Hub, ada: Actor, model: Repository):
    zoe = rooms.tokens.actor(rooms.accounts.add_user("zoe"))
    rooms.runs.begin(ada, model, "one", TALES)
    refused(Forbidden, rooms, zoe, model, "one", Progress(step=9))
    refused(Unauthorized, rooms, ANONYMOUS, model, "one", Progress(step=9))
    refused(Forbidden, rooms, ada.reading, model, "one", Progress(step=9))
    refused(NotFound, rooms, ada, model, "two", Progress(step=9))
    assert rooms.runs.find(model, "one").step == 0


def test_runs_of_what_is_private_are_in_progress_for_members_alone(rooms: Hub, ada: Actor):
    zoe = rooms.tokens.actor(rooms.accounts.add_user("zoe"))
    hidden = rooms.commits.create_repository(ada, RepositoryType.MODEL, "ada", "hidden", private=True)
    rooms.runs.begin(ada, hidden, "one", TALES)
    assert [found.full_name for _, found in rooms.runs.in_progress(ada, limit=5)] == ["ada/hidden"]
    assert rooms.runs.in_progress(zoe, limit=5) == rooms.runs.in_progress(ANONYMOUS, limit=5) == []


def test_runs_go_with_their_repository(rooms: Hub, ada: Actor, model: Repository):
    rooms.runs.begin(ada, model, "one", TALES)
    rooms.runs.report(ada, model, "one", Progress(), losses(1))
    rooms.repositories.delete(ada, RepositoryType.MODEL, "ada/tales")
    with rooms.database.read() as session:
        assert (session.query(TrainingRun).count(), session.query(RunCurve).count()) == (0, 0)


# ------------------------------------------------------------ over HTTP


class Trainer:
    """A trainer of the model `repo` in the name of a token."""

    def __init__(self, api: HfApi, repo: str) -> None:
        self.address = f"{api.endpoint}/api/x/models/{repo}/runs"
        self.headers = {"Authorization": f"Bearer {api.token}"}

    def send(self, method: str, run: str = "", **body: Any) -> httpx.Response:
        address = f"{self.address}/{run}" if run else self.address
        return httpx.request(method, address, json=body, headers=self.headers)


@pytest.fixture
def trainer(api: HfApi, new_repository) -> Trainer:
    return Trainer(api, new_repository())


def test_a_trainer_begins_reports_and_ends_over_http(trainer: Trainer):
    begun = trainer.send("PUT", "one", name="tales", stage="pretraining", machine="a machine").json()
    assert (begun["id"], begun["state"], begun["step"], begun["reporter"]) == ("one", "running", 0, "ann")
    told = trainer.send("PATCH", "one", step=2, steps=4, tokens=128, secondsLeft=9, points=losses(1, 2)).json()
    assert (told["step"], told["steps"], told["tokens"], told["secondsLeft"], told["silent"]) == (2, 4, 128, 9, False)
    assert trainer.send("PATCH", "one", state="finished").json()["state"] == "finished"
    assert trainer.send("GET", "one").json()["curves"] == {
        "loss": {"steps": [1, 2], "values": [8.0, 4.0], "tokens": [64, 128]}
    }
    assert [each["id"] for each in trainer.send("GET").json()] == ["one"]


@pytest.mark.parametrize(
    ("method", "run", "body", "status"),
    [
        ("PUT", "one", {}, 400),
        ("PUT", "one", {"name": 5}, 400),
        ("PUT", "a.b", {"name": "r"}, 400),
        ("PATCH", "none", {"step": 1}, 404),
        ("GET", "none", {}, 404),
        ("PATCH", "one", {"step": 1.5}, 400),
        ("PATCH", "one", {"step": True}, 400),
        ("PATCH", "one", {"state": "asleep"}, 400),
        ("PATCH", "one", {"points": {}}, 400),
        ("PATCH", "one", {"points": [{"step": 1, "x\x00y": 2}]}, 200),
    ],
)
def test_a_wrong_report_is_one_line(trainer: Trainer, method: str, run: str, body: Any, status: int):
    trainer.send("PUT", "one", name="tales")
    answer = trainer.send(method, run, **body)
    assert answer.status_code == status, answer.text
    if status != 200:
        assert len(answer.json()["error"].splitlines()) == 1


def test_a_report_longer_than_a_body_may_be_is_refused(trainer: Trainer):
    trainer.send("PUT", "one", name="tales")
    assert trainer.send("PATCH", "one", points=[{"step": 1, "x" * (5 << 20): 1}]).status_code == 413


def test_datasets_have_no_runs(api: HfApi, new_repository):
    assert httpx.get(f"{api.endpoint}/api/x/datasets/{new_repository('dataset')}/runs").status_code == 404
