"""How a model is measured and published, and what a resolved recipe was run with."""

from typing import Annotated, Any, Literal

from pydantic import Field

from lmcommons.recipe.section import REPOSITORY_NAME, Positive, Section


class EvaluationRecipe(Section):
    """Loss, perplexity and bits per byte on the test split, beside compressors and n-gram models on the same text."""

    bootstrap_samples: Positive = Field(2000, description="resamples of the documents for the 95 % interval")
    baselines: list[Literal["xz", "unigram", "5-gram"]] = Field(
        ["xz", "unigram", "5-gram"], description="what the same text is measured with beside the model"
    )
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
    report_progress: bool = Field(
        False, description="show the run on the page of the model's repository while it trains"
    )
    licence: str = Field("apache-2.0", description="licence of the model's weights, as the card states it")
    benchmark: bool = Field(
        False, description="the dataset declares bits per byte on its test split, for which the hub keeps a leaderboard"
    )
    language: list[str] = Field(["en"], description="BCP 47 codes for the cards")


class Provenance(Section):
    """What a resolved recipe was run with. Written by `lmc` beside every result; not an input."""

    inputs: str = Field(description="sha256 of the content of all data sources")
    dataset: str | None = Field(None, description="namespace/name@commit of the published dataset")
    stages: dict[str, str] = Field(description="stage: sha256 of everything that it depends on")
    environment: dict[str, Any] = Field(description="versions, processor, threads, memory in bytes")
