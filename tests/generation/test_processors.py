"""The processors against those of `transformers`: equal kept sets and equal scores."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    MinPLogitsWarper,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lmcommons.generation import SamplingParameters, processors
from lmcommons.model import ModelConfig

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


@settings(max_examples=150, deadline=None)
@given(values=SCORES | TIED, p=st.sampled_from([0.0, 0.1, 1.0]) | st.floats(0, 1, width=32), keep=st.integers(1, 5))
def test_min_p_is_that_of_transformers(values: list[float], p: float, keep: int) -> None:
    scores = torch.tensor([values])
    ours = processors.min_p(scores, torch.tensor([p]), keep)
    assert torch.equal(ours, MinPLogitsWarper(p, min_tokens_to_keep=keep)(None, scores))


@settings(max_examples=100, deadline=None)
@given(values=SCORES | TIED, k=st.integers(1, 60), p=st.floats(0, 1, width=32), keep=st.integers(2, 5))
def test_cuts_keep_as_many_tokens_as_asked(values: list[float], k: int, p: float, keep: int) -> None:
    scores = torch.tensor([values])
    ours = processors.top_k(scores, torch.tensor([k]), keep)
    assert torch.equal(ours, TopKLogitsWarper(k, min_tokens_to_keep=keep)(None, scores))
    ours = processors.top_p(scores, torch.tensor([p]), keep)
    assert torch.equal(ours, TopPLogitsWarper(p, min_tokens_to_keep=keep)(None, scores))


TEXTS = st.lists(st.integers(0, 4), min_size=1, max_size=12)  # few tokens, so that they repeat


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(TEXTS, min_size=1, max_size=3),
    penalty=st.floats(0.1, 4),
    size=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_penalties_are_those_of_transformers_for_texts_of_any_length(
    texts: list[list[int]], penalty: float, size: int, seed: int
) -> None:
    logits = torch.randn(len(texts), 6, generator=torch.Generator().manual_seed(seed))
    stops = torch.tensor([2, 5])
    for asked, theirs in (
        (SamplingParameters(repetition_penalty=penalty), RepetitionPenaltyLogitsProcessor(penalty)),
        (SamplingParameters(no_repeat_ngram_size=size), NoRepeatNGramLogitsProcessor(size)),
    ):
        ours = processors.constrain(logits, [asked] * len(texts), texts.__getitem__, [0] * len(texts), stops)
        for row, text in enumerate(texts):
            assert torch.equal(ours[row], theirs(torch.tensor([text]), logits[row : row + 1])[0])


WORDS = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=3), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=3), words=WORDS, own=st.booleans(), seed=st.integers(0, 1000))
def test_bad_words_are_those_of_transformers_whoever_names_them(
    texts: list[list[int]], words: list[list[int]], own: bool, seed: int
) -> None:
    logits = torch.randn(len(texts), 6, generator=torch.Generator().manual_seed(seed))
    config = ModelConfig(vocab_size=6, bad_words_ids=words if own else [])
    asked = SamplingParameters(bad_words=() if own else tuple(map(tuple, words)))
    ours = processors.constrain(
        logits, [asked] * len(texts), texts.__getitem__, [0] * len(texts), torch.tensor([2, 5]), config
    )
    counted = [word for word in words if word not in ([2], [5])]  # alone they are refused by transformers' own check
    theirs = NoBadWordsLogitsProcessor(words, eos_token_id=[2, 5]) if counted else None
    for row, text in enumerate(texts):
        alone = logits[row : row + 1]
        assert torch.equal(ours[row], (theirs(torch.tensor([text]), alone) if theirs else alone)[0])


@pytest.mark.parametrize("last", [3, [3, 5]])
@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_the_first_and_the_last_token_are_forced_as_transformers_does(length: int, last: int | list[int]) -> None:
    logits = torch.randn(1, 6, generator=torch.Generator().manual_seed(1))
    config = ModelConfig(vocab_size=6, forced_bos_token_id=4, forced_eos_token_id=last)
    text = list(range(length))
    ours = processors.constrain(
        logits, [SamplingParameters(max_tokens=4)], lambda row: text, [length - 1], torch.tensor([5]), config
    )
    begun = ForcedBOSTokenLogitsProcessor(4)(torch.tensor([text]), logits)
    assert torch.equal(ours, ForcedEOSTokenLogitsProcessor(5, last)(torch.tensor([text]), begun))


def test_a_row_that_asks_for_nothing_is_left_alone() -> None:
    logits = torch.randn(3, 9, generator=torch.Generator().manual_seed(2))
    asked = [SamplingParameters(), SamplingParameters(min_tokens=3), SamplingParameters(repetition_penalty=2.0)]
    found = processors.constrain(logits, asked, lambda row: [1, 2], [2, 2, 2], torch.tensor([4]))
    assert torch.equal(found[0], logits[0])
    assert found[1].isinf().nonzero().tolist() == [[4]]
    assert (found[2] != logits[2]).nonzero()[:, 0].tolist() == [1, 2]


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
