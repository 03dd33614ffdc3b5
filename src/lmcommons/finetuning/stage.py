"""The fine-tuning stage: from a model and rows of a task to a model that does the task, and a report."""

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from lmcommons import environment, files, progress
from lmcommons.errors import CommandError, RequestError
from lmcommons.evaluation.intervals import CONFIDENCE
from lmcommons.finetuning import batches, foreign, lora, own, rows
from lmcommons.finetuning.answering import QuestionAnswering
from lmcommons.finetuning.classifying import SequenceClassification, TokenClassification, find_labels
from lmcommons.finetuning.encoding import Encoded
from lmcommons.finetuning.loop import Loop, summary
from lmcommons.finetuning.network import WRITING, Network
from lmcommons.finetuning.rows import Split
from lmcommons.finetuning.tasks import Setting, Task
from lmcommons.finetuning.writing import Answering, Chat
from lmcommons.generation import foreign_tokenizer
from lmcommons.inference.text import padding_id
from lmcommons.model import load as load_own
from lmcommons.model.interop.directory import ARCHITECTURES
from lmcommons.recipe import COLUMNS, FinetuningRecipe, FinetuningTask, LoraMethod, TaskRecipe
from lmcommons.training import execution
from lmcommons.training.memory import keep_freed_memory

TASKS: dict[FinetuningTask, type[Task]] = {
    "sequence-classification": SequenceClassification,
    "token-classification": TokenClassification,
    "question-answering": QuestionAnswering,
    "translation": Answering,
    "text-to-text": Answering,
    "chat": Chat,
}

OUTPUTS = ("label", "labels", "target", "answers")  # columns that a model does not read


def finetune(recipe: TaskRecipe, model: Path, data: Path, out: Path) -> dict[str, Any]:
    """Fine-tune the model directory `model` on the rows in `data`, and measure it on the test splits, once.

    Writes `out/model`, a `transformers` directory with the tokenizer; with LoRA also `out/adapter`, which `peft` reads;
    `out/metrics.jsonl`, `out/tensorboard`, `out/checkpoints` and `out/report.json`. A run that was interrupted goes on
    from its last checkpoint, and ends with the same weights as one that was not.

    Returns:
        the report: model, rows, rows that were cut, rows that occur in train, steps, numbers of each validation, the
        metrics on each test split (`Measurement.as_dict`), and how it was computed.

    Raises:
        RequestError: model, data and task do not fit; one line.
        CommandError: diverging loss, out of memory, disk full, or a signal to stop.
    """
    wanted = recipe.finetuning
    names = list(dict.fromkeys([wanted.data.train, wanted.data.validation, *wanted.data.tests]))
    splits = {name: rows.read(wanted.data, data, name, wanted.task) for name in names}
    train = splits[wanted.data.train]
    rows_report = {
        name: {"rows": len(split.rows), "in_train": _in_train(wanted, split, train)} for name, split in splits.items()
    }
    labels = find_labels(wanted, train) if wanted.task.endswith("classification") else []
    tokenizer = foreign_tokenizer.read(model)

    def base() -> Network:
        return _open(wanted, model, labels, padding_id(tokenizer), recipe.seed)

    network = base()
    if len(tokenizer) > network.vocab_size:
        raise RequestError(
            f"{model}: the tokenizer has {len(tokenizer)} tokens and the model only {network.vocab_size}: not its own"
        )
    unanswerable = wanted.task == "question-answering" and any(not row["answers"] for row in train.rows)
    setting = Setting(
        wanted, network, tokenizer, labels, _limit(wanted, network), recipe.seed, unanswerable=unanswerable, base=base
    )
    task = TASKS[wanted.task](setting)
    examples = {}
    for name, split in splits.items():
        encoded = _encode(task, split)
        examples[name] = encoded.examples
        rows_report[name] |= {"examples": len(encoded.examples), "cut": encoded.cut}
    sites = _choose_weights(wanted, network)
    parameters = list(network.module.parameters())
    counts = {
        "parameters": sum(weight.numel() for weight in parameters),
        "trained_parameters": sum(weight.numel() for weight in parameters if weight.requires_grad),
    }
    work = 6.0 * counts["parameters"] * wanted.epochs * sum(example.length for example in examples[train.name])
    # a compiled step is compiled anew for each width of its rows
    how = execution.resolve(wanted, "finetuning", work / len(batches.widths(setting.limit)))
    network.module.to(how.device)
    network.set_precision(how.dtype)
    keep_freed_memory()
    with _plain_failures(wanted, out):
        validation = splits[wanted.data.validation], examples[wanted.data.validation]
        loop = Loop(task, examples[train.name], validation, out, compiled=how.compiled)
        loop.resume()
        loop.finish()
        if isinstance(wanted.method, LoraMethod):
            _save_adapter(wanted, network, sites, out / "adapter")
            lora.merge(network.module)
        network.save(model, out / "model")
        tests = {
            name: [found.as_dict() for found in task.measure(splits[name], examples[name], train)]
            for name in wanted.data.tests
        }
    shutil.rmtree(loop.checkpoints, ignore_errors=True)
    return {
        "task": wanted.task,
        "model": {"kind": network.kind, "ours": isinstance(network, own.Own), "new_weights": network.new, **counts},
        "labels": labels,
        "max_length": setting.limit,
        "rows": rows_report,
        **summary(loop),
        "tests": tests,
        "bootstrap": {"samples": wanted.bootstrap_samples, "seed": recipe.seed, "confidence": CONFIDENCE},
        "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        **asdict(how),
        "environment": environment.describe(),
    }


