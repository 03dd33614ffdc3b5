"""The likelihood that a model gives to whole documents, however long."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lmcommons.model import IGNORED, Decoder
from lmcommons.progress import task

LOGITS_BYTES = 64 << 20  # of a batch's float32 logits


@dataclass(frozen=True)
class Window:
    """A part of a document that the model reads at once: predictions `start` to `stop`; those from `first` on count."""

    document: int
    start: int
    first: int
    stop: int


def windows(document: int, predictions: int, context_length: int) -> list[Window]:
    """Windows of at most `context_length` that count each prediction once, with half a window of context or more.

    The first window starts with the document; the others count what the ones before did not reach.
    """
    found = [Window(document, 0, 0, min(predictions, context_length))]
    step = max(context_length // 2, 1)
    while found[-1].stop < predictions:
        stop = min(found[-1].stop + step, predictions)
        found.append(Window(document, stop - context_length, found[-1].stop, stop))
    return found


def document_nats(
    model: Decoder, documents: Sequence[Sequence[int]], *, context_length: int, start: int, end: int
) -> NDArray[np.float64]:
    """The negative log-likelihood of each document and of its end: [documents], in nats.

    A document of T tokens is read as `start, t1 … tT` and has T + 1 predictions: t1 … tT, `end`.
    """
    streams = [np.array([start, *tokens, end]) for tokens in documents]
    todo = [
        window for place, stream in enumerate(streams) for window in windows(place, len(stream) - 1, context_length)
    ]
    todo.sort(key=lambda window: window.stop - window.start)
    nats = np.zeros(len(documents))
    device = model.embedding.device
    positions = max(LOGITS_BYTES // (4 * model.config.vocab_size), context_length)
    with torch.inference_mode(), task("evaluate", total=len(todo), unit="windows") as progress:
        for batch in _batches(todo, positions):
            length = batch[-1].stop - batch[-1].start
            tokens = np.full((len(batch), length), end)  # padding at the right: nothing that counts looks there
            targets = np.full((len(batch), length), IGNORED)
            for row, window in enumerate(batch):
                stream = streams[window.document]
                tokens[row, : window.stop - window.start] = stream[window.start : window.stop]
                counted = slice(window.first - window.start, window.stop - window.start)
                targets[row, counted] = stream[window.first + 1 : window.stop + 1]
            losses = model.loss(
                torch.from_numpy(tokens).to(device), torch.from_numpy(targets).to(device), reduction="none"
            )
            sums = losses.sum(dim=1, dtype=torch.float64).cpu().numpy()
            np.add.at(nats, [window.document for window in batch], sums)
            progress.advance(len(batch))
    return nats


def _batches(ordered: list[Window], positions: int) -> list[list[Window]]:
    """Windows of rising length in batches of at most `positions` places, padding included."""
    batches: list[list[Window]] = [[]]
    for window in ordered:
        if (len(batches[-1]) + 1) * (window.stop - window.start) > positions:
            batches.append([])
        batches[-1].append(window)
    return batches
