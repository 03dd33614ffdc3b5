"""Each kind of model has the special tokens that it needs, and `transformers` puts the same ones around a text."""

from pathlib import Path
from pydoc_data.topics import topics

import pytest
from transformers import AutoTokenizer

from lmcommons.errors import RequestError
from lmcommons.recipe import TokenizerRecipe
from lmcommons.tokenizer import Kind, load, train

TEXTS = [topics[name] for name in sorted(topics)][:40]
KINDS: dict[Kind, tuple[list[str], list[str]]] = {
    "decoder": (["<|endoftext|>", "A"], ["<|endoftext|>", "A", "<|endoftext|>", "B"]),
    "encoder": (["[CLS]", "A", "[SEP]"], ["[CLS]", "A", "[SEP]", "B", "[SEP]"]),
    "encoder-decoder": (["A", "</s>"], ["A", "</s>", "B", "</s>"]),
    "permutation": (["A", "[SEP]", "[CLS]"], ["A", "[SEP]", "B", "[SEP]", "[CLS]"]),
}


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Kind, Path]:
    kind: Kind = request.param
    directory = tmp_path_factory.mktemp(kind)
    train(TEXTS, TokenizerRecipe(vocab_size=600), directory, kind=kind, sentinels=5 * (kind == "encoder-decoder"))
    return kind, directory


def test_transformers_puts_the_same_tokens_around_a_text_and_a_pair(trained: tuple[Kind, Path]) -> None:
    kind, directory = trained
    ours, theirs = load(directory), AutoTokenizer.from_pretrained(directory)
    single, pair = KINDS[kind]
    text = "A text of some tokens."
    assert theirs(text).input_ids == ours.frame(ours.encode(text))
    assert theirs.convert_ids_to_tokens(theirs("A").input_ids) == single
    assert theirs.convert_ids_to_tokens(theirs("A", "B").input_ids) == pair
    if kind in ("encoder", "permutation"):
        types = theirs("A", "B").token_type_ids
        assert types == ([0, 0, 0, 1, 1] if kind == "encoder" else [0, 0, 1, 1, 2])


def test_transformers_knows_the_roles_of_the_special_tokens(trained: tuple[Kind, Path]) -> None:
    _, directory = trained
    ours, theirs = load(directory), AutoTokenizer.from_pretrained(directory)
    for role in ("eos", "pad", "cls", "sep", "mask"):
        assert getattr(ours, f"{role}_token_id") == getattr(theirs, f"{role}_token_id")
    assert theirs.pad_token_id == 0


def test_a_mask_takes_the_space_before_it(tmp_path: Path) -> None:
    train(TEXTS, TokenizerRecipe(vocab_size=600), tmp_path, kind="encoder")
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    masked = theirs("a [MASK] b", add_special_tokens=False).input_ids
    assert theirs.convert_ids_to_tokens(masked) == ["a", "[MASK]", "Ġb"]


def test_sentinels_are_counted_from_0(trained: tuple[Kind, Path]) -> None:
    kind, directory = trained
    words = load(directory)
    names = [words.decode([token]) for token in words.sentinel_ids]
    assert names == [f"<extra_id_{place}>" for place in range(5 if kind == "encoder-decoder" else 0)]


def test_a_token_that_is_not_there_is_named(tmp_path: Path) -> None:
    train(TEXTS, TokenizerRecipe(vocab_size=600), tmp_path)
    with pytest.raises(RequestError, match="the tokenizer has no mask_token"):
        load(tmp_path).required("mask")


def test_a_vocabulary_without_room_for_all_bytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="vocab_size: 300 has no room for 256 bytes and 102 special tokens"):
        train(TEXTS, TokenizerRecipe(vocab_size=300), tmp_path / "t", kind="encoder-decoder", sentinels=100)
    assert not (tmp_path / "t").exists()
