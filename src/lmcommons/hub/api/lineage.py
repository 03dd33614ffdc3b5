"""What no protocol has: the lineage of a repository, under `/api/x/`."""

from typing import Any

from fastapi import APIRouter, Request

from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.api.dependencies import find_repository
from lmcommons.hub.repos.lineage import Key, Walk

router = APIRouter(prefix="/api/x/lineage")


@router.get("/{kind}/{namespace}/{name}")
def lineage(request: Request, kind: str, namespace: str, name: str) -> dict[str, Any]:
    """What a repository was made from (`hop` below 0) and what was made from it, at most 4 hops either way.

    A node that is not `here` is a name that the sender can find no repository by; `cut` tells that there is more.
    """
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.SEE)
    walk = hub.lineage.of(sender, repository)
    return {
        "nodes": [
            {"type": node.type, "name": node.name, "hop": node.hop, "here": node.repository is not None}
            for node in walk.nodes.values()
        ],
        "edges": [
            {
                "source": _named(walk, edge.source),
                "target": _named(walk, edge.target),
                "relation": edge.relation,
                "revision": edge.revision,
                "statedIn": edge.stated_in,
            }
            for edge in walk.edges.values()
        ],
        "cut": walk.cut,
    }


def _named(walk: Walk, key: Key) -> dict[str, str]:
    node = walk.nodes[key]
    return {"type": node.type, "name": node.name}
