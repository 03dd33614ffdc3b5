"""`lmc generate` as a user runs it."""

import json
import subprocess
from pathlib import Path

import pytest
from tiny_model import write_tiny_model
from tiny_run import LMC, lmc

from lmcommons import model, tokenizer
from lmcommons.cli import main
from lmcommons.generation import BeamParameters, SamplingParameters, beam_search, generate


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def expected(directory: Path, **parameters: object) -> str:
    words = tokenizer.load(directory)
    prompt = [words.bos_token_id, *words.encode("The class")]
    parameters = SamplingParameters(**{"max_tokens": 20} | parameters)
    return generate(model.load(directory), words, [prompt], parameters)[0].text


def run(directory: Path, *options: object) -> dict:
    done = lmc("generate", directory, "--prompt", "The class", "--max-new-tokens", 20, "--json", *options)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_the_text_alone_is_on_stdout(directory: Path) -> None:
    done = subprocess.run(
        [LMC, "generate", directory, "--prompt", "The class", "--max-new-tokens", "20"], capture_output=True, check=True
    )
    assert done.stdout.decode() == expected(directory) + "\n"
    assert done.stderr == b""


def test_sampling_is_implied_by_its_options_and_repeats_with_its_seed(directory: Path) -> None:
    result = run(directory, "--temperature", 0.8, "--top-k", 40, "--top-p", 0.9, "--seed", 3)
    assert result["strategy"] == "sample"
    assert result["text"] == expected(directory, temperature=0.8, top_k=40, top_p=0.9, seed=3)
    assert (result["finish_reason"], result["generated_tokens"]) == ("length", 20)
    assert result["parameters"]["seed"] == 3


def test_beam_search_prints_the_best_hypothesis(directory: Path) -> None:
    words = tokenizer.load(directory)
    prompt = [words.bos_token_id, *words.encode("The class")]
    best = beam_search(model.load(directory), words, prompt, BeamParameters(num_beams=3, max_tokens=20))[0]
    result = run(directory, "--strategy", "beam", "--num-beams", 3)
    assert result["text"] == words.decode(best.tokens)
    assert result["score"] == pytest.approx(best.score)


def test_a_stop_text_ends_the_text(directory: Path) -> None:
    text = expected(directory)
    result = run(directory, "--stop", text[5:9])
    assert (result["text"], result["finish_reason"]) == (text[: text.index(text[5:9])], "stop")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--strategy", "greedy", "--top-k", "3"], "--top-k belongs to --strategy sample; the strategy is greedy"),
        (["--strategy", "sample", "--num-beams", "3"], "--num-beams belongs to --strategy beam"),
        (["--num-beams", "0"], "num_beams must be at least 1, not 0"),
        (["--num-beams", "2", "--stop", "a"], "--stop does not work with --strategy beam"),
        (["--temperature", "-1"], "temperature must be at least 0"),
        (["--top-p", "1.5"], "top_p must be between 0 and 1, not 1.5"),
        (["--max-new-tokens", "-1"], "max_tokens must be at least 0"),
        (["--strategy", "magic"], "--strategy"),
        (["--device", "cuda"], "no GPU"),
        (["--prompt", "a " * 300], "the model's context is 128 tokens"),
    ],
)
def test_a_wrong_option_is_one_line(
    directory: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["generate", str(directory), "--prompt", "x", *options]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert len(said.err.splitlines()) == 1


def test_a_directory_that_is_no_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["generate", str(tmp_path), "--prompt", "x"]) == 2
    said = capsys.readouterr().err
    assert "config.json" in said
    assert len(said.splitlines()) == 1
