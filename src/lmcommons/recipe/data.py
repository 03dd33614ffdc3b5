"""Where text comes from, what is kept of it, and the splits; and the tokenizer that is trained on it."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lmcommons.recipe.section import Fraction, Positive, Section

TARGET_FIELD = "for sequence-to-sequence: a document is a pair, the text, a tab and what stands in this field"


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
    target_field: str | None = Field(None, description=TARGET_FIELD)
    licence: str = Field(description="SPDX identifier, for documents without a `licence` field of their own")


class Parquet(Section):
    """Parquet files with a text column."""

    type: Literal["parquet"]
    paths: Annotated[list[str], Field(min_length=1)] = Field(
        description="files or glob patterns, relative to the recipe"
    )
    text_field: str = "text"
    target_field: str | None = Field(None, description=TARGET_FIELD)
    licence: str = Field(description="SPDX identifier, for rows without a `licence` column of their own")


class HubDataset(Section):
    """The Parquet, JSONL or text files of a dataset repository on the hub that HF_ENDPOINT names."""

    type: Literal["hub"]
    repository: str = Field(description="namespace/name", pattern=r"^[^/\s]+/[^/\s]+$")
    revision: str = Field("main", description="branch, tag or commit; the resolved recipe records the commit")
    files: str = Field("**/train*.parquet", description="glob of the files to read; by default not the held-out splits")
    text_field: str = "text"
    target_field: str | None = Field(None, description=TARGET_FIELD)
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


class TokenizerRecipe(Section):
    """Byte-level BPE, trained on the train split only."""

    vocab_size: Annotated[int, Field(ge=258, le=1_000_000)] = Field(
        8192, description="tokens, the special ones included"
    )
    chat_template: bool = Field(
        False, description="also add <|user|> and <|assistant|> and a chat template that uses them"
    )
