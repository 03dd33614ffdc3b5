"""The pipeline of a data recipe: sources, steps, splits, files and the report of what every step kept."""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lmcommons.data import dataset, hub_dataset, sources
from lmcommons.data.deduplicate import ExactDuplicates, NearDuplicates
from lmcommons.data.filters import Filter, Normalise
from lmcommons.data.split import Overlap, split_of
from lmcommons.data.step import Counts, Document, Step
from lmcommons.errors import CommandError, RequestError
from lmcommons.files import atomic_directory, sha256_file, write_json
from lmcommons.progress import Task, task
from lmcommons.recipe import DataRecipe, HubDataset, PythonDocs


def resolve(recipe: DataRecipe, base: Path) -> DataRecipe:
    """The recipe with every hub revision as the commit it means now, and every pattern checked to match a file.

    Raises:
        RequestError, CommandError: as `sources.documents`.
    """
    resolved = []
    for source in recipe.sources:
        if isinstance(source, HubDataset):
            source = source.model_copy(update={"revision": hub_dataset.commit_of(source)})
        elif not isinstance(source, PythonDocs):
            sources.files(source, base)
        resolved.append(source)
    return recipe.model_copy(update={"sources": resolved})


def fingerprint(recipe: DataRecipe, base: Path) -> str:
    """A sha256 (64 hexadecimal digits) of the recipe and of the content of everything that it reads.

    Files count by name and content, hub datasets by commit, the Python documentation by the interpreter's version.
    """
    recipe = resolve(recipe, base)
    inputs: list[Any] = [recipe.model_dump(mode="json")]
    for source in recipe.sources:
        if isinstance(source, PythonDocs):
            inputs.append(sys.version)
        elif not isinstance(source, HubDataset):
            inputs += [_content(path, base) for path in sources.files(source, base)]
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _content(path: Path, base: Path) -> tuple[str, str]:
    name = sources.display_name(path, base)
    try:
        return name, sha256_file(path)
    except OSError as error:
        raise RequestError(f"{name}: cannot be read: {error.strerror}") from error


def build(recipe: DataRecipe, base: Path, out: Path) -> dict[str, Any]:
    """Run the pipeline and write the dataset directory `out`: three Parquet files and `report.json`.

    Memory grows with the held-out documents and with one signature a document, not with the text. Equal inputs give
    equal bytes.

    Returns:
        The report: `sources` (what each gave, with licences), `steps` (counts before and after, removed by reason),
        `splits` (counts and licences). Counts are documents, Unicode characters and UTF-8 bytes.

    Raises:
        RequestError: a source cannot be read; names the file and the place.
        CommandError: a split ends up empty, the hub cannot be reached, or `out` cannot be written.
    """
    read = _Read(recipe, base)
    steps = _steps(recipe)
    splits = {split: _Tally() for split in dataset.SPLITS}
    held_out: list[Document] = []

    def train(documents: Iterable[Document]) -> Iterator[Document]:
        for document in documents:
            if split_of(document.text, recipe.split) == "train":
                splits["train"].add(document)
                yield document
            else:
                held_out.append(document)

    with atomic_directory(out) as directory:
        with task("build dataset", unit="documents") as progress:
            documents = read.documents(progress)
            for step in steps:
                documents = step(documents)
            dataset.write(directory, "train", train(documents))
        with task("compare with train", total=splits["train"].counts.documents, unit="documents") as progress:
            overlap = Overlap(_texts(directory, progress), recipe.overlap_ngram)
            kept = list(overlap(held_out))
        steps.append(overlap)
        for split in ("validation", "test"):
            chosen = [document for document in kept if split_of(document.text, recipe.split) == split]
            for document in chosen:
                splits[split].add(document)
            dataset.write(directory, split, chosen)
        for split, tally in splits.items():
            if not tally.counts.documents:
                raise CommandError(_empty(split, read, steps))
        report = {
            "sources": read.report(),
            "steps": [step.report() for step in steps],
            "splits": {split: tally.report() for split, tally in splits.items()},
        }
        write_json(directory / "report.json", report)
    return report


def _texts(directory: Path, progress: Task) -> Iterator[str]:
    for document in dataset.read(directory, "train"):
        yield document.text
        progress.advance()


def _steps(recipe: DataRecipe) -> list[Step]:
    steps: list[Step] = [Normalise(recipe.unicode_form), Filter(recipe.filters)]
    if recipe.deduplicate.exact:
        steps.append(ExactDuplicates())
    if recipe.deduplicate.near:
        steps.append(NearDuplicates(recipe.deduplicate))
    return steps


class _Tally:
    """Counts, and documents by licence."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.licences: Counter[str] = Counter()

    def add(self, document: Document) -> None:
        self.counts.add(document)
        self.licences[document.licence] += 1

    def report(self) -> dict[str, Any]:
        return {**asdict(self.counts), "licences": dict(sorted(self.licences.items()))}


class _Read:
    """Reads the sources of a recipe, and tallies what each gives."""

    def __init__(self, recipe: DataRecipe, base: Path) -> None:
        self.recipe = recipe
        self._base = base
        self.tallies = [_Tally() for _ in recipe.sources]

    def documents(self, progress: Task) -> Iterator[Document]:
        for source, tally in zip(self.recipe.sources, self.tallies, strict=True):
            for document in sources.documents(source, self._base):
                tally.add(document)
                progress.advance()
                yield document

    def report(self) -> list[dict[str, Any]]:
        return [
            {**source.model_dump(mode="json"), "read": tally.report()}
            for source, tally in zip(self.recipe.sources, self.tallies, strict=True)
        ]


def _empty(split: str, read: _Read, steps: list[Step]) -> str:
    """Why a split has no documents, and what would help."""
    documents = sum(tally.counts.documents for tally in read.tallies)
    removed = Counter({reason: counts.documents for step in steps for reason, counts in step.removed.items()})
    reasons = ", ".join(f"{reason} {count}" for reason, count in removed.most_common())
    remedy = "add documents, loosen data.filters, or raise the share of the split in data.split"
    if split != "train" and any(source.type == "hub" for source in read.recipe.sources):
        # What the hash of its text held out once is not among the train documents, and would be held out again.
        remedy += '; of a dataset that lmc made, read all splits (files: "**/*.parquet"): the same ones are held out'
    return f"the {split} split is empty: documents read {documents}, removed by {reasons or 'nothing'}; {remedy}"
