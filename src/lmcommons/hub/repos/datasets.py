"""The splits of a hub's datasets, and the rows in them: some, those with certain words, or all in batches.

Of large files only what is needed is read; where not all rows can be known, the answers say so.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmcommons.hub.database.tables import Repository
from lmcommons.hub.errors import BadRequest, NotFound
from lmcommons.hub.repos import splits
from lmcommons.hub.repos.commits import Commits
from lmcommons.hub.repos.contents import Contents
from lmcommons.hub.repos.repositories import Repositories
from lmcommons.hub.repos.splits import Split

if TYPE_CHECKING:
    import pyarrow as pa

    from lmcommons.hub.repos.tabular import Row, Rows

FILES_LIMIT = 100  # of a split that are opened for one answer
SEARCH_ROWS, SEARCH_CELLS, SEARCH_BYTES = 50_000, 1_000_000, 64 << 20  # that one search looks through


@dataclass(frozen=True)
class Batch:
    """Rows of a split one after the other; `start` is the number of the first."""

    start: int
    rows: "pa.RecordBatch"


@dataclass
class SplitScan:
    """The rows of a split in batches; once it has ended, `whole` tells whether those were all rows that there are."""

    batches: Iterator[Batch]
    whole: bool = False


@dataclass(frozen=True)
class Found:
    """Rows with certain words, by their numbers; `following` is where the search goes on, None at the end."""

    schema: "pa.Schema | None"
    rows: list[tuple[int, "Row"]]
    looked_at: int
    following: int | None


class Datasets:
    """The rows of a hub's datasets, at the heads of their default branches."""

    def __init__(self, repositories: Repositories, contents: Contents, commits: Commits) -> None:
        self._repositories = repositories
        self._contents = contents
        self._commits = commits

    def splits(self, repository: Repository) -> tuple[Repository, list[Split]]:
        """A dataset as its head is now, and its splits that can be read as rows.

        Raises:
            BadRequest: what the card says of them makes no sense.
        """
        repository = self._commits.refresh(repository)
        entries = self._repositories.git(repository).entries(repository.head or "", recursive=True)
        try:
            return repository, splits.find_splits((e.path for e in entries if e.type == "file"), repository.card)
        except ValueError as error:
            raise BadRequest(
                "{repository}: README.md: {reason}", repository=repository.full_name, reason=error
            ) from error

    def rows(self, repository: Repository, split: Split, start: int, length: int) -> "Rows":
        """Rows of the files of a split, one after the other.

        Raises:
            BadRequest: a file cannot be read. EntryNotFound: its content was never uploaded.
        """
        from lmcommons.hub.repos.tabular import Rows, read_rows  # pyarrow: a tenth of a second, 30 MB, rarely needed

        read: list[Rows] = []
        left = length
        for path in split.paths[:FILES_LIMIT]:
            try:
                with self._contents.open_at_head(repository, path) as file:
                    part = read_rows(file, splits.data_suffix(path), start, left)
            except ValueError as error:
                raise BadRequest("{path}: {reason}", path=path, reason=error) from error
            read.append(part)
            start, left = max(0, start - part.known), left - len(part.rows)
            if part.total is None:
                break
        whole = len(read) == len(split.paths) and read[-1].total is not None
        known = sum(part.known for part in read)
        shown = next((part for part in read if part.rows), read[0])
        return Rows(
            shown.schema, [row for part in read for row in part.rows], known, known if whole else None, shown.width
        )

    def scan(self, repository: Repository, split: Split, start: int = 0) -> SplitScan:
        """The rows of a split from `start`; raises as `rows`, also in the midst of the batches."""
        found = SplitScan(iter(()))
        found.batches = self._batches(repository, split, start, found)
        return found

    def search(self, repository: Repository, split: Split, words: str, start: int, limit: int) -> Found:
        """The rows from `start` in which a cell has these words, in capitals or not: at most `limit`.

        One search looks at up to 50,000 rows, a million cells or 64 MiB. Raises as `rows`.
        """
        import pyarrow as pa

        from lmcommons.hub.repos.matching import matches
        from lmcommons.hub.repos.tabular import batch_rows, plain_type

        schema, rows, at, size = None, [], start, 0
        for batch in self.scan(repository, split, start).batches:
            schema = schema or pa.schema([field.with_type(plain_type(field.type)) for field in batch.rows.schema])
            for number in matches(batch.rows, words):
                rows.append((batch.start + number, batch_rows(batch.rows.slice(number, 1))[0]))
                if len(rows) == limit:
                    return Found(schema, rows, batch.start + number + 1 - start, batch.start + number + 1)
            at, size = batch.start + batch.rows.num_rows, size + batch.rows.nbytes
            cells = (at - start) * batch.rows.num_columns
            if at - start >= SEARCH_ROWS or cells >= SEARCH_CELLS or size >= SEARCH_BYTES:
                return Found(schema, rows, at - start, at)
        return Found(schema, rows, at - start, None)

    def _batches(self, repository: Repository, split: Split, start: int, found: SplitScan) -> Iterator[Batch]:
        from lmcommons.hub.repos.scanning import scan

        first = 0  # of the file, in the split
        for path in split.paths:
            try:
                with self._contents.open_at_head(repository, path) as file:
                    of_file = scan(file, splits.data_suffix(path), max(0, start - first))
                    at = max(start, first)
                    for rows in of_file.batches:
                        yield Batch(at, rows)
                        at += rows.num_rows
            except ValueError as error:
                raise BadRequest("{path}: {reason}", path=path, reason=error) from error
            first += of_file.known
            if of_file.total is None:
                return
        found.whole = True


def choose(repository: Repository, found: list[Split], config: str | None, split: str | None) -> Split:
    """The split that is asked for; what is not said is the first.

    Raises:
        NotFound: there is no such one, or none at all.
    """
    for one in found:
        if config in (None, one.config) and split in (None, one.name):
            return one
    if not found:
        raise NotFound(
            "{repository} has no splits in Parquet, JSON or CSV that can be read here", repository=repository.full_name
        )
    known = ", ".join(f"{one.config}/{one.name}" for one in found[:20])
    raise NotFound(
        "{repository} has no split {config}/{split}; it has {known}",
        repository=repository.full_name,
        config=config or "*",
        split=split or "*",
        known=known,
    )
