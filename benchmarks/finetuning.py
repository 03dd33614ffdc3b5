"""What the recipes of fine-tuning give, and what of it pretraining gives, measured on the same test rows.

A recipe is run as it stands; or also from random weights, and on few rows. Both runs of such a pair have the same shape
of model, tokenizer, rows, order of rows, steps and learning rates; they differ in the weights that they begin with. The
pretrained ones come from the train texts of the task itself, without labels or pairs, so that pretraining reads no text
that fine-tuning does not have. Few train rows are drawn by hash.
"""

import argparse
import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from rich.console import Console
from rich.table import Table

from lmcommons import environment, finetuning, recipe
from lmcommons.files import read_json, write_json

RECIPES = Path(__file__).parent.parent / "recipes" / "finetuning"
RESULTS = Path(__file__).parent / "results" / "finetuning.json"
PAIR = ("random", "pretrained")


@dataclass(frozen=True)
class Study:
    """A recipe, and on how many of its train rows it is run, for how many epochs (None: as it stands), from what."""

    recipe: str
    train_rows: int | None = None
    epochs: int | None = None
    starts: tuple[str, ...] = ("pretrained",)

    @property
    def name(self) -> str:
        return f"{self.recipe}-{self.train_rows or 'all'}"


STUDIES = [
    Study("sentiment-zh", 1000, starts=PAIR),
    Study("translation-en-de", 4000, epochs=6, starts=PAIR),
    Study("translation-en-de", starts=PAIR),
    Study("translation-en-zh"),
    Study("sentiment-zh"),
    Study("spam"),
    Study("markup-en"),
    Study("qa-extractive"),
    Study("qa-generative"),
    Study("chat"),
]


def measure(study: Study, out: Path) -> Iterator[dict[str, Any]]:
    """The report of each start: its steps, seconds and metrics on the test splits."""
    path = RECIPES / f"{study.recipe}.yaml"
    wanted = recipe.load_task(path)
    with tempfile.TemporaryDirectory() as place:
        data = (path.parent / wanted.finetuning.data.path).resolve()
        if study.train_rows is not None:
            data = few(data, study.train_rows, Path(place))
        for start in study.starts:
            section = wanted.finetuning.model_dump(mode="json") | {
                "model": str((path.parent / wanted.finetuning.model).resolve()),
                "data": wanted.finetuning.data.model_dump(mode="json") | {"path": str(data)},
                "initial_weights": start,
                "epochs": study.epochs or wanted.finetuning.epochs,
            }
            ready = Path(place) / "recipe.yaml"
            ready.write_text(yaml.safe_dump({"name": study.name, "seed": wanted.seed, "finetuning": section}))
            report = finetuning.run(ready, out)["report"]
            yield {"study": study.name, "start": start, **report}


def few(data: Path, rows: int, place: Path) -> Path:
    """A copy of the rows in `data` with only `rows` of train, drawn by hash."""
    for path in (data / "data").glob("*.parquet"):
        table = pq.read_table(path)
        if path.name.startswith("train-"):
            order = sorted(range(len(table)), key=lambda row: _hash(table.slice(row, 1).to_pylist()[0]))
            table = table.take(sorted(order[:rows]))
        pq.write_table(table, place / path.name)
    return place


def _hash(row: dict[str, Any]) -> bytes:
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).digest()


def show(results: list[dict[str, Any]]) -> None:
    """A table of the metrics, with intervals and baselines."""
    table = Table("fine-tuning", "train rows", "start", "test", "metric", "value", "95 % interval", "n", "baseline")
    for result in results:
        for split, measurements in result["tests"].items():
            for found in measurements:
                table.add_row(
                    result["study"],
                    f"{result['rows']['train']['rows']:,}",
                    result["start"],
                    split,
                    found["metric"],
                    f"{found['value']:.3g}",
                    f"{found['low']:.3g} to {found['high']:.3g}",
                    f"{found['n']:,}",
                    f"{found['baseline']} {found['baseline_value']:.3g}",
                )
    Console().print(table)


def main() -> None:
    """Parse, measure, print, write."""
    names = [study.name for study in STUDIES]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", nargs="+", choices=names, default=names, help="others keep their results")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="where runs go; finished ones are not run again"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    known = read_json(arguments.out)["results"] if arguments.out.exists() else []
    found = {name: [result for result in known if result["study"] == name] for name in names}
    for study in STUDIES:
        if study.name in arguments.studies:
            found[study.name] = list(measure(study, arguments.runs))
    results = [result for name in names for result in found[name]]
    write_json(arguments.out, {"results": results, "environment": environment.describe()})
    show(results)


if __name__ == "__main__":
    main()
