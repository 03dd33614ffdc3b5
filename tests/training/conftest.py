"""A small real dataset, Python's documentation topics, and its tokenizer."""

from pathlib import Path
from pydoc_data.topics import topics

import pytest
from tiny_pretraining import VOCAB_SIZE, write_split

from lmcommons import tokenizer as tokenizers
from lmcommons.recipe import TokenizerRecipe


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every eighth topic is held out."""
    directory = tmp_path_factory.mktemp("dataset")
    texts = [topics[name] for name in sorted(topics)]
    write_split(directory, "train", [text for number, text in enumerate(texts) if number % 8])
    write_split(directory, "validation", texts[::8])
    return directory


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    tokenizers.train(topics.values(), TokenizerRecipe(vocab_size=VOCAB_SIZE), directory)
    return directory
