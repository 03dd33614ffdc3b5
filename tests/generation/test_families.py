"""Every strategy on every family that writes text, against `transformers`: the same tokens and scores."""

import copy
from dataclasses import replace

import pytest
import torch
from generative_models import MODELS, PAIR, PROMPTS, Tokens, padded, pair

from lmcommons.errors import RequestError
from lmcommons.generation import (
    BeamParameters,
    SamplingParameters,
    beam_search,
    continuations,
    generate,
    log_probabilities,
    processors,
)
from lmcommons.generation.rows import open_rows

STOPS = [7, 11]


@pytest.fixture(scope="module", params=MODELS)
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PAIR:
    return pair(request.param, tmp_path_factory.mktemp("model"))


def reference_outputs(models: PAIR, prompts: list[list[int]], **options: object):
    """What `transformers` generates from prompts: together where it masks padding, and the tokens of each alone."""
    ours, reference = models
    # XLNet ignores the mask.
    groups = [[prompt] for prompt in prompts] if ours.config.kind == "permutation" else [prompts]
    for group in groups:
        inputs = padded(reference, group)
        found = reference.generate(
            **inputs,
            **{"pad_token_id": 0, "eos_token_id": STOPS, "do_sample": False, "return_dict_in_generate": True} | options,
        )
        begun = 1 if reference.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        yield group, found, found.sequences[:, begun:]


def ended(tokens: list[int]) -> list[int]:
    """Up to the first stop token, which is followed by padding."""
    return tokens[: next((place for place, token in enumerate(tokens) if token in STOPS), len(tokens)) + 1]


CONSTRAINTS = {
    "free": {},
    "repetition": {"repetition_penalty": 1.7},
    "n-grams": {"no_repeat_ngram_size": 2},
    "no token twice": {"no_repeat_ngram_size": 1},
    "bad words": {"bad_words_ids": [[4], [7], [30], *([first, 20] for first in range(0, 40, 2))]},
    "all": {"repetition_penalty": 0.8, "no_repeat_ngram_size": 3, "min_new_tokens": 9},
}


OURS = {"min_new_tokens": "min_tokens", "bad_words_ids": "bad_words"}


def ours_of(options: dict) -> dict:
    return {OURS.get(name, name): value for name, value in options.items()}


@pytest.mark.parametrize("options", CONSTRAINTS.values(), ids=CONSTRAINTS)
def test_greedy_tokens_and_scores_are_those_of_transformers(models: PAIR, options: dict) -> None:
    # Padding is a token that repeats, where `transformers` looks for n-grams: prompts of equal length have none.
    prompts = [prompt[:1] for prompt in PROMPTS] if "no_repeat_ngram_size" in options else PROMPTS
    found = iter(
        generate(models[0], Tokens(*STOPS), prompts, SamplingParameters(max_tokens=15, logprobs=0, **ours_of(options)))
    )
    for group, outputs, sequences in reference_outputs(
        models, prompts, max_new_tokens=15, output_logits=True, **options
    ):
        logits = torch.stack(outputs.logits, 1).log_softmax(-1)
        for row in range(len(group)):
            completion, tokens = next(found), ended(sequences[row].tolist())
            assert completion.token_ids == tokens
            assert completion.finish_reason == ("stop" if tokens[-1] in STOPS else "length")
            scores = logits[row, torch.arange(len(tokens)), tokens]
            assert completion.score == pytest.approx(scores.sum().item(), abs=1e-4)


CUTS = {
    "temperature": {"temperature": 0.6, "top_k": 0},
    "top-k": {"top_k": 4},
    "top-k above the vocabulary": {"top_k": 100},
    "top-p": {"top_p": 0.7, "top_k": 0},
    "top-p near 0": {"top_p": 1e-6, "top_k": 0},
    "min-p": {"min_p": 0.1, "top_k": 0},
    "all": {
        "temperature": 1.7,
        "top_k": 12,
        "top_p": 0.9,
        "min_p": 0.05,
        "repetition_penalty": 1.3,
        "min_new_tokens": 4,
    },
}


