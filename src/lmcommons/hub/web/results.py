"""The evaluation results that a model states, as the rows of a small table."""

from dataclasses import dataclass
from typing import Any

MAX_NOTES = 500  # characters


@dataclass(frozen=True)
class Result:
    """One measured value: of which task, on which dataset repository (`namespace/name`)."""

    dataset: str
    task: str
    value: str
    notes: str


def result(entry: dict[str, Any]) -> Result:
    """The row of one entry of `.eval_results/*.yaml`, as `repos.evaluation` reads it."""
    dataset = entry["dataset"]
    return Result(_text(dataset["id"]), _text(dataset["task_id"]), _text(entry["value"]), _text(entry.get("notes")))


def _text(value: Any) -> str:
    """A number with four digits, or a text; anything else is not shown."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)[:MAX_NOTES] if isinstance(value, str | int) else ""
