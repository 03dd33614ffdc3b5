"""Attention against its definition, with every mask, on every path through which it is computed."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lmcommons.model.attention import Mask, attend, attend_in_blocks, attention_weights

SCALE = 0.3
quick = settings(deadline=None, max_examples=25)


def literal(query: Tensor, key: Tensor, value: Tensor, visible: Tensor, bias: Tensor) -> Tensor:
    """softmax(q·k · scale + bias) v, one query and one visible key at a time."""
    output = torch.zeros_like(query)
    heads, groups = query.shape[1], query.shape[1] // key.shape[1]
    for row in range(query.shape[0]):
        for head in range(heads):
            for place in range(query.shape[2]):
                seen = [k for k in range(key.shape[2]) if visible[row, place, k]]
                scores = [
                    float(query[row, head, place] @ key[row, head // groups, k]) * SCALE
                    + float(bias[row, head, place, k])
                    for k in seen
                ]
                parts = [math.exp(score - max(scores)) for score in scores]
                for k, part in zip(seen, parts, strict=True):
                    output[row, head, place] += part / sum(parts) * value[row, head // groups, k]
    return output


def tensors(*shapes: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def paths(query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> dict[str, Tensor]:
    """The same attention as it is computed without gradients, with them, in blocks, and from recorded weights."""
    weights = attention_weights(query, key, mask, SCALE, 0, query.shape[2])
    groups = query.shape[1] // key.shape[1]
    with torch.no_grad():
        fused = attend(query, key, value, mask, SCALE)
    return {
        "fused": fused,
        "trained": attend(query.clone().requires_grad_(), key, value, mask, SCALE),
        "in blocks": attend_in_blocks(query, key, value, mask, SCALE),
        "recorded": weights @ value.repeat_interleave(groups, 1),
    }


@pytest.mark.parametrize("gradients", [True, False])
def test_one_query_and_one_key_give_the_value_whatever_they_are(gradients):
    query, key, value = (torch.tensor([[[row]]], dtype=torch.float32) for row in ([1, 2, 3], [4, 5, 6], [7, 8, 9]))
    found = attend(query.requires_grad_(gradients), key, value, Mask(), 3**-0.5)
    assert found.flatten().tolist() == [7, 8, 9]


@quick
@given(
    length=st.integers(1, 9),
    heads=st.sampled_from([(2, 2), (4, 2), (3, 1)]),
    kind=st.sampled_from(["everything", "causal", "padding", "documents", "arbitrary"]),
    biased=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_mask_and_bias_equal_the_definition_on_every_path(length, heads, kind, biased, seed):
    query, key, value, bias = tensors(
        (2, heads[0], length, 4),
        (2, heads[1], length, 4),
        (2, heads[1], length, 4),
        (1, heads[0], length, length),
        seed=seed,
    )
    generator = torch.Generator().manual_seed(seed)
    visible = torch.ones(2, length, length, dtype=torch.bool)
    if kind == "causal":
        visible = visible.tril()
    elif kind == "padding":
        visible = (torch.arange(length) < torch.tensor([length, (length + 1) // 2])[:, None])[:, None].expand(
            -1, length, -1
        )
    elif kind == "documents":
        ids = torch.randint(3, (2, length), generator=generator).sort().values
        visible = (ids[:, :, None] == ids[:, None, :]).tril()
    elif kind == "arbitrary":
        visible = torch.rand(2, length, length, generator=generator) < 0.5
        visible |= torch.eye(length, dtype=torch.bool)
    expected = literal(query, key, value, visible, (bias if biased else torch.zeros_like(bias)).expand(2, -1, -1, -1))
    shown = visible[:, None] if kind not in ("everything", "causal") or (kind == "causal" and biased) else None
    mask = Mask(kind in ("causal", "documents"), shown, bias if biased else None)
    for name, found in paths(query, key, value, mask).items():
        torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


@quick
@given(queries=st.integers(1, 300), keys=st.integers(1, 20), causal=st.booleans(), scale=st.floats(0.01, 30))
def test_the_weights_of_a_query_sum_to_one_and_are_those_of_the_whole_in_any_block(queries, keys, causal, scale):
    keys = queries if causal else keys
    query, key = tensors((1, 2, queries, 3), (1, 2, keys, 3))
    weights = attention_weights(query, key, Mask(causal), scale, 0, queries)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2, queries))
    assert (weights >= 0).all()
    start, stop = queries // 3, queries // 3 + (queries + 2) // 3
    part = attention_weights(query, key, Mask(causal), scale, start, stop)
    torch.testing.assert_close(part, weights[:, :, start:stop])


@quick
@given(groups=st.integers(1, 4), kv_heads=st.integers(1, 3), seed=st.integers(0, 9))
def test_grouped_queries_equal_repeated_keys_and_values(groups, kv_heads, seed):
    query, key, value = tensors((2, groups * kv_heads, 5, 4), (2, kv_heads, 5, 4), (2, kv_heads, 5, 4), seed=seed)
    repeated = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    whole = paths(query, *repeated, Mask(causal=True))
    for name, found in paths(query, key, value, Mask(causal=True)).items():
        torch.testing.assert_close(found, whole[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_long_sequences_have_the_gradients_of_the_fused_kernel(causal):
    inputs = tensors((1, 4, 300, 8), (1, 2, 300, 8), (1, 2, 300, 8), dtype=torch.float64)
    fused, ours = ([tensor.clone().requires_grad_() for tensor in inputs] for _ in range(2))
    torch.nn.functional.scaled_dot_product_attention(
        *fused, is_causal=causal, scale=SCALE, enable_gqa=True
    ).square().sum().backward()
    attend(*ours, Mask(causal), SCALE).square().sum().backward()
    for found, expected in zip(ours, fused, strict=True):
        torch.testing.assert_close(found.grad, expected.grad, atol=1e-4, rtol=1e-4)  # the softmax is in float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("biased", [True, False])
def test_a_row_that_sees_nothing_gives_numbers_forward_and_backward(biased, dtype):
    query, key, value, bias = tensors((2, 2, 6, 4), (2, 2, 6, 4), (2, 2, 6, 4), (1, 2, 6, 6), dtype=dtype)
    visible = torch.ones(2, 1, 6, 6, dtype=torch.bool)
    visible[0], visible[1, :, 2] = False, False
    mask = Mask(visible=visible, bias=bias.float().requires_grad_() if biased else None)
    with torch.no_grad():
        for found in (attend(query, key, value, mask, SCALE), attend_in_blocks(query, key, value, mask, SCALE)):
            assert found.isfinite().all()
    parts = [tensor.requires_grad_() for tensor in (query, key, value)]
    attend(*parts, mask, SCALE).float().square().sum().backward()
    attention_weights(query, key, mask, SCALE, 0, 6).square().sum().backward()
    for tensor in [*parts, *([mask.bias] if biased else [])]:
        assert tensor.grad.isfinite().all()
