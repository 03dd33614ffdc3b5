"""The typed recipe: one source of names, defaults, units and validation errors for every stage.

A recipe is one YAML file; each section below configures one stage and nothing is configured anywhere else.
`load` reads a file and raises `RequestError` with one line that names the wrong field. Imports nothing of the house.
"""

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lmcommons.errors import RequestError

REPOSITORY_NAME = r"^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?$"

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """A part of a recipe: unknown fields and wrong types are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


# ---------------------------------------------------------------- data


class TextFiles(Section):
    """Plain UTF-8 text files; one document each, or split at `document_separator`."""

    type: Literal["text"]
    paths: Annotated[list[str], Field(min_length=1)] = Field(
        description="files or glob patterns, relative to the recipe"
    )
    document_separator: str | None = Field(None, description="text that separates documents inside a file")
    licence: str = Field(description="SPDX identifier of the text's licence, such as CC-BY-SA-4.0")


class JsonLines(Section):
    """JSONL files: one JSON object a line."""

    type: Literal["jsonl"]
    paths: Annotated[list[str], Field(min_length=1)] = Field(
        description="files or glob patterns, relative to the recipe"
    )
    text_field: str = "text"
    licence: str = Field(description="SPDX identifier, for documents without a `licence` field of their own")


class Parquet(Section):
    """Parquet files with a text column."""

    type: Literal["parquet"]
    paths: Annotated[list[str], Field(min_length=1)] = Field(
        description="files or glob patterns, relative to the recipe"
    )
    text_field: str = "text"
    licence: str = Field(description="SPDX identifier, for rows without a `licence` column of their own")


class HubDataset(Section):
    """The Parquet, JSONL or text files of a dataset repository on the hub that HF_ENDPOINT names."""

    type: Literal["hub"]
    repository: str = Field(description="namespace/name", pattern=r"^[^/\s]+/[^/\s]+$")
    revision: str = Field("main", description="branch, tag or commit; the resolved recipe records the commit")
    files: str = Field("**/train*.parquet", description="glob of the files to read; by default not the held-out splits")
    text_field: str = "text"
    licence: str | None = Field(
        None, description="SPDX identifier; None: each document's own, else the repository card's"
    )


class PythonDocs(Section):
    """CPython's documentation topics and the standard library's docstrings, read from the running interpreter."""

    type: Literal["python-docs"]


Source = Annotated[TextFiles | JsonLines | Parquet | HubDataset | PythonDocs, Field(discriminator="type")]


class FilterRecipe(Section):
    """What is kept; every removed document is counted under the field that removed it."""

    min_characters: Positive = Field(80, description="characters of a document after normalisation")
    max_characters: Positive = Field(2_000_000, description="characters of a document after normalisation")
    min_letter_fraction: Fraction = Field(0.4, description="letters (any script) and spaces among the characters")
    max_control_fraction: Fraction = Field(
        0.001, description="control and replacement characters: binary or wrong encoding"
    )
    max_repeated_line_fraction: Fraction = Field(
        0.5, description="characters in lines that occurred before in the document"
    )


class DeduplicateRecipe(Section):
    """Exact duplicates by hash of the normalised text; near duplicates by MinHash over word shingles."""

    exact: bool = True
    near: bool = True
    near_threshold: Annotated[float, Field(gt=0, le=1)] = Field(0.8, description="Jaccard similarity of shingle sets")
    shingle_size: Positive = Field(5, description="words (for Chinese, Japanese, Thai: characters) in a shingle")
    permutations: Positive = Field(112, description="hash functions of a signature, split into bands for the lookup")


class SplitRecipe(Section):
    """Documents go to a split by the hash of their text, never by position; the rest is the train split."""

    validation: Fraction = 0.05
    test: Fraction = 0.05

    @model_validator(mode="after")
    def _leaves_a_train_split(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation + test is {self.validation + self.test:g}: nothing is left to train on")
        if self.validation == 0 or self.test == 0:
            raise ValueError("validation and test must be above 0: a model is measured on text it was not trained on")
        return self


class DataRecipe(Section):
    """From sources to a dataset with train, validation and test splits."""

    sources: Annotated[list[Source], Field(min_length=1)]
    unicode_form: Literal["NFC", "NFKC", "none"] = "NFC"
    filters: FilterRecipe = FilterRecipe()
    deduplicate: DeduplicateRecipe = DeduplicateRecipe()
    split: SplitRecipe = SplitRecipe()
    overlap_ngram: Positive = Field(
        13, description="words; a test or validation document that shares one with train is removed"
    )


# ---------------------------------------------------------------- tokenizer and model


class TokenizerRecipe(Section):
    """Byte-level BPE, trained on the train split only."""

    vocab_size: Annotated[int, Field(ge=258, le=1_000_000)] = Field(
        8192, description="tokens, the special ones included"
    )
    chat_template: bool = Field(
        False, description="also add <|user|> and <|assistant|> and a chat template that uses them"
    )


class ModelRecipe(Section):
    """A decoder of the Llama family; the vocabulary comes from the tokenizer. Names as in `transformers`."""

    hidden_size: Positive = 256
    intermediate_size: Positive = Field(704, description="width of the SwiGLU feed-forward")
    num_hidden_layers: Positive = 6
    num_attention_heads: Positive = 4
    num_key_value_heads: Positive = Field(2, description="below num_attention_heads: grouped-query attention")
    max_position_embeddings: Positive = Field(1024, description="tokens")
    rope_theta: Annotated[float, Field(gt=0)] = 10_000.0
    rms_norm_eps: Annotated[float, Field(gt=0)] = 1e-5
    tie_word_embeddings: bool = True
    initializer_range: Annotated[float, Field(gt=0)] = Field(0.02, description="standard deviation of initial weights")

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not divisible by num_attention_heads {self.num_attention_heads}"
            )
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not divisible by "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        if self.head_dim % 2:
            raise ValueError(
                f"hidden_size / num_attention_heads is {self.head_dim}: rotary positions need an even head size"
            )
        return self

    def parameters(self, vocab_size: int) -> int:
        """How many weights the model has with a vocabulary of `vocab_size` tokens."""
        key_value = self.num_key_value_heads * self.head_dim
        attention = 2 * self.hidden_size * self.hidden_size + 2 * self.hidden_size * key_value
        layer = attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size
        embeddings = vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)
        return self.num_hidden_layers * layer + self.hidden_size + embeddings


# ---------------------------------------------------------------- pretraining


class OptimizerRecipe(Section):
    """AdamW (Loshchilov & Hutter 2019), or Muon (Jordan et al. 2024) for the hidden matrices and AdamW for the rest."""

    name: Literal["adamw", "muon"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0)] = Field(3e-3, description="peak, of AdamW")
    muon_learning_rate: Annotated[float, Field(gt=0)] = Field(2e-2, description="peak, of Muon; unused by adamw")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.1, description="decoupled; matrices only, not norms")
    beta1: Fraction = 0.9
    beta2: Fraction = 0.95
    epsilon: Annotated[float, Field(gt=0)] = 1e-8


class ScheduleRecipe(Section):
    """Warm-up, then cosine decay, or constant with a linear decay at the end (WSD)."""

    name: Literal["cosine", "wsd"] = "cosine"
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    decay_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="share of the steps that WSD decays in"
    )
    final_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="last learning rate as a share of the peak"
    )


class PretrainingRecipe(Section):
    """Causal language modelling on packed sequences."""

    context_length: Positive = Field(256, description="tokens of a packed sequence")
    batch_size: Positive = Field(16, description="sequences of an optimiser step")
    gradient_accumulation: Positive = Field(
        1, description="parts that a batch is computed in; lower memory, same result"
    )
    steps: Positive = Field(1000, description="optimiser steps")
    optimizer: OptimizerRecipe = OptimizerRecipe()
    schedule: ScheduleRecipe = ScheduleRecipe()
    gradient_clip: Annotated[float, Field(gt=0)] = Field(1.0, description="largest norm of the gradient")
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="auto: bfloat16 where the processor has it"
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="torch.compile; auto: when the run is long enough to repay it"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    evaluation_interval: Positive = Field(100, description="steps between losses on the validation split")
    checkpoint_interval: Positive = Field(100, description="steps between checkpoints")

    @model_validator(mode="after")
    def _steps_add_up(self) -> Self:
        if self.batch_size % self.gradient_accumulation:
            raise ValueError(
                f"batch_size {self.batch_size} is not divisible by gradient_accumulation {self.gradient_accumulation}"
            )
        if self.schedule.warmup_steps >= self.steps:
            raise ValueError(f"schedule.warmup_steps {self.schedule.warmup_steps} is not below steps {self.steps}")
        return self


# ---------------------------------------------------------------- evaluation and publishing


class EvaluationRecipe(Section):
    """Loss, perplexity and bits per byte on the test split, beside compressors and n-gram models on the same text."""

    bootstrap_samples: Positive = Field(2000, description="resamples of the documents for the 95 % interval")
    baselines: list[Literal["xz", "unigram", "5-gram"]] = ["xz", "unigram", "5-gram"]
    samples: Annotated[int, Field(ge=0, le=20)] = Field(
        3, description="generated texts shown in the card, at fixed seeds"
    )
    prompt: str = Field("", description="what the samples begin with; empty: the beginning of a document")


class PublishingRecipe(Section):
    """Where the results go on the hub that HF_ENDPOINT names, with HF_TOKEN."""

    namespace: str | None = Field(
        None, description="user or organisation; None: the owner of HF_TOKEN", pattern=REPOSITORY_NAME
    )
    dataset: str | None = Field(
        None, description="name of the dataset repository; None: NAME-data", pattern=REPOSITORY_NAME
    )
    model: str | None = Field(None, description="name of the model repository; None: NAME", pattern=REPOSITORY_NAME)
    private: bool = False
    licence: str = Field("apache-2.0", description="licence of the model's weights, as the card states it")
    language: list[str] = Field(["en"], description="BCP 47 codes for the cards")


class Provenance(Section):
    """What a resolved recipe was run with. Written by `lmc` beside every result; not an input."""

    inputs: str = Field(description="sha256 of the content of all data sources")
    dataset: str | None = Field(None, description="namespace/name@commit of the published dataset")
    stages: dict[str, str] = Field(description="stage: sha256 of everything that it depends on")
    environment: dict[str, Any] = Field(description="versions, processor, threads, memory in bytes")


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

    @model_validator(mode="after")
    def _context_fits(self) -> Self:
        context, positions = self.pretraining.context_length, self.model.max_position_embeddings
        if context > positions:
            raise ValueError(f"pretraining.context_length {context} is above model.max_position_embeddings {positions}")
        return self

    @property
    def tokens(self) -> int:
        """Tokens that pretraining reads."""
        return self.pretraining.steps * self.pretraining.batch_size * self.pretraining.context_length

    def training_memory(self) -> int:
        """Bytes that a training step needs at least: weights, gradients, two optimiser moments, activations, logits.

        A lower bound (Korthikanti et al. 2022, §4, without recomputation, two bytes a value): a recipe above the
        machine's memory by this count cannot run.
        """
        tokens = self.pretraining.batch_size // self.pretraining.gradient_accumulation * self.pretraining.context_length
        layer = 2 * (8 * self.model.hidden_size + 3 * self.model.intermediate_size)
        logits = 6 * self.tokenizer.vocab_size
        return 16 * self.model.parameters(self.tokenizer.vocab_size) + tokens * (
            self.model.num_hidden_layers * layer + logits
        )


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


# ---------------------------------------------------------------- reading


class _Loader(yaml.SafeLoader):
    """YAML 1.2 numbers (3e-4 is a number) and no repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"field {key.value!r} stands twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def parse(text: str, name: str = "recipe") -> Recipe:
    """Read a recipe from YAML text; `name` stands for the file in messages.

    Raises:
        RequestError: one line with the file, the line, the field and what would be right.
    """
    try:
        value = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
        tree = yaml.compose(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RequestError(f"{name}{line}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise RequestError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise RequestError(
            f"{name}: a recipe is a mapping of fields (name, data, model, …), not {type(value).__name__}"
        )
    try:
        return Recipe.model_validate(value)
    except ValidationError as error:
        raise RequestError(_one_line(error, name, tree)) from error


def load(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        RequestError: the file is absent, is not UTF-8, or is not a recipe; one line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such recipe file") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror}") from error
    return parse(text, str(path))


def dump(recipe: Recipe) -> str:
    """The recipe with every default written out, as YAML."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)


def _one_line(error: ValidationError, name: str, tree: yaml.Node | None) -> str:
    first, *others = error.errors(include_url=False)
    path = [str(part) for part in first["loc"]]
    if path[:2] == ["data", "sources"] and len(path) > 3:
        del path[3]  # the discriminator's value, which is no field of the file
    if first["type"] == "extra_forbidden":
        known = _fields_at(path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        message = f"unknown field; {hint}"
    elif first["type"] == "value_error":
        message = str(first["ctx"]["error"])
    elif first["type"] == "missing":
        message = "is required"
    else:
        given = first.get("input")
        message = first["msg"][0].lower() + first["msg"][1:]
        if isinstance(given, str | int | float | bool):
            message += f", not {given!r}"
    field = ".".join(path) or "recipe"
    more = f" (and {len(others)} more)" if others else ""
    return f"{name}{_line_of(tree, path)}: {field}: {message}{more}"


def _line_of(node: yaml.Node | None, path: list[str]) -> str:
    """`:LINE` of the deepest node that `path` reaches."""
    if node is None:
        return ""
    line = node.start_mark.line
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == part]
            if not found:
                break
            line, node = found[0][0].start_mark.line, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line
        else:
            break
    return f":{line + 1}"


def _fields_at(path: list[str]) -> list[str]:
    """The names of the fields of the section that `path` reaches."""
    schema = Recipe.model_json_schema()
    definitions = schema["$defs"]
    here: list[dict[str, Any]] = [schema]
    for part in path:
        deeper: list[dict[str, Any]] = []
        for section in here:
            value = (
                section["items"]
                if part.isdigit() and "items" in section
                else section.get("properties", {}).get(part, {})
            )
            for choice in [value, *value.get("oneOf", []), *value.get("anyOf", [])]:
                name = choice.get("$ref", "").rsplit("/", 1)[-1]
                deeper.append(definitions.get(name, choice))
        here = deeper
    return sorted({name for section in here for name in section.get("properties", {})})
