"""What was published is what was made, can be traced to its inputs, and is read by the programs that others use."""

import json
import re
import shutil
import subprocess
import sys
import urllib.request
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import httpx
import pytest
import yaml
from hub_process import PATIENCE
from huggingface_hub import HfApi, hf_hub_download
from tiny_run import TINY, lmc

from lmcommons import pipeline, recipe
from lmcommons.publishing import Published, cards
from lmcommons.publishing.curve import draw
from lmcommons.recipe.objectives import OBJECTIVES


@pytest.fixture
def api(trained):
    return HfApi(endpoint=trained.environment["HF_ENDPOINT"], token=trained.environment["HF_TOKEN"])


@pytest.fixture
def published(trained):
    return trained.stages["publishing"]["report"]


def read(api: HfApi, repository: str, name: str, kind: str, cache: Path) -> str:
    path = hf_hub_download(repository, name, repo_type=kind, endpoint=api.endpoint, token=api.token, cache_dir=cache)
    return Path(path).read_text(encoding="utf-8")


def elsewhere(code: str, environment: dict[str, str], cache: Path) -> str:
    """Standard output of Python with an empty cache, as on a stranger's machine."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**environment, "HF_HOME": str(cache), "PATH": "/usr/bin:/bin", "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_transformers_reads_the_model_with_our_logits(trained, published, tmp_path):
    model = published["model"]
    directory = Path(trained.stages["pretraining"]["directory"]) / "model"
    difference = elsewhere(
        f"""
import torch
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer
import lmcommons.model
name = dict(pretrained_model_name_or_path={model["repository"]!r}, revision={model["commit"]!r})
tokens = AutoTokenizer.from_pretrained(**name)("The return value is a list.", return_tensors="pt").input_ids
theirs = AutoModelForCausalLM.from_pretrained(**name, dtype=torch.float32).eval()
ours = lmcommons.model.load(Path({str(directory)!r})).eval()
with torch.no_grad():
    print((theirs(tokens).logits - ours(tokens)).abs().max().item())
""",
        trained.environment,
        tmp_path,
    )
    assert float(difference) < 1e-5


def test_datasets_reads_the_dataset_with_its_splits(trained, published, tmp_path):
    dataset = published["dataset"]
    counts = elsewhere(
        f"""