@pytest.mark.parametrize("options", CUTS.values(), ids=CUTS)
def test_what_is_drawn_from_is_what_transformers_draws_from(models: PAIR, options: dict) -> None:
    model, prompt = models[0], PROMPTS[0]
    torch.manual_seed(4)
    [(_, outputs, sequences)] = reference_outputs(
        models, [prompt], max_new_tokens=8, output_scores=True, output_logits=True, **{"do_sample": True} | options
    )
    parameters = SamplingParameters(**{"temperature": 1.0} | ours_of(options))
    tokens = sequences[0].tolist()
    before = [model.config.decoder_start_token_id] if model.config.kind == "encoder-decoder" else prompt
    for place, expected in enumerate(outputs.scores):
        scores = processors.constrain(
            outputs.logits[place],
            [parameters],
            lambda row, place=place: before + tokens[:place],
            [place],
            torch.tensor(STOPS),
        )
        assert torch.equal(processors.narrow(scores, [parameters]), expected)


def test_the_logits_that_tokens_are_drawn_from_are_those_of_transformers(models: PAIR) -> None:
    """A draw of fixed numbers from both logits gives the same tokens: sampling differs in nothing but the numbers."""
    parameters = SamplingParameters(max_tokens=12, temperature=1.2, top_k=10, seed=8, logprobs=0)
    found = generate(models[0], Tokens(), PROMPTS, parameters)
    for prompt, completion in zip(PROMPTS, found, strict=True):
        if models[0].config.kind == "permutation":
            continue  # a text's probability token by token is not what XLNet's generation draws from
        alone = log_probabilities(models[0], prompt, completion.token_ids)
        assert completion.score == pytest.approx(sum(alone), abs=1e-4)


BEAMS = {
    "as usual": {},
    "short ones": {"length_penalty": -1.0},
    "by sum, until none is better": {"length_penalty": 0.0, "early_stopping": "never"},
    "long ones, the first": {"length_penalty": 2.5, "early_stopping": True},
    "constrained": {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "min_new_tokens": 5},
}


@pytest.mark.parametrize("options", BEAMS.values(), ids=BEAMS)
def test_beams_and_their_scores_are_those_of_transformers(models: PAIR, options: dict) -> None:
    prompts = [prompt[:1] for prompt in PROMPTS] if "no_repeat_ngram_size" in options else PROMPTS
    parameters = BeamParameters(num_beams=4, num_return_sequences=3, max_tokens=12, **ours_of(options))
    found = iter(beam_search(models[0], Tokens(*STOPS), prompts, parameters))
    for group, outputs, sequences in reference_outputs(
        models, prompts, max_new_tokens=12, num_beams=4, num_return_sequences=3, output_scores=True, **options
    ):
        for row in range(len(group)):
            rows = slice(3 * row, 3 * row + 3)
            best = next(found)
            assert [each.token_ids for each in best] == [ended(tokens) for tokens in sequences[rows].tolist()]
            assert [each.score for each in best] == pytest.approx(outputs.sequences_scores[rows].tolist(), rel=1e-5)


@pytest.mark.parametrize("options", [{"top_k": 6}, {"top_k": 0, "top_p": 0.8}, {"top_k": 0, "min_p": 0.02}])
def test_beams_that_are_drawn_with_the_same_numbers_are_those_of_transformers(models: PAIR, options: dict) -> None:
    prompt = PROMPTS[0]
    torch.manual_seed(5)
    [(_, outputs, sequences)] = reference_outputs(
        models,
        [prompt],
        max_new_tokens=10,
        num_beams=3,
        num_return_sequences=3,
        output_scores=True,
        **{"do_sample": True, "temperature": 1.3} | options,
    )
    parameters = BeamParameters(
        num_beams=3, num_return_sequences=3, max_tokens=10, temperature=1.3, seed=5, **ours_of(options)
    )
    [found] = beam_search(models[0], Tokens(*STOPS), [prompt], parameters)
    assert [each.token_ids for each in found] == [ended(tokens) for tokens in sequences.tolist()]
    assert [each.score for each in found] == pytest.approx(outputs.sequences_scores.tolist(), rel=1e-5)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_model_that_forces_and_forbids_tokens_does_so_as_in_transformers(
    models: PAIR, beams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"forced_bos_token_id": 9, "forced_eos_token_id": STOPS[1], "bad_words_ids": [[9, 3], [5], [38]]}
    prompts = [prompt[:1] for prompt in PROMPTS]  # of an only token: a decoder's text begins after it
    monkeypatch.setattr(models[0], "config", models[0].config.model_copy(update=own))
    if beams == 1:
        found = [[each] for each in generate(models[0], Tokens(*STOPS), prompts, SamplingParameters(max_tokens=6))]
    else:
        parameters = BeamParameters(num_beams=beams, num_return_sequences=beams, max_tokens=6)
        found = beam_search(models[0], Tokens(*STOPS), prompts, parameters)
    expected = []
    for _, _, sequences in reference_outputs(
        models, prompts, max_new_tokens=6, num_beams=beams, num_return_sequences=beams, **own
    ):
        expected += [ended(tokens) for tokens in sequences.tolist()]
    assert [each.token_ids for texts in found for each in texts] == expected
    assert all(tokens[0] == 9 for tokens in expected)
    assert all(tokens[-1] in STOPS for tokens in expected)


