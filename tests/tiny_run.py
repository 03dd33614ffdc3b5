"""The real `lmc`, and a recipe of a few seconds on real text, for tests of several rooms."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

LMC = Path(sys.executable).with_name("lmc")

TINY = """
name: tiny
data:
  sources:
    - {type: jsonl, paths: [documents.jsonl], licence: PSF-2.0}
tokenizer: {vocab_size: 512}
model:
  {hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 4, max_position_embeddings: 128}
pretraining:
  context_length: 64
  batch_size: 4
  steps: 30
  compile: "off"
  precision: float32
  schedule: {warmup_steps: 3}
  evaluation_interval: 10
  checkpoint_interval: 10
evaluation: {bootstrap_samples: 200, samples: 1}
publishing: {}
"""


def lmc(*arguments: object, timeout: float = 240, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a real `lmc`; variables given as empty values are removed."""
    variables = {name: value for name, value in (os.environ | environment).items() if value}
    return subprocess.run(
        [LMC, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=timeout, env=variables
    )


class Trained(NamedTuple):
    """A recipe that was run to its end, and what `lmc run --json` said."""

    recipe: Path
    out: Path
    stages: dict
    environment: dict[str, str]


def write_documents(directory: Path, count: int = 120) -> Path:
    """Real text: topics of the documentation of Python, as JSONL."""
    from pydoc_data import topics

    texts = [text for _, text in sorted(topics.topics.items())][:count]
    path = directory / "documents.jsonl"
    path.write_text("".join(json.dumps({"text": text[:6000]}) + "\n" for text in texts), encoding="utf-8")
    return path
