"""A small model of each objective's own kind, with rows of real text."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch

from lmcommons import tokenizer as tokenizers
from lmcommons.model import Model, build
from lmcommons.recipe import Recipe, TokenizerRecipe
from lmcommons.tokenizer import Tokenizer
from lmcommons.training import objectives
from lmcommons.training.batches import EncodedDocuments, Rows
from lmcommons.training.objectives import Objective
from lmcommons.training.pretraining import model_config

VOCAB_SIZE = 700
CONTEXT = 64
TEXTS = [topics[name] for name in sorted(topics)]
SENTENCES = [line.strip() for text in TEXTS for line in text.split("\n") if 20 < len(line.strip()) < 60]
PAIRS = [text for pair in zip(SENTENCES[::2], SENTENCES[1::2], strict=False) for text in pair]

# name: family, objective
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "causal": ("llama", {"name": "causal-lm"}),
    "masked": ("bert", {"name": "masked-lm"}),
    "whole words": ("bert", {"name": "masked-lm", "whole_words": True}),
    "next sentence": ("bert", {"name": "masked-lm", "next_sentence": True}),
    "span corruption": ("t5", {"name": "span-corruption"}),
    "permutation": ("xlnet", {"name": "permutation-lm"}),
    "sequence to sequence": ("marian", {"name": "sequence-to-sequence"}),
}


@dataclass
class Case:
    """An objective with what it needs."""

    name: str
    recipe: Recipe
    tokenizer: Tokenizer
    objective: Objective
    documents: EncodedDocuments

    def rows(self, seed: int = 0) -> Rows:
        return self.objective.rows(self.documents, CONTEXT, seed)

    def model(self, seed: int = 0) -> Model:
        torch.manual_seed(seed)
        return build(model_config(self.recipe, self.tokenizer))


@cache
def trained_tokenizer(kind: tokenizers.Kind, sentinels: int = 0) -> Tokenizer:
    directory = Path(mkdtemp())
    tokenizers.train(TEXTS, TokenizerRecipe(vocab_size=VOCAB_SIZE), directory, kind=kind, sentinels=sentinels)
    return tokenizers.load(directory)


def encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> EncodedDocuments:
    framed = [tokenizer.frame(ids) for ids in tokenizer.encode_batch(texts)]
    return EncodedDocuments(
        np.concatenate([np.array(ids, np.uint16) for ids in framed]), np.cumsum([0, *map(len, framed)])
    )


def recipe_of(family: str, objective: dict[str, Any]) -> Recipe:
    model = {"family": family, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model |= {} if family == "xlnet" else {"max_position_embeddings": 128}
    return Recipe.model_validate(
        {
            "name": "tiny",
            "data": {"sources": [{"type": "python-docs"}]},
            "tokenizer": {"vocab_size": VOCAB_SIZE},
            "model": {**model, "num_key_value_heads": 2},
            "pretraining": {"context_length": CONTEXT, "objective": objective},
        }
    )


@cache
def case(name: str) -> Case:
    recipe = recipe_of(*CASES[name])
    tokenizer = trained_tokenizer(recipe.model.kind, recipe.sentinels)
    texts = PAIRS if name == "sequence to sequence" else TEXTS
    objective = objectives.build(recipe.pretraining.objective, tokenizer)
    return Case(name, recipe, tokenizer, objective, encoded(tokenizer, texts))
