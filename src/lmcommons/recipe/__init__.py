"""The typed recipe: one source of names, defaults, units and validation errors for every stage.

A recipe is one YAML file; each section configures one stage and nothing is configured anywhere else. `recipe` is the
place to begin; the sections are in `data`, `model`, `training` and `results`; `finetuning` has the second kind
of recipe; `reading` reads a file and raises
`RequestError` with one line that names the wrong field. Imports nothing of the house.
"""

from lmcommons.recipe.data import (
    DataRecipe,
    DeduplicateRecipe,
    FilterRecipe,
    HubDataset,
    JsonLines,
    Parquet,
    PythonDocs,
    Source,
    SplitRecipe,
    TextFiles,
    TokenizerRecipe,
)
from lmcommons.recipe.finetuning import (
    COLUMNS,
    FinetuningRecipe,
    FinetuningTask,
    LoraMethod,
    TaskDataRecipe,
    TaskRecipe,
)
from lmcommons.recipe.model import FAMILIES, Family, ModelRecipe
from lmcommons.recipe.objectives import (
    CausalLanguageModellingRecipe,
    MaskedLanguageModellingRecipe,
    ObjectiveRecipe,
    PermutationLanguageModellingRecipe,
    SequenceToSequenceRecipe,
    SpanCorruptionRecipe,
)
from lmcommons.recipe.reading import dump, load, load_any, load_task, parse
from lmcommons.recipe.recipe import Recipe, check_memory
from lmcommons.recipe.results import EvaluationRecipe, Provenance, PublishingRecipe
from lmcommons.recipe.section import Fraction, Positive, Section
from lmcommons.recipe.training import OptimizerRecipe, ParallelismRecipe, PretrainingRecipe, ScheduleRecipe

__all__ = [
    "COLUMNS",
    "FAMILIES",
    "CausalLanguageModellingRecipe",
    "DataRecipe",
    "DeduplicateRecipe",
    "EvaluationRecipe",
    "Family",
    "FilterRecipe",
    "FinetuningRecipe",
    "FinetuningTask",
    "Fraction",
    "HubDataset",
    "JsonLines",
    "LoraMethod",
    "MaskedLanguageModellingRecipe",
    "ModelRecipe",
    "ObjectiveRecipe",
    "OptimizerRecipe",
    "ParallelismRecipe",
    "Parquet",
    "PermutationLanguageModellingRecipe",
    "Positive",
    "PretrainingRecipe",
    "Provenance",
    "PublishingRecipe",
    "PythonDocs",
    "Recipe",
    "ScheduleRecipe",
    "Section",
    "SequenceToSequenceRecipe",
    "Source",
    "SpanCorruptionRecipe",
    "SplitRecipe",
    "TaskDataRecipe",
    "TaskRecipe",
    "TextFiles",
    "TokenizerRecipe",
    "check_memory",
    "dump",
    "load",
    "load_any",
    "load_task",
    "parse",
]
