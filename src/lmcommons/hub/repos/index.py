"""What lists, searches and filters show of a repository, read from the files of a commit."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

from sqlalchemy.orm import Session

from lmcommons.hub.database.tables import Repository, RepositoryTag, RepositoryTerms, RepositoryType, now
from lmcommons.hub.errors import EntryNotFound
from lmcommons.hub.objects.store import ObjectStore
from lmcommons.hub.repos import cards, evaluation, lineage, safetensors, terms
from lmcommons.hub.repos.details import CARD, CONFIGURATION, read_object, read_text
from lmcommons.hub.repos.evaluation import BENCHMARK, ResultFile, result_files
from lmcommons.hub.repos.git import Entry, GitRepository
from lmcommons.hub.repos.splits import data_format

WEIGHTS = re.compile(r"(?:adapter_)?model(?:-\d{5}-of-\d{5})?\.safetensors")
ARXIV = re.compile(r"arxiv\.org/(?:abs|pdf)/(\d{4}\.\d{4,5})")
NOT_PROSE = re.compile(  # blocks of code and headings, which need no blank line before or after them
    r"^ {0,3}(?P<fence>`{3}|~{3}).*?(?:^ {0,3}(?P=fence)[^\n]*|\Z)|^ {0,3}#{1,6}\s[^\n]*|^[^\n]+\n {0,3}=+[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
TAG_LIMIT = 200  # characters
TAGS_LIMIT = 500
LARGEST = (1 << 63) - 1  # what a column of whole numbers holds; a header may claim more

# The task that a model of `transformers` does and the class that loads it, by how the name of its own class ends.
TASKS = {
    "ForCausalLM": ("text-generation", "AutoModelForCausalLM"),
    "LMHeadModel": ("text-generation", "AutoModelForCausalLM"),
    "ForConditionalGeneration": ("text2text-generation", "AutoModelForSeq2SeqLM"),
    "MTModel": ("translation", "AutoModelForSeq2SeqLM"),
    "ForMaskedLM": ("fill-mask", "AutoModelForMaskedLM"),
    "ForSequenceClassification": ("text-classification", "AutoModelForSequenceClassification"),
    "ForTokenClassification": ("token-classification", "AutoModelForTokenClassification"),
    "ForQuestionAnswering": ("question-answering", "AutoModelForQuestionAnswering"),
    "ForMultipleChoice": ("multiple-choice", "AutoModelForMultipleChoice"),
}

# Fields of a card and the kinds of tags that they become: a kind with a colon stands before the words.
MODEL_FIELDS = (
    ("tags", "other", ""),
    ("language", "language", ""),
    ("datasets", "dataset", "dataset:"),
    ("base_model", "base_model", "base_model:"),
    ("license", "license", "license:"),
)
DATASET_FIELDS = (
    ("annotations_creators", "annotations_creators", "annotations_creators:"),
    ("language_creators", "language_creators", "language_creators:"),
    ("task_categories", "task_categories", "task_categories:"),
    ("task_ids", "task_ids", "task_ids:"),
    ("multilinguality", "multilinguality", "multilinguality:"),
    ("source_datasets", "source_datasets", "source_datasets:"),
    ("language", "language", "language:"),
    ("license", "license", "license:"),
    ("size_categories", "size_categories", "size_categories:"),
    ("tags", "other", ""),
)
SPACE_FIELDS = (
    ("sdk", "sdk", ""),
    ("tags", "other", ""),
    ("models", "model", "model:"),
    ("datasets", "dataset", "dataset:"),
    ("license", "license", "license:"),
)


@dataclass(frozen=True)
class Description:
    """The index columns of one commit.

    Card metadata, first words, text for search, (kind, tag) pairs, numbers by dtype, bytes of all files, what loads it,
    its task, the evaluation results that it states, and what it was made from.
    """

    card: dict[str, Any]
    summary: str
    text: str
    tag_kinds: list[tuple[str, str]]
    parameters: dict[str, int] | None
    storage: int
    library: str | None
    pipeline_tag: str | None
    results: list[ResultFile]
    made_from: list[lineage.Source]

    @property
    def tags(self) -> list[str]:
        """What the repository can be filtered by."""
        return [tag for _, tag in self.tag_kinds]


def describe(git: GitRepository, objects: ObjectStore, commit: str, type_: RepositoryType) -> Description:
    """Read what the index holds about a commit."""
    files = [entry for entry in git.entries(commit, recursive=True) if entry.type == "file"]
    paths = [entry.path for entry in files]
    metadata, text = cards.split(cards.printable(read_text(git, commit, CARD)))
    is_model = type_ is RepositoryType.MODEL
    counts = _parameters(git, objects, files) if is_model else None
    config = read_object(git, commit, CONFIGURATION) if is_model else {}
    library = _first(metadata.get("library_name")) or ("transformers" if _first(config.get("model_type")) else None)
    task = (_first(metadata.get("pipeline_tag")) or _by_architecture(config)[0]) if is_model else None
    if is_model:
        found = _model_tags(metadata, config, paths, library, task, has_weights=counts is not None)
    elif type_ is RepositoryType.DATASET:
        found = _dataset_tags(metadata, paths)
    else:
        found = _field_tags(metadata, SPACE_FIELDS)
    kinds: dict[str, str] = {}
    for kind, tag in (*found, *(("arxiv", f"arxiv:{paper}") for paper in ARXIV.findall(text))):
        if tag:
            kinds.setdefault(tag[:TAG_LIMIT], kind)
    return Description(
        card=metadata,
        summary=_summary(text),
        text=text,
        tag_kinds=[(kind, tag) for tag, kind in kinds.items()][:TAGS_LIMIT],
        parameters=dict(counts) if counts is not None else None,
        storage=sum(entry.size for entry in files),
        library=library,
        pipeline_tag=task,
        results=result_files(git, commit) if is_model else [],
        made_from=lineage.sources(git, commit, type_, metadata),
    )


def write(session: Session, row: Repository, commit: str, description: Description) -> None:
    """Make `row`, and what is found by it, say what `commit`, now the head of main, does."""
    if row.head is not None:  # else it is new, or indexed again
        row.updated_at = now()
    row.head = commit
    row.card, row.summary, row.storage = description.card, description.summary, description.storage
    row.library, row.pipeline_tag = description.library, description.pipeline_tag
    row.parameters = description.parameters
    row.parameter_count = None
    if description.parameters is not None:
        row.parameter_count = min(sum(description.parameters.values()), LARGEST)
    kept = {tag.tag: tag for tag in row.tag_rows}
    row.tag_rows = [kept.get(tag) or RepositoryTag(tag=tag) for tag in description.tags]
    for position, (tag, (kind, _)) in enumerate(zip(row.tag_rows, description.tag_kinds, strict=True)):
        tag.position, tag.kind = position, kind
    title = _first(description.card.get("pretty_name")) or ""
    session.merge(
        RepositoryTerms(
            repository_id=row.id,
            name=terms.of_name(row.full_name),
            text=terms.of_text(" ".join(description.tags), title, description.summary, description.text),
        )
    )
    evaluation.replace(session, row.id, description.results)
    lineage.replace(session, row.id, description.made_from)


def rename(session: Session, row: Repository) -> None:
    """Make `row` found under the name that it has now."""
    found = session.get(RepositoryTerms, row.id)
    if found is not None:
        found.name = terms.of_name(row.full_name)


def open_file(git: GitRepository, objects: ObjectStore, entry: Entry) -> BinaryIO:
    """A file's content, wherever it lies; whether the repository was given the object is not asked."""
    return objects.open(entry.lfs.sha256) if entry.lfs else BytesIO(git.read(entry.oid))


