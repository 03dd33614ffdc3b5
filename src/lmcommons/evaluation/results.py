"""What an evaluation found, for people (a table in the card) and for hubs (`.eval_results/*.yaml`)."""

from typing import Any

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

LABELS = {
    "5-gram": "5-gram model (modified Kneser–Ney, same tokens, same train text)",
    "unigram": "unigram model (same tokens, same train text)",
    "xz -9": "`xz -9` of the test text",
    "xz -9 given train": "`xz -9` of the test text after the train text",
}


def table(results: dict[str, Any]) -> str:
    """The model and its baselines as a Markdown table, lowest first, with the model's difference.

    In bits per byte, or for a model that gives a whole text no likelihood in nats per target of its objective.
    """
    metric = "bits_per_byte" if "bits_per_byte" in results else "loss"
    unit = "bits per byte" if metric == "bits_per_byte" else f"nats per target of {results['objective']}"
    rows = [(results[metric], "**this model**", "")]
    for name, found in results["baselines"].items():
        difference = found["difference"]
        rows.append((found[metric], LABELS[name], f"{difference['value']:+.3f} ({_interval(difference)})"))
    rows.sort(key=lambda row: row[0]["value"])
    lines = [f"| | {unit} | 95 % interval | this model's difference |", "|---|---|---|---|"]
    for bits, label, difference in rows:
        spread = _interval(bits) if bits["low"] < bits["high"] else "–"
        lines.append(f"| {label} | {bits['value']:.3f} | {spread} | {difference} |")
    return "\n".join(lines) + "\n"


def eval_results(results: dict[str, Any], *, dataset: str, revision: str, source: str | None = None) -> str:
    """The text of a `.eval_results/*.yaml` file: what was measured, as `huggingface_hub` reads it.

    Args:
        dataset: `namespace/name` of the dataset whose test split was read.
        revision: its commit.
        source: address of something that shows how the numbers came about.
    """
    if "bits_per_byte" in results:
        measured_on = f"{results['tokens']} tokens, {results['bytes']} bytes"
        metrics = {"bits_per_byte": "bits per UTF-8 byte, lower is better"}
        metrics |= {"perplexity": "per token", "loss": "nats per token"}
        drawn, number = "documents", results["documents"]
    else:
        measured_on = f"{results['targets']} targets"
        metrics = {"perplexity": f"per target of {results['objective']}", "loss": "nats per target"}
        drawn, number = "rows", results["rows"]
    entries = [
        EvalResultEntry(
            dataset_id=dataset,
            task_id=metric,
            value=results[metric]["value"],
            dataset_revision=revision,
            source_url=source,
            source_name=source and source.rpartition("/")[2],
            notes=(
                f"{unit}; 95 % interval {_interval(results[metric])} (bootstrap over {drawn}, n = {number}); "
                f"{measured_on} of the {results['split']} split; context {results['context_length']} tokens"
            ),
        )
        for metric, unit in metrics.items()
    ]
    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True, width=110)


def _interval(found: dict[str, float]) -> str:
    return f"{found['low']:.3f} to {found['high']:.3f}"
