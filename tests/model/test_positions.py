"""Positions against the equations of their papers, and the properties for which they were made."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.t5.modeling_t5 import T5Attention

from lmcommons.model import ModelConfig, build
from lmcommons.model.positions import alibi_slopes, by_place, relative_buckets, rotary_angles, rotate, sinusoids

VOCABULARY = 60
SMALL = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2}
quick = settings(deadline=None, max_examples=25)


def random_model(**fields):
    """A model whose weights are large enough for positions to show, norms and biases included."""
    torch.manual_seed(2)
    model = build(ModelConfig(**SMALL | fields)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@quick
@given(st.integers(0, 5000), st.integers(1, 40).map(lambda half: 2 * half))
def test_sinusoids_are_those_of_the_paper(position, size):
    found = sinusoids(torch.tensor([float(position)], dtype=torch.float64), size)[0]
    for pair in range(size // 2):
        angle = position / 10_000 ** (2 * pair / size)  # Vaswani et al. 2017, §3.5
        assert float(found[pair]) == pytest.approx(math.sin(angle), abs=1e-9)
        assert float(found[size // 2 + pair]) == pytest.approx(math.cos(angle), abs=1e-9)


@quick
@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 300), st.integers(1, 8).map(lambda half: 2 * half))
def test_products_of_rotated_heads_depend_on_the_distance_alone(first, second, shift, head_dim):
    query, key = torch.randn(2, 1, 1, 1, head_dim, generator=torch.Generator().manual_seed(first))

    def product(one: int, other: int) -> torch.Tensor:
        turned = [
            rotate(x, *rotary_angles(torch.tensor([[place]]), head_dim, 10_000.0))
            for x, place in ((query, one), (key, other))
        ]
        return (turned[0] * turned[1]).sum()

    torch.testing.assert_close(product(first + shift, second + shift), product(first, second), atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(product(first, first), (query * key).sum(), atol=1e-4, rtol=1e-4)


def test_a_pair_is_turned_by_the_angle_of_the_paper():
    x, place, head_dim, theta = torch.randn(1, 1, 1, 6), 7, 6, 100.0
    found = rotate(x, *rotary_angles(torch.tensor([[place]]), head_dim, theta)).flatten()
    for pair in range(3):
        angle = place * theta ** (-2 * pair / head_dim)  # Su et al. 2021, eq. 15
        turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        torch.testing.assert_close(found[[pair, pair + 3]], turn @ x.flatten()[[pair, pair + 3]])


@quick
@given(
    buckets=st.sampled_from([4, 8, 32]),
    max_distance=st.sampled_from([20, 128, 500]),
    causal=st.booleans(),
    distances=st.lists(st.integers(-600, 600), min_size=1, max_size=50),
)
def test_buckets_are_those_of_transformers(buckets, max_distance, causal, distances):
    given_distances = torch.tensor(distances)
    expected = T5Attention._relative_position_bucket(given_distances, not causal, buckets, max_distance)
    assert torch.equal(relative_buckets(given_distances, buckets, max_distance, causal=causal), expected)


@pytest.mark.parametrize("heads", [1, 2, 8, 16])
def test_slopes_are_the_geometric_sequence_of_the_paper(heads):
    start = 2 ** (-8 / heads)  # Press et al. 2022, §3: it starts there, and that is its ratio too
    torch.testing.assert_close(alibi_slopes(heads), torch.tensor([start ** (head + 1) for head in range(heads)]))


def test_slopes_of_other_numbers_of_heads_are_filled_up_from_twice_the_power_below():
    torch.testing.assert_close(alibi_slopes(12), torch.cat((alibi_slopes(8), alibi_slopes(16)[0:8:2])))


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_alibi_lowers_scores_by_the_slope_times_the_distance(kind):
    model = random_model(kind=kind, positions="alibi")
    stack = model.decoder if kind == "decoder" else model.encoder
    bias = stack.context(torch.zeros(1, 6, dtype=torch.int64)).mask.bias
    slopes = alibi_slopes(4)
    assert bias.shape == (1, 4, 6, 6)
    for head in range(4):
        for query in range(6):
            for key in range(6):
                assert float(bias[0, head, query, key]) == pytest.approx(-float(slopes[head]) * abs(query - key))


@quick
@given(keys=st.integers(1, 8), places=st.lists(st.integers(0, 7), min_size=1, max_size=5))
def test_what_distances_say_is_laid_out_by_query_and_key(keys, places):
    by_distance = torch.randn(3, 2 * keys - 1)
    index, places = torch.arange(keys), torch.tensor(places) % keys
    expected = by_distance[:, index - index[:, None] + keys - 1]
    assert torch.equal(by_place(by_distance, None), expected[None])
    rows = torch.stack((places, places.flip(0)))
    assert torch.equal(by_place(by_distance, rows), torch.stack([expected[:, row] for row in rows]))


RELATIVE = {
    "rotary": {"kind": "encoder", "positions": "rotary"},
    "alibi": {"kind": "encoder", "positions": "alibi"},
    "T5's bias": {"kind": "encoder", "positions": "relative_bias"},
    "causal rotary": {"positions": "rotary"},
    "causal alibi": {"positions": "alibi"},
    "causal T5's bias": {"positions": "relative_bias"},
    "Transformer-XL": {"family": "xlnet"},
}


@pytest.mark.parametrize("name", RELATIVE)
@settings(deadline=None, max_examples=6)
@given(shift=st.integers(1, 20), length=st.integers(2, 12))
def test_relative_positions_do_not_notice_that_a_text_is_shifted(name, shift, length):
    model = random_model(**RELATIVE[name])
    tokens = torch.randint(VOCABULARY, (1, shift + length), generator=torch.Generator().manual_seed(shift))
    mask = (torch.arange(shift + length) >= shift)[None]
    with torch.no_grad():
        shifted = model.hidden(tokens, attention_mask=mask)[:, shift:]
        torch.testing.assert_close(shifted, model.hidden(tokens[:, shift:]), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "fields", [*RELATIVE.values(), {"family": "gpt2"}, {"family": "gpt2", "positions": "sinusoidal"}]
)
def test_positions_tell_the_order_of_tokens(fields):
    model, tokens = random_model(**fields), torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        swapped = model.hidden(tokens[:, [1, 0, 2, 3]])[:, 3]
        assert not torch.allclose(swapped, model.hidden(tokens)[:, 3], atol=1e-3)


@pytest.mark.parametrize("norm_placement", ["pre", "post"])
@given(order=st.permutations(range(7)))
@settings(deadline=None, max_examples=10)
def test_an_encoder_without_positions_is_equivariant_to_the_order_of_its_tokens(norm_placement, order):
    model = random_model(kind="encoder", positions="none", norm_placement=norm_placement)
    tokens = torch.tensor([[3, 9, 3, 4, 50, 7, 8]])
    with torch.no_grad():
        permuted, straight = model.hidden(tokens[:, order]), model.hidden(tokens)[:, order]
    torch.testing.assert_close(permuted, straight, atol=1e-5, rtol=1e-5)
