"""`lmc fill|classify|translate|answer` as a user runs them, against what `transformers` computes."""

import contextlib
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_model import TEXTS, write_tiny_model
from tiny_transformers import write_bert, write_marian
from transformers import (
    AutoTokenizer,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    GPT2Config,
    GPT2ForSequenceClassification,
    MarianMTModel,
    XLNetConfig,
    XLNetForSequenceClassification,
    XLNetLMHeadModel,
    pipeline,
)

from lmcommons import tokenizer
from lmcommons.cli import main
from lmcommons.errors import RequestError
from lmcommons.inference import load
from lmcommons.inference.answer import answer_in_words, extract
from lmcommons.inference.classify import classify, classify_words
from lmcommons.inference.fill import fill
from lmcommons.inference.write import decoding, write
from lmcommons.recipe import TokenizerRecipe

CLOSE = 1e-5
CONTEXT = " ".join(TEXTS[0].split()[:300])  # several windows of 64 tokens
MODELS: dict[str, Callable[[Path], object]] = {
    "fill": lambda directory: write_bert(directory, BertForMaskedLM),
    "classify": lambda directory: write_bert(
        directory, BertForSequenceClassification, id2label={0: "x", 1: "y", 2: "z"}
    ),
    "tag": lambda directory: write_bert(directory, BertForTokenClassification, id2label={0: "O", 1: "NAME", 2: "VERB"}),
    "answer": lambda directory: write_bert(directory, BertForQuestionAnswering),
    "features": lambda directory: write_bert(directory, BertModel),
    "translate": write_marian,
    "generate": write_tiny_model,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with each of `MODELS`."""
    directory = tmp_path_factory.mktemp("models")
    for name, write_model in MODELS.items():
        write_model(directory / name)
    return directory


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[dict]]:
    """A command in this process: the objects that it prints."""

    def call(command: str, model: Path, *options: object) -> list[dict]:
        assert main.run([command, str(model), *map(str, options)]) == 0
        said = capsys.readouterr()
        assert said.err == ""
        return [json.loads(line) for line in said.out.splitlines()]

    return call


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A command that must fail with `code`: the one line that it says."""

    def call(command: str, model: Path, *options: object, code: int = 2) -> str:
        assert main.run([command, str(model), *map(str, options)]) == code
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        return said.err

    return call


def write_lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


# ---------------------------------------------------------------- fill


@pytest.mark.parametrize("text", ["The class [MASK] is new.", "[MASK] of the [MASK] and Names"])
def test_masks_are_filled_as_transformers_fills_them(home: Path, run: Callable, text: str) -> None:
    [found] = run("fill", home / "fill", "--text", text, "--top-k", 7, "--json")
    expected = pipeline("fill-mask", str(home / "fill"), top_k=7)(text)
    expected = [expected] if isinstance(expected[0], dict) else expected
    assert [[each["token_id"] for each in mask] for mask in found["masks"]] == [
        [each["token"] for each in mask] for mask in expected
    ]
    for ours, theirs in zip(found["masks"], expected, strict=True):
        assert [each["text"] for each in ours] == [each["sequence"] for each in theirs]
        assert [each["token"] for each in ours] == [each["token_str"] for each in theirs]
        assert [each["probability"] for each in ours] == pytest.approx([each["score"] for each in theirs], abs=CLOSE)


def test_an_xlnet_fills_a_mask_from_both_sides(tmp_path: Path, run: Callable) -> None:
    """The reference is asked for one token at a time, which sees all others and not itself."""
    tokenizer.train(TEXTS, TokenizerRecipe(vocab_size=400), tmp_path, kind="permutation")
    torch.manual_seed(1)
    config = XLNetConfig(vocab_size=400, d_model=32, d_inner=64, n_layer=2, n_head=4, initializer_range=0.3)
    reference = XLNetLMHeadModel(config).eval()
    reference.save_pretrained(tmp_path)
    text = "The class[MASK] of the object[MASK] new"
    [found] = run("fill", tmp_path, "--text", text, "--top-k", 400, "--json")
    encoded = AutoTokenizer.from_pretrained(tmp_path)(text, return_tensors="pt")
    masked = encoded["input_ids"][0] == AutoTokenizer.from_pretrained(tmp_path).mask_token_id
    hidden = masked[None, None].expand(1, masked.numel(), -1).float()
    for place, candidates in zip(masked.nonzero()[:, 0].tolist(), found["masks"], strict=True):
        target = torch.zeros(1, 1, masked.numel())
        target[0, 0, place] = 1
        with torch.no_grad():
            logits = reference(**encoded, perm_mask=hidden, target_mapping=target).logits[0, 0]
        probabilities = logits.softmax(-1)
        assert [each["probability"] for each in candidates] == pytest.approx(
            [float(probabilities[each["token_id"]]) for each in candidates], abs=CLOSE
        )


# ---------------------------------------------------------------- classify


def test_texts_of_a_file_are_classified_in_their_order_as_transformers_does(
    home: Path, tmp_path: Path, run: Callable
) -> None:
    texts = [" ".join(TEXTS[place].split()[: 1 + 3 * (place % 4)]) for place in range(9)]
    path = write_lines(tmp_path / "texts.jsonl", [{"text": text} for text in texts])
    found = run("classify", home / "classify", "--input", path)
    expected = pipeline("text-classification", str(home / "classify"), top_k=None)(texts)
    assert [each["text"] for each in found] == texts
    for ours, theirs in zip(found, expected, strict=True):
        assert [each["label"] for each in ours["labels"]] == [each["label"] for each in theirs]
        assert [each["probability"] for each in ours["labels"]] == pytest.approx(
            [each["score"] for each in theirs], abs=CLOSE
        )


def test_a_pair_of_texts_is_classified_as_transformers_does(home: Path, run: Callable) -> None:
    [found] = run(
        "classify", home / "classify", "--text", "the class", "--text-pair", "an object", "--top-k", 2, "--json"
    )
    expected = pipeline("text-classification", str(home / "classify"), top_k=2)(
        {"text": "the class", "text_pair": "an object"}
    )
    assert [each["label"] for each in found["labels"]] == [each["label"] for each in expected]
    assert found["labels"][0]["probability"] == pytest.approx(expected[0]["score"], abs=CLOSE)


@pytest.mark.parametrize("kind", ["decoder", "permutation"])
def test_models_of_other_kinds_classify_texts_of_unequal_length(tmp_path: Path, run: Callable, kind: str) -> None:
    tokenizer.train(TEXTS, TokenizerRecipe(vocab_size=400), tmp_path, kind=kind)
    torch.manual_seed(2)
    if kind == "decoder":
        config = GPT2Config(
            vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=64, num_labels=3, pad_token_id=0,
            bos_token_id=0, eos_token_id=0, initializer_range=0.3,
        )  # fmt: skip
        reference = GPT2ForSequenceClassification(config)
    else:
        config = XLNetConfig(
            vocab_size=400, d_model=32, d_inner=64, n_layer=2, n_head=4, num_labels=3, initializer_range=0.3
        )
        reference = XLNetForSequenceClassification(config)
    reference.eval().save_pretrained(tmp_path)
    texts = ["The class", "An object of a class is new", "Names"]
    found = run("classify", tmp_path, "--input", write_lines(tmp_path / "in.jsonl", [{"text": text} for text in texts]))
    words = AutoTokenizer.from_pretrained(tmp_path)
    for text, ours in zip(texts, found, strict=True):
        with torch.no_grad():
            theirs = reference(**words(text, return_tensors="pt")).logits[0].softmax(-1)
        probabilities = {each["label"]: each["probability"] for each in ours["labels"]}
        assert [probabilities[f"LABEL_{number}"] for number in range(3)] == pytest.approx(theirs.tolist(), abs=CLOSE)


def test_words_are_classified_by_their_first_token(home: Path, run: Callable) -> None:
    text = "Names, refer to  objects."
    [found] = run("classify", home / "tag", "--text", text, "--json")
    assert [each["word"] for each in found["words"]] == ["Names", ",", "refer", "to", "objects", "."]
    assert all(text[each["start"] : each["stop"]] == each["word"] for each in found["words"])
    tokens = pipeline("token-classification", str(home / "tag"), ignore_labels=[])(text)
    by_start = {each["start"]: each for each in reversed(tokens)}
    for each in found["words"]:
        assert each["label"] == by_start[each["start"]]["entity"]
        assert each["probability"] == pytest.approx(float(by_start[each["start"]]["score"]), abs=CLOSE)


# ---------------------------------------------------------------- answer


def literal_answers(directory: Path, question: str, context: str, longest: int) -> dict[tuple[int, int], float]:
    """Every span of every window with the sum of its logits, by `transformers` and nothing of ours."""
    words, model = AutoTokenizer.from_pretrained(directory), BertForQuestionAnswering.from_pretrained(directory).eval()
    room = 64 - len(words(question)["input_ids"]) - 1
    found = words(
        question, context, truncation="only_second", max_length=64, stride=room // 4,
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    assert len(found["input_ids"]) > 2
    scores: dict[tuple[int, int], float] = {}
    for window, tokens in enumerate(found["input_ids"]):
        with torch.no_grad():
            output = model(torch.tensor([tokens]), token_type_ids=torch.tensor([found["token_type_ids"][window]]))
        places = [place for place, side in enumerate(found.sequence_ids(window)) if side == 1]
        for first in places:
            for last in places:
                if first <= last < first + longest:
                    span = (found["offset_mapping"][window][first][0], found["offset_mapping"][window][last][1])
                    score = float(output.start_logits[0, first] + output.end_logits[0, last])
                    scores[span] = max(score, scores.get(span, score))
    return scores


def test_answers_are_the_best_spans_of_all_windows(home: Path, run: Callable) -> None:
    [found] = run(
        "answer", home / "answer", "--question", "which class?", "--context", CONTEXT, "--top-k", 4,
        "--max-answer-tokens", 6, "--json",
    )  # fmt: skip
    expected = literal_answers(home / "answer", "which class?", CONTEXT, 6)
    best = sorted(expected, key=expected.__getitem__, reverse=True)[:4]
    assert [(each["start"], each["stop"]) for each in found["answers"]] == best
    assert [each["score"] for each in found["answers"]] == pytest.approx([expected[span] for span in best], abs=1e-4)
    assert all(CONTEXT[each["start"] : each["stop"]] == each["text"] for each in found["answers"])
    probabilities = [each["probability"] for each in found["answers"]]
    assert 0 < sum(probabilities) <= 1
    assert probabilities == sorted(probabilities, reverse=True)


def test_no_answer_is_one_of_the_answers_where_there_may_be_none(home: Path, run: Callable) -> None:
    asked = ("--question", "which?", "--context", "a class", "--top-k", 50, "--json")
    [always], [maybe] = run("answer", home / "answer", *asked), run("answer", home / "answer", *asked, "--unanswerable")
    assert sum(each["probability"] for each in always["answers"]) == pytest.approx(1, abs=1e-4)
    assert [each for each in maybe["answers"] if each["text"]] != []
    assert [each["stop"] for each in maybe["answers"] if not each["text"]] == [0]
    assert len(maybe["answers"]) == len(always["answers"]) + 1


def test_a_model_that_writes_answers_with_its_prompt(home: Path, run: Callable) -> None:
    prompt = "{context} {question}"
    [found] = run(
        "answer", home / "translate", "--question", "red {context}", "--context", "blue", "--prompt", prompt,
        "--max-new-tokens", 8, "--json",
    )  # fmt: skip
    [expected] = run("translate", home / "translate", "--text", "blue red {context}", "--max-new-tokens", 8, "--json")
    assert found["answers"] == expected["translations"]


# ---------------------------------------------------------------- translate


@pytest.mark.parametrize("beams", [1, 3])
def test_translations_are_those_of_transformers(home: Path, tmp_path: Path, run: Callable, beams: int) -> None:
    texts = ["red green blue", "white", "grau black red red"]
    path = write_lines(tmp_path / "in.jsonl", [{"text": text} for text in texts])
    found = run("translate", home / "translate", "--input", path, "--num-beams", beams, "--max-new-tokens", 12)
    words, reference = (
        AutoTokenizer.from_pretrained(home / "translate"),
        MarianMTModel.from_pretrained(home / "translate"),
    )
    for text, ours in zip(texts, found, strict=True):
        encoded = words(text, return_tensors="pt")
        with torch.no_grad():
            theirs = reference.generate(
                encoded["input_ids"], num_beams=beams, max_new_tokens=12, do_sample=False, bad_words_ids=None
            )
        assert ours["text"] == text
        assert ours["translations"][0]["text"] == words.decode(theirs[0], skip_special_tokens=True).strip()


def test_a_translation_is_printed_as_plain_text(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--text", "red", "--max-new-tokens", "5", "--num-return-sequences", "2", "--num-beams", "2"]
    assert main.run(["translate", str(home / "translate"), *options]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("command", "model", "options", "said"),
    [
        ("fill", "classify", ("--text", "[MASK]"), "see lmc classify"),
        ("fill", "generate", ("--text", "[MASK]"), "see lmc generate"),
        ("fill", "translate", ("--text", "[MASK]"), "see lmc translate"),
        ("fill", "features", ("--text", "[MASK]"), "fine-tune it to a task first"),
        ("fill", "fill", ("--text", "no place"), "no [MASK] in the text"),
        ("fill", "fill", ("--text", " "), "the text is empty"),
        ("fill", "fill", ("--text", "[MASK]", "--top-k", 0), "top_k must be at least 1"),
        ("fill", "fill", ("--text", "[MASK] " * 80), "the text has 82 tokens and the model reads 64 at once"),
        ("fill", "fill", ("--text", "[MASK] \udcff"), "--text is not UTF-8 text"),
        ("fill", "fill", (), "give --text, or --input"),
        ("classify", "fill", ("--text", "class"), "see lmc fill"),
        ("classify", "tag", ("--text", "class", "--text-pair", "class"), "it takes no --text-pair"),
        ("classify", "classify", ("--text", ""), "the text is empty"),
        ("classify", "classify", ("--text", "class", "--top-k", 0), "top_k must be at least 1"),
        ("answer", "fill", ("--question", "a", "--context", "b"), "see lmc fill"),
        ("answer", "answer", ("--question", "a"), "give --question and --context"),
        ("answer", "answer", ("--question", " ", "--context", "b"), "the question is empty"),
        ("answer", "answer", ("--question", "a", "--context", ""), "the context is empty"),
        ("answer", "answer", ("--question", "class " * 70, "--context", "b"), "leaves no room for its context"),
        ("answer", "answer", ("--question", "a", "--context", "b", "--top-k", 0), "top_k must be at least 1"),
        ("answer", "translate", ("--question", "a", "--context", "b", "--prompt", "{question}"), "{context}"),
        ("answer", "answer", ("--question", "a", "--context", "b", "--num-beams", 2), "it finds its answers"),
        ("answer", "translate", ("--question", "a", "--context", "b", "--unanswerable"), "it writes its answers"),
        ("answer", "translate", ("--question", "a", "--context", "b", "--top-k", 5), "with 4 beams: ask for 1 to 4"),
        ("translate", "classify", ("--text", "red"), "see lmc classify"),
        ("translate", "translate", ("--text", "red", "--num-beams", 0), "num_beams must be at least 1"),
        ("translate", "translate", ("--text", "red", "--prompt", "to German"), "must have {source}"),
        ("translate", "translate", ("--text", "red " * 70), "the text has 71 tokens and the model reads 64"),
    ],
)
def test_a_wrong_request_is_one_line(
    home: Path, refusal: Callable, command: str, model: str, options: tuple, said: str
) -> None:
    assert said in refusal(command, home / model, *options)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('{"text": "a [MASK]"}\nno JSON\n', "in.jsonl, line 2: not JSON"),
        ('{"text": "a [MASK]"}\n{"text": "b"}\n', "in.jsonl, line 2: no [MASK]"),
        ('{"text": "a [MASK]", "more": "b"}\n', "in.jsonl, line 1: it must be"),
        ('{"text": 3}\n', "in.jsonl, line 1: text must be"),
    ],
)
def test_a_wrong_line_of_a_file_is_named(home: Path, tmp_path: Path, refusal: Callable, lines: str, said: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(lines)
    assert said in refusal("fill", home / "fill", "--input", path)


@pytest.mark.parametrize("command", ["fill", "classify", "translate", "answer", "generate", "score"])
def test_an_empty_file_is_one_line(home: Path, tmp_path: Path, refusal: Callable, command: str) -> None:
    path = write_lines(tmp_path / "in.jsonl", [])
    model = home / {"score": "generate"}.get(command, command)
    assert "in.jsonl: the file is empty; a line of it must be {" in refusal(command, model, "--input", path)


@pytest.mark.parametrize(
    ("model", "use"),
    [
        ("fill", lambda loaded: fill(loaded, [])),
        ("classify", lambda loaded: classify(loaded, [])),
        ("tag", lambda loaded: classify_words(loaded, [])),
        ("answer", lambda loaded: extract(loaded, [])),
        ("translate", lambda loaded: write(loaded, [], decoding())),
        ("translate", lambda loaded: answer_in_words(loaded, [], decoding())),
    ],
)
def test_no_texts_are_one_line(home: Path, model: str, use: Callable) -> None:
    with pytest.raises(RequestError, match="there are no texts: give at least one"):
        use(load(str(home / model)))


def test_a_text_of_which_no_token_is_left_is_one_line(tmp_path: Path, refusal: Callable) -> None:
    tokenizer.train(TEXTS, TokenizerRecipe(vocab_size=400), tmp_path)
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = GPT2Config(vocab_size=400, n_embd=32, n_layer=1, n_head=4, num_labels=2, **special)
    GPT2ForSequenceClassification(config).save_pretrained(tmp_path)
    definition = json.loads((tmp_path / "tokenizer.json").read_text())
    definition["normalizer"] = {"type": "Replace", "pattern": {"Regex": "[^a-z]"}, "content": ""}
    definition["post_processor"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition))
    said = refusal("classify", tmp_path, "--text", "漢字")
    assert "the text has no character that the tokenizer knows" in said


def test_lines_with_and_without_a_pair_do_not_mix(home: Path, tmp_path: Path, refusal: Callable) -> None:
    path = write_lines(tmp_path / "in.jsonl", [{"text": "a"}, {"text": "b", "text_pair": "c"}])
    assert "text_pair must be in all lines or in none" in refusal("classify", home / "classify", "--input", path)


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("fill", ("--text", "a [MASK]")),
        ("answer", ("--question", "a", "--context", "b")),
        ("translate", ("--text", "red")),
        ("explain", ("--text", "a [MASK]", "--out", "page.html")),
    ],
)
def test_weights_that_are_not_numbers_are_one_line(
    home: Path, tmp_path: Path, refusal: Callable, command: str, options: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(home / {"explain": "fill"}.get(command, command), tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    weights = load_file(file)
    weights[next(name for name in weights if "layer.0.output.dense.bias" in name or "layers.0.fc2.bias" in name)][0] = (
        torch.nan
    )
    save_file(weights, file, metadata={"format": "pt"})
    assert "its weights are damaged" in refusal(command, tmp_path / "model", *options, code=1)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_model_of_several_labels_at_once_is_refused(home: Path, tmp_path: Path, refusal: Callable) -> None:
    shutil.copytree(home / "classify", tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"problem_type": "multi_label_classification"}))
    said = refusal("classify", tmp_path / "model", "--text", "a")
    assert "problem_type 'multi_label_classification' is not supported" in said


