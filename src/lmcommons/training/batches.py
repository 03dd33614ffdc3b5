"""From a dataset to batches: every split is encoded once, and every batch is a function of (seed, step).

A document is the stream `<|endoftext|> t1 … tT`; the target of its last token is `<|endoftext|>` again, so that it has
T + 1 predictions. An epoch shuffles the documents, joins them, cuts the stream into rows of `context_length` tokens and
shuffles the rows. A document that does not end inside its row goes on in another row as a segment of its own.
Because the batch of a step is computed from its number alone, a resumed run replays nothing.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lmcommons import data, files, progress, tokenizer
from lmcommons.errors import RequestError
from lmcommons.model.decoder import IGNORED

SPLITS = ("train", "validation")
ENCODED_TOGETHER = 256  # documents


@dataclass(frozen=True)
class Batch:
    """Packed rows, int64 `[batch, sequence]`: `tokens`, `targets` (`IGNORED` where there is none), `document_ids`."""

    tokens: torch.Tensor
    targets: torch.Tensor
    document_ids: torch.Tensor

    def parts(self, count: int) -> list["Batch"]:
        """The rows in `count` equal parts, for gradient accumulation."""
        pieces = (tensor.chunk(count) for tensor in (self.tokens, self.targets, self.document_ids))
        return [Batch(*piece) for piece in zip(*pieces, strict=True)]

    def to(self, device: torch.device) -> "Batch":
        """The same rows on `device`."""
        return Batch(*(tensor.to(device) for tensor in (self.tokens, self.targets, self.document_ids)))


@dataclass(frozen=True)
class EncodedDocuments:
    """The tokens of a split, mapped from disk.

    `tokens` holds every document as `<|endoftext|> t1 … tT`; document i is `tokens[bounds[i] : bounds[i + 1]]`.
    """

    tokens: NDArray[np.uint16] | NDArray[np.uint32]
    bounds: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.bounds) - 1


def encode(dataset: Path, tokenizer_directory: Path, parent: Path) -> dict[str, EncodedDocuments]:
    """Encode the train and validation splits of `dataset`, or map what an earlier run left.

    They lie in a directory of `parent` that is named after the content of dataset and tokenizer, so that runs which
    differ in other things share them, and that is written whole or not at all.

    Raises:
        RequestError: a split has no documents.
        CommandError: the disk is full or the place cannot be written.
    """
    directory = parent / f"tokens-{content_key(dataset, tokenizer_directory)[:16]}"
    with files.exclusive_lock(parent / ".tokens.lock"):  # another process waits, and finds the tokens
        if directory.exists():
            try:
                return {split: _map(directory, split) for split in SPLITS}
            except (OSError, ValueError, EOFError) as error:
                progress.say(f"{directory}: damaged ({error}); encoding again")
        files.remove_leftovers(parent)
        encoder = tokenizer.load(tokenizer_directory)
        with files.atomic_directory(directory) as temporary:
            for split in SPLITS:
                _encode_split(dataset, split, encoder, temporary)
        return {split: _map(directory, split) for split in SPLITS}


def content_key(dataset: Path, tokenizer_directory: Path) -> str:
    """A hash of the two splits' files and the tokenizer's."""
    digest = hashlib.sha256()
    parquet = sorted(path for split in SPLITS for path in (dataset / "data").glob(f"{split}-*.parquet"))
    for path in (tokenizer_directory / "tokenizer.json", *parquet):
        if not path.is_file():
            raise RequestError(f"{path}: no such file; build the dataset and the tokenizer first")
        digest.update(f"{path.name} {files.sha256_file(path)}\n".encode())
    return digest.hexdigest()


def _encode_split(dataset: Path, split: str, encoder: tokenizer.Tokenizer, directory: Path) -> None:
    dtype = np.uint16 if encoder.vocab_size <= 1 << 16 else np.uint32
    bounds = [0]
    documents = data.read(dataset, split)
    with (directory / f"{split}.bin").open("wb") as out, progress.task(f"encoding {split}", unit="documents") as shown:
        while texts := [document.text for document in islice(documents, ENCODED_TOGETHER)]:
            for tokens in encoder.encode_batch(texts):
                out.write(np.array([encoder.eos_token_id, *tokens], dtype=dtype).tobytes())
                bounds.append(bounds[-1] + len(tokens) + 1)
            shown.advance(len(texts), tokens=float(bounds[-1]))
    if len(bounds) == 1:
        raise RequestError(
            f"{dataset}: the {split} split has no documents; give more text or larger data.split fractions"
        )
    np.save(directory / f"{split}.npy", np.array(bounds, dtype=np.int64))


def _map(directory: Path, split: str) -> EncodedDocuments:
    bounds: NDArray[np.int64] = np.load(directory / f"{split}.npy")
    path = directory / f"{split}.bin"
    size, tokens = path.stat().st_size, int(bounds[-1])
    if size not in (2 * tokens, 4 * tokens):
        raise ValueError(f"{path.name} has {size} bytes for {tokens} tokens")
    dtype = np.uint16 if size == 2 * tokens else np.uint32
    return EncodedDocuments(np.memmap(path, dtype=dtype, mode="r"), bounds)


class PackedRows:
    """The endless sequence of packed rows of a split, addressed by number.

    Args:
        documents: the encoded split.
        context_length: tokens of a row.
        seed: orders documents and rows, together with the epoch.
    """

    def __init__(self, documents: EncodedDocuments, context_length: int, seed: int) -> None:
        self.documents, self.context_length, self.seed = documents, context_length, seed
        self.rows_per_epoch = -(-int(documents.bounds[-1]) // context_length)
        self._epoch: _Epoch | None = None

    def batch(self, first: int, count: int) -> Batch:
        """Rows `first` … `first + count - 1`."""
        shape = (count, self.context_length)
        tokens, document_ids = np.empty(shape, np.int64), np.empty(shape, np.int64)
        targets = np.empty(shape, np.int64)
        for row in range(count):
            self._fill(first + row, tokens[row], targets[row], document_ids[row])
        return Batch(torch.from_numpy(tokens), torch.from_numpy(targets), torch.from_numpy(document_ids))

    def _fill(
        self, number: int, tokens: NDArray[np.int64], targets: NDArray[np.int64], document_ids: NDArray[np.int64]
    ) -> None:
        epoch_number, row = divmod(number, self.rows_per_epoch)
        if self._epoch is None or self._epoch.number != epoch_number:
            self._epoch = _Epoch.of(self.documents, self.rows_per_epoch, self.seed, epoch_number)
        stream, end_of_text, filled = self.documents.tokens, int(self.documents.tokens[0]), 0
        for segment, (start, stop, end) in enumerate(
            self._epoch.segments(int(self._epoch.rows[row]), self.context_length)
        ):
            here = slice(filled, filled + stop - start)
            tokens[here] = stream[start:stop]
            targets[here][:-1] = stream[start + 1 : stop]
            targets[here][-1] = end_of_text if stop == end else stream[stop]
            document_ids[here] = segment
            filled = here.stop
        tokens[filled:], targets[filled:], document_ids[filled:] = end_of_text, IGNORED, -1


@dataclass(frozen=True)
class _Epoch:
    """The order of one pass: `order` of documents, the `ends` of each in the joined stream, the order of `rows`."""

    number: int
    bounds: NDArray[np.int64]
    order: NDArray[np.int64]
    ends: NDArray[np.int64]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, documents: EncodedDocuments, rows: int, seed: int, number: int) -> "_Epoch":
        random = np.random.default_rng([seed, number])
        order = random.permutation(len(documents))
        ends = np.cumsum(np.diff(documents.bounds)[order])
        return cls(number, documents.bounds, order, ends, random.permutation(rows))

    def segments(self, row: int, context_length: int) -> Iterator[tuple[int, int, int]]:
        """(start, stop, end of the document) in the encoded tokens, for each document in a row of the joined stream."""
        position, end_of_row = row * context_length, min((row + 1) * context_length, int(self.ends[-1]))
        place = int(np.searchsorted(self.ends, position, side="right"))
        while position < end_of_row:
            document = self.order[place]
            end = int(self.bounds[document + 1])
            stop_in_stream = min(end_of_row, int(self.ends[place]))
            start = end - (int(self.ends[place]) - position)
            yield start, start + stop_in_stream - position, end
            position, place = stop_in_stream, place + 1
