"""Pages that lead from one repository to others: lineage, comparisons and leaderboards."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlencode

import httpx
import pytest
from hub_process import HubProcess, start_hub
from huggingface_hub import CommitOperationAdd, HfApi
from web_page import Page

HEADER = json.dumps({"w": {"dtype": "F32", "shape": [25, 4], "data_offsets": [0, 400]}}).encode()
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(400)
EVIL = "<script>alert(1)</script>"
CURVE = "".join(
    json.dumps({"step": step, "tokens": 64 * step, "loss": 8 / step, "learning_rate": 1e-3}) + "\n"
    for step in range(1, 30)
)
RECIPE = """name: small
seed: {seed}
pretraining: {{steps: 30, optimizer: {{name: adamw, learning_rate: {rate}}}}}
data: {{sources: [{{type: hub, repository: lab/exam, revision: main}}]}}
"""
BENCHMARK = "name: Exam\ntasks:\n- {id: accuracy}\n- {id: perplexity, higher_is_better: false}\n"


def result(value: float, low: float | None = None, high: float | None = None, task: str = "accuracy") -> str:
    notes = f"95 % interval {low} to {high} (bootstrap over rows, n = 1,234)" if low is not None else EVIL
    return f"- dataset: {{id: lab/exam, task_id: {task}}}\n  value: {value}\n  notes: {notes!r}\n"


@dataclass
class Site:
    """A hub with a benchmark and models, and a visitor's client."""

    hub: HubProcess
    api: HfApi
    client: httpx.Client
    commits: dict[str, str]

    def add(self, name: str, files: dict[str, str | bytes], kind: str = "model", **more: bool) -> None:
        self.api.create_repo(name, repo_type=kind, exist_ok=True, **more)
        operations = [
            CommitOperationAdd(path, content.encode() if isinstance(content, str) else content)
            for path, content in files.items()
        ]
        made = self.api.create_commit(name, operations, commit_message=f"{EVIL} {name}", repo_type=kind)
        self.commits[name] = made.oid

    def page(self, path: str, status: int = 200, **headers: str) -> Page:
        response = self.client.get(path, headers=headers)
        assert response.status_code == status, f"{path}: {response.status_code} {response.text[-600:]}"
        page = Page(response.text)
        assert not page.problems, f"{path}: {page.problems}"
        assert not page.foreign_scripts()
        assert len(page.all("h1")) == 1
        assert len(response.content) < 50_000
        return page


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with start_hub(tmp_path_factory.mktemp("lineage") / "hub") as hub:
        api = HfApi(endpoint=hub.endpoint, token=hub.add_user("ada", "--fullname", "Ada"))
        hub.add_organisation("lab", "--member", "ada:admin")
        with httpx.Client(base_url=hub.endpoint, headers={"Accept": "text/html"}) as client:
            site = Site(hub, api, client, {})
            fill(site)
            yield site


def fill(site: Site) -> None:
    site.add("lab/exam", {"eval.yaml": BENCHMARK, "README.md": "---\nsource_datasets: far/away\n---\n"}, "dataset")
    site.add("lab/plain", {"README.md": "Nothing"}, "dataset")
    card = "---\ndatasets: [lab/exam]\n---\n"
    site.add(
        "lab/one",
        {
            "README.md": card,
            "config.json": '{"hidden_size": 8, "nested": {"a": [1, 2], "b": "<b>"}}',
            "model.safetensors": WEIGHTS,
            "recipe.yaml": RECIPE.format(seed=1, rate=0.001),
            "metrics.jsonl": CURVE,
            ".eval_results/exam.yaml": result(0.75, 0.7, 0.8) + result(12.5, 12.0, 13.0, "perplexity"),
        },
    )
    site.add("lab/one", {"recipe.yaml": RECIPE.format(seed=2, rate=0.001)})
    site.add(
        "lab/two",
        {
            "README.md": "---\nbase_model: lab/one\nbase_model_relation: quantized\n---\n",
            "config.json": '{"hidden_size": 16, "nested": {"a": [1, 2]}, "extra": null}',
            "recipe.yaml": RECIPE.format(seed=1, rate=0.003),
            "metrics.jsonl": CURVE,
            ".eval_results/exam.yaml": result(0.78, 0.72, 0.81),
        },
    )
    site.add("ada/three", {"README.md": card, ".eval_results/exam.yaml": result(0.5)})
    site.add("ada/four", {"README.md": card, ".eval_results/exam.yaml": result(0.5), "metrics.jsonl": "{}\n"})
    site.add("ada/five", {"README.md": card})
    site.api.create_commit(
        "ada/five",
        [CommitOperationAdd(".eval_results/exam.yaml", result(0.25).encode())],
        commit_message="results",
        create_pr=True,
    )
    site.add("ada/hidden", {"README.md": card, ".eval_results/exam.yaml": result(0.99)}, private=True)


