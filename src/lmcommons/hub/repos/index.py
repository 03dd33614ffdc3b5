"""What lists, searches and filters show of a repository, read from the files of a commit."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

from lmcommons.hub.errors import EntryNotFound
from lmcommons.hub.objects.store import ObjectStore
from lmcommons.hub.repos import cards, safetensors
from lmcommons.hub.repos.details import CARD, configuration, read_text
from lmcommons.hub.repos.git import Entry, GitRepository

WEIGHTS = re.compile(r"(?:adapter_)?model(?:-\d{5}-of-\d{5})?\.safetensors")
TAG_LIMIT = 200  # characters
TAGS_LIMIT = 500

PREFIXED_TAGS = (  # field of the card, what its tags begin with
    ("license", "license:"),
    ("datasets", "dataset:"),
    ("base_model", "base_model:"),
    ("task_categories", "task_categories:"),
    ("size_categories", "size_categories:"),
)


@dataclass(frozen=True)
class Description:
    """The index columns of one commit: card metadata, first words, tags, numbers by dtype, bytes of all files."""

    card: dict[str, Any]
    summary: str
    tags: list[str]
    parameters: dict[str, int] | None
    storage: int


def describe(git: GitRepository, objects: ObjectStore, commit: str) -> Description:
    """Read what the index holds about a commit."""
    files = [entry for entry in git.entries(commit, recursive=True) if entry.type == "file"]
    metadata, text = cards.split(read_text(git, commit, CARD))
    counts = _parameters(git, objects, files)
    tags = _tags(metadata, configuration(git, commit), has_weights=counts is not None)
    return Description(
        card=metadata,
        summary=_summary(text),
        tags=[tag[:TAG_LIMIT] for tag in dict.fromkeys(tags) if tag][:TAGS_LIMIT],
        parameters=dict(counts) if counts is not None else None,
        storage=sum(entry.size for entry in files),
    )


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
        except (ValueError, RecursionError, EntryNotFound):
            return None
    return counts if weights else None


def _tags(metadata: dict[str, Any], config: dict[str, Any], *, has_weights: bool) -> Iterator[str]:
    yield from _words(metadata.get("library_name") or ("transformers" if config.get("model_type") else None))
    if has_weights:
        yield "safetensors"
    yield from _words(config.get("model_type"))
    for field in ("pipeline_tag", "tags", "language"):
        yield from _words(metadata.get(field))
    for field, prefix in PREFIXED_TAGS:
        yield from (prefix + word for word in _words(metadata.get(field)))


def _words(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, str)]


def _summary(text: str) -> str:
    """The first paragraph of plain prose."""
    for block in re.split(r"\n\s*\n", text):
        plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)|[*_`]", r"\1", " ".join(block.split()))
        if plain and plain[0] not in "#<|-!>=":
            return plain[:300]
    return ""