def _open(recipe: FinetuningRecipe, directory: Path, labels: list[str], padding: int, seed: int) -> Network:
    """The model with the head of the task: as ours where we compute it exactly, else as a module of `transformers`."""
    torch.manual_seed(seed)
    pretrained = recipe.initial_weights == "pretrained"
    network: Network
    architecture = (files.read_json(directory / "config.json").get("architectures") or [None])[0]
    try:
        ours = load_own(directory) if architecture in ARCHITECTURES else None
    except RequestError as error:
        progress.say(f"{error}; it is trained as the module of transformers that it is")
        ours = None
    if ours is not None:
        network = own.for_task(ours, recipe.task, labels, pad_token_id=padding, pretrained=pretrained)
    else:
        network = foreign.load(directory, recipe.task, labels, pad_token_id=padding, pretrained=pretrained)
    for name, weight in network.module.named_parameters():
        if not torch.isfinite(weight).all():
            raise CommandError(f"{directory}: tensor {name} holds values that are not numbers: the weights are damaged")
    network.module.eval()
    if network.new:
        progress.say(f"{directory}: new weights, which pretraining does not have: {', '.join(network.new)}")
    return network


def _limit(recipe: FinetuningRecipe, network: Network) -> int:
    """Tokens of a row: those of the recipe, as far as the model has positions."""
    if network.positions is None or recipe.max_length <= network.positions:
        return recipe.max_length
    progress.say(f"max_length {recipe.max_length} is above the model's {network.positions} positions, which are used")
    return network.positions


def _in_train(recipe: FinetuningRecipe, split: Split, train: Split) -> int:
    """How many rows have an input that a row of train has too (of train: an earlier row); said where there are some."""
    inputs = [column for column in COLUMNS[recipe.task][0] if column not in OUTPUTS]

    def read(found: Split) -> list[str]:
        return [str([row[column] for column in inputs]) for row in found.rows]

    known = set(read(train))
    if split is train:
        count = len(train.rows) - len(known)
        where = "stands there more than once"
    else:
        count = sum(text in known for text in read(split))
        where = "is in train too"
    if count:
        progress.say(f"{split.name}: {count:,} of {len(split.rows):,} rows have an input that {where}")
    return count


def _encode(task: Task, split: Split) -> Encoded:
    """The examples of a split that have something to read and to say."""
    found = task.encode(split)
    if found.cut:
        progress.say(f"{split.name}: {found.cut:,} of {len(split.rows):,} rows are longer than max_length, and cut")
    for example in found.examples:
        if not example.tokens:
            raise split.error(example.row, "nothing of it is a token: remove the row")
    return found


def _choose_weights(recipe: FinetuningRecipe, network: Network) -> list[lora.Site]:
    """Freeze what the recipe's method does not train; for LoRA put its changes in place, and say where.

    Raises:
        RequestError: the model has no matrices that LoRA could change.
    """
    method, heads = recipe.method, set() if recipe.task in WRITING else network.head_names()
    sites: list[lora.Site] = []
    if isinstance(method, LoraMethod):
        sites = network.sites(method.targets)
        if not sites:
            raise RequestError(f"finetuning.method.targets: {method.targets} names no matrices of this model")
        lora.attach(network.module, sites, method)
    elif method.name == "frozen":
        network.module.requires_grad_(False)
    for name, weight in network.module.named_parameters():
        if name in heads:
            weight.requires_grad_(True)
    return sites


def _save_adapter(recipe: FinetuningRecipe, network: Network, sites: list[lora.Site], directory: Path) -> None:
    assert isinstance(recipe.method, LoraMethod)
    heads = set() if recipe.task in WRITING else network.head_names()
    kind = "SEQ_2_SEQ_LM" if network.kind == "encoder-decoder" else "CAUSAL_LM"
    lora.save(
        directory,
        network.module,
        sites,
        network.as_transformers(heads),
        recipe.method,
        base=recipe.model,
        task=lora.PEFT_TASKS.get(recipe.task, kind),
    )


@contextmanager
def _plain_failures(recipe: FinetuningRecipe, out: Path) -> Iterator[None]:
    """Turn what the machine refuses in the block into one line."""
    try:
        yield
    except OSError as error:
        raise files.write_failure(out, error) from error
    except (RuntimeError, MemoryError) as error:
        if not execution.is_out_of_memory(error):
            raise
        raise CommandError(
            f"out of memory: raise finetuning.gradient_accumulation from {recipe.gradient_accumulation} (the result "
            f"stays the same), or lower finetuning.max_length from {recipe.max_length}; the last checkpoint is kept"
        ) from error
