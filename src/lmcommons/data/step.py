"""A document, and the steps that documents pass through."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Document:
    """One text with its origin.

    Attributes:
        id: the source's own id, else the first 32 hexadecimal digits of the sha256 of the text as it was read.
        text: Unicode text without lone surrogates.
        source: where it was read: a file with the place in it, a hub dataset with its commit, a Python module.
        licence: SPDX identifier.
    """

    id: str
    text: str
    source: str
    licence: str


@dataclass
class Counts:
    """How much text: documents, Unicode characters, UTF-8 bytes."""

    documents: int = 0
    characters: int = 0
    bytes: int = 0

    def add(self, document: Document) -> None:
        """Count one more document."""
        self.documents += 1
        self.characters += len(document.text)
        self.bytes += len(document.text.encode())


class Step(ABC):
    """Maps documents to documents, one after the other, and counts what comes in, what goes out, and why.

    The counts are complete when the iterator that the step returned is exhausted.
    """

    name: str

    def __init__(self) -> None:
        self.before = Counts()
        self.after = Counts()
        self.removed: dict[str, Counts] = {}

    def __call__(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Pass `documents` through this step."""
        for document in self.apply(self._incoming(documents)):
            self.after.add(document)
            yield document

    @abstractmethod
    def apply(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Yield the documents to keep, and call `remove` for each other one."""

    def remove(self, document: Document, reason: str) -> None:
        """Count a document that is not kept; `reason` is the recipe's field that removed it."""
        self.removed.setdefault(reason, Counts()).add(document)

    def report(self) -> dict[str, Any]:
        """`name`, counts `before` and `after`, and `removed` counts by reason."""
        removed = {reason: asdict(counts) for reason, counts in sorted(self.removed.items())}
        return {"name": self.name, "before": asdict(self.before), "after": asdict(self.after), "removed": removed}

    def _incoming(self, documents: Iterable[Document]) -> Iterator[Document]:
        for document in documents:
            self.before.add(document)
            yield document
