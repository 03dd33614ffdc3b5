"""Chapter 2: who am I, what may I reach, who are they."""

from typing import Any

from fastapi import APIRouter, Request, Response

from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.api.dependencies import Kind, actor, find_repository, hub_of, timestamp
from lmcommons.hub.database.tables import Account, AccountKind, RepositoryType
from lmcommons.hub.errors import NotFound, Unauthorized

router = APIRouter(prefix="/api")


@router.get("/whoami-v2")
def whoami(request: Request) -> dict[str, Any]:
    """The account of the token, its organisations, and the token's role."""
    hub, sender = hub_of(request), actor(request)
    if sender.name is None or sender.account_id is None:
        raise Unauthorized("Invalid username or password.")
    account = hub.accounts.find(sender.name)
    return {
        "type": "user",
        "id": str(account.id),
        "name": account.name,
        "fullname": account.fullname,
        "email": account.email,
        "emailVerified": False,
        "canPay": False,
        "isPro": False,
        "periodEnd": None,
        "avatarUrl": "",
        "orgs": [
            {
                "type": "org",
                "id": str(organisation.id),
                "name": organisation.name,
                "fullname": organisation.fullname,
                "email": None,
                "canPay": False,
                "isEnterprise": False,
                "avatarUrl": "",
                "periodEnd": None,
                "roleInOrg": role,
            }
            for organisation, role in hub.accounts.organisations(account.id)
        ],
        "auth": {
            "type": "access_token",
            "accessToken": {"displayName": sender.token_name, "role": sender.token_role},
        },
    }


@router.get("/{kind}/{namespace}/{name}/auth-check")
def auth_check(request: Request, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
    """Whether the sender may read the repository."""
    find_repository(request, kind, namespace, name)
    return {}


@router.get("/{kind}/{namespace}/{name}/auth-check/write")
def auth_check_write(request: Request, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
    """Whether the sender may write to the repository."""
    find_repository(request, kind, namespace, name, Action.WRITE)
    return {}


@router.get("/users/{name}/overview")
def user_overview(request: Request, name: str) -> dict[str, Any]:
    """A user's names, organisations and number of repositories."""
    hub = hub_of(request)
    account = _account(request, name, AccountKind.USER)
    return {
        "user": account.name,
        "type": "user",
        **_overview(request, account),
        "orgs": [
            {"name": organisation.name, "fullname": organisation.fullname, "avatarUrl": ""}
            for organisation, _ in hub.accounts.organisations(account.id)
        ],
    }


@router.get("/organizations/{name}/overview")
def organisation_overview(request: Request, name: str) -> dict[str, Any]:
    """An organisation's names, and numbers of members and repositories."""
    account = _account(request, name, AccountKind.ORGANISATION)
    members = hub_of(request).accounts.members(account.id)
    return {"name": account.name, "type": "org", **_overview(request, account), "numUsers": len(members)}


@router.get("/organizations/{name}/members")
def organisation_members(request: Request, name: str) -> list[dict[str, Any]]:
    """The members of an organisation."""
    account = _account(request, name, AccountKind.ORGANISATION)
    return [
        {
            "user": member.name,
            "type": "user",
            "fullname": member.fullname,
            "avatarUrl": "",
            "isPro": False,
            "role": role,
        }
        for member, role in hub_of(request).accounts.members(account.id)
    ]


@router.api_route("/telemetry/{topic:path}", methods=["HEAD", "GET"])
async def telemetry(topic: str) -> Response:
    """Nothing is counted: the hub keeps no record of what its users run."""
    return Response(status_code=204)


@router.get("/agent-harnesses")
async def agent_harnesses() -> dict[str, Any]:
    """This hub knows none."""
    return {"standardEnvVars": [], "harnesses": {}}


def _account(request: Request, name: str, kind: AccountKind) -> Account:
    account = hub_of(request).accounts.find(name)
    if account.kind is not kind:
        raise NotFound(f"No such {kind}: {name}")
    return account


def _overview(request: Request, account: Account) -> dict[str, Any]:
    owned = hub_of(request).repositories.owned(actor(request), account.id)
    return {
        "fullname": account.fullname,
        "avatarUrl": "",
        "isPro": False,
        "createdAt": timestamp(account.created_at),
        "numModels": sum(repository.type is RepositoryType.MODEL for repository in owned),
        "numDatasets": sum(repository.type is RepositoryType.DATASET for repository in owned),
        "numSpaces": 0,
        "numLikes": 0,
    }
