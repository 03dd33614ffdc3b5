"""`lmc generate` as a user runs it."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_model import write_tiny_model
from tiny_run import LMC

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


@pytest.fixture
def run(directory: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict]:
    """`lmc generate` in this process: what it prints as JSON."""

    def call(*options: object) -> dict:
        asked = ["--prompt", "The class", "--max-new-tokens", 20, "--json", *options]
        assert main.run(["generate", str(directory), *map(str, asked)]) == 0
        said = capsys.readouterr()
        assert said.err == ""
        return json.loads(said.out)

    return call


def test_the_text_alone_is_on_stdout(directory: Path) -> None:
    done = subprocess.run(
        [LMC, "generate", directory, "--prompt", "The class", "--max-new-tokens", "20"], capture_output=True, check=True
    )
    assert done.stdout.decode() == expected(directory) + "\n"
    assert done.stderr == b""


def test_sampling_is_implied_by_its_options_and_repeats_with_its_seed(directory: Path, run) -> None:
    result = run("--temperature", 0.8, "--top-k", 40, "--top-p", 0.9, "--seed", 3)
    assert result["strategy"] == "sample"
    assert result["text"] == expected(directory, temperature=0.8, top_k=40, top_p=0.9, seed=3)
    assert (result["finish_reason"], result["generated_tokens"]) == ("length", 20)
    assert result["parameters"]["seed"] == 3


def test_beam_search_prints_the_best_hypothesis(directory: Path, run) -> None:
    words = tokenizer.load(directory)
    prompt = [words.bos_token_id, *words.encode("The class")]
    best = beam_search(model.load(directory), words, prompt, BeamParameters(num_beams=3, max_tokens=20))[0]
    result = run("--strategy", "beam", "--num-beams", 3)
    assert result["text"] == words.decode(best.tokens)
    assert result["score"] == pytest.approx(best.score)


def test_a_stop_text_ends_the_text(directory: Path, run) -> None:
    text = expected(directory)
    result = run("--stop", text[5:9])
    assert (result["text"], result["finish_reason"]) == (text[: text.index(text[5:9])], "stop")


def test_no_tokens_are_generated_when_none_are_asked_for(run) -> None:
    result = run("--max-new-tokens", 0)
    assert (result["text"], result["generated_tokens"], result["finish_reason"]) == ("", 0, "length")


@pytest.mark.parametrize(("top_p", "greedy"), [(0, True), (1, False)])
def test_the_extremes_of_top_p_work(directory: Path, run, top_p: int, greedy: bool) -> None:
    result = run("--top-p", top_p, "--temperature", 2, "--seed", 1)
    assert (result["text"] == expected(directory)) == greedy


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--strategy", "greedy", "--top-k", "3"], "--top-k belongs to --strategy sample; the strategy is greedy"),
        (["--strategy", "greedy", "--seed", "3"], "--seed belongs to --strategy sample; the strategy is greedy"),
        (["--strategy", "sample", "--num-beams", "3"], "--num-beams belongs to --strategy beam"),
        (["--num-beams", "0"], "num_beams must be at least 1, not 0"),
        (["--num-beams", "2", "--max-new-tokens", "0"], "max_tokens must be at least 1 for beam search"),
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


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda model: (model / "config.json").unlink(), "config.json: no such file; a model directory has one"),
        (lambda model: (model / "model.safetensors").unlink(), "no model.safetensors"),
        (
            lambda model: (model / "model.safetensors").rename(model / "pytorch_model.bin"),
            "no model.safetensors; pytorch_model.bin is a pickle, which can run code, and is not read",
        ),
        (lambda model: (model / "model.safetensors").write_bytes(b"cut"), "not a whole safetensors file"),
        (lambda model: (model / "tokenizer.json").unlink(), "tokenizer.json: no such file"),
    ],
    ids=["no config", "no weights", "pickle", "cut weights", "no tokenizer"],
)
def test_a_directory_that_is_no_whole_model_is_one_line(
    directory: Path,
    damage: Callable[[Path], object],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = Path(shutil.copytree(directory, tmp_path / "model"))
    damage(model)
    assert main.run(["generate", str(model), "--prompt", "x"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
