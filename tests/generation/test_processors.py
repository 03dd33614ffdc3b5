"""The processors against those of `transformers`: equal kept sets and equal scores."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from lmcommons.generation import processors

SCORES = st.lists(st.floats(-40, 40, width=32), min_size=2, max_size=40)
TIED = st.lists(st.sampled_from([-2.0, 0.0, 0.5, 3.0]), min_size=2, max_size=40)


@settings(max_examples=150, deadline=None)
@given(values=SCORES | TIED, k=st.integers(1, 60))
def test_top_k_is_that_of_transformers_with_ties_and_beyond_the_vocabulary(values: list[float], k: int) -> None:
    scores = torch.tensor([values])
    assert torch.equal(processors.top_k(scores, torch.tensor([k])), TopKLogitsWarper(k)(None, scores))


@settings(max_examples=150, deadline=None)
@given(values=SCORES | TIED, p=st.sampled_from([0.0, 1e-6, 0.1, 0.5, 0.9, 0.999999, 1.0]) | st.floats(0, 1, width=32))
def test_top_p_is_that_of_transformers(values: list[float], p: float) -> None:
    scores = torch.tensor([values])
    assert torch.equal(processors.top_p(scores, torch.tensor([p])), TopPLogitsWarper(p)(None, scores))


@settings(max_examples=50, deadline=None)
@given(values=SCORES, temperature=st.floats(0.01, 10))
def test_temperature_is_that_of_transformers(values: list[float], temperature: float) -> None:
    scores = torch.tensor([values])
    ours = processors.temperature(scores, torch.tensor([temperature]))
    assert torch.equal(ours, TemperatureLogitsWarper(temperature)(None, scores))


def test_each_row_has_its_own_values() -> None:
    scores = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    k, p = torch.tensor([1, 7, 50]), torch.tensor([0.0, 0.6, 1.0])
    for row in range(3):
        alone = scores[row : row + 1]
        assert torch.equal(processors.top_k(scores, k)[row], processors.top_k(alone, k[row : row + 1])[0])
        assert torch.equal(processors.top_p(scores, p)[row], processors.top_p(alone, p[row : row + 1])[0])


def test_top_p_of_zero_keeps_the_best_token_only() -> None:
    kept = processors.top_p(torch.tensor([[0.1, 2.0, -1.0, 1.9]]), torch.tensor([0.0])).isfinite()
    assert kept.tolist() == [[False, True, False, False]]


def test_draws_follow_the_distribution() -> None:
    probabilities = torch.tensor([0.5, 0.0, 0.25, 0.2, 0.05])
    count = 20_000
    uniforms = torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    drawn = processors.draw(probabilities.log().expand(count, -1), uniforms)
    observed = torch.bincount(drawn, minlength=5).double()
    expected = probabilities.double() * count
    possible = expected > 0
    chi_square = ((observed - expected)[possible] ** 2 / expected[possible]).sum()
    assert observed[1] == 0
    assert chi_square < 16.3  # 0.999 quantile with three degrees of freedom


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_a_token_of_probability_zero_is_never_drawn(uniform: float) -> None:
    scores = torch.tensor([[-torch.inf, 0.3, 0.1, -torch.inf]])
    assert processors.draw(scores, torch.tensor([uniform], dtype=torch.float64)).item() in (1, 2)
