"""Loss, perplexity and bits per byte on the test split, beside compressors and n-gram models on the same text."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmcommons import data, tokenizer
from lmcommons.errors import CommandError, RequestError
from lmcommons.evaluation.compression import xz_bytes, xz_bytes_given
from lmcommons.evaluation.intervals import CONFIDENCE, measured, resample
from lmcommons.evaluation.likelihood import document_nats
from lmcommons.evaluation.ngram import NgramModel
from lmcommons.generation.loading import load_decoder
from lmcommons.progress import Task, task
from lmcommons.recipe import EvaluationRecipe

OVERLAP_NGRAM = 13  # words (Brown et al. 2020, appendix C)
NGRAM_ORDERS = {"unigram": 1, "5-gram": 5}

Floats = NDArray[np.float64]


def evaluate(
    recipe: EvaluationRecipe, model: Path, dataset: Path, *, seed: int = 0, context_length: int | None = None
) -> dict[str, Any]:
    """Measure the model directory `model` (with its tokenizer) on the test split of the dataset directory `dataset`.

    Bits per byte count every prediction, the end of each document included, over the UTF-8 bytes of the text, so that
    models with different tokenizers compare. Intervals are 95 % bootstrap intervals over documents.

    Args:
        seed: of the bootstrap.
        context_length: tokens that the model sees at once; None: all its positions. Longer documents are read in
            windows that overlap by half.

    Returns:
        `documents`, `tokens` (predictions), `bytes`; `loss` (nats per token), `perplexity` and `bits_per_byte`, each
        with `value`, `low`, `high`; `baselines`: by name `bits_per_byte`, `difference` (the model's less that) and
        `model_is_better` (the whole interval of the difference is below 0); `overlap`: the documents that share 13
        words in a row with the train split; and the settings that were used.

    Raises:
        RequestError: a directory is not a model, or not a dataset; or the two do not fit.
        CommandError: the model's likelihood is not finite.
    """
    decoder, words = load_decoder(str(model), precision="float32")
    context = min(context_length or decoder.config.max_position_embeddings, decoder.config.max_position_embeddings)
    texts = [document.text for document in data.read(dataset, "test")]
    train = [document.text for document in data.read(dataset, "train")]
    if not texts:
        raise RequestError(f"{dataset}: the test split is empty")
    documents = words.encode_batch(texts)
    nats = document_nats(decoder, documents, context_length=context, start=words.bos_token_id, end=words.eos_token_id)
    if not np.isfinite(nats).all():
        raise CommandError(f"{model}: the likelihood of {int((~np.isfinite(nats)).sum())} test documents is not finite")

    sizes = np.array([[len(tokens) + 1, len(text.encode())] for tokens, text in zip(documents, texts, strict=True)])
    with task("baselines", total=len(recipe.baselines), unit="baselines") as progress:
        ngrams = _ngram_nats(recipe, words, train, documents, progress)
        compressed = {}
        if "xz" in recipe.baselines:
            compressed = {"xz -9": xz_bytes(texts), "xz -9 given train": xz_bytes_given(train, texts)}
            progress.advance()
    totals = np.column_stack([nats, sizes, *ngrams.values()]).astype(np.float64)
    sampled = resample(totals, recipe.bootstrap_samples, seed)
    # [1 + samples, quantities]: what was measured, then the resamples.
    rows = np.vstack([totals.sum(axis=0), sampled])
    loss = rows[:, 0] / rows[:, 1]
    bits = rows[:, 0] / rows[:, 2] / math.log(2)
    baselines = {
        name: _compared(bits, rows[:, place] / rows[:, 2] / math.log(2)) for place, name in enumerate(ngrams, start=3)
    }
    for name, size in compressed.items():
        baselines[name] = _compared(bits, np.full(len(bits), 8 * size / sizes[:, 1].sum()))
    shared = data.overlaps(train, texts, OVERLAP_NGRAM)
    return {
        "split": "test",
        "documents": len(texts),
        "tokens": int(sizes[:, 0].sum()),
        "bytes": int(sizes[:, 1].sum()),
        "context_length": context,
        "loss": measured(loss),
        "perplexity": measured(np.exp(loss)),
        "bits_per_byte": measured(bits),
        "baselines": baselines,
        "overlap": {"ngram": OVERLAP_NGRAM, "documents": sum(shared)},
        "bootstrap": {"samples": recipe.bootstrap_samples, "seed": seed, "confidence": CONFIDENCE},
    }


def _ngram_nats(
    recipe: EvaluationRecipe,
    words: tokenizer.Tokenizer,
    train: list[str],
    documents: list[list[int]],
    progress: Task,
) -> dict[str, Floats]:
    """By the name of each n-gram baseline, the negative log-likelihood of each document."""
    orders = {name: order for name, order in NGRAM_ORDERS.items() if name in recipe.baselines}
    known = [np.array(tokens, dtype=np.int64) for tokens in (words.encode_batch(train) if orders else [])]
    asked = [np.array(tokens, dtype=np.int64) for tokens in documents]
    ends = {"vocab_size": words.vocab_size, "start": words.bos_token_id, "end": words.eos_token_id}
    found: dict[str, Floats] = {}
    for name, order in orders.items():
        found[name] = NgramModel(known, order=order, **ends).nats(asked)
        progress.advance()
    return found


def _compared(model: Floats, baseline: Floats) -> dict[str, Any]:
    """A baseline's bits per byte, and the model's less these on the same resamples of documents.

    A compressor gives one number for the whole text: its resamples are equal, and the interval is the model's.
    """
    difference = measured(model - baseline)
    return {
        "bits_per_byte": measured(baseline),
        "difference": difference,
        "model_is_better": difference["high"] < 0,
    }
