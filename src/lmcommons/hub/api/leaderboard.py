"""Chapter 6: the leaderboard of a dataset."""

from typing import Any

from fastapi import APIRouter, Request

from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.api.dependencies import find_repository
from lmcommons.hub.api.identities import account_fields
from lmcommons.hub.repos.leaderboards import Ranked

router = APIRouter(prefix="/api/datasets")


@router.get("/{namespace}/{name}/leaderboard")
def leaderboard(
    request: Request, namespace: str, name: str, base_model: bool = True, task: str | None = None
) -> list[dict[str, Any]]:
    """The results for a task, by default the first that the dataset declares, the best first.

    `base_model=false` also lists models that are made from another one.
    """
    hub, sender, dataset = find_repository(request, "datasets", namespace, name, Action.SEE)
    of, ranked = hub.leaderboards.of(sender, dataset, task, derived=not base_model)
    return [_entry(row, of.id, hub.settings.public_url) for row in ranked]


def _entry(row: Ranked, task: str, public_url: str) -> dict[str, Any]:
    stated = row.result.entry
    entry: dict[str, Any] = {
        "rank": row.rank,
        "modelId": row.model.full_name,
        "value": stated["value"],
        "filename": row.result.filename,
        "verified": False,  # the hub runs no evaluation, so it can vouch for no token
        "author": account_fields(row.model.account),
        "taskId": task,
    }
    if (source := stated.get("source")) is not None:
        entry["source"] = source | {"isExternal": not f"{source['url']}/".startswith(f"{public_url}/")}
    if row.result.pull_request is not None:
        entry["pullRequest"] = row.result.pull_request
    return entry | {name: stated[name] for name in ("date", "notes") if stated.get(name) is not None}
