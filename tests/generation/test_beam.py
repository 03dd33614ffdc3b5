"""Beam search against `transformers`: the same token ids and scores."""

from pathlib import Path

import pytest
import torch
from tiny_model import write_decoder
from transformers import AutoModelForCausalLM

from lmcommons import model as models
from lmcommons.errors import RequestError
from lmcommons.generation import BeamParameters, beam_search

PENALTIES = [-1.0, 0.0, 0.7, 2.5]


class Tokens:
    """A vocabulary of 40 tokens with the given stop tokens."""

    vocab_size = 40

    def __init__(self, *stops: int) -> None:
        self.stop_token_ids = stops

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id])


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
    for row, prompt in enumerate(prompts):
        found = beam_search(ours, Tokens(*stops), prompt, parameters)
        rows = slice(row * count, (row + 1) * count)
        reachable = expected.sequences_scores[rows] > -1e8
        wanted = []
        for tokens in expected.sequences[rows, len(prompt) :][reachable].tolist():
            end = next((place for place, token in enumerate(tokens) if token in stops), len(tokens))
            wanted.append((tokens[:end], "stop" if end < len(tokens) else "length"))
        assert [(hypothesis.tokens, hypothesis.finish_reason) for hypothesis in found] == wanted
        assert [hypothesis.score for hypothesis in found] == pytest.approx(
            expected.sequences_scores[rows][reachable].tolist(), rel=1e-6
        )


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("length_penalty", PENALTIES)
def test_hypotheses_are_those_of_transformers(pair, length_penalty: float, early_stopping: object) -> None:
    prompts = [[0, 5, 9], [0, 17, 3], [0, 1, 1], [0, 30, 31]]
    compare(pair, [7], BeamParameters(4, 12, length_penalty, early_stopping), prompts)


@pytest.mark.parametrize("stops", [[7, 11, 19], [7], [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]])
@pytest.mark.parametrize("num_beams", [2, 5])
def test_several_stop_tokens_widen_the_search_as_in_transformers(pair, stops: list[int], num_beams: int) -> None:
    compare(pair, stops, BeamParameters(num_beams, 10), [[0, 5], [0, 9], [0, 22]])


def test_one_beam_is_greedy(pair) -> None:
    ours, reference = pair
    prompt = [0, 4, 8]
    (found,) = beam_search(ours, Tokens(7), prompt, BeamParameters(1, 15))
    expected = reference.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=15, eos_token_id=7)
    assert found.tokens == [token for token in expected[0, 3:].tolist() if token != 7]


def test_more_beams_never_find_a_worse_best_sum(pair) -> None:
    ours, _ = pair
    narrow, wide = (
        beam_search(ours, Tokens(7), [0, 4], BeamParameters(beams, 3, 0.0, "never"))[0].score for beams in (1, 39)
    )
    assert wide >= narrow


@pytest.mark.parametrize("wrong", [{"num_beams": 0}, {"max_tokens": 0}, {"length_penalty": float("nan")}])
def test_a_parameter_out_of_range_is_named(wrong: dict) -> None:
    with pytest.raises(RequestError, match=next(iter(wrong))):
        BeamParameters(**wrong)


def test_a_prompt_that_fills_the_context_is_refused(pair) -> None:
    with pytest.raises(RequestError, match="the prompt has 128 tokens"):
        beam_search(pair[0], Tokens(7), [1] * 128, BeamParameters())
