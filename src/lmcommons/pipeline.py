"""The stages of a recipe, run in order and at most once for the same inputs.

A stage is keyed by the sha256 of everything it depends on: its section of the recipe, the keys of the stages before
it, and the content of the sources. Its results lie in `OUT/NAME/STAGE/KEY/`, with the resolved recipe beside them, and
`stage.json`, written last, says that they are whole. A stage whose key is there is not run again.
"""

import hashlib
import json
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmcommons import environment, recipe
from lmcommons.errors import RequestError
from lmcommons.files import exclusive_lock, read_json, remove_leftovers, write_json, write_text
from lmcommons.processes import ONE_PROCESS, Processes
from lmcommons.progress import say
from lmcommons.recipe import Provenance, Recipe

if TYPE_CHECKING:
    from lmcommons.publishing import Hub

# A change of code that changes results raises the stage's number, so that old results are not taken for new ones.
VERSIONS = {"data": 1, "tokenizer": 1, "pretraining": 1, "evaluation": 1, "publishing": 1}
KEY_DIGITS = 16


@dataclass
class Run:
    """A recipe on its way through the stages."""

    recipe: Recipe
    base: Path
    """where relative paths of the recipe start: its own directory"""
    out: Path
    """`OUT/NAME`, where the stages lie"""
    inputs: str
    """sha256 of the content of all data sources"""
    keys: dict[str, str] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    dataset_repository: str | None = None
    """namespace/name@commit, once the dataset is published"""
    hub: "Hub | None" = None
    """where the results go; None: nothing is published"""
    processes: Processes = ONE_PROCESS
    """what pretraining is started with"""

    def directory(self, stage: str) -> Path:
        return self.out / stage / self.keys[stage][:KEY_DIGITS]

    def resolved(self, described: dict[str, Any]) -> Recipe:
        """The recipe with every default, and what it was run with in the environment `described`."""
        provenance = Provenance(
            inputs=self.inputs,
            dataset=self.dataset_repository,
            stages=dict(self.keys),
            environment=described,
        )
        return self.recipe.model_copy(update={"provenance": provenance})


def run(path: Path, out: Path, until: str = "publishing", processes: Processes = ONE_PROCESS) -> dict[str, Any]:
    """Run the stages of the recipe at `path` up to `until`, with results under `out`.

    Of several machines the first one does so; the others take part in pretraining alone.

    Returns:
        For every stage its `directory`, `key`, whether it was `reused`, and its `report`.

    Raises:
        RequestError: the recipe is wrong, its data cannot be found, or `processes` do not fit it.
        CommandError: a stage failed, or another run of this recipe is at work.
    """
    from lmcommons import data

    wanted = recipe.load(path)
    processes.check(wanted.pretraining)
    recipe.check_memory(wanted, environment.memory())
    base = path.resolve().parent
    wanted = wanted.model_copy(update={"data": data.resolve(wanted.data, base), "provenance": None})
    state = Run(wanted, base, out / wanted.name, data.fingerprint(wanted.data, base), processes=processes)
    stages = {
        "data": (_data_key, _data),
        "tokenizer": (_tokenizer_key, _tokenizer),
        "pretraining": (_pretraining_key, _pretraining),
        "evaluation": (_evaluation_key, _evaluation),
        "publishing": (_publishing_key, _publishing),
    }
    if until == "publishing" and wanted.publishing is not None:
        from lmcommons.publishing import Hub

        state.hub = Hub.connect(wanted)  # before the work: hours later would be late to hear of a wrong token
    summary: dict[str, Any] = {}
    first = processes.node_rank == 0
    busy = "another lmc run works here; wait for it, or choose another --out"
    with exclusive_lock(state.out / ".lock", busy) if first else nullcontext():
        for stage in stages if first else ():
            remove_leftovers(state.out / stage)
        for stage, (key, work) in stages.items():
            if stage == "publishing" and wanted.publishing is None:
                say("publishing: nothing to do, the recipe has no `publishing` section")
                break
            state.keys[stage] = _hash({"stage": stage, "version": VERSIONS[stage], **key(state)})
            summary[stage] = _stage(state, stage, work)
            if stage == until or (stage == "pretraining" and not first):
                break
    return summary


def published_model(pretraining: Path, url: str) -> str | None:
    """`namespace/name@commit` on the hub `url` of what a pretraining stage made; None where it was not published there.

    `pretraining` is the stage's directory, `OUT/NAME/pretraining/KEY`; in any other one nothing is found. Of several
    commits it is the last one.
    """
    records = (pretraining.parent.parent / "publishing").glob("*/stage.json")
    for record in sorted(records, key=lambda path: path.stat().st_mtime, reverse=True):
        made = recipe.load(record.parent / "recipe.yaml").provenance
        model = read_json(record)["report"]["model"]
        of_this = made is not None and made.stages["pretraining"][:KEY_DIGITS] == pretraining.name
        if of_this and model["url"].startswith(f"{url}/"):
            return f"{model['repository']}@{model['commit']}"
    return None


