"""Pages of training runs: on the first page of the hub and in a model's repository, live where a script asks."""

from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
from chromium import person
from hub_process import HubProcess, start_hub
from playwright.sync_api import expect
from web_page import Page

from lmcommons.hub.community.runs import Description, Progress
from lmcommons.hub.database.tables import RepositoryType, RunState, TokenRole, TrainingRun, now
from lmcommons.hub.rooms import Hub

EVIL = "<script>alert(1)</script>"
CHINESE = {"Accept-Language": "zh-CN"}
PART = {"HX-Request": "true"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with start_hub(tmp_path_factory.mktemp("runs") / "hub", "--rate-limit", "0") as running:
        running.add_user("ada")
        with running.rooms() as rooms:
            _fill(rooms)
        yield running


def _fill(rooms: Hub) -> None:
    ada = rooms.tokens.actor(rooms.tokens.add("ada", "runs", TokenRole.WRITE))
    for name in ("tales", "empty", "hidden"):
        rooms.commits.create_repository(ada, RepositoryType.MODEL, "ada", name, private=name == "hidden")
    tales, hidden = (rooms.repositories.find(ada, RepositoryType.MODEL, f"ada/{name}") for name in ("tales", "hidden"))
    rooms.commits.create_repository(ada, RepositoryType.DATASET, "ada", "stories")
    points = [{"step": step, "tokens": 64 * step, "loss": 8 / step, "rate": 0.1, EVIL: 1} for step in range(1, 30)]
    for key, name in (("live", "Second try"), ("lost", "First try"), ("done", EVIL), ("new", "Nothing yet")):
        run = rooms.runs.begin(ada, tales, key, Description(name, "pretraining", "tales@12ab", EVIL))
        if key != "new":
            how_far = Progress(step=29, steps=1000, tokens=1856, seconds_left=7300)
            rooms.runs.report(ada, tales, key, how_far, points)
        if key == "lost":
            with rooms.database.write() as session:
                session.get_one(TrainingRun, run.id).heard_at = now() - timedelta(hours=3)
    rooms.runs.report(ada, tales, "done", Progress(state=RunState.FINISHED))
    rooms.runs.begin(ada, hidden, "secret", Description("Secret try"))


def page(hub: HubProcess, path: str, status: int = 200, **headers: str) -> Page:
    answer = httpx.get(hub.endpoint + path, headers={"Accept": "text/html", **headers})
    assert answer.status_code == status, answer.text[-600:]
    found = Page(answer.text)
    assert not found.problems
    assert not found.foreign_scripts()
    return found


def test_the_first_page_shows_runs_that_go_on_and_may_be_seen(hub: HubProcess):
    home = page(hub, "/")
    (section,) = [each for each in home.all("section") if each.attributes.get("id") == "in-progress"]
    assert "Second try" in section.text
    assert "step 29 of 1,000" in section.text
    assert "about 2 hours left" in section.text
    for other in ("First try", "alert(1)", "Secret try"):
        assert other not in home.text
    assert "ada started to train ada/tales" in " ".join(home.text.split())
    bars = home.all("progress")
    assert [(bar.attributes["value"], bar.attributes["max"]) for bar in bars] == [("29", "1000")]


def test_a_script_gets_that_part_of_the_first_page_alone(hub: HubProcess):
    answer = httpx.get(hub.endpoint, headers=PART)
    assert answer.text.lstrip().startswith('<section id="in-progress"')
    assert "Second try" in answer.text


def test_a_model_lists_its_runs_with_how_they_are(hub: HubProcess):
    listed = page(hub, "/ada/tales/runs")
    names = [link.text for link in listed.all("a") if "/runs/" in link.attributes["href"]]
    states = [" ".join(cell.text.split()) for cell in listed.all("td")[::4]]
    assert list(zip(names, states, strict=True)) == [
        ("Nothing yet", "running"),
        (EVIL, "finished"),
        ("First try", "last heard of 3 hours ago"),
        ("Second try", "running"),
    ]


def test_a_model_without_runs_teaches_how_one_shows_itself(hub: HubProcess):
    assert "report_progress: true" in page(hub, "/ada/empty/runs").text


def test_a_run_has_a_page_with_its_curves_over_tokens(hub: HubProcess):
    found = page(hub, "/ada/tales/runs/live")
    assert found.attributes("data-hx-get") == ["/ada/tales/runs/live"]
    titles = [title.text for title in found.all("title")]
    assert {"loss", "rate"} <= set(titles)
    assert "tokens" in found.text
    one = page(hub, "/ada/tales/runs/live?tag=loss")
    assert "rate" not in [title.text for title in one.all("title")]


def test_a_run_without_numbers_says_so(hub: HubProcess):
    assert "no numbers yet" in page(hub, "/ada/tales/runs/new").text


@pytest.mark.parametrize("key", ["done", "lost"])
def test_a_run_that_does_not_go_on_is_not_asked_for_again(hub: HubProcess, key: str):
    assert page(hub, f"/ada/tales/runs/{key}").attributes("data-hx-get") == []


def test_a_script_gets_what_the_page_says_of_the_run(hub: HubProcess):
    answer = httpx.get(f"{hub.endpoint}/ada/tales/runs/live", headers=PART)
    assert answer.text.lstrip().startswith('<section id="run"')
    assert "<html" not in answer.text


@pytest.mark.parametrize("path", ["/ada/tales/runs/none", "/ada/hidden/runs", "/ada/hidden/runs/secret"])
def test_what_is_not_there_is_not_found(hub: HubProcess, path: str):
    page(hub, path, 404)


def test_datasets_have_no_page_of_runs(hub: HubProcess):
    page(hub, "/datasets/ada/stories/runs", 404)
    assert "/runs" not in page(hub, "/datasets/ada/stories").attributes("href")


@pytest.mark.parametrize("path", ["/", "/ada/tales/runs", "/ada/tales/runs/live", "/ada/empty/runs"])
def test_the_pages_speak_chinese(hub: HubProcess, path: str):
    words = page(hub, path, **CHINESE).text
    assert "训练" in words
    for english in ("Runs", "running", "step", "left", "heard", "Machine", "started", "Progress"):
        assert english not in words


def test_a_browser_sees_a_run_go_on_without_loading_the_page_again(hub: HubProcess, chromium):
    with hub.rooms() as rooms, person(chromium, hub.endpoint, width=1600) as somebody:
        ada = rooms.tokens.actor(rooms.tokens.add("ada", "browser", TokenRole.WRITE))
        tales = rooms.repositories.find(ada, RepositoryType.MODEL, "ada/tales")
        rooms.runs.begin(ada, tales, "seen", Description("Seen"))
        somebody.goto("/ada/tales/runs/seen")
        somebody.page.evaluate("document.title = 'not loaded again'")
        somebody.page.locator("#reporter").focus()
        rooms.runs.report(ada, tales, "seen", Progress(step=7, steps=9), [{"step": 7, "loss": 1.5}])
        somebody.page.get_by_text("step 7 of 9").last.wait_for()
        expect(somebody.page.locator("#reporter")).to_be_focused()
        somebody.page.get_by_role("link", name="loss").focus()
        rooms.runs.report(ada, tales, "seen", Progress(step=9, steps=9, state=RunState.FINISHED))
        somebody.page.get_by_text("finished", exact=True).wait_for()
        expect(somebody.page.get_by_role("link", name="loss")).to_be_focused()
        assert somebody.page.title() == "not loaded again"
        expect(somebody.page.locator("#run[data-hx-get]")).to_have_count(0)
