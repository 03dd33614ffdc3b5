"""Recipes of models that train in seconds, splits of given texts, and `pretrain` in a process that a test can kill."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmcommons import recipe as recipes
from lmcommons.data import Document
from lmcommons.data.dataset import write
from lmcommons.training.execution import missing_for_compile

VOCAB_SIZE = 512

PRETRAIN = """
import sys
from pathlib import Path
from lmcommons import recipe
from lmcommons.training import pretrain
pretrain(recipe.load(Path(sys.argv[1])), *map(Path, sys.argv[2:]))
"""


needs_compiler = pytest.mark.skipif(
    bool(missing := missing_for_compile("cpu")), reason=f"torch.compile needs {missing}, which is not here"
)


def write_split(dataset: Path, split: str, texts: list[str]) -> None:
    write(dataset, split, [Document(str(number), text, "topics", "PSF-2.0") for number, text in enumerate(texts)])


def tiny_recipe(seed: int = 0, model: dict[str, Any] | None = None, **pretraining: Any) -> recipes.Recipe:
    """A recipe of a tiny model; further keywords are fields of its pretraining section."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    defaults = {
        "context_length": 64,
        "batch_size": 4,
        "steps": 12,
        "evaluation_interval": 5,
        "checkpoint_interval": 4,
        "compile": "off",
        "device": "cpu",
        "schedule": {"warmup_steps": 2},
    }
    return recipes.Recipe.model_validate(
        {
            "name": "tiny",
            "seed": seed,
            "data": {"sources": [{"type": "python-docs"}]},
            "tokenizer": {"vocab_size": VOCAB_SIZE},
            "model": {**sizes, "num_key_value_heads": 1, **(model or {})},
            "pretraining": {**defaults, **pretraining},
        }
    )


def start_pretraining(recipe: recipes.Recipe, dataset: Path, tokenizer: Path, out: Path) -> subprocess.Popen[str]:
    """`pretrain` in a process of its own."""
    file = out.with_name(f"{out.name}.yaml")
    file.write_text(recipes.dump(recipe))
    command = [sys.executable, "-c", PRETRAIN, *map(str, (file, dataset, tokenizer, out))]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def metrics(out: Path) -> list[dict[str, float]]:
    """The lines that a run has logged so far."""
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def wait_for_step(out: Callable[[], Path], step: int, process: subprocess.Popen[str]) -> None:
    """Wait until the run that `process` does in `out` has logged its step `step`."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        file = out() / "metrics.jsonl"
        if file.exists() and file.read_bytes().count(b"\n") >= step:
            return
        time.sleep(0.002)
    process.kill()
    raise AssertionError(f"no step {step}: {process.communicate()[1]}")


def flip_a_byte(path: Path) -> None:
    """Damage a file as a bad disk does."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