def rows(page: Page, number: int = 0) -> list[list[str]]:
    """The words in the cells of a table's body."""
    body = page.html.split("<tbody>")[number + 1].partition("</tbody>")[0]
    return [
        [" ".join(one.text.split()) for one in Page(f"<table>{row}</table>").elements if one.tag in ("th", "td")]
        for row in body.split("</tr>")[:-1]
    ]


# ------------------------------------------------------------ lineage


def test_lineage_is_drawn_with_links_and_told_in_a_table(site: Site):
    page = site.page("/lab/two/lineage")
    links = {one.attributes["href"] for one in page.all("a")}
    assert {"/lab/one/lineage", "/datasets/lab/exam/lineage", "/lab/two/lineage"} <= links
    assert len(page.all("rect")) == 4
    told = {(row[0].split()[0], row[1], row[2].split()[0]): row[3:] for row in rows(page)}
    assert told.keys() == {
        ("lab/two", "quantised from", "lab/one"),
        ("lab/two", "trained on", "lab/exam"),
        ("lab/one", "trained on", "lab/exam"),
        ("lab/exam", "made from", "far/away"),
    }
    assert told["lab/two", "quantised from", "lab/one"] == ["–", "README.md"]
    assert told["lab/one", "trained on", "lab/exam"] == ["main", "recipe.yaml"]
    assert "not on this hub" in page.text
    assert site.client.get(f"/lab/two/blob/{site.commits['lab/two']}/recipe.yaml").status_code == 200


def test_lineage_of_a_dataset_shows_what_was_made_from_it_and_hides_what_is_private(site: Site):
    page = site.page("/datasets/lab/exam/lineage")
    names = {row[0].split()[0] for row in rows(page)}
    assert names == {"lab/exam", "lab/one", "lab/two", "ada/three", "ada/four", "ada/five"}


def test_a_repository_without_lineage_teaches(site: Site):
    assert "source_datasets: [namespace/name]" in site.page("/datasets/lab/plain/lineage").text


def test_lineage_as_json(site: Site):
    answer = site.client.get("/api/x/lineage/models/lab/two", headers={"Accept": "application/json"}).json()
    assert {(node["type"], node["name"], node["hop"], node["here"]) for node in answer["nodes"]} == {
        ("model", "lab/two", 0, True),
        ("model", "lab/one", -1, True),
        ("dataset", "lab/exam", -1, True),
        ("dataset", "far/away", -2, False),
    }
    assert {
        "source": {"type": "model", "name": "lab/one"},
        "target": {"type": "model", "name": "lab/two"},
        "relation": "quantized",
        "revision": None,
        "statedIn": "README.md",
    } in answer["edges"]
    assert answer["cut"] is False
    assert site.client.get("/api/x/lineage/models/ada/hidden").status_code == 404
    assert site.client.get("/api/x/lineage/spaces/lab/two").status_code == 404


# ------------------------------------------------------------ comparisons


def compare(*names: str) -> str:
    return "/compare?" + urlencode([("models", name) for name in names])


