"""A document's likelihood is what a slow, literal computation gives, whatever its length and its batch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import tiny_decoder

from lmcommons.evaluation import likelihood
from lmcommons.evaluation.likelihood import document_nats, windows
from lmcommons.model import Decoder

CONTEXT = 12


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return tiny_decoder(vocab_size=50).eval()


@given(st.integers(1, 400), st.integers(1, 40))
def test_windows_count_each_prediction_once_with_half_a_context(predictions: int, context: int) -> None:
    found = windows(0, predictions, context)
    counted = [place for window in found for place in range(window.first, window.stop)]
    assert counted == list(range(predictions))
    for window in found:
        assert 0 <= window.start <= window.first
        assert window.stop - window.start <= context
        assert window.start == 0 or window.first - window.start >= context // 2


def slow_nats(decoder: Decoder, tokens: list[int]) -> float:
    """One prediction at a time: everything before it in a short document, else the window that counts it."""
    stream = [0, *tokens, 0]
    predictions, half = len(stream) - 1, CONTEXT // 2
    total = 0.0
    for place in range(predictions):
        start = 0
        if place >= CONTEXT:
            start = min(CONTEXT + ((place - CONTEXT) // half + 1) * half, predictions) - CONTEXT
        with torch.inference_mode():
            logits = decoder(torch.tensor([stream[start : place + 1]]))[0, -1]
        total -= torch.log_softmax(logits.double(), 0)[stream[place + 1]].item()
    return total


@pytest.mark.parametrize("logits_bytes", [1, 64 << 20], ids=["small batches", "one batch"])
def test_likelihoods_are_those_of_a_literal_computation(
    logits_bytes: int, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihood, "LOGITS_BYTES", logits_bytes)
    random = np.random.default_rng(0)
    lengths = [0, 1, 5, CONTEXT - 2, CONTEXT - 1, CONTEXT, CONTEXT + 1, 30, 31, 50]
    documents = [random.integers(1, 50, length).tolist() for length in lengths]
    found = document_nats(decoder, documents, context_length=CONTEXT, start=0, end=0)
    np.testing.assert_allclose(found, [slow_nats(decoder, document) for document in documents], rtol=1e-5)
