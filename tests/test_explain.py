"""`lmc explain`: the page that it writes, read as a reader's browser and a screen reader would."""

import base64
import json
import re
import struct
import subprocess
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import TEXTS, write_tiny_model
from tiny_transformers import write_bert, write_marian
from transformers import (
    AutoTokenizer,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    MarianMTModel,
    PreTrainedModel,
    XLNetConfig,
    XLNetLMHeadModel,
)

from lmcommons import tokenizer
from lmcommons.cli import main
from lmcommons.explaining.attention import MOST_HEADS, attention
from lmcommons.explaining.subject import subject
from lmcommons.inference import load
from lmcommons.recipe import TokenizerRecipe

HOSTILE = "<script>alert(1)</script> & \"quoted\" '{{ 7*7 }}' "


def write_xlnet(directory: Path) -> None:
    tokenizer.train(TEXTS, TokenizerRecipe(vocab_size=400), directory, kind="permutation")
    torch.manual_seed(1)
    config = XLNetConfig(vocab_size=400, d_model=32, d_inner=64, n_layer=2, n_head=4, initializer_range=0.3)
    XLNetLMHeadModel(config).eval().save_pretrained(directory)


MODELS: dict[str, Callable[[Path], object]] = {
    "bert": lambda directory: write_bert(directory, BertForMaskedLM),
    "classifier": lambda directory: write_bert(
        directory, BertForSequenceClassification, id2label={0: "bad", 1: "<b>good</b>"}
    ),
    "answerer": lambda directory: write_bert(directory, BertForQuestionAnswering),
    "tagger": lambda directory: write_bert(directory, BertForTokenClassification, id2label={0: "O", 1: "NAME"}),
    "marian": write_marian,
    "llama": write_tiny_model,
    "xlnet": write_xlnet,
}
CASES = {
    "bert": ("--text", "The class [MASK] of an object"),
    "classifier": ("--text", "A class of a new object"),
    "answerer": ("--text", "A class of a new object.", "--question", "which class?"),
    "tagger": ("--text", "A class of a new object.", "--word", "5"),
    "marian": ("--source", "red green blue", "--text", "rot grün"),
    "llama": ("--text", "The class of an object"),
    "xlnet": ("--text", "The class[MASK] of an object"),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with each of `MODELS`."""
    directory = tmp_path_factory.mktemp("models")
    for name, write in MODELS.items():
        write(directory / name)
    return directory


@pytest.fixture
def page(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, dict]]:
    """`lmc explain` in this process: the page, and what it prints."""

    def call(model: str, *options: str) -> tuple[str, dict]:
        out = tmp_path / "page.html"
        assert main.run(["explain", str(home / model), *options, "--out", str(out), "--json"]) == 0
        return out.read_text(encoding="utf-8"), json.loads(capsys.readouterr().out)

    return call


def opacity(address: str) -> np.ndarray:
    """The opacity of each pixel of an image with a palette, in [0, 1]: [rows, columns]."""
    content = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    width, height, depth, colours = struct.unpack(">2I2B", content[16:26])
    assert (depth, colours) == (8, 3)
    chunks = {}
    place = 8
    while place < len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        name, data = content[place + 4 : place + 8], content[place + 8 : place + 8 + size]
        assert struct.unpack(">I", content[place + 8 + size : place + 12 + size])[0] == zlib.crc32(name + data)
        chunks[name] = data
        place += 12 + size
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert (rows[:, 0] == 0).all()
    return np.frombuffer(chunks[b"tRNS"], np.uint8)[rows[:, 1:]] / 255


def drawn(html: str) -> list[np.ndarray]:
    """The weights in all pictures of a page."""
    found = re.findall(r'class="weights" data-scale="([\d.e-]+)"[^>]*?(?:src|href)="([^"]+)"', html)
    return [float(scale) * opacity(address) for scale, address in found]


@pytest.mark.parametrize("model", CASES)
def test_each_row_of_each_picture_adds_up_to_one(page: Callable, model: str) -> None:
    html, _ = page(model, *CASES[model])
    pictures = drawn(html)
    layers = 6 if model == "marian" else 2
    assert len(pictures) == layers * (1 + 4)  # the mean, and four heads
    for weights in pictures:
        assert weights.sum(axis=1) == pytest.approx(1, abs=weights.shape[1] / 255)


def test_the_pictures_are_the_attentions_of_transformers(home: Path, page: Callable) -> None:
    html, _ = page("marian", *CASES["marian"])
    words = AutoTokenizer.from_pretrained(home / "marian")
    source = words("red green blue", return_tensors="pt")["input_ids"]
    target = torch.tensor([[0, *words("rot grün", add_special_tokens=False)["input_ids"]]])
    reference = MarianMTModel.from_pretrained(home / "marian", attn_implementation="eager").eval()
    with torch.no_grad():
        output = reference(source, decoder_input_ids=target, output_attentions=True)
    expected = []
    for attentions in (output.encoder_attentions, output.decoder_attentions, output.cross_attentions):
        for weights in attentions:
            expected += [weights[0].mean(0).numpy(), *weights[0].numpy()]
    for ours, theirs in zip(drawn(html), expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1 / 255)


@pytest.mark.parametrize("model", CASES)
def test_attributions_add_up_to_the_difference_of_outputs(page: Callable, model: str) -> None:
    html, report = page(model, *CASES[model])
    total = sum(each["attribution"] for part in report["attributions"] for each in part)
    assert total == pytest.approx(report["difference"], rel=0.01)
    assert abs(report["difference"]) > 0.01
    assert f"{total:+.4f} nats" in html


def test_attributions_are_those_of_a_plain_riemann_sum(home: Path, page: Callable) -> None:
    """By `transformers` with embeddings given: many points, one at a time, and nothing of ours."""
    _, report = page("classifier", *CASES["classifier"], "--target", "bad")
    reference: PreTrainedModel = BertForSequenceClassification.from_pretrained(home / "classifier").eval()
    words = AutoTokenizer.from_pretrained(home / "classifier")
    tokens = words("A class of a new object", return_tensors="pt")["input_ids"]
    neutral = torch.where((tokens == words.cls_token_id) | (tokens == words.sep_token_id), tokens, words.mask_token_id)
    layer = reference.bert.embeddings
    with torch.no_grad():
        start, end = layer(neutral), layer(tokens)
    gradient = torch.zeros_like(end)
    for step in range(300):
        point = (start + (step + 0.5) / 300 * (end - start)).requires_grad_()
        state = reference.bert.pooler(reference.bert.encoder(point).last_hidden_state)
        reference.classifier(state).log_softmax(-1)[0, 0].backward()
        gradient += point.grad / 300
    expected = ((end - start) * gradient).sum(-1)[0].tolist()
    assert [each["attribution"] for each in report["attributions"][0]] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("model", "target"), [("bert", "object"), ("bert", "of"), ("answerer", "new object")])
def test_the_target_can_be_named(page: Callable, model: str, target: str) -> None:
    html, report = page(model, *CASES[model], "--target", target)
    assert report["target"] == target
    assert f"“{target}”" in html


def test_the_class_of_a_word_is_the_one_that_classify_finds(home: Path, page: Callable, capsys) -> None:
    text = CASES["tagger"][1]
    assert main.run(["classify", str(home / "tagger"), "--text", text, "--json"]) == 0
    for number, word in enumerate(json.loads(capsys.readouterr().out)["words"], start=1):
        html, report = page("tagger", "--text", text, "--word", str(number))
        assert report["target"] == f"{word['label']} ({word['word']})"
        assert report["probability"] == pytest.approx(word["probability"], abs=1e-5)
        assert f"“{report['target']}”" in html
    other = {"O": "NAME", "NAME": "O"}[word["label"]]
    _, report = page("tagger", "--text", text, "--word", str(number), "--target", other)
    assert report["probability"] == pytest.approx(1 - word["probability"], abs=1e-5)


class Outline(HTMLParser):
    """Elements of a page, and the text that a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_text_stays_text(page: Callable) -> None:
    plain, _ = page("classifier", "--text", "class", "--target", "<b>good</b>")
    hostile, _ = page("classifier", "--text", HOSTILE, "--target", "<b>good</b>")
    for html in (plain, hostile):
        outline = Outline(html)
        assert {"script", "iframe", "object", "link", "form"}.isdisjoint(outline.tags)
        assert "“<b>good</b>”" in outline.text
    assert "script" in Outline(hostile).text


def test_a_page_is_one_file_that_asks_nothing_of_a_network(page: Callable) -> None:
    html, _ = page("marian", *CASES["marian"])
    assert all(address.startswith("data:image/png;base64,") for address in Outline(html).addresses)
    assert "default-src 'none'" in html
    assert "url(" not in html
    assert "@import" not in html


def test_every_picture_has_a_table(page: Callable) -> None:
    html, _ = page("llama", *CASES["llama"])
    tags = Outline(html).tags
    assert tags.count("table") == 1 + 1 + len(drawn(html))  # outputs, attributions
    assert tags.count("svg") == html.count('role="img" aria-label="')


def test_the_page_speaks_the_language_of_the_environment(page: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    chinese, _ = page("llama", *CASES["llama"])
    english, _ = page("llama", *CASES["llama"], "--language", "en")
    assert '<html lang="zh">' in chinese
    assert "注意力并非解释" in chinese
    assert '<html lang="en">' in english
    assert "attention is not explanation" in english


@pytest.mark.parametrize("width", [360, 1200])
def test_a_browser_shows_the_page_without_sideways_scrolling(page: Callable, tmp_path: Path, width: int) -> None:
    html, _ = page("bert", "--text", "The class [MASK] " + "of an object " * 12)
    probe = tmp_path / "probe.html"
    # a frame as wide as a phone: a window of chromium has a least width
    frame = f'<iframe src="page.html" style="width: {width}px; height: 4000px; border: 0"></iframe>'
    script = "onload = () => { const all = frames[0].document.documentElement; document.title = all.scrollWidth - "
    script += "all.clientWidth }"
    probe.write_text(f"<title></title>{frame}<script>{script}</script>")
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
         "--allow-file-access-from-files", f"--window-size={width + 50},900", "--dump-dom", probe.as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert "<title>0</title>" in done.stdout


def test_a_page_of_a_large_model_is_bounded(tmp_path: Path) -> None:
    sizes = {"num_hidden_layers": 20, "num_attention_heads": 16, "num_key_value_heads": 16}
    write_tiny_model(tmp_path, max_position_embeddings=256, **sizes)
    layers, heads = attention(subject(load(str(tmp_path)), "class"))
    assert heads == 320
    assert MOST_HEADS * 0.8 <= sum(len(layer.heads) for layer in layers) <= MOST_HEADS
    assert [layers[0].number, layers[-1].number] == [1, 20]


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ("bert", ("--text", "no place"), "the text has 0 of [MASK]"),
        ("bert", ("--text", "[MASK] [MASK]"), "the text has 2 of [MASK]"),
        ("bert", ("--text", " "), "the text is empty"),
        ("bert", ("--text", "[MASK] " + "class " * 70), "the model reads 64 at once"),
        ("bert", ("--text", "[MASK]", "--target", "several words"), "is not one token of the model"),
        ("bert", ("--text", "[MASK]", "--source", "class"), "--source is not for it"),
        ("bert", ("--text", "\udcff"), "must be UTF-8 text"),
        ("classifier", ("--text", "class", "--target", "other"), "the classes are bad, <b>good</b>"),
        ("answerer", ("--text", "class"), "give --question too"),
        ("answerer", ("--text", " ", "--question", "which?"), "the context is empty"),
        ("answerer", ("--text", "class " * 90, "--question", "which?"), "question and context must have tokens"),
        ("answerer", ("--text", "a class", "--question", "which?", "--target", "lass"), "is no part of the text"),
        ("tagger", ("--text", "class"), "give --word too"),
        ("tagger", ("--text", "A class.", "--word", "4"), "--word 4: the text has 3 words, which count from 1"),
        ("tagger", ("--text", "class", "--word", "1", "--target", "VERB"), "--target VERB: the classes are O, NAME"),
        ("classifier", ("--text", "class", "--word", "1"), "--word is not for it"),
        ("marian", ("--text", "rot"), "give --source too"),
        ("xlnet", ("--text", "[MASK]" + " class" * 130), "a page shows at most 128"),
    ],
)
def test_a_wrong_request_is_one_line_and_no_file(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str, options: tuple[str, ...], said: str
) -> None:
    out = tmp_path / "page.html"
    assert main.run(["explain", str(home / model), *options, "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_written_leaves_the_former_one(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "page.html"
    out.write_text("before")

    def refuse(self: Path, *arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", refuse)
    assert main.run(["explain", str(home / "llama"), *CASES["llama"], "--out", str(out)]) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert out.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert main.run(["explain", str(home / "llama"), *CASES["llama"], "--out", str(tmp_path)]) == 2
    assert "is a directory" in capsys.readouterr().err
