"""What a model is, apart from its weights."""

from itertools import chain
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lmcommons.recipe import ModelRecipe, Positive

TokenId = Annotated[int, Field(ge=0)]
Task = Literal[
    "language-modelling", "features", "sequence-classification", "token-classification", "question-answering"
]


def as_list(tokens: int | list[int] | None) -> list[int]:
    """Tokens of a field that may name one, several or none."""
    return tokens if isinstance(tokens, list) else [] if tokens is None else [tokens]


class ModelConfig(ModelRecipe):
    """A recipe's model section with what comes from the tokenizer and from the task.

    `labels` are the names of the classes, in the order of the logits. `decoder_start_token_id` is what an
    encoder-decoder's target begins with. A text that the model writes has `forced_bos_token_id` first,
    `forced_eos_token_id` last where it gets too long, and never one of `bad_words_ids`, which are tokens in a row.
    """

    vocab_size: Positive
    bos_token_id: TokenId | None = None
    eos_token_id: TokenId | list[TokenId] | None = None
    pad_token_id: TokenId | None = None
    decoder_start_token_id: TokenId | None = None
    forced_bos_token_id: TokenId | None = None
    forced_eos_token_id: TokenId | list[TokenId] | None = None
    bad_words_ids: list[Annotated[list[TokenId], Field(min_length=1)]] = []  # noqa: RUF012 - pydantic
    task: Task = "language-modelling"
    next_sentence: Annotated[bool, Field(description="also predict whether a segment follows another")] = False
    pooler: Annotated[bool, Field(description="of an encoder for features: with a state for the whole text")] = True
    labels: Annotated[list[str], Field(description="of a classification; at least two")] = []  # noqa: RUF012 - pydantic

    @property
    def pools(self) -> bool:
        """Whether a dense layer stands between the state of a whole text and what is read from it."""
        if self.task == "features":
            return self.kind == "encoder" and self.pooler
        return self.next_sentence or (self.task == "sequence-classification" and self.kind != "decoder")

    @model_validator(mode="after")
    def _tokens_exist(self) -> Self:
        alone = self.bos_token_id, self.pad_token_id, self.decoder_start_token_id, self.forced_bos_token_id
        some = chain.from_iterable([as_list(self.eos_token_id), as_list(self.forced_eos_token_id), *self.bad_words_ids])
        for token in (*alone, *some):
            if token is not None and token >= self.vocab_size:
                raise ValueError(f"special token {token} is not below vocab_size {self.vocab_size}")
        return self

    @model_validator(mode="after")
    def _labels_fit(self) -> Self:
        if self.kind == "encoder-decoder" and self.task != "language-modelling":
            raise ValueError(f"an encoder-decoder has no head for {self.task}; it writes its answers")
        if self.next_sentence and (self.kind != "encoder" or self.task != "language-modelling"):
            raise ValueError(f"next_sentence is for the language modelling of an encoder, not {self.kind}, {self.task}")
        classifies = self.task.endswith("classification")
        if classifies and len(self.labels) < 2:
            raise ValueError(f"task {self.task} needs at least two labels, not {len(self.labels)}")
        if not classifies and self.labels:
            raise ValueError(f"task {self.task} has no labels")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("two labels have the same name")
        return self
