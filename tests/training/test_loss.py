"""The fused loss is the plain one, and so are its gradients, without the logits in memory."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_pretraining import needs_compiler
from torch.nn import functional as F

from lmcommons.model import IGNORED
from lmcommons.training import loss as losses
from lmcommons.training.loss import fused_cross_entropy


def plain_cross_entropy(hidden, weight, bias, targets, label_smoothing=0.0):
    offset = None if bias is None else bias.to(hidden.dtype)
    logits = F.linear(hidden, weight.to(hidden.dtype), offset).float()
    return F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum", label_smoothing=label_smoothing)


def value_and_gradients(function, tensors, targets, label_smoothing):
    inputs = [None if tensor is None else tensor.clone().requires_grad_() for tensor in tensors]
    value = function(*inputs, targets, label_smoothing)
    (value / 7).backward()
    return [value.detach(), *(each.grad for each in inputs if each is not None)]


def random_case(tokens, vocab, bias, ignored, dtype=torch.float32):
    generator = torch.Generator().manual_seed(tokens * vocab)
    hidden = torch.randn(tokens, 12, generator=generator).to(dtype)
    weight = torch.randn(vocab, 12, generator=generator)
    targets = torch.randint(vocab, (tokens,), generator=generator)
    targets[torch.rand(tokens, generator=generator) < ignored] = IGNORED
    return (hidden, weight, torch.randn(vocab, generator=generator) if bias else None), targets


@given(
    tokens=st.integers(1, 40),
    vocab=st.integers(2, 60),
    bias=st.booleans(),
    ignored=st.sampled_from([0.0, 0.3, 1.0]),
    label_smoothing=st.sampled_from([0.0, 0.1]),
    at_once=st.integers(1, 50),
)
@settings(max_examples=60, deadline=None)
def test_value_and_gradients_are_those_of_the_plain_loss(tokens, vocab, bias, ignored, label_smoothing, at_once):
    tensors, targets = random_case(tokens, vocab, bias, ignored)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "FEWEST_TOKENS", at_once)
        patch.setattr(losses, "LOGITS_AT_ONCE", 1)
        fused = value_and_gradients(fused_cross_entropy, tensors, targets, label_smoothing)
    expected = value_and_gradients(plain_cross_entropy, tensors, targets, label_smoothing)
    for found, right in zip(fused, expected, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-5)


def test_in_bfloat16_it_is_as_near_to_float32_as_the_plain_loss():
    tensors, targets = random_case(600, 900, bias=True, ignored=0.2, dtype=torch.bfloat16)
    exact = value_and_gradients(plain_cross_entropy, [tensors[0].float(), *tensors[1:]], targets, 0.1)
    fused, plain = (
        value_and_gradients(function, tensors, targets, 0.1) for function in (fused_cross_entropy, plain_cross_entropy)
    )
    for found, other, right in zip(fused, plain, exact, strict=True):
        assert (found - right).norm() <= 1.5 * (other - right).norm() + 1e-6


def test_a_tied_matrix_gets_both_of_its_gradients():
    gradients = []
    for function in (fused_cross_entropy, plain_cross_entropy):
        embedding = torch.randn(50, 12, generator=torch.Generator().manual_seed(1)).requires_grad_()
        tokens = torch.arange(20)
        function(F.embedding(tokens, embedding).tanh(), embedding, None, tokens + 1).backward()
        gradients.append(embedding.grad)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


def test_without_gradients_the_value_is_the_same():
    tensors, targets = random_case(30, 40, bias=False, ignored=0.2)
    with torch.no_grad():
        torch.testing.assert_close(fused_cross_entropy(*tensors, targets), plain_cross_entropy(*tensors, targets))


def test_no_tensor_is_as_large_as_the_logits():
    tokens, vocab = 4096, 16_384
    hidden, weight = torch.randn(tokens, 8).requires_grad_(), torch.randn(vocab, 8).requires_grad_()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        fused_cross_entropy(hidden, weight, None, torch.zeros(tokens, dtype=torch.int64)).backward()
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert largest < 4 * tokens * vocab / 4


@needs_compiler
def test_compiled_it_is_the_same():
    tensors, targets = random_case(30, 40, bias=True, ignored=0.2)
    compiled = value_and_gradients(torch.compile(fused_cross_entropy), tensors, targets, 0.1)
    expected = value_and_gradients(plain_cross_entropy, tensors, targets, 0.1)
    for found, right in zip(compiled, expected, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-5)
