"""The pages' addresses, in the order in which they are tried."""

from fastapi import APIRouter

from lmcommons.hub.database.tables import RepositoryType
from lmcommons.hub.web.rendering import asset
from lmcommons.hub.web.views import (
    access_pages,
    changes,
    compare,
    discussions,
    editing,
    files,
    home,
    imports,
    keys,
    languages,
    leaderboards,
    leaving,
    likes,
    lineage,
    listing,
    new,
    notifications,
    operator,
    organisations,
    people,
    profile,
    pull_requests,
    references,
    reports,
    repository,
    rows,
    runs,
    security,
    settings_pages,
    sign_in,
    tokens,
    try_it,
    upload,
    webhooks,
)

MODULES = (
    home,
    languages,
    listing,
    sign_in,
    security,
    tokens,
    keys,
    profile,
    leaving,
    notifications,
    organisations,
    reports,
    operator,
    new,
    imports,
    likes,
    compare,
    leaderboards,
)
REPOSITORY_MODULES = (
    repository,
    files,
    changes,
    editing,
    upload,
    references,
    settings_pages,
    access_pages,
    webhooks,
    likes,
    discussions,
    pull_requests,
    rows,
    lineage,
    runs,
    try_it,
    leaderboards,
)


def _router() -> APIRouter:
    found = APIRouter()
    found.add_route("/static/{version}/{name}", asset)
    for module in MODULES:
        module.add_routes(found)
    for kind in (RepositoryType.DATASET, RepositoryType.MODEL):  # /datasets/… is no model of somebody called so
        for module in REPOSITORY_MODULES:
            module.add_repository_routes(found, kind, f"/{kind.prefix}{{namespace}}/{{name}}")
    people.add_routes(found)
    return found


router = _router()
