"""Every token is predicted once an epoch, in rows that depend on seed and number alone."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_pretraining import write_split

from lmcommons import tokenizer as tokenizers
from lmcommons.errors import RequestError
from lmcommons.training.batches import IGNORED, EncodedDocuments, PackedRows, encode

documents_of_tokens = st.lists(st.lists(st.integers(1, 9), max_size=12), min_size=1, max_size=8)


def encoded(documents: list[list[int]]) -> EncodedDocuments:
    tokens = [token for document in documents for token in (0, *document)]
    bounds = np.cumsum([0, *(len(document) + 1 for document in documents)])
    return EncodedDocuments(np.array(tokens, dtype=np.uint16), bounds)


def predictions(documents: list[list[int]]) -> Counter[tuple[int, int]]:
    """(token, target) of every prediction that the stream convention asks for."""
    return Counter(pair for document in documents for pair in zip([0, *document], [*document, 0], strict=True))


@given(documents_of_tokens, st.integers(1, 9), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_predicts_every_token_of_every_document_once(documents, context_length, seed, epoch):
    rows = PackedRows(encoded(documents), context_length, seed)
    batch = rows.batch(epoch * rows.rows_per_epoch, rows.rows_per_epoch)
    real = batch.targets != IGNORED
    found = Counter(zip(batch.tokens[real].tolist(), batch.targets[real].tolist(), strict=True))
    assert found == predictions(documents)


@given(documents_of_tokens, st.integers(2, 9), st.integers(0, 5))
def test_document_ids_change_exactly_where_a_document_begins(documents, context_length, seed):
    batch = PackedRows(encoded(documents), context_length, seed).batch(0, 6)
    begins = batch.tokens[:, 1:] == 0
    changes = batch.document_ids[:, 1:] != batch.document_ids[:, :-1]
    padding = batch.targets[:, 1:] == IGNORED
    assert torch.equal(changes[~padding], begins[~padding])
    inside = ~changes & ~padding
    assert torch.equal(batch.targets[:, :-1][inside], batch.tokens[:, 1:][inside])


@given(documents_of_tokens, st.integers(1, 9), st.integers(0, 30), st.integers(1, 5))
def test_rows_are_the_same_whatever_was_read_before(documents, context_length, first, count):
    fresh = PackedRows(encoded(documents), context_length, seed=1).batch(first, count)
    used = PackedRows(encoded(documents), context_length, seed=1)
    used.batch(0, 3)
    for row in range(count):
        again = used.batch(first + row, 1)
        assert torch.equal(again.tokens[0], fresh.tokens[row])
        assert torch.equal(again.targets[0], fresh.targets[row])
        assert torch.equal(again.document_ids[0], fresh.document_ids[row])


def test_epochs_and_seeds_order_the_rows_differently():
    documents = encoded([[token] * 5 for token in range(1, 200)])
    rows = PackedRows(documents, 16, seed=0)
    first = rows.batch(0, rows.rows_per_epoch).tokens
    assert not torch.equal(first, rows.batch(rows.rows_per_epoch, rows.rows_per_epoch).tokens)
    assert not torch.equal(first, PackedRows(documents, 16, seed=1).batch(0, rows.rows_per_epoch).tokens)


def test_encoded_documents_are_the_tokens_of_the_texts(dataset: Path, tokenizer: Path, tmp_path: Path):
    texts = ["A first document.", "二番目の文書", "the third <|endoftext|>"]
    write_split(tmp_path / "dataset", "train", texts)
    write_split(tmp_path / "dataset", "validation", texts[:1])
    found = encode(tmp_path / "dataset", tokenizer, tmp_path)
    words = tokenizers.load(tokenizer)
    pieces = np.split(found["train"].tokens, found["train"].bounds[1:-1])
    assert [piece.tolist() for piece in pieces] == [[0, *words.encode(text)] for text in texts]
    assert len(found["validation"]) == 1


def test_splits_are_encoded_once_and_again_when_a_text_changes(tokenizer: Path, tmp_path: Path):
    for split in ("train", "validation"):
        write_split(tmp_path / "dataset", split, ["some text"])
    encode(tmp_path / "dataset", tokenizer, tmp_path)
    (tokens,) = tmp_path.glob("tokens-*")
    written = (tokens / "train.bin").stat().st_mtime_ns
    encode(tmp_path / "dataset", tokenizer, tmp_path)
    assert (tokens / "train.bin").stat().st_mtime_ns == written
    write_split(tmp_path / "dataset", "train", ["other text", "and more"])
    assert len(encode(tmp_path / "dataset", tokenizer, tmp_path)["train"]) == 2


@pytest.mark.parametrize("name", ["train.npy", "train.bin"])
def test_damaged_tokens_are_encoded_again(dataset: Path, tokenizer: Path, tmp_path: Path, name: str):
    good = encode(dataset, tokenizer, tmp_path)["train"].tokens.copy()
    [directory] = tmp_path.glob("tokens-*")
    (directory / name).write_bytes((directory / name).read_bytes()[:100])
    assert np.array_equal(encode(dataset, tokenizer, tmp_path)["train"].tokens, good)


def test_rows_of_no_documents_are_refused():
    with pytest.raises(RequestError, match="there are no documents to make rows of"):
        PackedRows(encoded([]), 4, seed=0)


def test_a_batch_of_no_rows_is_refused():
    with pytest.raises(ValueError, match="a batch has at least one row, not 0"):
        PackedRows(encoded([[1, 2]]), 4, seed=0).batch(0, 0)


def test_an_empty_split_is_named(tokenizer: Path, tmp_path: Path):
    write_split(tmp_path / "dataset", "train", ["some text"])
    write_split(tmp_path / "dataset", "validation", [])
    with pytest.raises(RequestError, match="the validation split has no documents"):
        encode(tmp_path / "dataset", tokenizer, tmp_path)
    assert not list(tmp_path.glob("*tokens-*"))
