"""What a model reads of a row and what it is to say, against rows that can be checked by eye."""

from pathlib import Path

import pytest
from tiny_tasks import write_tokenizer

from lmcommons.errors import RequestError
from lmcommons.finetuning import encoding
from lmcommons.finetuning.answering import first_sentence
from lmcommons.finetuning.rows import Split
from lmcommons.generation import foreign_tokenizer
from lmcommons.inference.spans import best_spans
from lmcommons.model import IGNORED


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    return write_tokenizer(tmp_path_factory.mktemp("bert"), "bert")


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory):
    directory = tmp_path_factory.mktemp("llama")
    write_tokenizer(directory, "llama")
    return foreign_tokenizer.read(directory)


def split(*rows: dict) -> Split:
    return Split("test", Path("test.jsonl"), list(rows))


def test_a_pair_has_two_segments_and_is_cut_on_its_longer_side(pieces):
    row = {"text": "class " * 30, "text_pair": "class", "label": 1}
    found = encoding.classification(pieces, split(row), {"0": 0, "1": 1}, limit=16)
    [example] = found.examples
    assert found.cut == 1
    assert len(example.tokens) == 16
    assert pieces.decode(example.tokens).endswith("[SEP] class [SEP]")
    assert example.token_types == [0] * 14 + [1] * 2
    assert example.targets == [1]


def test_a_row_without_the_pair_that_others_have_is_named(pieces):
    rows = split({"text": "a", "text_pair": "b", "label": 0}, {"text": "a", "label": 0})
    with pytest.raises(RequestError, match="row 2: no text_pair"):
        encoding.classification(pieces, rows, {"0": 0}, limit=16)


def test_the_first_token_of_each_word_has_its_label(byte_level):
    words = ["class", "Zygote", "名前", "x"]
    labels = ["A", "B", "A", "B"]
    rows = split({"tokens": words, "labels": labels})
    [example] = encoding.token_classification(byte_level, rows, {"A": 0, "B": 1}, limit=64).examples
    begun = [place for place, target in enumerate(example.targets) if target != IGNORED]
    text, spans = encoding.join(words)
    offsets = byte_level(text, return_offsets_mapping=True)["offset_mapping"]
    assert example.words == [0, 1, 2, 3]
    assert [example.targets[place] for place in begun] == [0, 1, 0, 1]
    for place, word in zip(begun, spans, strict=True):
        assert offsets[place][0] <= word[0] < offsets[place][1]


def test_words_of_scripts_without_spaces_are_joined_without():
    assert encoding.join(["我", "爱", "Python", "语言"])[0] == "我爱 Python 语言"


def test_a_long_context_is_read_in_windows_that_overlap_and_hold_the_answer(pieces):
    context = " ".join(["value"] * 40 + ["class"] + ["name"] * 40)
    start = context.index("class")
    row = {"question": "object", "context": context, "answers": ["class"], "answer_start": [start]}
    found = encoding.question_answering(pieces, split(row), limit=32)
    assert found.cut == 1
    holding = [example for example in found.examples if example.targets != [0, 0]]
    assert 1 <= len(holding) < len(found.examples)
    for example in holding:
        first, last = example.targets
        assert example.spans[first][0] == start
        assert example.spans[last][1] == start + len("class")
    covered = {place for example in found.examples for span in example.spans if span for place in range(*span)}
    assert covered == {place for place, letter in enumerate(context) if letter != " "}


def test_an_answer_that_does_not_stand_where_it_is_said_to_is_named(pieces):
    row = {"question": "q", "context": "one two", "answers": ["two"], "answer_start": [0]}
    with pytest.raises(RequestError, match="row 1: the answer 'two' does not stand in the context at character 0"):
        encoding.question_answering(pieces, split(row), limit=32)


def test_only_the_answer_of_a_prompt_is_predicted(byte_level):
    row = {"source": "class", "target": "name"}
    [example] = encoding.answering(byte_level, split(row), "define {source}:", limit=64, start=None).examples
    assert byte_level.decode(example.tokens[1:]) == "define class:\nname"
    predicted = [target for target in example.targets if target != IGNORED]
    assert predicted == [*byte_level("name", add_special_tokens=False)["input_ids"], byte_level.eos_token_id]
    assert example.targets[-len(predicted) :] == predicted
    assert len(example.targets) == len(example.tokens)


def test_an_encoder_decoder_reads_the_target_one_token_behind(pieces):
    row = {"source": "class", "target": "name value"}
    [example] = encoding.answering(pieces, split(row), "{source}", limit=64, start=7).examples
    assert pieces.decode(example.tokens) == "[CLS] class [SEP]"
    assert example.target_tokens == [7, *example.targets[:-1]]
    assert example.targets[-1] == pieces.sep_token_id


def test_a_long_prompt_keeps_what_ends_it(byte_level):
    row = {"source": "class " * 50, "target": "name"}
    found = encoding.answering(byte_level, split(row), "{source}", limit=32, start=None)
    assert found.cut == 1
    [example] = found.examples
    assert len(example.tokens) + 1 == 32
    assert byte_level.decode(example.tokens).endswith("\nname")


def test_only_what_the_assistant_wrote_is_predicted_to_the_end_of_its_turn(byte_level):
    messages = [
        {"role": "user", "content": "name"},
        {"role": "assistant", "content": "value"},
        {"role": "user", "content": "class"},
        {"role": "assistant", "content": "object"},
    ]
    [example] = encoding.chat(byte_level, split({"messages": messages}), limit=128).examples
    written = byte_level.decode([target for target in example.targets if target != IGNORED])
    whole = byte_level.apply_chat_template(messages, tokenize=False)
    first = byte_level.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    end = byte_level.apply_chat_template(messages[:2], tokenize=False)[len(first) + len("value") :]
    assert written == f"value{end}object{end}"
    assert byte_level.decode(example.tokens) == byte_level.decode(
        byte_level(whole, add_special_tokens=False)["input_ids"][:-1]
    )


def test_the_best_span_lies_in_the_context_and_goes_forward():
    import torch

    logits = torch.tensor([[9.0, 0.0], [0.0, 9.0], [5.0, 0.0], [0.0, 0.0], [0.0, 4.0]])
    spans = [None, (0, 2), (2, 4), (4, 6), (6, 8)]
    [(score, start, stop)] = best_spans(logits, spans)
    assert (score, start, stop) == (9.0, 0, 2)
    assert best_spans(logits, spans, longest=1)[0][1:] == (0, 2)
    assert best_spans(logits[2:], spans[2:])[0][1:] == (2, 8)
    assert best_spans(logits, [None] * 5) == []


@pytest.mark.parametrize(
    ("text", "first"), [("A b. C d.", "A b."), ("你好。再见。", "你好。"), ("one\ntwo", "one"), ("3.5 is", "3.5 is")]
)
def test_the_first_sentence_ends_at_its_mark(text, first):
    assert first_sentence(text) == first