def _parameters(git: GitRepository, objects: ObjectStore, files: list[Entry]) -> Counter[str] | None:
    counts: Counter[str] = Counter()
    weights = [entry for entry in files if WEIGHTS.fullmatch(entry.path)]
    for entry in weights:
        try:
            with open_file(git, objects, entry) as file:
                counts += safetensors.parameters(safetensors.header(file))
        except (ValueError, EntryNotFound):
            return None
    return counts if weights else None


def auto_class(config: dict[str, Any]) -> str | None:
    """The class of `transformers` that loads a model of this configuration."""
    return _by_architecture(config)[1]


def _by_architecture(config: dict[str, Any]) -> tuple[str | None, str | None]:
    architecture = _first(config.get("architectures")) or ""
    return next((found for end, found in TASKS.items() if architecture.endswith(end)), (None, None))


def _model_tags(
    metadata: dict[str, Any],
    config: dict[str, Any],
    paths: list[str],
    library: str | None,
    task: str | None,
    *,
    has_weights: bool,
) -> Iterator[tuple[str, str]]:
    yield "library", library or ""
    if has_weights:
        yield "library", "safetensors"
    if any(path.endswith(".gguf") for path in paths):
        yield "library", "gguf"
    yield "other", _first(config.get("model_type")) or ""
    yield "pipeline_tag", task or ""
    yield from _field_tags(metadata, MODEL_FIELDS)
    relation = _first(metadata.get("base_model_relation")) or "finetune"
    yield from (("base_model", f"base_model:{relation}:{name}") for name in _words(metadata.get("base_model")))


def _dataset_tags(metadata: dict[str, Any], paths: list[str]) -> Iterator[tuple[str, str]]:
    yield from _field_tags(metadata, DATASET_FIELDS)
    yield from (("format", f"format:{kind}") for path in paths if (kind := data_format(path)))
    if BENCHMARK in paths:
        yield "benchmark", "benchmark:official"


def _field_tags(metadata: dict[str, Any], fields: tuple[tuple[str, str, str], ...]) -> Iterator[tuple[str, str]]:
    for field, kind, prefix in fields:
        yield from ((kind, prefix + word) for word in _words(metadata.get(field)))


def _words(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [cards.printable(item) for item in values if isinstance(item, str)]


def _first(value: Any) -> str | None:
    """The first text of a field, as long as a tag may be."""
    return next((word[:TAG_LIMIT] for word in _words(value) if word), None)


def _summary(text: str) -> str:
    """The first paragraph of plain prose, where it begins early; brackets that stay open cost the square of a block."""
    for block in re.split(r"\n\s*\n", NOT_PROSE.sub("\n\n", text[:20_000])):
        plain = re.sub(
            r"!?\[([^\]]*)\]\([^)]*\)|</?[A-Za-z][^<>]*>|[*_`]", r"\1", " ".join(block[:2_000].split())
        ).strip()
        if plain and plain[0] not in "#<|-!>=":
            return plain[:300]
    return ""