def test_no_prompts_are_one_line(models: PAIR) -> None:
    for decode, parameters in ((generate, SamplingParameters()), (beam_search, BeamParameters())):
        with pytest.raises(RequestError, match="there are no prompts: give at least one"):
            decode(models[0], Tokens(), [], parameters)


def test_a_bad_word_of_unknown_tokens_is_one_line(models: PAIR) -> None:
    with pytest.raises(RequestError, match="bad_words has token 40; the vocabulary has 40"):
        generate(models[0], Tokens(), PROMPTS, SamplingParameters(bad_words=((3, 40),)))


def test_rows_join_and_leave_without_a_trace(models: PAIR) -> None:
    prompts = [[*prompt, extra] for prompt in PROMPTS for extra in range(20, 26)]  # more than there are rows
    asked = [SamplingParameters(max_tokens=3 + place % 9) for place in range(len(prompts))]
    together = generate(models[0], Tokens(*STOPS), prompts, asked)
    for prompt, parameters, completion in zip(prompts, asked, together, strict=True):
        assert generate(models[0], Tokens(*STOPS), [prompt], parameters)[0].token_ids == completion.token_ids


def test_a_stop_text_ends_every_strategy(models: PAIR) -> None:
    free = SamplingParameters(max_tokens=12)
    [whole] = generate(models[0], Tokens(), [PROMPTS[0]], free)
    stop = whole.text[4:6]
    [cut] = generate(models[0], Tokens(), [PROMPTS[0]], replace(free, stop=(stop,)))
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"
    [[beam]] = beam_search(models[0], Tokens(), [PROMPTS[0]], BeamParameters(num_beams=1, max_tokens=12, stop=(stop,)))
    assert (beam.text, beam.finish_reason, beam.token_ids) == (cut.text, "stop", cut.token_ids)


def test_drawn_texts_of_a_prompt_differ_and_repeat_with_the_seed(models: PAIR) -> None:
    parameters = SamplingParameters(max_tokens=10, temperature=2.0, seed=3)
    first, second = (continuations(models[0], Tokens(), PROMPTS[:2], parameters, 3) for _ in range(2))
    assert first == second
    for found in first:
        assert len({each.text for each in found}) == 3
    assert first[0][1].text == generate(models[0], Tokens(), PROMPTS[:1], replace(parameters, seed=4))[0].text


def test_a_prompt_that_exhausts_what_may_be_said_is_one_line(models: PAIR) -> None:
    with pytest.raises(RequestError, match="no token is left to choose"):
        generate(models[0], Tokens(), [[1, 2]], SamplingParameters(max_tokens=60, no_repeat_ngram_size=1))


def test_bfloat16_weights_give_close_logits(models: PAIR) -> None:
    exact, rounded = models[0], copy.deepcopy(models[0]).to(torch.bfloat16)
    rounded.compute_dtype = torch.bfloat16
    logits = []
    for model in (exact, rounded):
        rows = open_rows(model, 2, 8)
        with torch.inference_mode():
            states = rows.start([PROMPTS[0], PROMPTS[1]])
            logits.append(rows.logits(rows.step(torch.tensor([3, 4]))))
            assert states[0].dtype == (torch.float32 if model.config.kind != "permutation" else model.compute_dtype)
    assert torch.nn.functional.cosine_similarity(*logits).min() > 0.99
