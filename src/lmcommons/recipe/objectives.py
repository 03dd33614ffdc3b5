"""What pretraining minimises, and on what part of a row."""

from typing import Annotated, Literal

from pydantic import Field

from lmcommons.recipe.section import Fraction, Positive, Section

SENTINELS = 100  # the tokens that stand for corrupted spans (Raffel et al. 2020, §3.1.4)

Share = Annotated[float, Field(gt=0, lt=1)]


class CausalLanguageModellingRecipe(Section):
    """Predict every token from those before it: decoders."""

    name: Literal["causal-lm"] = "causal-lm"

    def targets(self, context_length: int) -> int:
        """Places for targets in a row of `context_length` tokens."""
        return context_length


class MaskedLanguageModellingRecipe(Section):
    """Predict hidden tokens from both sides (Devlin et al. 2019): encoders."""

    name: Literal["masked-lm"]
    masked_fraction: Share = Field(
        0.15, description="tokens to predict; of them 80 % become [MASK], 10 % any token, 10 % stay"
    )
    whole_words: bool = Field(False, description="hide all tokens of a word together")
    next_sentence: bool = Field(
        False, description="also predict whether the second of two segments follows the first; half of them do"
    )

    def targets(self, context_length: int) -> int:
        """Places for targets in a row of `context_length` tokens."""
        return max(1, round(self.masked_fraction * context_length))


class SpanCorruptionRecipe(Section):
    """Write the spans that sentinels stand for (Raffel et al. 2020, §3.1.4): encoder-decoders."""

    name: Literal["span-corruption"]
    corrupted_fraction: Share = Field(0.15, description="tokens in corrupted spans")
    mean_span_length: Annotated[float, Field(ge=1)] = Field(3.0, description="tokens")

    def spans(self, length: int) -> tuple[int, int]:
        """How many tokens of a text of `length` are corrupted, and in how many spans."""
        corrupted = max(1, round(length * self.corrupted_fraction))
        return corrupted, min(max(1, round(corrupted / self.mean_span_length)), length - corrupted + 1)

    def text_length(self, context_length: int) -> int:
        """The longest text whose source, the end included, has no more than `context_length` tokens."""
        length = context_length
        while True:
            corrupted, spans = self.spans(length + 1)
            if length + 1 - corrupted + spans + 1 > context_length:
                return length
            length += 1

    def targets(self, context_length: int) -> int:
        """Places for targets in a row of `context_length` tokens: spans, their sentinels, a last one, the end."""
        corrupted, spans = self.spans(self.text_length(context_length))
        return corrupted + spans + 2


class PermutationLanguageModellingRecipe(Section):
    """Predict the last tokens of a random order from those before (Yang et al. 2019): XLNet."""

    name: Literal["permutation-lm"]
    predicted_part: Annotated[int, Field(ge=2)] = Field(6, description="one of so many tokens is predicted: K")
    longest_span: Positive = Field(5, description="tokens to predict that stand beside one another, at most")

    def targets(self, context_length: int) -> int:
        """Places for targets in a row of `context_length` tokens."""
        return context_length // self.predicted_part + 2 * self.longest_span


class SequenceToSequenceRecipe(Section):
    """Write the target of a pair from its source (Vaswani et al. 2017): encoder-decoders.

    A document is a pair: its source, a tab, its target.
    """

    name: Literal["sequence-to-sequence"]
    label_smoothing: Fraction = Field(0.1, description="share of a target's probability that goes to all tokens alike")

    def targets(self, context_length: int) -> int:
        """Places for targets in a row of `context_length` tokens."""
        return context_length


ObjectiveRecipe = Annotated[
    CausalLanguageModellingRecipe
    | MaskedLanguageModellingRecipe
    | SpanCorruptionRecipe
    | PermutationLanguageModellingRecipe
    | SequenceToSequenceRecipe,
    Field(discriminator="name"),
]

# By the kind of model, the objectives that train it; the first is its own unless the family says otherwise.
OBJECTIVES = {
    "decoder": ("causal-lm",),
    "encoder": ("masked-lm",),
    "encoder-decoder": ("span-corruption", "sequence-to-sequence"),
    "permutation": ("permutation-lm",),
}


def default_objective(family: str, kind: str) -> dict[str, str]:
    """The objective of a model whose recipe names none."""
    return {"name": "sequence-to-sequence" if family == "marian" else OBJECTIVES[kind][0]}