def test_models_are_compared_by_what_differs(site: Site):
    page = site.page(compare("lab/one", "lab/two"))
    words = page.text
    sizes = rows(page)
    assert sizes[0] == ["Parameters", "100", "–"]
    assert [row[0] for row in sizes] == ["Parameters", "Size", "Files", "Commit", "In this comparison"]
    tables = [rows(page, number) for number in range(page.html.count("<tbody>"))]
    recipe = next(table for table in tables if any(row[0] == "seed" for row in table))
    assert ["seed", "2", "1"] in recipe
    assert ["pretraining.optimizer.learning_rate", "0.001", "0.003"] in recipe
    assert not any(row[0] == "name" for row in recipe)
    config = next(table for table in tables if any(row[0] == "hidden_size" for row in table))
    assert config == [["hidden_size", "8", "16"], ["nested.b", '"<b>"', "–"], ["extra", "–", "null"]]
    assert ["nested.a", "[1, 2]"] in [row for table in tables for row in table]
    assert "0.75 0.7 – 0.8" in words
    assert "accuracy Higher is better.lab/exam" in words
    assert "perplexity Lower is better.lab/exam" in words
    assert "/datasets/lab/exam/leaderboard?task=perplexity" in page.attributes("href")
    assert "0.78 0.72 – 0.81" in words
    assert len(page.all("polyline")) == 4
    assert "lab/one ends at 0.2759." in words
    assert "tokens" in words


def test_curves_of_other_trainers_stand_with_ours_and_those_without_tokens_apart(site: Site):
    history = [{"step": step, "loss": 3 / step, "num_input_tokens_seen": 90 * step} for step in range(1, 9)]
    site.add(
        "ada/trainer", {"trainer_state.json": json.dumps({"log_history": [*history, {"step": 9, "eval_loss": 1}]})}
    )
    site.add("ada/steps", {"metrics.jsonl": '{"step": 1, "train/loss": 2.5}\n{"step": 2, "train/loss": 1.5}\n'})
    page = site.page(compare("ada/trainer", "ada/steps", "ada/three"))
    figures = [figure.text.split() for figure in page.all("figure")]
    assert [(figure[0], figure[-1]) for figure in figures] == [
        ("train/loss", "tokens"),
        ("train/loss", "steps"),
        ("validation/loss", "steps"),
    ]
    assert "ada/steps" not in figures[0]
    assert "ada/trainer" not in figures[1]
    assert [line.attributes["class"] for line in page.all("polyline")] == ["curve1", "curve2", "curve1"]
    lasts = next(table for table in map(partial(rows, page), range(9)) if table[0][0] == "train/loss")
    assert lasts == [["train/loss", "0.375", "1.5", "–"], ["validation/loss", "1", "–", "–"]]


def test_what_always_differs_is_left_out_and_losses_of_other_vocabularies_are_noted(site: Site):
    for name, size in (("ada/six", 100), ("ada/seven", 200)):
        recipe = f"seed: 1\nprovenance: {{inputs: '{size}', stages: {{data: '{size}'}}}}\n"
        config = json.dumps({"vocab_size": size})
        site.add(name, {"config.json": config, "recipe.yaml": recipe, "metrics.jsonl": CURVE})
    page = site.page(compare("ada/six", "ada/seven"))
    assert "provenance.inputs" in page.text
    assert "provenance.stages" not in page.text
    assert "differ in task or vocabulary" in page.text
    assert "differ in task or vocabulary" not in site.page(compare("ada/six", "ada/six@main")).text


def test_two_revisions_of_one_model_are_compared(site: Site):
    before = site.api.list_repo_commits("lab/one")[1].commit_id
    page = site.page(compare("lab/one", f"lab/one@{before}"))
    assert ["seed", "2", "1"] in rows(page, 3)


def test_a_wrong_name_is_one_line_and_the_others_stay(site: Site):
    page = site.page(compare("lab/one", "lab/nothing", "ada/hidden", "lab/two@nowhere", EVIL, "lab/two"))
    alerts = [one.text for one in page.elements if one.attributes.get("role") == "alert"]
    assert [alert.partition(":")[0] for alert in alerts] == ["lab/nothing", "ada/hidden", "lab/two@nowhere", EVIL]
    assert "revision 'nowhere'" in alerts[2]
    assert ["seed", "2", "1"] in [row for n in range(page.html.count("<tbody>")) for row in rows(page, n)]
    assert site.page("/compare").all("form")


def test_more_than_six_are_left_out_and_each_can_be_removed(site: Site):
    names = [f"lab/one@{name}" for name in ("main", "main^", "a", "b", "c", "d", "e")]
    page = site.page(compare(*names))
    assert "left out: lab/one@e" in page.text
    removed = next(link for link in page.attributes("href") if link.startswith("?models") and "main" not in link[:20])
    assert site.page(f"/compare{removed}")


