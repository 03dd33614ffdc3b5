"""The whole recipe, and whether it fits into memory."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from lmcommons.errors import RequestError
from lmcommons.recipe.data import DataRecipe, TokenizerRecipe
from lmcommons.recipe.model import FAMILIES, ModelRecipe
from lmcommons.recipe.objectives import (
    OBJECTIVES,
    SENTINELS,
    MaskedLanguageModellingRecipe,
    SpanCorruptionRecipe,
    default_objective,
)
from lmcommons.recipe.results import EvaluationRecipe, Provenance, PublishingRecipe
from lmcommons.recipe.section import REPOSITORY_NAME, Section
from lmcommons.recipe.training import PretrainingRecipe


class Recipe(Section):
    """Everything that makes a model, from text to published repository."""

    name: str = Field(
        pattern=REPOSITORY_NAME, description="names the run's directory and, unless said otherwise, its repositories"
    )
    description: str = Field("", description="one sentence for the cards")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    data: DataRecipe
    tokenizer: TokenizerRecipe = TokenizerRecipe()
    model: ModelRecipe = ModelRecipe()
    pretraining: PretrainingRecipe = PretrainingRecipe()
    evaluation: EvaluationRecipe = EvaluationRecipe()
    publishing: PublishingRecipe | None = Field(None, description="None: nothing is published")
    provenance: Provenance | None = Field(None, description="written by lmc into resolved recipes; ignored when read")

    @model_validator(mode="before")
    @classmethod
    def _with_an_objective(cls, given: Any) -> Any:
        """A model that the file describes is trained with its family's objective, unless the file names one."""
        model, pretraining = (
            given.get(name, {}) if isinstance(given, dict) else None for name in ("model", "pretraining")
        )
        if not isinstance(model, dict) or not isinstance(pretraining, dict) or "objective" in pretraining:
            return given
        family = model.get("family", "llama")
        if not isinstance(family, str) or family not in FAMILIES:
            return given
        kind = model.get("kind", FAMILIES[family].get("kind", "decoder"))
        if not isinstance(kind, str) or kind not in OBJECTIVES:
            return given
        return {**given, "pretraining": {**pretraining, "objective": default_objective(family, kind)}}

    @model_validator(mode="after")
    def _context_fits(self) -> Self:
        context, positions = self.pretraining.context_length, self.model.max_position_embeddings
        if positions and context > positions:
            raise ValueError(f"pretraining.context_length {context} is above model.max_position_embeddings {positions}")
        return self

    @model_validator(mode="after")
    def _objective_fits(self) -> Self:
        objective, model, context = self.pretraining.objective, self.model, self.pretraining.context_length
        right = OBJECTIVES[model.kind]
        if objective.name not in right:
            raise ValueError(
                f"pretraining.objective.name {objective.name} does not train model.kind {model.kind} "
                f"(model.family {model.family}); {' or '.join(right)} does"
            )
        if isinstance(objective, MaskedLanguageModellingRecipe) and objective.next_sentence:
            if model.type_vocab_size < 2:
                raise ValueError("pretraining.objective.next_sentence needs model.type_vocab_size 2 or more")
            if context < 6:
                raise ValueError(f"pretraining.context_length {context} has no room for two segments; give 6 or more")
        if isinstance(objective, SpanCorruptionRecipe):
            _, spans = objective.spans(objective.text_length(context))
            if spans >= SENTINELS:
                raise ValueError(
                    f"pretraining.objective: {spans} spans in a row and only {SENTINELS - 1} sentinels for them; raise "
                    "mean_span_length or lower context_length"
                )
        if self.tokenizer.chat_template and model.kind != "decoder":
            raise ValueError(f"tokenizer.chat_template is for decoders, and model.kind is {model.kind}")
        return self

    @model_validator(mode="after")
    def _benchmark_fits(self) -> Self:
        if self.publishing and self.publishing.benchmark and self.model.kind != "decoder":
            raise ValueError(
                f"publishing.benchmark needs a decoder, and model.kind is {self.model.kind}: only bits per byte can be "
                "compared between vocabularies"
            )
        return self

    @property
    def sentinels(self) -> int:
        """Tokens of the vocabulary that stand for corrupted spans."""
        return SENTINELS if self.pretraining.objective.name == "span-corruption" else 0

    @property
    def tokens(self) -> int:
        """Tokens that pretraining reads."""
        return self.pretraining.steps * self.pretraining.batch_size * self.pretraining.context_length

    def training_memory(self) -> int:
        """Bytes that a training step needs at least: weights, gradients, two optimiser moments, activations, logits.

        A lower bound (Korthikanti et al. 2022, §4, two bytes a value; of layers that are computed again only what they
        read, of logits nothing where they need not be whole): a recipe above the machine's memory by this count cannot
        run.
        """
        model, pretraining, vocab_size = self.model, self.pretraining, self.tokenizer.vocab_size
        context = pretraining.context_length
        targets = pretraining.objective.targets(context)
        attention, layer = 8 * model.hidden_size, 8 * model.hidden_size + 3 * model.intermediate_size
        if pretraining.gradient_checkpointing:
            attention, layer = 0, model.hidden_size
        logits = 6 * vocab_size * targets if pretraining.loss == "plain" else 0
        match model.kind:
            case "encoder-decoder":
                values = context * model.num_encoder_layers * layer
                values += targets * model.num_hidden_layers * (layer + attention)
            case "permutation":
                values = (context + targets) * model.num_hidden_layers * layer
            case _:
                values = context * model.num_hidden_layers * layer
        rows = pretraining.batch_size // pretraining.gradient_accumulation
        return 16 * model.parameters(vocab_size) + rows * (2 * values + logits)


def check_memory(recipe: Recipe, available: int) -> None:
    """Refuse a recipe whose training step cannot fit into `available` bytes.

    Raises:
        RequestError: one line that names the field to lower.
    """
    needed = recipe.training_memory()
    if needed > available:
        raise RequestError(
            f"pretraining.batch_size: a step needs at least {needed / 2**30:.1f} GiB and this machine has "
            f"{available / 2**30:.1f}; lower batch_size or raise gradient_accumulation"
        )
