"""The loss of a model's own objective on the test split, for models that give a whole text no likelihood."""

import math
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lmcommons import data, tokenizer
from lmcommons import model as models
from lmcommons.errors import CommandError, RequestError
from lmcommons.evaluation.intervals import CONFIDENCE, measured, resample
from lmcommons.model import IGNORED
from lmcommons.progress import task
from lmcommons.recipe import Recipe
from lmcommons.training import objectives
from lmcommons.training.batches import encode_in_memory

UNIGRAM_DOCUMENTS = 4096  # of the train split, at most; what the unigram baseline counts


def evaluate_objective(recipe: Recipe, model: Path, dataset: Path) -> dict[str, Any]:
    """Measure the model directory `model` on one epoch of rows of the test split, masked or cut once, by seed 0.

    The baseline knows how often each token is a target in the train split and nothing else (counts plus one).
    Intervals are 95 % bootstrap intervals over rows.

    Returns:
        `objective` (its name), `documents`, `rows`, `targets`; `loss` (nats per target) and `perplexity` of the
        targets, each with `value`, `low`, `high`; `baselines`: of `unigram` its `loss`, `difference` (the model's less
        that) and `model_is_better` (the whole interval of the difference is below 0); and the settings.

    Raises:
        RequestError: a directory is not a model or not a dataset, or the test split has no rows.
        CommandError: the loss is not finite.
    """
    words, network = tokenizer.load(model), models.load(model, device="cuda" if torch.cuda.is_available() else "cpu")
    settings = recipe.pretraining
    objective = objectives.build(settings.objective, words)
    pairs = settings.objective.name == "sequence-to-sequence"
    train, test = (
        encode_in_memory(islice(data.read(dataset, split), most), words, pairs=pairs)
        for split, most in (("train", UNIGRAM_DOCUMENTS), ("test", None))
    )
    if not len(test):
        raise RequestError(f"{dataset}: the test split is empty")
    known = objective.rows(train, settings.context_length, seed=0)
    counts = np.ones(words.vocab_size)
    for number in range(known.rows_per_epoch):
        targets = known.row(number)["targets"]
        np.add.at(counts, targets[targets != IGNORED], 1)
    unigram = -np.log(counts / counts.sum())

    rows = objective.rows(test, settings.context_length, seed=0)
    found = []
    count = rows.rows_per_epoch
    with torch.inference_mode(), task("evaluate", total=count, unit="rows") as progress:
        for number in range(count):
            batch = replace(rows.batch(number, 1), follows=None)  # of targets, not of sentences
            targets = batch.targets[batch.targets != IGNORED].numpy()
            nats = float(objective.loss(network, batch.to(network.embedding.device)))
            found.append((nats, unigram[targets].sum(), len(targets)))
            progress.advance()
    totals = np.array(found)
    if not np.isfinite(totals).all():
        raise CommandError(f"{model}: the loss of {int((~np.isfinite(totals[:, 0])).sum())} test rows is not finite")
    sampled = np.vstack([totals.sum(axis=0), resample(totals, recipe.evaluation.bootstrap_samples, recipe.seed)])
    loss, baseline = sampled[:, 0] / sampled[:, 2], sampled[:, 1] / sampled[:, 2]
    difference = measured(loss - baseline)
    return {
        "split": "test",
        "objective": settings.objective.name,
        "documents": len(test) // (2 if pairs else 1),
        "rows": count,
        "targets": int(totals[:, 2].sum()),
        "context_length": settings.context_length,
        "loss": measured(loss),
        "perplexity": {name: math.exp(value) for name, value in measured(loss).items()},
        "baselines": {
            "unigram": {
                "loss": measured(baseline),
                "difference": difference,
                "model_is_better": difference["high"] < 0,
            }
        },
        "bootstrap": {"samples": recipe.evaluation.bootstrap_samples, "seed": recipe.seed, "confidence": CONFIDENCE},
    }
