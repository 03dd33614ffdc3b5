"""Cards that can be checked: what it is, how to use it, what it was made from, how it was measured, what it cannot do.

Every number comes from a report of the stage that measured it; no sentence here claims a quality.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from lmcommons import evaluation
from lmcommons.data import SPLITS
from lmcommons.recipe import Provenance, PublishingRecipe, Recipe

if TYPE_CHECKING:
    from lmcommons.publishing.hub import Published

Counts = TypeVar("Counts")

# Licence identifiers that hubs know; any other is given as `other` with its name.
HUB_LICENCES = """
    afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsl-1.0 cc cc0-1.0 cc-by-2.0 cc-by-3.0
    cc-by-4.0 cc-by-nc-4.0 cc-by-nc-sa-4.0 cc-by-sa-3.0 cc-by-sa-4.0 ecl-2.0 eupl-1.1 eupl-1.2 gfdl gpl gpl-2.0
    gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 mit mpl-2.0 ncsa odbl odc-by ofl-1.1 osl-3.0 pddl unlicense wtfpl zlib
""".split()  # noqa: SIM905 - words read better than a hundred quotes
# By objective: the hub's name for the task, the class of `transformers` that loads it, what the model does.
USES = {
    "causal-lm": ("text-generation", "AutoModelForCausalLM", "It continues text"),
    "masked-lm": ("fill-mask", "AutoModelForMaskedLM", "It predicts hidden tokens from both sides"),
    "span-corruption": ("text2text-generation", "AutoModelForSeq2SeqLM", "It writes the spans that a text lacks"),
    "permutation-lm": ("fill-mask", "XLNetLMHeadModel", "It predicts tokens from any others of a text"),
    "sequence-to-sequence": ("translation", "AutoModelForSeq2SeqLM", "It writes the target of a source"),
}
# What the examples of a card continue where the recipe has no prompt of its own.
PROMPT, CHINESE_PROMPT = "The function", "今天"
UNSPACED = ("zh", "ja", "th")  # languages whose overlap is counted in characters
BENCHMARK = (
    "## Benchmark",
    "Models are compared by the bits that they need for each UTF-8 byte of the test split: `eval.yaml` says so, and "
    "the hub keeps the leaderboard. A recipe with the same `data` section takes part when its `publishing` names this "
    "dataset, and any other model when it states its result in `.eval_results/`.",
)
SAMPLE_TOKENS = 80
SAMPLE_TEMPERATURE = 0.8
SAMPLE_TOP_P = 0.95


def samples(recipe: Recipe, model: Path) -> list[tuple[int, str]]:
    """Texts that a decoder generated, with their seeds 0, 1, 2 …; all that were made, none chosen."""
    from lmcommons import generation
    from lmcommons.generation.loading import load_decoder

    if recipe.model.kind != "decoder":
        return []
    decoder, words = load_decoder(str(model), "cpu", "float32")
    parameters = generation.SamplingParameters(
        max_tokens=SAMPLE_TOKENS, temperature=SAMPLE_TEMPERATURE, top_p=SAMPLE_TOP_P, seed=0
    )
    prompt = generation.prompt_tokens(decoder, words, recipe.evaluation.prompt)
    [found] = generation.continuations(decoder, words, [prompt], parameters, recipe.evaluation.samples)
    return [(seed, recipe.evaluation.prompt + each.text) for seed, each in enumerate(found)]


def dataset_card(recipe: Recipe, repository: str, report: dict[str, Any]) -> str:
    """The card of the dataset at `repository`, from the report of the data stage."""
    licences = sorted({licence for source in report["sources"] for licence in source["read"]["licences"]})
    head = {
        **licence_fields(licences[0] if len(licences) == 1 else f"mixed: {', '.join(licences)}"),
        "language": _publishing(recipe).language,
        "task_categories": [USES[recipe.pretraining.objective.name][0]],
        "pretty_name": f"Text of {recipe.name}",
        **({"source_datasets": repositories} if (repositories := _repositories(report)) else {}),
        "size_categories": [_size_category(sum(split["documents"] for split in report["splits"].values()))],
        "tags": ["lmcommons"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*"} for split, _ in in_order(report["splits"])],
            }
        ],
    }
    steps = [
        (step["name"], _count(step["before"]), _count(step["after"]), _removed(step["removed"]))
        for step in report["steps"]
    ]
    splits = [
        (split, _count(counts), f"{counts['characters']:,}", f"{counts['bytes']:,}")
        for split, counts in in_order(report["splits"])
    ]
    unit = "characters" if set(_publishing(recipe).language) <= set(UNSPACED) else "words"
    sources = [
        (f"`{source['type']}`", _origin(source), _count(source["read"]), ", ".join(source["read"]["licences"]))
        for source in report["sources"]
    ]
    return card(
        head,
        f"# {repository}",
        f"Text for language models, cleaned, deduplicated and split: what the recipe `{recipe.name}` trains on.",
        f"> {recipe.description}" if recipe.description else "",
        "## What it is",
        table(("split", "documents", "characters", "bytes"), splits),
        "Each row has `id`, `text`, `source` and `licence`. A document's split follows from the sha256 of its text, "
        "never from its position, so that adding documents moves none.",
        "```python\nfrom datasets import load_dataset\n\n"
        f'dataset = load_dataset("{repository}")  # with HF_ENDPOINT set to this hub\n```',
        "## Where it comes from",
        table(("source", "what", "documents", "licences"), sources),
        "## What was removed, and why",
        table(("step", "documents before", "after", "removed by"), steps),
        f"No validation or test document shares {recipe.data.overlap_ngram} {unit} in a row with the train split. "
        "The settings of every step are in `recipe.yaml`, all counts in `report.json`.",
        *(BENCHMARK if _publishing(recipe).benchmark else ()),
        "## Limits",
        "The filters measure form, not truth: the text says what its sources say. It was not searched for "
        "personal data. Each document keeps the licence of its source; check that it permits your use.",
    )


def model_card(
    recipe: Recipe,
    *,
    repository: str,
    endpoint: str,
    dataset: "Published",
    training: dict[str, Any],
    results: dict[str, Any],
    samples: list[tuple[int, str]],
) -> str:
    """The card of the model at `repository` on the hub `endpoint`, from a resolved recipe and the stages' reports."""
    publishing, objective = _publishing(recipe), recipe.pretraining.objective.name
    tag, model_class, does = USES[objective]
    head = {
        **licence_fields(publishing.licence),
        "language": publishing.language,
        "library_name": "transformers",
        "pipeline_tag": tag,
        "datasets": [dataset.repository],
        "tags": ["lmcommons"],
    }
    settings, positions = recipe.pretraining, recipe.model.max_position_embeddings
    context = f"{positions:,} tokens" if positions else "any number of tokens"
    prompt = CHINESE_PROMPT if publishing.language[:1] == ["zh"] else PROMPT
    facts = [
        ("architecture", f"{recipe.model.kind} of the {recipe.model.family} family"),
        ("objective", f"`{objective}`"),
        ("parameters", f"{training['parameters']:,}"),
        ("context", f"{context}; trained on {settings.context_length:,}"),
        ("vocabulary", f"{recipe.tokenizer.vocab_size:,} byte-level BPE tokens, trained on the train split"),
        ("training", f"{training['tokens']:,} tokens in {settings.steps:,} steps, {training['epochs']:.2g} epochs"),
        ("optimiser", f"{settings.optimizer.name}, {settings.schedule.name} schedule, seed {recipe.seed}"),
        ("speed", f"{training['tokens_per_second']:,.0f} tokens/s, {training['seconds'] / 60:.1f} minutes"),
    ]
    return card(
        head,
        f"# {repository}",
        recipe.description,
        "## What it is",
        table(("", ""), facts),
        f"{does}; it was not taught to follow instructions or to chat.",
        "## How to use it",
        _usage(repository, endpoint, model_class, recipe.evaluation.prompt or prompt),
        "## How well it predicts text it has not seen",
        evaluation.table(results).strip(),
        f"Measured on the test split of [{dataset.repository}]({dataset.url}) at `{dataset.commit}`: "
        + _measured(results),
        "## How it was trained",
        "![Training and validation loss over tokens](training_curve.svg)",
        f"Data: [{dataset.repository}]({dataset.url}) at commit `{dataset.commit}` ({_data_licences(recipe)}). "
        "`recipe.yaml` holds every setting, the hash of every input and the environment; "
        "`lmc run recipe.yaml` makes this model again where the same "
        "sources can be read. `metrics.jsonl` holds the curve.",
        "## What it writes",
        f"All {len(samples)} samples that were made, seeds 0 to {len(samples) - 1}, temperature {SAMPLE_TEMPERATURE}, "
        f"top-p {SAMPLE_TOP_P}, {SAMPLE_TOKENS} tokens; none was chosen. "
        "They are samples of a statistical model, not facts."
        if samples
        else "",
        *(_quoted(f"seed {seed}", text) for seed, text in samples),
        "## Limits",
        f"A model of {training['parameters']:,} parameters trained on one kind of text: it knows that text's style and "
        "little else, states wrong things fluently, may repeat sentences of its training data, and was not tested for "
        "bias or safety. The interval above is over documents of the same kind; on other text it will be worse.",
        "## Licence",
        f"Weights: {publishing.licence}. Training text: {_data_licences(recipe)}.",
        "## Environment",
        environment_table(recipe.provenance),
    )


