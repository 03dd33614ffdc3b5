"""A fine-tuned model goes to the hub with what was measured, and rows may come from it."""

import json
from pathlib import Path

import httpx
import pytest
import yaml
from huggingface_hub import HfApi
from tiny_run import lmc
from tiny_tasks import reviews, write_model, write_recipe, write_splits

from lmcommons import recipe
from lmcommons.errors import RequestError


def test_a_model_is_published_with_its_results_and_only_once(hub, member_token, tmp_path):
    environment = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": member_token, "HF_HOME": str(tmp_path / "cache")}
    api = HfApi(endpoint=hub.endpoint, token=member_token)
    write_model(tmp_path / "model", "llama")
    write_splits(tmp_path / "rows", reviews(64, 0))
    api.create_repo("trainer/rows", repo_type="dataset")
    commit = api.upload_folder(repo_id="trainer/rows", repo_type="dataset", folder_path=tmp_path / "rows").oid
    path = write_recipe(tmp_path, "sequence-classification", data={"path": "trainer/rows"}, method={"name": "lora"})
    path.write_text(path.read_text() + "publishing: {model: tiny-reviews, licence: mit, report_progress: true}\n")

    def finetune() -> dict:
        done = lmc("finetune", path, "--out", tmp_path / "runs", "--json", **environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    first = finetune()
    names = set(api.list_repo_files("trainer/tiny-reviews"))
    assert {"config.json", "model.safetensors", "adapter/adapter_config.json", "report.json", "recipe.yaml"} <= names
    accuracy = first["report"]["tests"]["test"][0]
    card = api.hf_hub_download("trainer/tiny-reviews", "README.md", cache_dir=tmp_path / "cache")
    head, _, text = Path(card).read_text(encoding="utf-8").removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(head)["datasets"] == ["trainer/rows"]
    assert yaml.safe_load(head)["pipeline_tag"] == "text-classification"
    assert f"| test | accuracy | {accuracy['value']:.3f} |" in text
    results = api.hf_hub_download("trainer/tiny-reviews", ".eval_results/rows.yaml", cache_dir=tmp_path / "cache")
    [result, _] = yaml.safe_load(Path(results).read_text(encoding="utf-8"))
    assert result["dataset"] == {"id": "trainer/rows", "task_id": "accuracy", "revision": commit}
    assert result["value"] == accuracy["value"]
    assert result["source"]["url"] == f"{hub.endpoint}/trainer/tiny-reviews/blob/main/report.json"
    assert "base_model" not in yaml.safe_load(head)
    (run,) = httpx.get(f"{hub.endpoint}/api/x/models/trainer/tiny-reviews/runs").json()
    assert (run["stage"], run["state"]) == ("fine-tuning", "finished")
    assert run["step"] == run["steps"] == first["report"]["steps"]
    assert "a local folder, not published; pretrained weights" in text

    again = finetune()
    assert again["reused"]
    assert again["published"] == first["published"]


def test_a_model_and_rows_from_the_hub_are_named_with_their_commits(hub, member_token, tmp_path):
    environment = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": member_token, "HF_HOME": str(tmp_path / "cache")}
    api = HfApi(endpoint=hub.endpoint, token=member_token)
    commits = {}
    for name, kind, folder in (
        ("trainer/pinned-base", "model", write_model(tmp_path / "base", "llama")),
        ("trainer/pinned-rows", "dataset", write_splits(tmp_path / "rows", reviews(32, 0))),
    ):
        api.create_repo(name, repo_type=kind)
        commits[name] = api.upload_folder(repo_id=name, repo_type=kind, folder_path=folder).oid
    path = write_recipe(
        tmp_path, "sequence-classification", model="trainer/pinned-base", data={"path": "trainer/pinned-rows"}
    )
    path.write_text(path.read_text() + "publishing: {model: pinned}\n")
    done = lmc("finetune", path, "--out", tmp_path / "runs", "--json", **environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["published"]["repository"] == "trainer/pinned"

    published = api.hf_hub_download("trainer/pinned", "recipe.yaml", cache_dir=tmp_path / "cache")
    resolved = recipe.load_task(Path(published)).finetuning
    assert resolved.model == f"trainer/pinned-base@{commits['trainer/pinned-base']}"
    assert resolved.data.path == f"trainer/pinned-rows@{commits['trainer/pinned-rows']}"
    card = api.model_info("trainer/pinned").card_data
    assert (card.base_model, card.base_model_relation) == ("trainer/pinned-base", "finetune")
    walk = httpx.get(f"{hub.endpoint}/api/x/lineage/models/trainer/pinned").json()
    assert {(edge["source"]["name"], edge["relation"], edge["revision"]) for edge in walk["edges"]} == {
        ("trainer/pinned-base", "finetune", commits["trainer/pinned-base"]),
        ("trainer/pinned-rows", "trained_on", commits["trainer/pinned-rows"]),
    }


def test_a_benchmark_is_of_a_dataset_that_the_recipe_publishes(tmp_path):
    path = write_recipe(tmp_path, "chat")
    path.write_text(path.read_text() + "publishing: {benchmark: true}\n")
    with pytest.raises(RequestError, match="benchmark is for the dataset of a pretraining recipe"):
        recipe.load_task(path)


def test_publishing_without_a_hub_is_refused_before_the_work(tmp_path):
    path = write_recipe(tmp_path, "chat")
    path.write_text(path.read_text() + "publishing: {}\n")
    done = lmc("finetune", path, HF_ENDPOINT="")
    assert done.returncode == 2
    assert "HF_ENDPOINT is not set" in done.stderr
