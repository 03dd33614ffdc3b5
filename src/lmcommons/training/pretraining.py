"""The pretraining stage: from a dataset and a tokenizer to a model directory and a report."""

import hashlib
import json
import resource
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from lmcommons import environment, files, progress
from lmcommons import tokenizer as tokenizers
from lmcommons.errors import RequestError
from lmcommons.model import IGNORED, ModelConfig, build
from lmcommons.model.interop.directory import config_fields, save_with_tokenizer
from lmcommons.processes import ONE_PROCESS, Processes
from lmcommons.recipe import MaskedLanguageModellingRecipe, PretrainingRecipe, Recipe
from lmcommons.training import batches, checkpoint, distributed, execution, objectives
from lmcommons.training.batches import Batch, EncodedDocuments
from lmcommons.training.execution import Execution, flops_per_token, peak_flops
from lmcommons.training.loop import VALIDATION_TOKENS, Run, load_weights
from lmcommons.training.memory import keep_freed_memory
from lmcommons.training.objectives import Objective

MARKER = "run.json"  # what run a directory holds: its key, and how it computes


def pretrain(
    recipe: Recipe, dataset: Path, tokenizer: Path, out: Path, processes: Processes = ONE_PROCESS
) -> dict[str, Any]:
    """Pretrain the model of `recipe` on the train split of `dataset`.

    Writes `out/model` (the weights with the lowest validation loss as a `transformers` directory, with the tokenizer),
    `out/metrics.jsonl`, `out/tensorboard`, `out/checkpoints` and `out/report.json`; encoded tokens go beside `out`.
    A run that was interrupted continues and ends with the same weights, bit for bit, as one that was not (same machine,
    same number of threads); one that is finished returns its report; what another run left in `out` is replaced.

    Returns:
        the report: parameters, steps, tokens, seconds, losses in nats per token, bytes of memory, how it was computed.

    Raises:
        RequestError: an input is absent or unusable, the recipe asks for what this machine lacks, or `processes` do not
            fit it.
        CommandError: diverging loss, out of memory, disk full, a signal to stop, or a process that was killed.
    """
    key = _key(recipe, dataset, tokenizer)
    if _is_finished(out, key):
        report: dict[str, Any] = files.read_json(out / "report.json")
        return report
    processes.check(recipe.pretraining)
    _encode(recipe, dataset, tokenizer, out)
    config = model_config(recipe, tokenizers.load(tokenizer))
    config_fields(config)  # what could not be written is refused before it is trained
    how = execution.decide(recipe, config, processes.total)
    if processes.node_rank == 0:
        how = _begin(out, key, how)
    arguments = recipe, dataset, tokenizer, out, how
    if processes.total == 1:
        report = {"key": key, **_train(*arguments)}
    else:
        report = {"key": key, **distributed.launch(processes, _train, *arguments)}
    if processes.node_rank == 0:
        files.write_json(out / "report.json", report)
    return report


def _encode(recipe: Recipe, dataset: Path, tokenizer: Path, out: Path) -> dict[str, EncodedDocuments]:
    pairs = recipe.pretraining.objective.name == "sequence-to-sequence"
    return batches.encode(dataset, tokenizer, out.parent, pairs=pairs)


def _train(recipe: Recipe, dataset: Path, tokenizer: Path, out: Path, how: Execution) -> dict[str, Any]:
    """What each process of the run does; the report of what it did."""
    settings, words = recipe.pretraining, tokenizers.load(tokenizer)
    encoded = _encode(recipe, dataset, tokenizer, out)
    config, objective = model_config(recipe, words), objectives.build(settings.objective, words)
    keep_freed_memory()
    with execution.reproducible(), execution.plain_failures(settings, out):
        run = _prepare(recipe, config, objective, how, encoded, out)
        run.finish()
        _write_model(run, tokenizer, out / "model")
    return _report(recipe, run, encoded)


def _key(recipe: Recipe, dataset: Path, tokenizer: Path) -> str:
    """A hash of all that decides the weights."""
    decisive = recipe.model_dump(mode="json", include={"seed", "model", "pretraining"})
    decisive["content"] = batches.content_key(dataset, tokenizer)
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _is_finished(out: Path, key: str) -> bool:
    report, marker = out / "report.json", out / MARKER
    return report.is_file() and marker.is_file() and files.read_json(marker)["key"] == key