def json_text(value: Any) -> str:
    """JSON with sorted keys, so that equal values are equal files."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


# ---------------------------------------------------------------- parts of a card


def _usage(repository: str, endpoint: str, model_class: str, prompt: str) -> str:
    loading = (
        "```python\n"
        "# HF_ENDPOINT must be set before the import:\n"
        f"#   export HF_ENDPOINT={endpoint}\n"
        f"from transformers import {model_class}, AutoTokenizer\n\n"
        f'tokenizer = AutoTokenizer.from_pretrained("{repository}")\n'
        f'model = {model_class}.from_pretrained("{repository}")\n'
    )
    if model_class != "AutoModelForCausalLM":
        return f"{loading}```"
    body = {"model": repository, "prompt": prompt, "max_tokens": 40}
    return (
        f"{loading}"
        f'tokens = tokenizer({json.dumps(prompt, ensure_ascii=False)}, return_tensors="pt")\n'
        "print(tokenizer.decode(model.generate(**tokens, max_new_tokens=40)[0]))\n"
        "```\n\n"
        "```sh\n"
        f"export HF_ENDPOINT={endpoint}\n"
        f"lmc generate {repository} --prompt {shlex.quote(prompt)}\n"
        f"lmc serve {repository} --port 8001\n"
        "curl http://127.0.0.1:8001/v1/completions -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(json.dumps(body, ensure_ascii=False))}\n"
        "```"
    )


def _measured(results: dict[str, Any]) -> str:
    if "targets" in results:
        return (
            f"{results['documents']:,} documents in {results['rows']:,} rows with {results['targets']:,} targets. Loss "
            f"{results['loss']['value']:.3f} nats per target of `{results['objective']}`, perplexity of the targets "
            f"{results['perplexity']['value']:.1f}: not to be compared with other objectives. Intervals are 95 % "
            "bootstrap intervals over rows. Everything is in `results.json`."
        )
    return (
        f"{results['documents']:,} documents, {results['tokens']:,} tokens, {results['bytes']:,} bytes. Loss "
        f"{results['loss']['value']:.3f} nats per token, perplexity {results['perplexity']['value']:.1f}. "
        "Intervals are 95 % bootstrap intervals over documents. Everything is in `results.json`."
    )


def _quoted(label: str, text: str) -> str:
    """A sample in a fence that the sample itself cannot close."""
    fence = "`" * max(3, 1 + max((len(run) for run in _backtick_runs(text)), default=0))
    return f"{label}:\n\n{fence}text\n{text.strip()}\n{fence}"


def _backtick_runs(text: str) -> list[str]:
    return ["`" * len(part) for part in "".join(c if c == "`" else " " for c in text).split()]


def environment_table(provenance: Provenance | None) -> str:
    """What a resolved recipe was run with."""
    assert provenance is not None
    found = provenance.environment
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    rows = [
        ("LM Commons", found["lmcommons"]),
        ("Python", f"{found['python']} on {found['platform']}"),
        ("processor", f"{found['processor']}, {found['torch_threads']} threads"),
        ("GPU", found["gpu"] or "none"),
        ("packages", packages),
        ("inputs", f"sha256 `{provenance.inputs}`"),
    ]
    return table(("", ""), rows)


def _data_licences(recipe: Recipe) -> str:
    named = {getattr(source, "licence", None) or "licence of each document" for source in recipe.data.sources}
    if any(source.type == "python-docs" for source in recipe.data.sources):
        named = (named - {"licence of each document"}) | {"PSF-2.0"}
    return ", ".join(sorted(named))


def _repositories(report: dict[str, Any]) -> list[str]:
    """The datasets on the hub that the text was read from."""
    return list(dict.fromkeys(source["repository"] for source in report["sources"] if source["type"] == "hub"))


def _origin(source: dict[str, Any]) -> str:
    if source["type"] == "python-docs":
        return "documentation topics and docstrings of the standard library"
    if source["type"] == "hub":
        return f"{source['repository']} at `{source['revision']}`"
    paths = [Path(path) for path in source["paths"]]
    return ", ".join(f"`{path.name if path.is_absolute() else path}`" for path in paths)


def licence_fields(name: str) -> dict[str, str]:
    """A licence as the metadata of a card names it."""
    lower = name.lower()
    return {"license": lower} if lower in HUB_LICENCES else {"license": "other", "license_name": lower}


def _publishing(recipe: Recipe) -> PublishingRecipe:
    assert recipe.publishing is not None
    return recipe.publishing


def _size_category(documents: int) -> str:
    for most, name in ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")):
        if documents < most:
            return name
    return "1M<n<10M" if documents < 10**7 else "10M<n<100M"


def _count(counts: dict[str, Any]) -> str:
    return f"{counts['documents']:,}"


def _removed(reasons: dict[str, dict[str, Any]]) -> str:
    return ", ".join(f"{reason}: {_count(counts)}" for reason, counts in reasons.items()) or "nothing"


def in_order(splits: Mapping[str, Counts]) -> list[tuple[str, Counts]]:
    """The splits of a report, whose keys are sorted, in the order that they are used in."""
    return sorted(splits.items(), key=lambda split: SPLITS.index(split[0]) if split[0] in SPLITS else len(SPLITS))


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def card(head: dict[str, Any], *parts: str) -> str:
    """A card of its metadata and its parts; empty ones are left out."""
    front = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n\n".join(part for part in parts if part) + "\n"