@pytest.mark.parametrize(
    ("file", "fields", "said"),
    [
        ("tokenizer_config.json", {"mask_token": None}, "the tokenizer has no mask token"),
        ("config.json", {"type_vocab_size": 1}, "a segment 1 and the model only 1 segments"),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_one_line(
    home: Path, tmp_path: Path, refusal: Callable, file: str, fields: dict, said: str
) -> None:
    shutil.copytree(home / "classify" if file == "config.json" else home / "fill", tmp_path / "model")
    path = tmp_path / "model" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    if file == "config.json":
        weights = load_file(tmp_path / "model" / "model.safetensors")
        weights["bert.embeddings.token_type_embeddings.weight"] = weights[
            "bert.embeddings.token_type_embeddings.weight"
        ][:1].clone()
        save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
        assert said in refusal("classify", tmp_path / "model", "--text", "a", "--text-pair", "b")
    else:
        assert said in refusal("fill", tmp_path / "model", "--text", "a [MASK]")


def test_the_commands_of_the_guide_work(home: Path, tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "tasks.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", page, re.S)
    commands = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    assert len(commands) > 10
    names = {"masks": "fill", "reviews": "classify", "names": "tag", "translator": "translate", "answers": "answer"}
    (tmp_path / "models").mkdir()
    for name, model in names.items():
        (tmp_path / "models" / name).symlink_to(home / model)
    # each `lmc` in this process: a new one takes seconds to import torch
    for command in commands:
        if command.startswith("lmc "):
            with contextlib.chdir(tmp_path):
                assert main.run(shlex.split(command)[1:]) == 0, command
        else:
            subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    assert {"review.html", "mask.html", "translation.html"} <= {path.name for path in tmp_path.iterdir()}
