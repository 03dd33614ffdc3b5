"""Chapter 2, organisations: their members; and beyond the protocol, under `/api/x/`, new ones.

Source for roles: https://huggingface.co/docs/hub/main/programmatic-user-access-control
"""

from typing import Any

from fastapi import APIRouter, Request

from lmcommons.hub.api.collections import NO_GROUPS
from lmcommons.hub.api.dependencies import Body, actor, field, hub_of, required
from lmcommons.hub.api.identities import account_fields
from lmcommons.hub.database.tables import Account, Role
from lmcommons.hub.errors import BadRequest, NotSupported

router = APIRouter(prefix="/api")


@router.post("/x/organizations", status_code=201)
def create(request: Request, body: Body) -> dict[str, Any]:
    """Make an organisation with the sender as its admin, where the hub lets its members do that."""
    hub = hub_of(request)
    made = hub.organisations.create(
        actor(request),
        required(body, "name", str),
        fullname=field(body, "fullname", str),
        private_by_default=field(body, "privateByDefault", bool) or False,
    )
    return {**account_fields(made), "url": f"{hub.settings.public_url}/{made.name}"}


@router.get("/organizations/{name}/members")
def members(request: Request, name: str) -> list[dict[str, Any]]:
    """The members of an organisation."""
    organisations = hub_of(request).organisations
    return [_member(member, role) for member, role in organisations.members(organisations.find(name).id)]


@router.put("/organizations/{name}/members/{user}/role")
def set_role(request: Request, name: str, user: str, body: Body) -> dict[str, Any]:
    """Make a user a member with a role, or give a member another one."""
    role = required(body, "role", str)
    if role not in list(Role):
        raise BadRequest(f"role is one of {', '.join(Role)}, not {role[:40]!r}")
    if body.get("resourceGroups"):
        raise NotSupported(NO_GROUPS)
    return _member(hub_of(request).organisations.set_member(actor(request), name, user, Role(role)), Role(role))


@router.delete("/organizations/{name}/members/{user}", status_code=204)
def remove(request: Request, name: str, user: str) -> None:
    """End a membership; members may end their own."""
    hub_of(request).organisations.set_member(actor(request), name, user, None)


def _member(account: Account, role: Role) -> dict[str, Any]:
    return {
        "user": account.name,
        "type": "user",
        "fullname": account.fullname,
        "avatarUrl": "",
        "isPro": False,
        "role": role,
    }
