"""Small random models, with a tokenizer of real text where one is needed, as `transformers` directories."""

import pydoc_data.topics
from pathlib import Path

import torch

from lmcommons import model, tokenizer
from lmcommons.recipe import TokenizerRecipe

TEXTS = list(pydoc_data.topics.topics.values())[:30]
SHAPE = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.4,  # large enough that the model's choices are clear
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def tiny_decoder(**fields: object) -> model.Decoder:
    """A random decoder of a fixed seed; `fields` replace those of `SHAPE`."""
    torch.manual_seed(3)
    return model.Decoder(model.ModelConfig(**SHAPE | fields))


def write_decoder(directory: Path, **fields: object) -> Path:
    """Write `tiny_decoder`."""
    model.save(tiny_decoder(**fields), directory)
    return directory


def write_tiny_model(directory: Path, *, chat_template: bool = False, **fields: object) -> Path:
    """Write `tiny_decoder` and a tokenizer of its 400 tokens."""
    recipe = TokenizerRecipe(vocab_size=SHAPE["vocab_size"], chat_template=chat_template)
    tokenizer.train(TEXTS, recipe, directory)
    return write_decoder(directory, **fields)
