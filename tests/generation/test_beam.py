"""Beam search against `transformers`: the same token ids and scores."""

from pathlib import Path

import pytest
import torch
from generative_models import Tokens
from tiny_model import tiny_decoder, write_decoder
from transformers import AutoModelForCausalLM

from lmcommons import model as models
from lmcommons.errors import RequestError
from lmcommons.generation import BeamParameters, SamplingParameters, beam_search, generate

PENALTIES = [-1.0, 0.0, 0.7, 2.5]


@pytest.fixture(scope="module", params=[1, 3])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """A random model of ours and of `transformers`; a small vocabulary and flat logits make many beams end."""
    directory: Path = tmp_path_factory.mktemp("model")
    write_decoder(directory, vocab_size=40, initializer_range=0.1 * request.param)
    return models.load(directory), AutoModelForCausalLM.from_pretrained(directory, attn_implementation="eager")


def compare(pair, stops: list[int], parameters: BeamParameters, prompts: list[list[int]]) -> None:
    ours, reference = pair
    count = parameters.num_beams
    expected = reference.generate(
        torch.tensor(prompts),
        attention_mask=torch.ones(len(prompts), len(prompts[0]), dtype=torch.int64),
        num_beams=count,
        num_return_sequences=count,
        max_new_tokens=parameters.max_tokens,
        length_penalty=parameters.length_penalty,
        early_stopping=parameters.early_stopping,
        eos_token_id=stops,
        pad_token_id=0,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    for row, found in enumerate(beam_search(ours, Tokens(*stops), prompts, parameters)):
        rows = slice(row * count, (row + 1) * count)
        reachable = expected.sequences_scores[rows] > -1e8
        wanted = []
        for tokens in expected.sequences[rows, len(prompts[row]) :][reachable].tolist():
            end = next((place for place, token in enumerate(tokens) if token in stops), len(tokens))
            wanted.append((tokens[: end + 1], "stop" if end < len(tokens) else "length"))
        assert [(each.token_ids, each.finish_reason) for each in found] == wanted
        assert [each.score for each in found] == pytest.approx(
            expected.sequences_scores[rows][reachable].tolist(), rel=1e-6
        )


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("length_penalty", PENALTIES)
def test_hypotheses_are_those_of_transformers(pair, length_penalty: float, early_stopping: object) -> None:
    # No two beams of these prompts are so close that the order of a sum decides which goes on.
    prompts = [[0, 5, 9], [0, 17, 4], [0, 1, 1], [0, 30, 31]]
    parameters = BeamParameters(
        num_beams=4,
        num_return_sequences=4,
        max_tokens=12,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
    )
    compare(pair, [7], parameters, prompts)


@pytest.mark.parametrize("stops", [[7, 11, 19], [7], [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]])
@pytest.mark.parametrize("num_beams", [2, 5])
def test_several_stop_tokens_widen_the_search_as_in_transformers(pair, stops: list[int], num_beams: int) -> None:
    parameters = BeamParameters(num_beams=num_beams, num_return_sequences=num_beams, max_tokens=10)
    compare(pair, stops, parameters, [[0, 5], [0, 9], [0, 22]])


@pytest.mark.parametrize("early_stopping", [True, False])
def test_ties_are_broken_as_in_transformers(early_stopping: bool, tmp_path: Path) -> None:
    model = tiny_decoder(vocab_size=40, initializer_range=0.1)
    model.head.weight.data[20:] = model.head.weight.data[:20]  # every token has a twin
    models.save(model, tmp_path)
    tied = models.load(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    parameters = BeamParameters(num_beams=4, num_return_sequences=4, max_tokens=6, early_stopping=early_stopping)
    compare(tied, [7, 11], parameters, [[0, 5, 9], [0, 1, 1]])


def test_one_beam_is_greedy(pair) -> None:
    prompt = [0, 4, 8]
    [[found]] = beam_search(pair[0], Tokens(7), [prompt], BeamParameters(num_beams=1, max_tokens=15))
    [greedy] = generate(pair[0], Tokens(7), [prompt], SamplingParameters(max_tokens=15, logprobs=0))
    assert found.token_ids == greedy.token_ids
    assert found.score * len(found.token_ids) == pytest.approx(greedy.score, abs=1e-4)


def test_more_beams_never_find_a_worse_best_sum(pair) -> None:
    narrow, wide = (
        beam_search(
            pair[0],
            Tokens(7),
            [[0, 4]],
            BeamParameters(num_beams=beams, max_tokens=3, length_penalty=0.0, early_stopping="never"),
        )[0][0].score
        for beams in (1, 39)
    )
    assert wide >= narrow


def test_many_prompts_are_searched_in_groups_and_answered_in_their_order(pair) -> None:
    prompts = [[0, *range(1, 2 + place % 7), place] for place in range(20)]
    parameters = BeamParameters(num_beams=5, max_tokens=6)
    together = beam_search(pair[0], Tokens(7), prompts, parameters)
    for prompt, [found] in zip(prompts, together, strict=True):
        [[alone]] = beam_search(pair[0], Tokens(7), [prompt], parameters)
        assert found.token_ids == alone.token_ids


@pytest.mark.parametrize(
    "wrong",
    [{"num_beams": 0}, {"max_tokens": 0}, {"length_penalty": float("nan")}, {"num_return_sequences": 5}],
)
def test_a_parameter_out_of_range_is_named(wrong: dict) -> None:
    with pytest.raises(RequestError, match=next(iter(wrong))):
        BeamParameters(**wrong)


def test_a_prompt_that_fills_the_context_is_refused(pair) -> None:
    with pytest.raises(RequestError, match="the prompt has 128 tokens"):
        beam_search(pair[0], Tokens(7), [[1], [1] * 128], BeamParameters())


def test_more_beams_than_there_are_tokens_are_refused(pair) -> None:
    with pytest.raises(RequestError, match=r"num_beams 4 with 40 stop tokens needs 164 candidates"):
        beam_search(pair[0], Tokens(*range(40)), [[1]], BeamParameters())
