"""The rows of a dataset: pages of them, one in full, those with certain words, and what its columns hold."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest, EntryNotFound, NotFound
from lmcommons.hub.repos.datasets import choose
from lmcommons.hub.repos.images import media_type
from lmcommons.hub.repos.splits import Split
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web import charts
from lmcommons.hub.web.lookup import repository_of
from lmcommons.hub.web.rendering import HEADERS, page

if TYPE_CHECKING:
    from lmcommons.hub.web.cells import Cell

ROWS = 25  # of a page
COLUMNS = 30  # of a page; a row's own page has more
SPLITS = 200  # that can be chosen
WORDS = 200  # characters of a search
IMAGE_LIMIT = 10 << 20  # bytes


@dataclass(frozen=True)
class Shown:
    """Rows by their numbers in the split, in the columns of which there are `width`.

    `known` rows can be shown, of `total`, which is None where not all were counted; `following` begins the next page.
    """

    columns: Sequence[tuple[str, str]] = ()  # name and type
    width: int = 0
    rows: Sequence[tuple[int, "list[Cell]"]] = ()
    known: int | None = None
    total: int | None = None
    following: int | None = None
    looked_at: int = 0


@dataclass(frozen=True)
class Spread:
    """What a column holds: as it was found, its histogram as it is drawn, and its least to greatest as words."""

    column: dict[str, Any]
    bars: charts.Bars | None
    figures: Sequence[str]


def viewer(request: Request) -> Response:
    """A page of rows, or of those with the words that are searched."""
    hub, repository, git = repository_of(request, RepositoryType.DATASET, Action.READ)
    row = _number(request, "row") if "row" in request.query_params else None
    values: dict[str, Any] = {
        "section": RepositoryType.DATASET,
        "repository": repository,
        "branch": git.default_branch,
        "search": request.query_params.get("search", "").strip()[:WORDS],
        "start": _number(request, "start"),
        "splits": [],
        "more_splits": 0,
        "split": None,
        "shown": Shown(),
        "problem": None,
        "statistics": None,
        "spread": [],
    }
    try:
        repository, found = hub.datasets.splits(repository)
        if not found:
            return page(request, "dataset/viewer.html", **values)
        split = _chosen(request, repository, found)
        values |= {"splits": found[:SPLITS], "more_splits": len(found) - SPLITS, "split": split}
        values |= _statistics(hub, repository, split)
        if row is not None:
            return _row(request, hub, repository, split, row, values)
        values["shown"] = _rows(hub, repository, split, values["start"], values["search"])
    except (BadRequest, EntryNotFound) as error:  # a card or a file that is damaged: what can be shown stays
        values["problem"] = error.message
    return page(request, "dataset/viewer.html", **values)


def statistics(request: Request) -> Response:
    """What the columns of a split hold, as a part of the page that asks again until it is known."""
    hub, repository, _ = repository_of(request, RepositoryType.DATASET, Action.READ)
    repository, found = hub.datasets.splits(repository)
    split = _chosen(request, repository, found)
    values = _statistics(hub, repository, split)
    return page(request, "dataset/statistics.html", repository=repository, split=split, **values)


def image(request: Request) -> Response:
    """The image in a cell."""
    from lmcommons.hub.web.cells import image_content

    hub, repository, _ = repository_of(request, RepositoryType.DATASET, Action.READ)
    repository, found = hub.datasets.splits(repository)
    read = hub.datasets.rows(repository, _chosen(request, repository, found), _number(request, "row"), 1)
    content = image_content(read.rows[0].get(request.query_params.get("column", ""))) if read.rows else None
    if content is None or len(content) > IMAGE_LIMIT:
        raise NotFound("No image of at most {limit:,} bytes in this cell", limit=IMAGE_LIMIT)
    return Response(content, 200, HEADERS, media_type(content))


def _row(
    request: Request, hub: Hub, repository: Repository, split: Split, number: int, values: dict[str, Any]
) -> Response:
    from lmcommons.hub.web.cells import whole_row

    read = hub.datasets.rows(repository, split, number, 1)
    if not read.rows:
        raise NotFound(
            "{config}/{split} has no row {number:,} that can be shown",
            config=split.config,
            split=split.name,
            number=number,
        )
    names = read.schema.names
    fields = zip(names, map(str, read.schema.types), whole_row(read.rows[0], names), strict=True)
    values |= {"number": number, "last": read.total, "fields": list(fields), "width": read.width}
    return page(request, "dataset/row.html", **values)


def _rows(hub: Hub, repository: Repository, split: Split, start: int, search: str) -> Shown:
    from lmcommons.hub.web.cells import table

    if search:
        found = hub.datasets.search(repository, split, search, start, ROWS)
        schema, numbered = found.schema, found.rows
        rest: dict[str, Any] = {"following": found.following, "looked_at": found.looked_at}
        width = len(schema or ())
    else:
        read = hub.datasets.rows(repository, split, start, ROWS)
        schema, numbered, width = read.schema, list(enumerate(read.rows, start)), read.width
        end = start + len(read.rows)
        rest = {"known": read.known, "total": read.total, "following": end if read.rows and end < read.known else None}
    if schema is None:
        return Shown(**rest)
    names = schema.names[:COLUMNS]
    cells = table([row for _, row in numbered], names)
    rows = [(number, shown) for (number, _), shown in zip(numbered, cells, strict=True)]
    columns = [(field.name, str(field.type)) for field in list(schema)[:COLUMNS]]
    return Shown(columns, width, rows, **rest)


def _statistics(hub: Hub, repository: Repository, split: Split) -> dict[str, Any]:
    """The statistics of a split, and the histograms of its columns as they are drawn."""
    found = hub.statistics.of(repository, split)
    columns = (found.found or {}).get("columns", []) if found else []
    here = {"config": split.config, "split": split.name}
    return {"statistics": found, "spread": [_spread(column) for column in columns], "here": urlencode(here)}


def _spread(column: dict[str, Any]) -> Spread:
    bars = column.get("histogram")
    return Spread(
        column,
        charts.histogram(bars["edges"], bars["counts"]) if bars else None,
        [_figure(column.get(name)) for name in ("min", "median", "mean", "std", "max")],
    )


def _figure(value: float | str | None) -> str:
    """A number in four digits, a time as it is, a dash for none."""
    return "–" if value is None else value if isinstance(value, str) else charts.label(value)


def _chosen(request: Request, repository: Repository, found: list[Split]) -> Split:
    asked = request.query_params
    return choose(repository, found, asked.get("config") or None, asked.get("split") or None)


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name) or "0"
    if not re.fullmatch("[0-9]{1,15}", text):
        raise BadRequest("{name}={text} is not the number of a row: the first is 0", name=name, text=text[:20])
    return int(text)


def add_repository_routes(router: APIRouter, kind: RepositoryType, base: str) -> None:
    """The pages of a dataset's rows."""
    if kind is RepositoryType.DATASET:
        router.add_route(f"{base}/viewer", viewer)
        router.add_route(f"{base}/viewer/statistics", statistics)
        router.add_route(f"{base}/viewer/image", image)
