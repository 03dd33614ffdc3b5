"""What a model is, apart from its weights."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from lmcommons.recipe import ModelRecipe, Positive

TokenId = Annotated[int, Field(ge=0)]


class DecoderConfig(ModelRecipe):
    """A recipe's model section with what comes from the tokenizer."""

    vocab_size: Positive
    bos_token_id: TokenId | None
    eos_token_id: TokenId | list[TokenId] | None

    @model_validator(mode="after")
    def _tokens_exist(self) -> Self:
        ends = self.eos_token_id if isinstance(self.eos_token_id, list) else [self.eos_token_id]
        for token in (self.bos_token_id, *ends):
            if token is not None and token >= self.vocab_size:
                raise ValueError(f"special token {token} is not below vocab_size {self.vocab_size}")
        return self