import json, datasets
found = datasets.load_dataset({dataset["repository"]!r}, revision={dataset["commit"]!r})
print(json.dumps({{name: rows.num_rows for name, rows in found.items()}}))
""",
        trained.environment,
        tmp_path,
    )
    report = trained.stages["data"]["report"]
    assert json.loads(counts) == {name: split["documents"] for name, split in report["splits"].items()}


def test_the_published_recipe_names_every_input(api, trained, published, tmp_path):
    text = read(api, published["model"]["repository"], "recipe.yaml", "model", tmp_path)
    resolved = recipe.parse(text)
    assert resolved.provenance is not None
    assert resolved.provenance.dataset == f"{published['dataset']['repository']}@{published['dataset']['commit']}"
    assert resolved.provenance.stages["pretraining"] == trained.stages["pretraining"]["key"]
    assert re.fullmatch("[0-9a-f]{64}", resolved.provenance.inputs)
    assert resolved.provenance.environment["torch_threads"] > 0


def test_the_results_are_readable_by_the_hubs_client(api, trained, published, tmp_path):
    name = ".eval_results/tiny-data.yaml"
    entries = yaml.safe_load(read(api, published["model"]["repository"], name, "model", tmp_path))
    bits = next(entry for entry in entries if entry["dataset"]["task_id"] == "bits_per_byte")
    assert bits["dataset"]["revision"] == published["dataset"]["commit"]
    assert bits["value"] == trained.stages["evaluation"]["report"]["bits_per_byte"]["value"]
    assert "95 % interval" in bits["notes"]


def test_the_card_says_what_it_was_made_from_and_how_it_was_measured(api, trained, published, tmp_path):
    card = read(api, published["model"]["repository"], "README.md", "model", tmp_path)
    results = trained.stages["evaluation"]["report"]
    assert published["dataset"]["commit"] in card
    assert f"{results['bits_per_byte']['value']:.3f}" in card
    for part in ("5-gram", "xz -9", "seed 0", "## Limits", "PSF-2.0", "apache-2.0", "torch", "lmc generate", "curl"):
        assert part in card
    head = yaml.safe_load(card.split("---")[1])
    assert head["datasets"] == [published["dataset"]["repository"]]
    assert api.model_info(published["model"]["repository"]).card_data.license == "apache-2.0"


def test_the_dataset_card_counts_what_was_removed(api, trained, published, tmp_path):
    card = read(api, published["dataset"]["repository"], "README.md", "dataset", tmp_path)
    report = trained.stages["data"]["report"]
    assert f"| train | {report['splits']['train']['documents']:,} |" in card
    assert "removed by" in card


@pytest.mark.parametrize(("kind", "expected"), [("model", "Training and validation loss"), ("dataset", "removed by")])
def test_the_pages_show_what_was_published(published, kind, expected):
    with urllib.request.urlopen(published[kind]["url"], timeout=PATIENCE) as answer:
        assert expected in answer.read().decode()


def test_a_published_model_is_known_by_what_was_trained(trained, published):
    stage = Path(trained.stages["pretraining"]["directory"])
    url, model = trained.environment["HF_ENDPOINT"], published["model"]
    assert pipeline.published_model(stage, url) == f"{model['repository']}@{model['commit']}"
    assert pipeline.published_model(stage, "http://elsewhere") is None
    assert pipeline.published_model(stage.parent / "another", url) is None


def test_models_of_one_benchmark_stand_on_its_leaderboard(api, trained, tmp_path):
    """Two recipes with the same data; the second one leaves the dataset as it is."""
    shutil.copy(trained.recipe.with_name("documents.jsonl"), tmp_path)
    found = []
    for name, width in (("narrow", 32), ("wide", 48)):
        text = TINY.replace("name: tiny", f"name: {name}").replace("hidden_size: 32", f"hidden_size: {width}")
        path = tmp_path / f"{name}.yaml"
        path.write_text(text.replace("publishing: {}", "publishing: {dataset: shared, benchmark: true}"))
        done = lmc("run", path, "--out", tmp_path / "runs", "--json", **trained.environment)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    [dataset] = {stages["publishing"]["report"]["dataset"]["commit"] for stages in found}
    assert [commit.title for commit in api.list_repo_commits("trainer/shared", repo_type="dataset")] == [
        "Dataset of narrow",
        "initial commit",
    ]
    rows = httpx.get(f"{api.endpoint}/api/datasets/trainer/shared/leaderboard").json()
    results = {
        stages["publishing"]["report"]["model"]["repository"]: stages["evaluation"]["report"] for stages in found
    }
    bits = {name: report["bits_per_byte"]["value"] for name, report in results.items()}
    assert [(row["modelId"], row["value"]) for row in rows] == sorted(bits.items(), key=lambda item: item[1])
    for row in rows:
        assert row["source"] == {
            "url": f"{api.endpoint}/{row['modelId']}/blob/main/results.json",
            "name": "results.json",
            "isExternal": False,
        }
    page = httpx.get(f"{api.endpoint}/datasets/trainer/shared/leaderboard").text
    assert f"/datasets/trainer/shared/tree/{dataset}" in page
    for stages in found:
        model = stages["publishing"]["report"]["model"]
        assert f"/{model['repository']}/blob/{model['commit']}/results.json" in page


def test_cards_of_chinese_text_count_characters_and_continue_chinese(api, trained, published, tmp_path):
    text = read(api, published["model"]["repository"], "recipe.yaml", "model", tmp_path)
    resolved = recipe.parse(text.replace("- en", "- zh").replace("description: ''", "description: 中文小模型"))
    dataset = cards.dataset_card(resolved, "a/b", trained.stages["data"]["report"])
    assert "shares 13 characters in a row" in dataset
    assert "> 中文小模型" in dataset
    usage = cards.model_card(
        resolved,
        repository="a/b",
        endpoint="http://hub",
        dataset=Published("a/b-data", "0" * 40, "http://hub/datasets/a/b-data"),
        training=trained.stages["pretraining"]["report"],
        results=trained.stages["evaluation"]["report"],
        samples=[],
    )
    assert "lmc generate a/b --prompt '今天'" in usage
    assert '"prompt": "今天"' in usage


def test_publishing_again_makes_no_new_commit(api, trained, published):
    repository = published["model"]["repository"]
    before = len(api.list_repo_commits(repository))
    again = lmc("publish", trained.recipe, "--out", trained.out, "--json", **trained.environment)
    assert again.returncode == 0, again.stderr
    assert len(api.list_repo_commits(repository)) == before


def test_a_repository_that_was_deleted_is_published_again(trained, hub, tmp_path):
    environment = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": hub.add_user("second")}
    first = lmc("publish", trained.recipe, "--out", trained.out, "--json", **environment)
    assert first.returncode == 0, first.stderr
    HfApi(endpoint=hub.endpoint, token=environment["HF_TOKEN"]).delete_repo("second/tiny")
    second = lmc("publish", trained.recipe, "--out", trained.out, "--json", **environment)
    assert second.returncode == 0, second.stderr
    assert not json.loads(second.stdout)["publishing"]["reused"]
    assert json.loads(second.stdout)["publishing"]["report"]["model"]["repository"] == "second/tiny"


def test_a_token_without_write_access_is_one_line(trained, hub):
    hub.add_user("reader")
    token = hub.command("token", "add", "reader", "--role", "read").strip()
    done = lmc("publish", trained.recipe, "--out", trained.out, HF_ENDPOINT=hub.endpoint, HF_TOKEN=token)
    assert done.returncode == 2
    assert "403" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_an_unknown_token_is_one_line(trained, hub):
    done = lmc("publish", trained.recipe, "--out", trained.out, HF_ENDPOINT=hub.endpoint, HF_TOKEN="hf_unknown")
    assert done.returncode == 2
    assert "401" in done.stderr.splitlines()[-1]


def test_the_curve_is_an_svg_that_shows_both_losses():
    train = [(step * 1000.0, 8.0 / (1 + step / 20)) for step in range(1000)]
    tree = ElementTree.fromstring(draw(train, train[::100], "a & b <curve>"))
    lines = {line.get("class"): line.get("points") for line in tree.iter("{http://www.w3.org/2000/svg}polyline")}
    assert set(lines) == {"training", "validation"}
    for points in lines.values():
        numbers = [tuple(map(float, point.split(","))) for point in points.split()]
        assert all(0 <= x <= 720 and 0 <= y <= 360 for x, y in numbers)


@pytest.mark.parametrize("points", [[], [(1000.0, 3.0)], [(0.0, 3.0), (10.0, 3.0)]])
def test_a_curve_of_few_points_is_still_an_svg(points):
    ElementTree.fromstring(draw(points, points, "few"))


def test_a_card_says_what_a_model_of_any_objective_does():
    assert set(cards.USES) == {name for names in OBJECTIVES.values() for name in names}


def test_a_sample_cannot_close_its_own_fence():
    quoted = cards._quoted("seed 0", "text\n````\n# not a heading")
    assert quoted.splitlines()[2] == "`````text"
    assert quoted.splitlines()[-1] == "`````"
