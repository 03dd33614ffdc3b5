"""`lmc finetune`: the stage of a fine-tuning recipe, run at most once for the same inputs.

It is keyed by the sha256 of everything it depends on: the recipe's section and seed, and the content of model and rows.
Results lie in `OUT/NAME/finetuning/KEY/`; `stage.json`, written last, says that they are whole.
"""

import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmcommons import client, environment, files, pipeline, recipe
from lmcommons.errors import RequestError
from lmcommons.progress import say
from lmcommons.recipe import Provenance, TaskRecipe

if TYPE_CHECKING:
    from lmcommons.publishing import Hub

VERSION = 2  # raised by a change of code that changes results
KEY_DIGITS = 16


def run(path: Path, out: Path) -> dict[str, Any]:
    """Run the fine-tuning recipe at `path`, with results under `out`.

    Returns:
        `directory`, `key`, whether it was `reused`, the `report` (`stage.finetune`); and with a `publishing` section
        `published`: `repository`, `commit` and `url` of the model.

    Raises:
        RequestError: the recipe is wrong, or its model or data cannot be found or do not fit.
        CommandError: the work failed, or another run of this recipe is at work.
    """
    from lmcommons.finetuning import rows

    wanted = recipe.load_task(path).model_copy(update={"provenance": None})
    hub = None
    if wanted.publishing is not None:
        from lmcommons.publishing import Hub

        hub = Hub.connect(wanted)  # before the work: hours later would be late to hear of a wrong token
    base = path.resolve().parent
    model = _model(wanted.finetuning.model, base, out)
    data = rows.resolve(wanted.finetuning.data, base)
    inputs = _inputs(wanted, model, rows.fingerprint(wanted.finetuning.data, data))
    origin = client.fetched(wanted.finetuning.model, model)
    if origin is None and hub is not None:
        origin = pipeline.published_model(model.parent, hub.url)
    dataset = client.fetched(wanted.finetuning.data.path, data)
    resolved = _pinned(wanted, origin, dataset)
    key = hashlib.sha256(
        json.dumps(
            {
                "version": VERSION,
                "inputs": inputs,
                "seed": wanted.seed,
                "finetuning": wanted.finetuning.model_dump(mode="json", exclude={"model": True, "data": {"path"}}),
            },
            sort_keys=True,
        ).encode()
    ).hexdigest()
    place = out / wanted.name / "finetuning"
    directory = place / key[:KEY_DIGITS]
    with files.exclusive_lock(out / wanted.name / ".lock", "another lmc run works here; wait, or choose another --out"):
        files.remove_leftovers(place)
        if reused := (directory / "stage.json").exists():
            say(f"finetuning: unchanged, {directory}")
        else:
            say(f"finetuning: {directory}")
            _work(wanted, resolved, model, data, directory, key, inputs)
        report = files.read_json(directory / "report.json")
        found = {"directory": str(directory), "key": key, "reused": reused, "report": report}
        if hub is not None:
            found["published"] = _publish(hub, resolved, directory, report, origin, dataset)
    return found


def _model(name: str, base: Path, out: Path) -> Path:
    """The directory of a model: `name`, or what the pretraining recipe `name` makes under `out`, or from the hub."""
    local = base / Path(name).expanduser()
    if local.suffix == ".yaml":
        return Path(pipeline.run(local, out, "pretraining")["pretraining"]["directory"]) / "model"
    return local if local.is_dir() else client.model_directory(name)


def _pinned(wanted: TaskRecipe, model: str | None, dataset: str | None) -> TaskRecipe:
    """The recipe with the commits of the model and the rows, as far as they lie in repositories."""
    rows = wanted.finetuning.data
    finetuning = wanted.finetuning.model_copy(
        update={
            "model": model or wanted.finetuning.model,
            "data": rows.model_copy(update={"path": dataset or rows.path}),
        }
    )
    return wanted.model_copy(update={"finetuning": finetuning})


def _work(
    wanted: TaskRecipe, resolved: TaskRecipe, model: Path, data: Path, directory: Path, key: str, inputs: str
) -> None:
    from lmcommons.finetuning.stage import finetune
    from lmcommons.publishing import reported

    started, epochs = time.monotonic(), wanted.finetuning.epochs
    with reported(wanted, "fine-tuning", directory, lambda line: round(line["step"] * epochs / line["epoch"])):
        report = finetune(wanted, model, data, directory)
    files.write_json(directory / "report.json", report)
    provenance = Provenance(inputs=inputs, stages={"finetuning": key}, environment=environment.describe())
    files.write_text(directory / "recipe.yaml", recipe.dump(resolved.model_copy(update={"provenance": provenance})))
    seconds = round(time.monotonic() - started, 1)
    files.write_json(directory / "stage.json", {"stage": "finetuning", "key": key, "seconds": seconds})
    say(f"finetuning: done in {seconds:.0f} s")


def _publish(
    hub: "Hub", resolved: TaskRecipe, directory: Path, report: dict[str, Any], origin: str | None, dataset: str | None
) -> dict[str, Any]:
    """Push the model, unless its repository shows what was pushed before."""
    record = directory / "published.json"
    if record.exists():
        known: dict[str, Any] = files.read_json(record)
        if known["repository"] == hub.model and known["url"].startswith(hub.url) and hub.has(known):
            say(f"publishing: unchanged, {known['url']}")
            return known
    made = recipe.load_task(directory / "recipe.yaml").provenance
    published = hub.publish_task_model(
        resolved.model_copy(update={"provenance": made}), directory, report, model=origin, dataset=dataset
    )
    files.write_json(record, published.as_dict())
    return published.as_dict()


def _inputs(wanted: TaskRecipe, model: Path, data: str) -> str:
    """The sha256 of the rows and of all files of the model that could be read."""
    digest = hashlib.sha256(data.encode())
    if not (model / "config.json").is_file():
        raise RequestError(f"{model / 'config.json'}: no such file; a model directory has one")
    for path in sorted(model.iterdir()):
        if path.suffix in (".json", ".safetensors", ".jinja", ".txt", ".model", ".spm"):
            digest.update(f"{path.name} {files.sha256_file(path)}\n".encode())
    return digest.hexdigest()
