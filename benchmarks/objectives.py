"""Each pretraining objective on real text: how far its loss on the test split falls below what word counts give.

Every recipe of recipes/pretraining runs as `lmc evaluate` runs it: data, tokenizer, pretraining, evaluation. The
unigram loss is that of a model that knows how often each token is a target in the train split and nothing else.
"""

import argparse
import math
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lmcommons import environment, pipeline, recipe
from lmcommons.files import write_json

PROJECT = Path(__file__).parent.parent
RECIPES = PROJECT / "recipes" / "pretraining"
RESULTS = Path(__file__).parent / "results" / "objectives.json"
MARGIN = 0.4  # nats below the unigram loss that every objective has to reach


def main() -> None:
    """Run the recipes, print a table, write JSON; exit 1 where an objective learned less than `MARGIN`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=["gpt2", "llama", "bert", "t5", "xlnet", "marian"])
    parser.add_argument("--out", type=Path, default=PROJECT / "runs", help="where the stages' results lie")
    arguments = parser.parse_args()
    results = {family: measure(family, arguments.out) for family in arguments.families}
    table = Table("family", "objective", "parameters", "steps", "minutes", "loss", "unigram", "margin", "95 %")
    for family, found in results.items():
        margin = found["margin"]
        numbers = (f"{found['loss']:.3f}", f"{found['unigram']:.3f}", f"{margin['value']:.3f}")
        spread = f"{margin['low']:.2f} to {margin['high']:.2f}"
        size = (f"{found['parameters']:,}", str(found["steps"]), f"{found['minutes']:.1f}")
        table.add_row(family, found["objective"], *size, *numbers, spread)
    Console().print(table)
    write_json(RESULTS, {"environment": environment.describe(), "margin": MARGIN, "families": results})
    short = [family for family, found in results.items() if found["margin"]["low"] < MARGIN]
    if short:
        raise SystemExit(f"less than {MARGIN} nats below the unigram loss: {', '.join(short)}")


def measure(family: str, out: Path) -> dict[str, Any]:
    """The losses of a recipe's model and of its unigram baseline on the test split, in nats per target."""
    path = RECIPES / f"{family}.yaml"
    wanted, summary = recipe.load(path), pipeline.run(path, out, until="evaluation")
    training, found = summary["pretraining"]["report"], summary["evaluation"]["report"]
    return {
        "objective": wanted.pretraining.objective.name,
        "parameters": training["parameters"],
        "steps": training["steps"],
        "minutes": training["seconds"] / 60,
        "tokens_per_second": training["tokens_per_second"],
        **losses(found),
    }


def losses(found: dict[str, Any]) -> dict[str, Any]:
    """`loss`, `unigram` and `margin` (the difference with its interval) from the report of an evaluation."""
    unigram = found["baselines"]["unigram"]
    # A causal model is reported in bits per byte, of which a token has so many nats:
    scale = 1.0 if "targets" in found else found["bytes"] * math.log(2) / found["tokens"]
    metric = "loss" if "targets" in found else "bits_per_byte"
    difference = {name: -value * scale for name, value in unigram["difference"].items()}
    return {
        "loss": found["loss"]["value"],
        "unigram": unigram[metric]["value"] * scale,
        "margin": {"value": difference["value"], "low": difference["high"], "high": difference["low"]},
    }


if __name__ == "__main__":
    main()
