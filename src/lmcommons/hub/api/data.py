"""What files hold: headers of safetensors, splits of datasets, their Parquet files and their rows."""

from functools import partial
from pathlib import PurePosixPath
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import RedirectResponse

from lmcommons.hub import addresses
from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.api.dependencies import find_repository
from lmcommons.hub.api.information import Answer
from lmcommons.hub.database.tables import Repository
from lmcommons.hub.errors import BadRequest, NotFound
from lmcommons.hub.repos import safetensors
from lmcommons.hub.repos.datasets import choose
from lmcommons.hub.repos.splits import Split
from lmcommons.hub.rooms import Hub

ROWS_LIMIT = 100  # rows of an answer
PAGE_LIMIT = 4 << 20  # characters of all cells of an answer

router = APIRouter(prefix="/api")


@router.get("/models/{namespace}/{name}/safetensors-metadata/{path:path}")
def safetensors_metadata(request: Request, namespace: str, name: str, path: str) -> Response:
    """The headers of the files that an index names, or of one file."""
    hub, _, repository = find_repository(request, "models", namespace, name)
    opened = partial(hub.contents.open_at_head, repository)
    folder = path.rpartition("/")[0]
    try:
        with opened(path) as file:
            if path.endswith(".safetensors"):
                return Answer({"index": {}, "headers": {PurePosixPath(path).name: safetensors.header(file)}})
            return Answer(safetensors.headers(file, lambda shard: opened(f"{folder}/{shard}".lstrip("/"))))
    except ValueError as error:
        raise BadRequest(f"{path}: {error}") from error


@router.get("/datasets/{namespace}/{name}/splits")
def list_splits(request: Request, namespace: str, name: str) -> dict[str, Any]:
    """The configurations and splits of a dataset, with the files of each."""
    _, repository, found = _splits(request, namespace, name, Action.SEE)
    return {
        "splits": [
            {
                "dataset": repository.full_name,
                "config": split.config,
                "split": split.name,
                "format": split.format,
                "files": split.paths,
            }
            for split in found
        ]
    }


@router.get("/datasets/{namespace}/{name}/parquet")
@router.get("/datasets/{namespace}/{name}/parquet/{config}")
@router.get("/datasets/{namespace}/{name}/parquet/{config}/{split}")
def parquet(request: Request, namespace: str, name: str, config: str | None = None, split: str | None = None) -> Any:
    """The addresses of the Parquet files: by configuration and split, by split, or of one split.

    Nothing is converted: splits in other formats are not listed.
    """
    hub, repository, found = _splits(request, namespace, name, Action.SEE)
    base = f"{hub.settings.public_url}/api/{repository.path}/parquet"
    files: dict[str, dict[str, list[str]]] = {}
    for one in found:
        if one.format == "parquet":
            folder = f"{base}/{quote(one.config, safe='')}/{quote(one.name, safe='')}"
            numbered = [f"{folder}/{number}.parquet" for number in range(len(one.paths))]
            files.setdefault(one.config, {})[one.name] = numbered
    if config is None:
        return files
    if config not in files:
        raise NotFound(f"{repository.full_name} has no configuration {config!r} in Parquet; {_known(files)}")
    if split is None:
        return files[config]
    if split not in files[config]:
        raise NotFound(f"{config} has no split {split!r} in Parquet; {_known(files[config])}")
    return files[config][split]


@router.api_route("/datasets/{namespace}/{name}/parquet/{config}/{split}/{number}.parquet", methods=["GET", "HEAD"])
def parquet_file(request: Request, namespace: str, name: str, config: str, split: str, number: int) -> Response:
    """Where a Parquet file is, at the commit that the address meant when it was asked for."""
    hub, repository, found = _splits(request, namespace, name, Action.READ)
    one = choose(repository, [one for one in found if one.format == "parquet"], config, split)
    if not 0 <= number < len(one.paths):
        raise NotFound(f"{config}/{split} has {len(one.paths)} Parquet files: there is no {number}.parquet")
    path = addresses.at(repository, "resolve", repository.head or "", one.paths[number])
    return RedirectResponse(f"{hub.settings.public_url}{path}", 302)


@router.get("/datasets/{namespace}/{name}/rows")
def rows(
    request: Request,
    namespace: str,
    name: str,
    config: str | None = None,
    split: str | None = None,
    offset: Annotated[int, Query(ge=0, lt=1 << 62)] = 0,
    length: Annotated[int, Query(ge=0, le=ROWS_LIMIT)] = ROWS_LIMIT,
) -> Response:
    """Rows of a split, by default of the first, with their columns and types.

    `num_rows_total` is null, and `partial` true, where not all of the files were read to count their rows.
    """
    from lmcommons.hub.repos.tabular import cells, feature

    hub, repository, found = _splits(request, namespace, name, Action.READ)
    one = choose(repository, found, config, split)
    read = hub.datasets.rows(repository, one, offset, length)
    names = read.schema.names
    answer: list[dict[str, Any]] = []
    left = PAGE_LIMIT
    for number, row in enumerate(read.rows, offset):
        shown, cut = cells(row, names)
        left -= sum(len(str(value)) for value in shown.values())
        if left < 0 and answer:
            break
        answer.append({"row_idx": number, "row": shown, "truncated_cells": cut})
    return Answer(
        {
            "dataset": repository.full_name,
            "config": one.config,
            "split": one.name,
            "features": [
                {"feature_idx": number, "name": field.name, "type": feature(field.type)}
                for number, field in enumerate(read.schema)
            ],
            "rows": answer,
            "num_rows_total": read.total,
            "num_rows_per_page": ROWS_LIMIT,
            "partial": read.total is None or len(answer) < len(read.rows),
        }
    )


def _splits(request: Request, namespace: str, name: str, action: Action) -> tuple[Hub, Repository, list[Split]]:
    hub, _, repository = find_repository(request, "datasets", namespace, name, action)
    return hub, *hub.datasets.splits(repository)


def _known(names: dict[str, Any]) -> str:
    return f"it has {', '.join(list(names)[:20])}" if names else "it has none"
