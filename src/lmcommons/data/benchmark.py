"""`eval.yaml`: what a dataset declares that models are measured by, so that hubs keep a leaderboard of it.

Only metrics that can be compared between models stand in it: a perplexity is of one vocabulary, so it never does.
Format: https://huggingface.co/docs/hub/eval-results; `higher_is_better` is what LM Commons adds to it.
"""

from collections.abc import Iterable

import yaml

from lmcommons.recipe import FinetuningTask

FILE = "eval.yaml"
TEST = "test"
LOWER_IS_BETTER = ("bits_per_byte",)
# What test splits of a task are measured by, the number that is looked at first first.
METRICS: dict[FinetuningTask, tuple[str, ...]] = {
    "sequence-classification": ("accuracy", "macro_f1"),
    "token-classification": ("entity_f1", "accuracy", "macro_f1"),
    "question-answering": ("exact_match", "f1"),
    "translation": ("bleu", "chrf"),
    "text-to-text": ("exact_match", "f1", "chrf"),
    "chat": (),  # its perplexity is of one vocabulary
}


def task_id(metric: str, split: str) -> str:
    """What a leaderboard calls a metric on a test split: its name alone on the split `test`."""
    return metric if split == TEST else f"{metric} ({split})"


def benchmark(name: str, description: str, metrics: Iterable[str], splits: Iterable[str] = (TEST,)) -> str:
    """The text of `eval.yaml`: a task for each metric on each test split."""
    declared = [(metric, split) for split in splits for metric in metrics]
    tasks = [
        {
            "id": task_id(metric, split),
            "config": "default",
            "split": split,
            "higher_is_better": metric not in LOWER_IS_BETTER,
        }
        for metric, split in declared
    ]
    found = {"name": name, "description": description, "tasks": tasks}
    return yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=110)
