"""Chapter 2: who am I, what may I reach, who are they."""

from typing import Any

from fastapi import APIRouter, Request, Response

from lmcommons.hub.accounts.permissions import RIGHTS, Action, Actor
from lmcommons.hub.api.dependencies import Kind, actor, find_repository, hub_of, timestamp
from lmcommons.hub.api.identities import object_id
from lmcommons.hub.database.tables import Account, AccountKind, RepositoryType, TokenRole
from lmcommons.hub.errors import NotFound, Unauthorized
from lmcommons.hub.rooms import Hub

PERMISSIONS = {
    Action.READ: "repo.content.read",
    Action.DISCUSS: "discussion.write",
    Action.WRITE: "repo.write",
    Action.MANAGE: "repo.settings",
    Action.ADMINISTER: "org.write",
}

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
        "id": object_id(account.id),
        "name": account.name,
        "fullname": account.fullname,
        "email": account.email,
        "emailVerified": account.email is not None and hub.mail.is_sent,
        "canPay": False,
        "isPro": False,
        "periodEnd": None,
        "avatarUrl": "",
        "orgs": [
            {
                "type": "org",
                "id": object_id(organisation.id),
                "name": organisation.name,
                "fullname": organisation.fullname,
                "email": None,
                "canPay": False,
                "isEnterprise": False,
                "avatarUrl": "",
                "periodEnd": None,
                "roleInOrg": role,
            }
            for organisation, role in hub.organisations.of(account.id)
        ],
        "auth": {
            "type": "access_token",
            "accessToken": {
                "displayName": sender.token_name,
                "role": sender.token_role,
                **({"fineGrained": _fine_grained(hub, sender)} if sender.token_role is TokenRole.FINE_GRAINED else {}),
            },
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
            for organisation, _ in hub.organisations.of(account.id)
        ],
    }


@router.get("/organizations/{name}/overview")
def organisation_overview(request: Request, name: str) -> dict[str, Any]:
    """An organisation's names, and numbers of members and repositories."""
    account = _account(request, name, AccountKind.ORGANISATION)
    members = hub_of(request).organisations.number_of_members(account.id)
    return {"name": account.name, "type": "org", **_overview(request, account), "numUsers": members}


@router.api_route("/telemetry/{topic:path}", methods=["HEAD", "GET"])
async def telemetry(topic: str) -> Response:
    """Nothing is counted: the hub keeps no record of what its users run."""
    return Response(status_code=204)


@router.get("/agent-harnesses")
async def agent_harnesses() -> dict[str, Any]:
    """This hub knows none."""
    return {"standardEnvVars": [], "harnesses": {}}


def _fine_grained(hub: Hub, sender: Actor) -> dict[str, Any]:
    """A token's scopes by what they are for, in the protocol's words."""
    return {
        "canReadGatedRepos": False,
        "global": [],
        "scoped": [
            {
                "entity": {"_id": object_id(id_), "type": type_, "name": name},
                "permissions": [PERMISSIONS[action] for action in sorted(RIGHTS[right] & PERMISSIONS.keys())],
            }
            for type_, name, id_, right in hub.tokens.scopes_of(sender, sender.scopes)
        ],
    }


def _account(request: Request, name: str, kind: AccountKind) -> Account:
    account = hub_of(request).accounts.find(name)
    if account.kind is not kind:
        raise NotFound(f"No such {kind}: {name}")
    return account


def _overview(request: Request, account: Account) -> dict[str, Any]:
    hub, sender = hub_of(request), actor(request)
    kinds = hub.search.numbers(sender, account.id)
    followers, following = hub.follows.numbers(account)
    return {
        "fullname": account.fullname,
        "avatarUrl": "",
        "isPro": False,
        "createdAt": timestamp(account.created_at),
        "numModels": kinds.get(RepositoryType.MODEL, 0),
        "numDatasets": kinds.get(RepositoryType.DATASET, 0),
        "numSpaces": kinds.get(RepositoryType.SPACE, 0),
        "numLikes": hub.likes.number(sender, account),
        "numFollowers": followers,
        "numFollowing": following,
        "isFollowing": hub.follows.is_following(sender, account),
    }
