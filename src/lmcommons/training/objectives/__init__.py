"""What is minimised: one module for each objective, from documents to rows, and from a batch of rows to a loss.

`objective` is the place to begin: the class that the training loop calls; `build` makes the one that a recipe names.
`segments`, `next_sentence` and `words` are what rows are made with. Uses model, tokenizer and `training.batches`.
"""

from lmcommons.recipe import (
    CausalLanguageModellingRecipe,
    MaskedLanguageModellingRecipe,
    ObjectiveRecipe,
    PermutationLanguageModellingRecipe,
    SequenceToSequenceRecipe,
    SpanCorruptionRecipe,
)
from lmcommons.tokenizer import Tokenizer
from lmcommons.training.objectives.causal import CausalLanguageModelling
from lmcommons.training.objectives.masked import MaskedLanguageModelling
from lmcommons.training.objectives.objective import Objective
from lmcommons.training.objectives.permutation import PermutationLanguageModelling
from lmcommons.training.objectives.sequence_to_sequence import SequenceToSequence
from lmcommons.training.objectives.span_corruption import SpanCorruption

__all__ = [
    "CausalLanguageModelling",
    "MaskedLanguageModelling",
    "Objective",
    "PermutationLanguageModelling",
    "SequenceToSequence",
    "SpanCorruption",
    "build",
]


def build(recipe: ObjectiveRecipe, tokenizer: Tokenizer) -> Objective:
    """The objective that `recipe` describes, for documents that `tokenizer` encoded."""
    match recipe:
        case CausalLanguageModellingRecipe():
            return CausalLanguageModelling()
        case MaskedLanguageModellingRecipe():
            return MaskedLanguageModelling(recipe, tokenizer)
        case SpanCorruptionRecipe():
            return SpanCorruption(recipe, tokenizer)
        case PermutationLanguageModellingRecipe():
            return PermutationLanguageModelling(recipe, tokenizer)
        case SequenceToSequenceRecipe():
            return SequenceToSequence(recipe, tokenizer)