def test_a_curve_that_cannot_be_read_is_one_line(site: Site):
    assert "ada/four: metrics.jsonl: " in site.page(compare("lab/one", "ada/four")).text


# ------------------------------------------------------------ leaderboards


def test_leaderboards_are_listed_with_their_results(site: Site):
    assert ["lab/exam", "6"] in [row[:2] for row in rows(site.page("/leaderboards"))]
    assert site.page("/datasets/lab/exam").html.count("/datasets/lab/exam/leaderboard") == 1
    assert "/datasets/lab/plain/leaderboard" not in site.page("/datasets/lab/plain").html


def test_results_stand_with_their_evidence(site: Site):
    page = site.page("/datasets/lab/exam/leaderboard")
    table = rows(page)
    assert [row[:3] for row in table] == [
        ["1–2", "lab/two", "0.78"],
        ["1–2", "lab/one", "0.75"],
        ["3–4", "ada/three", "0.5"],
        ["3–4", "ada/four", "0.5"],
        ["5", "ada/five pull request 1", "0.25"],
    ]
    assert "/ada/five/discussions/1" in page.attributes("href")
    assert table[0][3:5] == ["0.72 – 0.81", "1,234"]
    assert table[2][3:5] == ["not stated", "–"]
    assert table[0][5] == site.commits["lab/two"][:8]
    assert table[0][6].startswith("ada, ")
    link = f"/lab/two/blob/{site.commits['lab/two']}/.eval_results/exam.yaml"
    assert link in page.attributes("href")
    assert site.client.get(link).status_code == 200
    assert "Higher is better" in page.text


def test_a_source_in_the_model_itself_is_shown_as_it_was_and_the_data_by_its_revision(site: Site):
    site.add("lab/measured", {"eval.yaml": BENCHMARK}, "dataset")
    data = site.commits["lab/measured"]
    own = f"{site.hub.endpoint}/ada/eight/blob/main/deep%20er/report.json"
    entry = "- dataset: {{id: lab/measured, task_id: accuracy, revision: {}}}\n  value: {}\n  source: {{url: '{}'}}\n"
    site.add(
        "ada/eight",
        {
            ".eval_results/own.yaml": entry.format(data, 0.75, own),
            ".eval_results/other.yaml": entry.format("nowhere", 0.5, "https://example.org/blob/main/report.json"),
            "deep er/report.json": "{}",
        },
    )
    page = site.page("/datasets/lab/measured/leaderboard")
    pinned = f"/ada/eight/blob/{site.commits['ada/eight']}/deep%20er/report.json"
    links = page.attributes("href")
    assert site.client.get(pinned).status_code == 200
    assert pinned in links
    assert own not in links
    assert "https://example.org/blob/main/report.json" in links
    assert [f"measured on {data[:8]}" in row[7] for row in rows(page)] == [True, False]


def test_another_task_has_its_own_direction(site: Site):
    page = site.page("/datasets/lab/exam/leaderboard?task=perplexity")
    assert "Lower is better" in page.text
    assert [row[1] for row in rows(page)] == ["lab/one"]
    site.page("/datasets/lab/exam/leaderboard?task=nothing", 404)
    derived = site.page("/datasets/lab/exam/leaderboard?derived=no")
    assert [row[1] for row in rows(derived)] == ["lab/one", "ada/three", "ada/four", "ada/five pull request 1"]


def test_a_dataset_without_tasks_teaches(site: Site):
    assert "declares no tasks in eval.yaml" in site.page("/datasets/lab/plain/leaderboard").text


@pytest.mark.parametrize(
    "path", ["/lab/two/lineage", compare("lab/one", "lab/two"), "/leaderboards", "/datasets/lab/exam/leaderboard"]
)
def test_the_pages_speak_chinese(site: Site, path: str):
    words = site.page(path, **{"Accept-Language": "zh-CN"}).text
    for english in ("Lineage", "trained", "Compare", "Size", "Recipe", "better", "Rank", "interval", "Revision"):
        assert english not in words