def _begin(out: Path, key: str, decided: Execution) -> Execution:
    """Make `out` the directory of the run `key`, and say how it computes: as it began, where it did."""
    marker = out / MARKER
    if marker.is_file():
        found = files.read_json(marker)
        if found["key"] == key:
            began = Execution(**found["execution"])
            if began != decided:
                progress.say(f"{out}: began with {began} and goes on with {decided}; weights will not be bit-identical")
                return replace(decided, compiled=began.compiled and decided.compiled)
            return began
        progress.say(f"{out}: made with another recipe or other data; starting anew")
    for directory in ("checkpoints", "tensorboard", "model"):
        shutil.rmtree(out / directory, ignore_errors=True)
    for name in ("report.json", "metrics.jsonl"):
        (out / name).unlink(missing_ok=True)
    files.write_json(marker, {"key": key, "execution": asdict(decided)})
    return decided


def model_config(recipe: Recipe, words: tokenizers.Tokenizer) -> ModelConfig:
    """The model of `recipe` with the vocabulary and the special tokens of the tokenizer `words`."""
    kind, objective = recipe.model.kind, recipe.pretraining.objective
    return ModelConfig(
        **recipe.model.model_dump(),
        vocab_size=words.vocab_size,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=None if kind == "decoder" else words.pad_token_id,
        decoder_start_token_id=words.pad_token_id if kind == "encoder-decoder" else None,
        next_sentence=isinstance(objective, MaskedLanguageModellingRecipe) and objective.next_sentence,
    )


def _prepare(
    recipe: Recipe,
    config: ModelConfig,
    objective: Objective,
    how: Execution,
    encoded: dict[str, EncodedDocuments],
    out: Path,
) -> Run:
    """The run, at its first step or where its last whole checkpoint is."""
    settings = recipe.pretraining
    torch.manual_seed(recipe.seed)
    model = build(config).to(how.device)
    model.compute_dtype = how.dtype
    run = Run(
        settings,
        how,
        objective,
        model,
        objective.rows(encoded["train"], settings.context_length, recipe.seed),
        _validation_batches(objective, encoded["validation"], settings),
        out,
        recipe.seed,
    )
    found = checkpoint.load_last(run.checkpoints)
    if found is not None:
        run.resume(*found)
        progress.say(f"{out}: continuing at step {run.state.step} of {settings.steps}")
    return run


def _validation_batches(objective: Objective, documents: EncodedDocuments, settings: PretrainingRecipe) -> list[Batch]:
    """At most `VALIDATION_TOKENS` of the split, in rows of the training's shape: the same ones whatever the seed.

    Raises:
        RequestError: no token of them is to be predicted.
    """
    rows = objective.rows(documents, settings.context_length, seed=0)
    count = max(1, min(rows.rows_per_epoch, VALIDATION_TOKENS // settings.context_length))
    at_once = settings.batch_size // settings.gradient_accumulation
    found = [rows.batch(first, min(at_once, count - first)) for first in range(0, count, at_once)]
    if not any((batch.targets != IGNORED).any() for batch in found):
        raise RequestError("the validation split has nothing to predict: its documents are empty; give more text")
    return found


def _write_model(run: Run, tokenizer: Path, directory: Path) -> None:
    """The best weights as a `transformers` directory with the tokenizer's files."""
    try:
        weights = checkpoint.load_best(run.checkpoints)
    except checkpoint.CorruptedCheckpointError as error:
        progress.say(f"{run.checkpoints / 'best'}: corrupted checkpoint ({error}); the last weights are the model")
        weights, run.state.best_step = run.weights(), run.state.step
    if distributed.rank() == 0:
        model = build(run.model.config)
        load_weights(model, weights)
        save_with_tokenizer(model, tokenizer, directory)


def _report(recipe: Recipe, run: Run, encoded: dict[str, EncodedDocuments]) -> dict[str, Any]:
    settings, state, config = recipe.pretraining, run.state, run.model.config
    context = settings.context_length
    flops = flops_per_token(config, context, settings.objective.targets(context))
    report: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
        "steps": settings.steps,
        "tokens": recipe.tokens,
        "train_split_tokens": int(encoded["train"].bounds[-1]),
        "epochs": settings.steps * settings.batch_size / run.train.rows_per_epoch,
        "seconds": state.seconds,
        "tokens_per_second": recipe.tokens / state.seconds,
        "flops_per_token": flops,
        "best_validation_loss": state.best_validation_loss,
        "best_step": state.best_step,
        "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        **asdict(run.execution),
        "environment": environment.describe(),
    }
    if run.execution.device == "cuda":
        report["peak_gpu_memory"] = torch.cuda.max_memory_allocated()
        if peak := peak_flops():
            report["model_flops_utilisation"] = report["tokens_per_second"] * flops / (peak * run.execution.processes)
    return report
