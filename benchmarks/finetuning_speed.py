"""Rows per second of `lmc finetune` beside a plain float32 loop over the same checkpoint, as a tutorial writes it.

A classifier is trained from a BERT, which this project has blocks for, and from a DistilBERT, which it trains as a
module of `transformers`. Texts are 8 to 120 tokens long. The plain loop pads each batch to its longest row, or all rows
to 128; ours packs them, in bfloat16. All take turns; ratios are medians over rounds. Neither side is compiled.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import tokenizers
import torch
import transformers
import yaml
from rich.console import Console
from rich.table import Table

from lmcommons import environment, recipe
from lmcommons import model as models
from lmcommons.files import write_json
from lmcommons.finetuning import foreign, own, rows
from lmcommons.finetuning.classifying import SequenceClassification
from lmcommons.finetuning.encoding import Example
from lmcommons.finetuning.loop import Loop
from lmcommons.finetuning.tasks import Setting
from lmcommons.generation import foreign_tokenizer

RESULTS = Path(__file__).parent / "results" / "finetuning_speed.json"
FAMILIES = ("bert", "distilbert")
ROWS, BATCH, LENGTH, WORDS = 640, 32, 128, 5000
STEPS = 3  # of each contender in each round
LABELS = ["no", "yes"]
transformers.logging.set_verbosity_error()


def checkpoint(family: str, directory: Path) -> None:
    """A model of 4 layers, 256 wide, with random weights."""
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])}
    vocabulary |= {f"w{number}": number + 5 for number in range(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.BertTokenizerFast(tokenizer_object=tokenizer).save_pretrained(directory)
    sizes = {"vocab_size": len(vocabulary), "max_position_embeddings": LENGTH}
    if family == "bert":
        config = transformers.BertConfig(
            hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024, **sizes
        )
        transformers.BertForMaskedLM(config).save_pretrained(directory)
    else:
        config = transformers.DistilBertConfig(dim=256, n_layers=4, n_heads=4, hidden_dim=1024, **sizes)
        transformers.DistilBertForMaskedLM(config).save_pretrained(directory)


def ours(family: str, directory: Path) -> tuple[Callable[[], int], list[Example]]:
    """A step of the loop of `lmc finetune`, which answers with its number of rows; and the rows."""
    draw = random.Random(0)
    texts = [" ".join(f"w{draw.randrange(WORDS)}" for _ in range(draw.randint(6, 118))) for _ in range(ROWS)]
    train = rows.Split("train", directory, [{"text": text, "label": draw.choice(LABELS)} for text in texts])
    section = {
        "model": "here",
        "task": "sequence-classification",
        "data": {"path": "."},
        "batch_size": BATCH,
        "max_length": LENGTH,
    }
    path = directory / "recipe.yaml"
    path.write_text(yaml.safe_dump({"name": "speed", "finetuning": section}))
    wanted = recipe.load_task(path).finetuning
    if family == "bert":
        network = own.for_task(models.load(directory), wanted.task, LABELS, pad_token_id=0, pretrained=True)
    else:
        network = foreign.load(directory, wanted.task, LABELS, pad_token_id=0, pretrained=True)
    network.set_precision(torch.bfloat16)
    setting = Setting(
        wanted,
        network,
        foreign_tokenizer.read(directory),
        LABELS,
        LENGTH,
        0,
        unanswerable=False,
        base=lambda: network,
    )
    task = SequenceClassification(setting)
    examples = task.encode(train).examples
    loop = Loop(task, examples, (train, examples[:BATCH]), directory / "run", compiled=False)
    parts = cycle(loop._epoch(0))

    def step() -> int:
        part = next(parts)
        loop._step(part)
        return sum(len(packed) for packed in part)

    return step, examples


def plain(directory: Path, examples: list[Example], *, fixed: bool) -> Callable[[], int]:
    """A step of a plain loop in float32."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(directory).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-5)
    batches = cycle([examples[at : at + BATCH] for at in range(0, ROWS, BATCH)])

    def step() -> int:
        part = next(batches)
        width = LENGTH if fixed else max(len(example.tokens) for example in part)
        missing = [width - len(example.tokens) for example in part]
        ids = torch.tensor([example.tokens + [0] * more for example, more in zip(part, missing, strict=True)])
        mask = torch.tensor([[1] * (width - more) + [0] * more for more in missing])
        labels = torch.tensor([example.targets[0] for example in part])
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        return len(part)

    return step


def measure(family: str, rounds: int) -> Iterator[tuple[str, float]]:
    """The rows per second of each contender in each round, after one step that is not counted."""
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        checkpoint(family, directory)
        step, examples = ours(family, directory)
        contenders = {
            "lmcommons": step,
            "plain loop, longest row": plain(directory, examples, fixed=False),
            "plain loop, 128 tokens": plain(directory, examples, fixed=True),
        }
        for contender in contenders.values():
            contender()
        for _ in range(rounds):
            for name, contender in contenders.items():
                started = time.perf_counter()
                done = sum(contender() for _ in range(STEPS))
                yield name, done / (time.perf_counter() - started)


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    table = Table("checkpoint", "contender", "rows/s", "lmcommons is faster by")
    results = {}
    for family in arguments.families:
        speeds: dict[str, list[float]] = {}
        for name, speed in measure(family, arguments.rounds):
            speeds.setdefault(name, []).append(speed)
        results[family] = speeds
        for name, values in speeds.items():
            ratios = [a / b for a, b in zip(speeds["lmcommons"], values, strict=True)]
            faster = f"{statistics.median(ratios):.2f}× ({min(ratios):.2f}–{max(ratios):.2f})"
            table.add_row(family, name, f"{statistics.median(values):,.0f}", "" if name == "lmcommons" else faster)
    write_json(arguments.out, {"rows_per_second": results, "environment": environment.describe()})
    Console().print(table)


if __name__ == "__main__":
    main()