def _stage(state: Run, stage: str, work: Any) -> dict[str, Any]:
    directory = state.directory(stage)
    record = directory / "stage.json"
    reused = record.exists()
    if reused:
        state.reports[stage] = read_json(record)["report"]
        if stage == "publishing":
            reused = _still_published(state)
    if reused:
        say(f"{stage}: unchanged, {directory}")
    else:
        say(f"{stage}: {directory}")
        started = time.monotonic()
        if state.processes.node_rank and stage != "pretraining":
            raise RequestError(
                f"{directory}: not there; run `lmc tokenizer RECIPE` before pretraining on several machines"
            )
        report = work(state, directory)
        seconds = round(time.monotonic() - started, 1)
        if state.processes.node_rank == 0:
            write_text(directory / "recipe.yaml", recipe.dump(state.resolved(environment.describe())))
            write_json(record, {"stage": stage, "key": state.keys[stage], "seconds": seconds, "report": report})
        state.reports[stage] = report
        say(f"{stage}: done in {seconds:.0f} s")
    return {
        "directory": str(directory),
        "key": state.keys[stage],
        "reused": reused,
        "report": state.reports[stage],
    }


# ---------------------------------------------------------------- what each stage depends on, and what it does


def _data_key(state: Run) -> dict[str, Any]:
    return {"inputs": state.inputs, "data": state.recipe.data.model_dump(mode="json")}


def _data(state: Run, directory: Path) -> dict[str, Any]:
    from lmcommons import data

    return data.build(state.recipe.data, state.base, directory)


def _tokenizer_key(state: Run) -> dict[str, Any]:
    return {
        "data": state.keys["data"],
        "tokenizer": state.recipe.tokenizer.model_dump(mode="json"),
        **_vocabulary(state),
    }


def _tokenizer(state: Run, directory: Path) -> dict[str, Any]:
    from lmcommons import data, tokenizer

    texts = (document.text for document in data.read(state.directory("data"), "train"))
    return tokenizer.train(texts, state.recipe.tokenizer, directory, **_vocabulary(state))


def _vocabulary(state: Run) -> dict[str, Any]:
    """What the model and its objective ask of the tokenizer."""
    return {"kind": state.recipe.model.kind, "sentinels": state.recipe.sentinels}


def _pretraining_key(state: Run) -> dict[str, Any]:
    return {
        "tokenizer": state.keys["tokenizer"],
        "seed": state.recipe.seed,
        "model": state.recipe.model.model_dump(mode="json"),
        "pretraining": state.recipe.pretraining.model_dump(mode="json"),
    }


def _pretraining(state: Run, directory: Path) -> dict[str, Any]:
    from lmcommons import training
    from lmcommons.publishing import reported

    # Not atomic: its checkpoints are, and a run that was killed goes on from them.
    dataset, tokenizer, steps = state.directory("data"), state.directory("tokenizer"), state.recipe.pretraining.steps
    first = state.processes.node_rank == 0
    with reported(state.recipe, "pretraining", directory, lambda _: steps) if first else nullcontext():
        return training.pretrain(state.recipe, dataset, tokenizer, directory, state.processes)


def _evaluation_key(state: Run) -> dict[str, Any]:
    return {
        "pretraining": state.keys["pretraining"],
        "seed": state.recipe.seed,
        "evaluation": state.recipe.evaluation.model_dump(mode="json"),
    }


def _evaluation(state: Run, directory: Path) -> dict[str, Any]:
    from lmcommons import evaluation

    model, dataset = state.directory("pretraining") / "model", state.directory("data")
    if state.recipe.model.kind != "decoder":
        results = evaluation.evaluate_objective(state.recipe, model, dataset)
    else:
        results = evaluation.evaluate(
            state.recipe.evaluation,
            model,
            dataset,
            seed=state.recipe.seed,
            context_length=state.recipe.pretraining.context_length,  # positions beyond it were never trained
        )
    write_json(directory / "results.json", results)
    return results


def _publishing_key(state: Run) -> dict[str, Any]:
    assert state.hub is not None
    assert state.recipe.publishing is not None
    return {
        "evaluation": state.keys["evaluation"],
        "publishing": state.recipe.publishing.model_dump(mode="json", exclude={"report_progress"}),
        "description": state.recipe.description,
        "repositories": [state.hub.url, state.hub.dataset, state.hub.model],
    }


def _publishing(state: Run, directory: Path) -> dict[str, Any]:
    hub = state.hub
    assert hub is not None
    dataset = hub.publish_dataset(state.recipe, state.directory("data"), state.reports["data"])
    state.dataset_repository = f"{dataset.repository}@{dataset.commit}"
    trained = recipe.load(state.directory("pretraining") / "recipe.yaml").provenance
    assert trained is not None
    model = hub.publish_model(
        state.resolved(trained.environment),
        training=state.directory("pretraining"),
        training_report=state.reports["pretraining"],
        results=state.reports["evaluation"],
        dataset=dataset,
    )
    return {"dataset": dataset.as_dict(), "model": model.as_dict()}


def _still_published(state: Run) -> bool:
    report = state.reports["publishing"]
    return state.hub is not None and state.hub.has(report["dataset"], report["model"])


# ---------------------------------------------------------------- helpers of the run


def _hash(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
