"""`lmc generate` as a user runs it."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_model import SHAPE, write_tiny_model
from tiny_run import LMC

from lmcommons import model, tokenizer
from lmcommons.cli import main
from lmcommons.generation import BeamParameters, SamplingParameters, beam_search, generate, log_probabilities
from lmcommons.generation.loading import load


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
    assert (result["prompt"], result["strategy"]) == ("The class", "sample")
    [found] = result["sequences"]
    assert found["text"] == expected(directory, temperature=0.8, top_k=40, top_p=0.9, seed=3)
    assert (found["finish_reason"], len(found["token_ids"])) == ("length", 20)


def test_the_report_has_text_tokens_score_and_usage(directory: Path, run) -> None:
    words, result = tokenizer.load(directory), run()
    assert list(result) == ["prompt", "strategy", "sequences", "usage"]
    [found] = result["sequences"]
    assert list(found) == ["text", "token_ids", "score", "finish_reason"]
    assert found["text"] == words.decode(found["token_ids"]) == expected(directory)
    prompt = [words.bos_token_id, *words.encode("The class")]
    assert found["score"] == pytest.approx(sum(log_probabilities(model.load(directory), prompt, found["token_ids"])))
    assert result["usage"] == {
        "prompt_tokens": len(prompt),
        "completion_tokens": 20,
        "total_tokens": len(prompt) + 20,
    }


def test_beam_search_prints_the_best_continuations(directory: Path, run) -> None:
    words = tokenizer.load(directory)
    prompt = [words.bos_token_id, *words.encode("The class")]
    parameters = BeamParameters(
        num_beams=3, num_return_sequences=2, max_tokens=20, length_penalty=0.5, early_stopping="never"
    )
    [best] = beam_search(model.load(directory), words, [prompt], parameters)
    asked = ["--num-beams", 3, "--num-return-sequences", 2, "--length-penalty", 0.5, "--early-stopping", "never"]
    result = run(*asked)
    assert result["strategy"] == "beam"
    assert [each["text"] for each in result["sequences"]] == [each.text for each in best]
    assert [each["score"] for each in result["sequences"]] == pytest.approx([each.score for each in best])


def test_beams_are_drawn_where_both_kinds_of_options_are_given(directory: Path, run) -> None:
    first, again, other = (run("--num-beams", 3, "--temperature", 2, "--seed", seed) for seed in (1, 1, 2))
    assert first == again != other
    assert first["strategy"] == "sample"


def test_penalties_change_what_is_said(directory: Path, run) -> None:
    plain = run("--max-new-tokens", 60)["sequences"][0]["token_ids"]
    assert len(set(plain)) < 60
    for options in (["--repetition-penalty", 5], ["--no-repeat-ngram-size", 1]):
        assert run("--max-new-tokens", 60, *options)["sequences"][0]["token_ids"] != plain
    [once] = run("--max-new-tokens", 60, "--no-repeat-ngram-size", 1)["sequences"]
    assert len(set(once["token_ids"])) == 60


def test_a_bad_word_is_written_neither_at_the_beginning_nor_after_a_space(directory: Path, run) -> None:
    words = tokenizer.load(directory)
    plain = run()["sequences"][0]["token_ids"]
    word = next(text for text in map(words.decode, zip(plain, strict=True)) if text.strip() and text.isascii())
    found = run("--bad-word", word, "--bad-word", "zebra crossing")["sequences"][0]
    assert word not in [words.decode([token]) for token in found["token_ids"]]
    assert words.encode(word)[0] in plain


def test_min_p_of_one_leaves_the_best_token_only(directory: Path, run) -> None:
    result = run("--min-p", 1, "--temperature", 2, "--seed", 1)
    assert result["sequences"][0]["text"] == expected(directory)


def test_a_file_of_prompts_gives_a_line_for_each_in_its_order(directory: Path, tmp_path: Path, capsys) -> None:
    file = tmp_path / "prompts.jsonl"
    prompts = ["x", "The class statement 漢字", "", "A mapping"]
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    assert main.run(["generate", str(directory), "--input", str(file), "--max-new-tokens", "5"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["prompt"] for line in lines] == prompts
    assert main.run(["generate", str(directory), "--prompt", prompts[1], "--max-new-tokens", "5", "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert alone["sequences"][0].pop("score") == pytest.approx(lines[1]["sequences"][0].pop("score"), abs=1e-4)
    assert alone == lines[1]


def test_a_model_ends_its_text_with_any_end_token_of_its_configuration(directory: Path, tmp_path: Path, run) -> None:
    [found] = run()["sequences"]
    copied = Path(shutil.copytree(directory, tmp_path / "model"))
    config = json.loads((copied / "config.json").read_text())
    config["eos_token_id"] = [0, found["token_ids"][4]]
    (copied / "config.json").write_text(json.dumps(config))
    _, words = load(str(copied))
    prompt = [words.bos_token_id, *words.encode("The class")]
    [ended] = generate(model.load(copied), words, [prompt], SamplingParameters(max_tokens=20))
    assert ended.token_ids == found["token_ids"][: found["token_ids"].index(found["token_ids"][4]) + 1]
    assert ended.finish_reason == "stop"


def test_a_stop_text_ends_the_text(directory: Path, run) -> None:
    text = expected(directory)
    result = run("--stop", text[5:9])
    [found] = result["sequences"]
    assert (found["text"], found["finish_reason"]) == (text[: text.index(text[5:9])], "stop")


def test_no_tokens_are_generated_when_none_are_asked_for(run) -> None:
    result = run("--max-new-tokens", 0)
    assert result["sequences"] == [{"text": "", "token_ids": [], "score": 0.0, "finish_reason": "length"}]


@pytest.mark.parametrize(("top_p", "greedy"), [(0, True), (1, False)])
def test_the_extremes_of_top_p_work(directory: Path, run, top_p: int, greedy: bool) -> None:
    result = run("--top-p", top_p, "--temperature", 2, "--seed", 1)
    assert (result["sequences"][0]["text"] == expected(directory)) == greedy


def test_top_k_above_the_vocabulary_keeps_all_tokens(run) -> None:
    wide, all_tokens = (run("--top-k", k, "--temperature", 2, "--seed", 1) for k in (100_000, 0))
    assert wide == all_tokens


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--strategy", "greedy", "--top-k", "3"], "--top-k belongs to --strategy sample; the strategy is greedy"),
        (["--strategy", "greedy", "--seed", "3"], "--seed belongs to --strategy sample; the strategy is greedy"),
        (["--strategy", "sample", "--length-penalty", "3"], "--length-penalty belongs to --strategy beam"),
        (["--strategy", "greedy", "--early-stopping", "true"], "--early-stopping belongs to --strategy beam"),
        (["--strategy", "beam", "--min-p", "0.1"], "--min-p belongs to --strategy sample; the strategy is beam"),
        (["--num-return-sequences", "2"], "--num-return-sequences: greedy has one text"),
        (["--num-return-sequences", "0"], "num_return_sequences must be at least 1, not 0"),
        (["--num-return-sequences", "5", "--num-beams", "4"], "num_return_sequences must be between 1 and num_beams 4"),
        (["--early-stopping", "maybe"], "--early-stopping"),
        (["--min-new-tokens", "200"], "min_tokens must be between 0 and max_tokens 128, not 200"),
        (["--repetition-penalty", "0"], "repetition_penalty must be above 0"),
        (["--no-repeat-ngram-size", "-1"], "no_repeat_ngram_size must be at least 0"),
        (["--bad-word", ""], "bad_words must not contain a word without tokens"),
        (["--min-p", "1.5"], "min_p must be between 0 and 1, not 1.5"),
        (["--input", "x.jsonl"], "give either --prompt or --input"),
        (["--num-beams", "0"], "num_beams must be at least 1, not 0"),
        (["--num-beams", "2", "--max-new-tokens", "0"], "max_tokens must be at least 1 for beam search"),
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
    ("content", "message"),
    [
        (b'{"prompt": "x"}\n{"prompt": 3}\n', "line 2: prompt must be Unicode text"),
        (b'{"prompt": "x"}\nhello\n', 'line 2: not JSON; it must be {"prompt": text}'),
        (b'{"text": "x"}\n', 'line 1: it must be {"prompt": text}'),
        (b'{"prompt": "\\ud800"}\n', "line 1: prompt must be Unicode text"),
        (b"\xff\n", "not UTF-8 text (byte 0)"),
        (None, "No such file"),
    ],
)
def test_a_wrong_line_of_a_file_is_named(
    directory: Path, content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prompts.jsonl"
    if content is not None:
        file.write_bytes(content)
    assert main.run(["generate", str(directory), "--input", str(file)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{file}" in said.err
    assert message in said.err
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam"])
def test_weights_that_are_not_numbers_are_one_line(
    directory: Path, strategy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = Path(shutil.copytree(directory, tmp_path / "model"))
    damaged = model.load(copied)
    damaged.decoder.layers[0].feed_forward.down.weight.data[0, 0] = torch.nan
    model.save(damaged, copied)
    assert main.run(["generate", str(copied), "--prompt", "x", "--strategy", strategy]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "lmc: the model computes values that are not numbers: its weights are damaged\n"


def write_encoder(directory: Path, **fields: object) -> None:
    """A small BERT in place of a model."""
    shape = {name: SHAPE[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")}
    model.save(model.build(model.ModelConfig(family="bert", pad_token_id=0, **shape, **fields)), directory)


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
        (lambda model: write_tiny_model(model, vocab_size=300), "the tokenizer has 400 tokens and the model only 300"),
        (lambda model: write_encoder(model), "an encoder for language-modelling writes no text; see lmc fill"),
        (
            lambda model: write_encoder(model, task="sequence-classification", labels=["no", "yes"]),
            "an encoder for sequence-classification writes no text; see lmc classify",
        ),
    ],
    ids=["no config", "no weights", "pickle", "cut weights", "no tokenizer", "vocabulary", "encoder", "classifier"],
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
