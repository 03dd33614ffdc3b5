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
from lmcommons.model import Decoder, DecoderConfig
from lmcommons.model.directory import save_with_tokenizer
from lmcommons.recipe import PretrainingRecipe, Recipe
from lmcommons.training import batches, checkpoint, execution
from lmcommons.training.batches import Batch, EncodedDocuments, PackedRows
from lmcommons.training.execution import Execution, flops_per_token, peak_flops
from lmcommons.training.loop import VALIDATION_TOKENS, Run
from lmcommons.training.memory import keep_freed_memory
from lmcommons.training.optimiser import Optimiser

MARKER = "run.json"  # what run a directory holds: its key, and how it computes


def pretrain(recipe: Recipe, dataset: Path, tokenizer: Path, out: Path) -> dict[str, Any]:
    """Pretrain the model of `recipe` on the train split of `dataset`.

    Writes `out/model` (the weights with the lowest validation loss as a `transformers` directory, with the tokenizer),
    `out/metrics.jsonl`, `out/tensorboard`, `out/checkpoints` and `out/report.json`; encoded tokens go beside `out`.
    A run that was interrupted continues and ends with the same weights, bit for bit, as one that was not (same machine,
    same number of threads); one that is finished returns its report; what another run left in `out` is replaced.

    Returns:
        the report: parameters, steps, tokens, seconds, losses in nats per token, bytes of memory, how it was computed.

    Raises:
        RequestError: an input is absent or unusable, or the recipe asks for what this machine lacks.
        CommandError: diverging loss, out of memory, disk full, or a signal to stop.
    """
    key = _key(recipe, dataset, tokenizer)
    if _is_finished(out, key):
        report: dict[str, Any] = files.read_json(out / "report.json")
        return report
    encoded = batches.encode(dataset, tokenizer, out.parent)
    config = _config(recipe, tokenizer)
    keep_freed_memory()
    how = _begin(out, key, execution.decide(recipe, config))
    with execution.reproducible(), execution.plain_failures(recipe.pretraining, out):
        run = _prepare(recipe, config, how, encoded, out)
        run.finish()
        _write_model(run, tokenizer, out / "model")
    report = {"key": key, **_report(recipe, run, encoded)}
    files.write_json(out / "report.json", report)
    return report


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


def _config(recipe: Recipe, tokenizer: Path) -> DecoderConfig:
    words = tokenizers.load(tokenizer)
    return DecoderConfig(
        **recipe.model.model_dump(),
        vocab_size=words.vocab_size,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )


def _prepare(
    recipe: Recipe, config: DecoderConfig, how: Execution, encoded: dict[str, EncodedDocuments], out: Path
) -> Run:
    """The run, at its first step or where its last whole checkpoint is."""
    settings = recipe.pretraining
    torch.manual_seed(recipe.seed)
    decoder = Decoder(config).to(how.device)
    decoder.compute_dtype = how.dtype
    run = Run(
        settings,
        how,
        decoder,
        Optimiser(decoder, settings.optimizer),
        PackedRows(encoded["train"], settings.context_length, recipe.seed),
        _validation_batches(encoded["validation"], settings),
        out,
    )
    found = checkpoint.load_last(run.checkpoints)
    if found is not None:
        run.resume(*found)
        progress.say(f"{out}: continuing at step {run.state.step} of {settings.steps}")
    return run


def _validation_batches(documents: EncodedDocuments, settings: PretrainingRecipe) -> list[Batch]:
    """At most `VALIDATION_TOKENS` of the split, in rows of the training's shape: the same ones whatever the seed."""
    rows = PackedRows(documents, settings.context_length, seed=0)
    count = max(1, min(rows.rows_per_epoch, VALIDATION_TOKENS // settings.context_length))
    at_once = settings.batch_size // settings.gradient_accumulation
    return [rows.batch(first, min(at_once, count - first)) for first in range(0, count, at_once)]


def _write_model(run: Run, tokenizer: Path, directory: Path) -> None:
    """The best weights as a `transformers` directory with the tokenizer's files."""
    try:
        run.load_weights(checkpoint.load_best(run.checkpoints))
    except checkpoint.CorruptedCheckpointError as error:
        progress.say(f"{run.checkpoints / 'best'}: corrupted checkpoint ({error}); the last weights are the model")
        run.state.best_step = run.state.step
    save_with_tokenizer(run.model, tokenizer, directory)


def _report(recipe: Recipe, run: Run, encoded: dict[str, EncodedDocuments]) -> dict[str, Any]:
    settings, state, config = recipe.pretraining, run.state, run.model.config
    flops = flops_per_token(config, settings.context_length)
    train_tokens = int(encoded["train"].bounds[-1])
    report: dict[str, Any] = {
        "parameters": config.parameters(config.vocab_size),
        "steps": settings.steps,
        "tokens": recipe.tokens,
        "train_split_tokens": train_tokens,
        "epochs": recipe.tokens / train_tokens,
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
            report["model_flops_utilisation"] = report["tokens_per_second"] * flops / peak
    return report
