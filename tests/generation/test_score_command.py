"""`lmc score` as a user runs it."""

import json
from pathlib import Path

import pytest
import torch
from generative_models import PROMPTS, pair
from tiny_model import write_tiny_model
from transformers import AutoModelForCausalLM

from lmcommons import tokenizer
from lmcommons.cli import main
from lmcommons.errors import RequestError
from lmcommons.generation import log_probabilities
from lmcommons.model import ModelConfig, build


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def test_each_token_has_the_log_probability_that_transformers_gives_it(directory: Path, capsys) -> None:
    assert main.run(["score", str(directory), "--text", "The class 漢", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    words = tokenizer.load(directory)
    tokens = words.encode("The class 漢")
    reference = AutoModelForCausalLM.from_pretrained(directory)
    with torch.no_grad():
        logits = reference(torch.tensor([[words.bos_token_id, *tokens]])).logits[0, :-1].log_softmax(-1)
    expected = logits[torch.arange(len(tokens)), tokens].tolist()
    assert found["token_ids"] == tokens
    assert found["logprobs"] == pytest.approx(expected, abs=1e-4)
    assert found["score"] == pytest.approx(sum(expected), abs=1e-4)


def test_a_text_is_scored_after_its_prompt(directory: Path, capsys) -> None:
    assert main.run(["score", str(directory), "--text", "The class", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    words = tokenizer.load(directory)
    first, rest = (words.decode(part) for part in (whole["token_ids"][:1], whole["token_ids"][1:]))
    assert main.run(["score", str(directory), "--prompt", first, "--text", rest, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["logprobs"] == pytest.approx(whole["logprobs"][1:], abs=1e-4)


def test_a_file_gives_a_line_for_each_text(directory: Path, tmp_path: Path, capsys) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "x"}\n{"text": ""}\n')
    assert main.run(["score", str(directory), "--input", str(file)]) == 0
    first, empty = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first["text"] == "x"
    assert empty == {"text": "", "token_ids": [], "logprobs": [], "score": 0}


def test_a_table_for_readers_ends_with_the_sum(directory: Path, capsys) -> None:
    assert main.run(["score", str(directory), "--text", "The class"]) == 0
    *lines, total = capsys.readouterr().out.splitlines()
    assert sum(float(line.split()[0]) for line in lines) == pytest.approx(float(total.split()[0]), abs=0.01)
    assert total.endswith(f"{len(lines)} tokens")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--text", "a " * 300], "tokens and the model's context is 128 tokens"),
        ([], "give either --text or --input"),
        (["--text", "\udcff"], "must be UTF-8 text"),
    ],
)
def test_a_wrong_request_is_one_line(directory: Path, options: list[str], message: str, capsys) -> None:
    assert main.run(["score", str(directory), *options]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("family", ["gpt2", "t5", "marian"])
def test_scores_of_a_family_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    ours, reference = pair(family, tmp_path)
    prompt, tokens = PROMPTS[0], PROMPTS[2]
    with torch.no_grad():
        if reference.config.is_encoder_decoder:
            begun = torch.tensor([[ours.config.decoder_start_token_id, *tokens[:-1]]])
            logits = reference(torch.tensor([prompt]), decoder_input_ids=begun).logits[0]
        else:
            logits = reference(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
    expected = logits.log_softmax(-1)[torch.arange(len(tokens)), tokens]
    assert log_probabilities(ours, prompt, tokens) == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("prompt", [[], PROMPTS[0]])
def test_xlnet_scores_each_token_from_those_before_it_as_transformers_does_with_that_order(
    prompt: list[int], tmp_path: Path
) -> None:
    ours, reference = pair("xlnet", tmp_path)
    tokens = PROMPTS[2]
    whole = torch.tensor([prompt + tokens])
    length = whole.shape[1]
    expected = []
    with torch.no_grad():
        for place in range(len(prompt), length):
            target = torch.zeros(1, 1, length)
            target[0, 0, place] = 1
            logits = reference(whole, perm_mask=torch.ones(1, length, length).triu(), target_mapping=target).logits
            expected.append(float(logits[0, 0].log_softmax(-1)[whole[0, place]]))
    assert log_probabilities(ours, prompt, tokens) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_a_first_token_without_anything_before_it_is_refused(family: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="nothing that the first token could follow: give a prompt"):
        log_probabilities(pair(family, tmp_path)[0], [], [3, 4])


def test_an_encoder_gives_no_text_a_score() -> None:
    encoder = build(ModelConfig(family="bert", vocab_size=40, hidden_size=32, num_hidden_layers=1))
    with pytest.raises(RequestError, match="kind encoder does not read a text token by token"):
        log_probabilities(encoder, [1], [2])
