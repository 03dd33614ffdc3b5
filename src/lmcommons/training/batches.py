"""From a dataset to batches: every split is encoded once, and every batch is a function of (seed, step).

A document of a decoder is the stream `<|endoftext|> t1 … tT`; the target of its last token is `<|endoftext|>` again, so
that it has T + 1 predictions. Other kinds of models have other tokens around a text (`Tokenizer.frame`). An epoch
shuffles the documents, joins them, cuts the stream into rows of `context_length` tokens and shuffles the rows. A
document that does not end inside its row goes on in another row as a segment of its own. Because the batch of a step
is computed from its number alone, a resumed run replays nothing.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lmcommons import data, files, progress, tokenizer
from lmcommons.errors import RequestError
from lmcommons.model import IGNORED

SPLITS = ("train", "validation")
ENCODED_TOGETHER = 256  # documents


@dataclass(frozen=True)
class Batch:
    """Rows of tokens and what is predicted of them, int64; None where an objective has no such thing.

    Attributes:
        tokens: [batch, sequence]: what a decoder, or an encoder, reads.
        targets: [batch, predictions]: the tokens to predict, `IGNORED` where there is none.
        document_ids: [batch, sequence]: tokens of equal number see one another; -1 is padding.
        places: [batch, predictions]: the place in the row of each target. None: in order, one for each token read.
        token_types: [batch, sequence]: which segment of a pair a token belongs to.
        order: [batch, sequence]: when a token is predicted: a token sees those of lower number; 0 is given to all.
        target_tokens: [batch, predictions]: what the decoder of an encoder-decoder reads.
        target_document_ids: [batch, predictions]: the `document_ids` of `target_tokens`.
        follows: [batch]: 0 where the second segment follows the first in its document, 1 where it is of another.
    """

    tokens: torch.Tensor
    targets: torch.Tensor
    document_ids: torch.Tensor | None = None
    places: torch.Tensor | None = None
    token_types: torch.Tensor | None = None
    order: torch.Tensor | None = None
    target_tokens: torch.Tensor | None = None
    target_document_ids: torch.Tensor | None = None
    follows: torch.Tensor | None = None

    def parts(self, count: int) -> list["Batch"]:
        """The rows in `count` equal parts, for gradient accumulation."""
        pieces = {name: tensor.chunk(count) for name, tensor in self._tensors().items()}
        return [Batch(**{name: piece[part] for name, piece in pieces.items()}) for part in range(count)]

    def to(self, device: torch.device) -> "Batch":
        """The same rows on `device`."""
        return Batch(**{name: tensor.to(device) for name, tensor in self._tensors().items()})

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {name: tensor for name, tensor in vars(self).items() if tensor is not None}


@dataclass(frozen=True)
class EncodedDocuments:
    """The tokens of a split, mapped from disk.

    `tokens` holds every document with the tokenizer's frame; document i is `tokens[bounds[i] : bounds[i + 1]]`.
    """

    tokens: NDArray[np.uint16] | NDArray[np.uint32]
    bounds: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.bounds) - 1


def encode(
    dataset: Path, tokenizer_directory: Path, parent: Path, *, pairs: bool = False
) -> dict[str, EncodedDocuments]:
    """Encode the train and validation splits of `dataset`, or map what an earlier run left.

    They lie in a directory of `parent` that is named after the content of dataset and tokenizer, so that runs which
    differ in other things share them, and that is written whole or not at all. Of `pairs` the source and the target,
    between which a tab stands, are two documents, one after the other.

    Raises:
        RequestError: a split has no documents, or one of them is no pair.
        CommandError: the disk is full or the place cannot be written.
    """
    directory = parent / f"{'pairs' if pairs else 'tokens'}-{content_key(dataset, tokenizer_directory)[:16]}"
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
                _encode_split(dataset, split, encoder, temporary, pairs=pairs)
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


def encode_in_memory(
    documents: Iterable[data.Document], encoder: tokenizer.Tokenizer, *, pairs: bool = False
) -> EncodedDocuments:
    """`documents` as `encode` writes them.

    Raises:
        RequestError: one of them is no pair.
    """
    framed = list(_framed(documents, encoder, pairs=pairs))
    bounds = np.cumsum([0, *map(len, framed)])
    tokens = np.concatenate([np.array(ids, dtype=_dtype(encoder)) for ids in framed] or [np.empty(0, np.uint16)])
    return EncodedDocuments(tokens, bounds)


def _framed(documents: Iterable[data.Document], encoder: tokenizer.Tokenizer, *, pairs: bool) -> Iterator[list[int]]:
    """The ids of each document with the tokens around it."""
    iterator = iter(documents)
    while together := list(islice(iterator, ENCODED_TOGETHER)):
        texts = [text for document in together for text in (_pair(document) if pairs else (document.text,))]
        yield from map(encoder.frame, encoder.encode_batch(texts))


def _encode_split(dataset: Path, split: str, encoder: tokenizer.Tokenizer, directory: Path, *, pairs: bool) -> None:
    bounds = [0]
    with (directory / f"{split}.bin").open("wb") as out, progress.task(f"encoding {split}", unit="documents") as shown:
        for ids in _framed(data.read(dataset, split), encoder, pairs=pairs):
            out.write(np.array(ids, dtype=_dtype(encoder)).tobytes())
            bounds.append(bounds[-1] + len(ids))
            shown.advance(1, tokens=float(bounds[-1]))
    if len(bounds) == 1:
        raise RequestError(
            f"{dataset}: the {split} split has no documents; give more text or larger data.split fractions"
        )
    np.save(directory / f"{split}.npy", np.array(bounds, dtype=np.int64))


def _dtype(encoder: tokenizer.Tokenizer) -> type[np.uint16 | np.uint32]:
    return np.uint16 if encoder.vocab_size <= 1 << 16 else np.uint32


def _pair(document: data.Document) -> list[str]:
    """The source and the target of a pair."""
    pair = document.text.split("\t", 1)
    if len(pair) < 2 or not all(text.strip() for text in pair):
        raise RequestError(
            f"{document.source}: the document is no pair; sequence-to-sequence reads a source, a tab and a target"
        )
    return pair


def _map(directory: Path, split: str) -> EncodedDocuments:
    bounds: NDArray[np.int64] = np.load(directory / f"{split}.npy")
    path = directory / f"{split}.bin"
    size, tokens = path.stat().st_size, int(bounds[-1])
    if size not in (2 * tokens, 4 * tokens):
        raise ValueError(f"{path.name} has {size} bytes for {tokens} tokens")
    dtype = np.uint16 if size == 2 * tokens else np.uint32
    return EncodedDocuments(np.memmap(path, dtype=dtype, mode="r"), bounds)


class Rows(ABC):
    """An endless sequence of rows, addressed by number; a row depends on the documents, a seed and its number alone.

    Attributes:
        rows_per_epoch: how many rows read the documents once.
    """

    rows_per_epoch: int

    @abstractmethod
    def row(self, number: int) -> dict[str, NDArray[np.int64]]:
        """Row `number`: the tensors of a `Batch` by name, without the batch dimension."""

    def batch(self, first: int, count: int) -> Batch:
        """Rows `first` … `first + count - 1`.

        Raises:
            ValueError: that is none.
        """
        if count < 1:
            raise ValueError(f"a batch has at least one row, not {count}")
        rows = [self.row(number) for number in range(first, first + count)]
        return Batch(**{name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]})


class PackedRows(Rows):
    """The packed rows of a split: `tokens`, the token after each as `targets`, `document_ids`.

    Args:
        documents: the encoded split.
        context_length: tokens of a row.
        seed: orders documents and rows, together with the epoch.

    Raises:
        RequestError: there are no documents.
    """

    def __init__(self, documents: EncodedDocuments, context_length: int, seed: int) -> None:
        if not len(documents):
            raise RequestError("there are no documents to make rows of: give at least one")
        self.documents, self.context_length, self.seed = documents, context_length, seed
        self.rows_per_epoch = -(-int(documents.bounds[-1]) // context_length)
        self._epoch: _Epoch | None = None

    def row(self, number: int) -> dict[str, NDArray[np.int64]]:
        epoch_number, row = divmod(number, self.rows_per_epoch)
        if self._epoch is None or self._epoch.number != epoch_number:
            self._epoch = _Epoch.of(self.documents, self.rows_per_epoch, self.seed, epoch_number)
        tokens, targets, document_ids = np.empty((3, self.context_length), np.int64)
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
        return {"tokens": tokens, "targets": targets, "document_ids": document_ids}


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
