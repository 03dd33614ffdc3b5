"""The card of a fine-tuned model: what it was made from, how it was measured, and beside what."""

from typing import Any

from lmcommons.evaluation.metrics import task_table
from lmcommons.publishing.cards import card, environment_table, in_order, licence_fields, table
from lmcommons.recipe import FinetuningTask, TaskRecipe

# By task: the hub's name for it, the class of `transformers` that loads the model, and the command that uses it.
USES: dict[FinetuningTask, tuple[str, str, str]] = {
    "sequence-classification": ("text-classification", "AutoModelForSequenceClassification", "classify {} --text TEXT"),
    "token-classification": ("token-classification", "AutoModelForTokenClassification", "classify {} --text TEXT"),
    "question-answering": ("question-answering", "AutoModelForQuestionAnswering", "answer {} --question Q --context C"),
    "translation": ("translation", "AutoModelForSeq2SeqLM", "translate {} --text TEXT"),
    "text-to-text": ("text2text-generation", "AutoModelForSeq2SeqLM", "translate {} --text TEXT"),
    "chat": ("text-generation", "AutoModelForCausalLM", "serve {}"),
}


def task_card(
    recipe: TaskRecipe,
    report: dict[str, Any],
    *,
    repository: str,
    endpoint: str,
    model: str | None,
    dataset: str | None,
) -> str:
    """The card of the model at `repository` on the hub `endpoint`, from a resolved recipe and the stage's report.

    `model` and `dataset` are `namespace/name@commit` of what it began as and of the rows; None where they lie in no
    repository.
    """
    assert recipe.publishing is not None
    wanted, shape = recipe.finetuning, report["model"]
    tag, loader, command = USES[wanted.task]
    if shape["kind"] == "decoder":
        loader = loader.replace("Seq2SeqLM", "CausalLM")
    head: dict[str, Any] = {
        **licence_fields(recipe.publishing.licence),
        "language": recipe.publishing.language,
        "library_name": "transformers",
        "pipeline_tag": tag,
        "tags": ["lmcommons"],
    }
    if model is not None and wanted.initial_weights == "pretrained":
        head |= {"base_model": model.partition("@")[0], "base_model_relation": "finetune"}
    if dataset is not None:
        head["datasets"] = [dataset.partition("@")[0]]
    facts = [
        ("task", wanted.task),
        ("model it began as", f"{_place(model, endpoint)}; {wanted.initial_weights} weights"),
        ("parameters", f"{shape['parameters']:,}, of which {shape['trained_parameters']:,} were trained"),
        ("method", wanted.method.name),
        ("training", f"{report['steps']:,} steps, {report['epochs']:.3g} epochs, {report['seconds'] / 60:.1f} minutes"),
        ("chosen by", f"{report['chosen_by']} on the validation split, at step {report['best']['step']:,}"),
        ("seed", f"{recipe.seed}"),
    ]
    if report["labels"]:
        facts.append(("labels", ", ".join(f"`{label}`" for label in report["labels"])))
    rows = [
        (name, f"{found['rows']:,}", f"{found['cut']:,}", f"{found['in_train']:,}")
        for name, found in in_order(report["rows"])
    ]
    return card(
        head,
        f"# {repository}",
        recipe.description,
        "## What it is",
        table(("", ""), facts),
        "## How to use it",
        f"```sh\nexport HF_ENDPOINT={endpoint}\nlmc {command.format(repository)}\n```\n\n"
        f'```python\nfrom transformers import {loader}\n\nmodel = {loader}.from_pretrained("{repository}")\n```',
        "## How well it does it",
        task_table(report["tests"]).strip(),
        "Test splits were read once, after training. Intervals are 95 % bootstrap intervals over rows. A model that is "
        "not clearly better than its baseline has learnt nothing worth using.",
        "## What it learnt from",
        f"Rows of {_place(dataset, f'{endpoint}/datasets')}; the sha256 of the inputs is of model and rows together.",
        table(("split", "rows", "cut to the longest length", "with an input that is in train too"), rows),
        "## Limits",
        "It knows rows like those it was trained on; on others it will be worse than the table says. It was not tested "
        "for bias or safety.",
        "## Environment",
        environment_table(recipe.provenance),
    )


def _place(repository: str | None, base: str) -> str:
    """A link to `namespace/name@commit`, or that there is none."""
    if repository is None:
        return "a local folder, not published"
    name, _, commit = repository.partition("@")
    return f"[{name}]({base}/{name}/tree/{commit}) at `{commit}`"
