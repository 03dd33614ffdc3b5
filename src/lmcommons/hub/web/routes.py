"""The pages' addresses, in the order in which they are tried."""

from fastapi import APIRouter

from lmcommons.hub.database.tables import RepositoryType
from lmcommons.hub.web.rendering import asset
from lmcommons.hub.web.views import files, home, languages, listing, people, repository, sign_in

MODULES = (home, languages, listing, sign_in)
REPOSITORY_MODULES = (repository, files)


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
